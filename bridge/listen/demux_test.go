package listen

import (
	"bufio"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Only this machine's own addresses count as loopback.
func TestLoopback(t *testing.T) {
	for ip, want := range map[string]bool{"127.0.0.1": true, "127.9.9.9": true, "::1": true, "::ffff:127.0.0.1": true,
		"192.0.2.1": false, "10.0.0.1": false, "::": false} {
		if got := FromLoopback(&net.TCPAddr{IP: net.ParseIP(ip)}); got != want {
			t.Errorf("%s: %v", ip, got)
		}
	}
	if FromLoopback(&net.UnixAddr{Name: "x"}) {
		t.Error("a socket")
	}
}

// With others than those who may, TLS is spoken: what they send comes to no
// handler.
func TestPlaintextRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := newDemuxListener(l, &tls.Config{}, func(net.Addr) bool {
		return false
	}, nil, nil, slog.New(slog.DiscardHandler))
	defer e.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := e.Accept(); err == nil {
			accepted <- c
		}
	}()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, _ := io.ReadAll(c)
	select {
	case c := <-accepted:
		t.Errorf("accepted %T", c)
	default:
	}
	if strings.Contains(string(answer), "HTTP") {
		t.Errorf("%q", answer)
	}
}

// Who says nothing is let go, does not keep others from being accepted, and not
// the listener from being closed.
func TestSilentClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := pipes{conns: make(chan net.Conn)}
		e := newDemuxListener(inner, &tls.Config{}, func(net.Addr) bool {
			return true
		}, nil, nil, slog.New(slog.DiscardHandler))
		accepted := make(chan net.Conn)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			for {
				c, err := e.Accept()
				if err != nil {
					return
				}
				accepted <- c
			}
		}()
		silent, a := net.Pipe()
		inner.conns <- a
		loud, b := net.Pipe()
		inner.conns <- b
		go func() { _, _ = io.WriteString(loud, "POST /") }()
		c := <-accepted
		if text, err := bufio.NewReader(c).Peek(6); string(text) != "POST /" {
			t.Errorf("%q %v", text, err)
		}
		began := time.Now()
		if _, err := silent.Read(make([]byte, 1)); err == nil || time.Since(began) != firstByteTimeout {
			t.Errorf("let go after %v, %v", time.Since(began), err)
		}
		_, last := net.Pipe()
		inner.conns <- last
		if err := errors.Join(e.Close(), e.Close()); err != nil {
			t.Error(err)
		}
		<-ended
		if _, err := e.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

// Who is slow to shake hands, or stops in the middle, is let go in time, and
// holds up nobody.
func TestSlowHandshakes(t *testing.T) {
	hello := []byte{recordHandshake, 3, 1, 0, 200, 1, 0, 0, 196} // the beginning of a ClientHello
	for name, c := range map[string]struct {
		plain bool
		first []byte
		drip  bool
	}{
		"silent":           {false, nil, false},
		"silent, either":   {true, nil, false},
		"stops":            {false, hello, false},
		"stops, either":    {true, hello, false},
		"byte by byte":     {false, hello, true},
		"byte, either way": {true, hello, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			inner := pipes{conns: make(chan net.Conn)}
			e := newDemuxListener(inner, &tls.Config{}, func(net.Addr) bool {
				return c.plain
			}, nil, nil, slog.New(slog.DiscardHandler))
			accepted := make(chan net.Conn, 100)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				for {
					conn, err := e.Accept()
					if err != nil {
						return
					}
					accepted <- conn
				}
			}()
			var wg sync.WaitGroup
			began := time.Now()
			for range 20 {
				client, server := net.Pipe()
				inner.conns <- server
				wg.Go(func() {
					if len(c.first) > 0 { // a pipe hands on a write of nothing
						if _, err := client.Write(c.first); err != nil {
							t.Errorf("%s: %v", name, err)
						}
					}
					for c.drip {
						time.Sleep(time.Second)
						if _, err := client.Write([]byte{0}); err != nil {
							break
						}
					}
					_, _ = io.Copy(io.Discard, client)
					// noticed by the next drip
					if took := time.Since(began); took < firstByteTimeout || took > firstByteTimeout+time.Second {
						t.Errorf("%s: let go after %v", name, took)
					}
				})
			}
			wg.Wait()
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			<-ended
			if len(accepted) > 0 {
				t.Errorf("%s: %d accepted", name, len(accepted))
			}
		})
	}
}

// Whoever is closed by what comes before MQTT and HTTP is told of: who is silent, and
// MQTT where there is none.
func TestDenied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := pipes{conns: make(chan net.Conn)}
		told := make(chan error, 10)
		d := newDemuxListener(inner, &tls.Config{}, func(net.Addr) bool { return true }, nil,
			func(_ net.Addr, _ string, err error) { told <- err }, slog.New(slog.DiscardHandler))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = d.Accept()
		}()
		_, silent := net.Pipe()
		inner.conns <- silent
		if err := <-told; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		<-ended
		if len(told) != 0 {
			t.Error(<-told)
		}
	})
}
