package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// Who did not show a key may be idle for less long.
func TestUnauthenticatedIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		conns := pipes{conns: make(chan net.Conn)}
		served := make(chan error, 1)
		answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/known" {
				SlotOf(r).Authenticated("x")
			}
		})
		h := newHTTPS(conns, HTTPSOptions{Plaintext: func(net.Addr) bool {
			return true
		}, Idle: 10 * time.Second, Handler: answer, Log: slog.New(slog.DiscardHandler)})
		go func() { served <- h.Run(ctx) }()
		for path, want := range map[string]time.Duration{"/": 10 * time.Second, "/known": 2 * time.Minute} {
			here, there := net.Pipe()
			conns.conns <- there
			go io.WriteString(here, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n")
			began := time.Now()
			_, _ = io.Copy(io.Discard, here)
			if took := time.Since(began); took != want {
				t.Errorf("%s: let go after %v, want %v", path, took, want)
			}
			here.Close()
		}
		synctest.Wait() // the server lets go a moment after the client sees it
		if st := h.Stats().Connections; st.Open != 0 {
			t.Errorf("%+v", st)
		}
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// While unauthenticated clients have slots, connections wait; when authenticated
// ones have all, connections are closed at once. A slot is released once.
func TestSlots(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var full atomic.Int32
	l := newLimitListener(inner, admission.Limits{Open: 2}, time.Minute, func() { full.Add(1) })
	accepted, ended := make(chan net.Conn), make(chan error)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	knock := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	knock()
	knock()
	servers := []net.Conn{<-accepted, <-accepted}
	waits := knock()
	select {
	case <-accepted:
		t.Error("a third was accepted")
	default:
	}
	for _, c := range servers {
		limitedConnOf(c).slot.Authenticated("x")
	}
	for _, c := range []net.Conn{waits, knock(), knock()} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("it is open")
		}
	}
	if n := full.Load(); n != 3 {
		t.Errorf("%d of 3 are told", n)
	}
	servers[0].Close()
	servers[0].Close() // releases one slot, not two
	knock()
	third := <-accepted
	if st := l.limiter.Stats(); st.Open != 2 || st.Refused != 3 {
		t.Errorf("%+v", st)
	}
	if err := errors.Join(l.Close(), l.Close()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	releaseSlot(servers[1])
	servers[1].Close()
	third.Close()
	if st := l.limiter.Stats(); st.Open != 0 {
		t.Errorf("%+v", st)
	}
}

// from is a connection of a client that has an address.
type from struct {
	net.Conn
	address *net.TCPAddr
}

func (c from) RemoteAddr() net.Addr { return c.address }

// Two addresses that open connections without end make nobody of a third wait,
// whether they say nothing or begin a handshake that they never finish.
func TestFloodOfTwoAddresses(t *testing.T) {
	for _, hello := range [][]byte{nil, {recordHandshake, 3, 1, 0, 200, 1, 0, 0, 196}} {
		synctest.Test(t, func(t *testing.T) {
			conns := pipes{conns: make(chan net.Conn)}
			l := newLimitListener(conns, admission.Limits{Open: 1024, PerAddress: 512, Unauthenticated: 32,
				UnauthenticatedPerAddress: 24}, time.Minute, func() {})
			e := newDemuxListener(l, &tls.Config{}, FromLoopback, nil, nil, slog.New(slog.DiscardHandler))
			go func() { // who is served says so
				for {
					c, err := e.Accept()
					if err != nil {
						return
					}
					limitedConnOf(c).slot.Authenticated("x")
					go io.WriteString(c, "served")
				}
			}()
			over := make(chan struct{})
			var opening, flood sync.WaitGroup
			opening.Go(func() {
				for n := 0; ; n++ {
					select {
					case <-over:
						return
					default:
					}
					here, there := net.Pipe()
					conns.conns <- from{there, &net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(1+n%2))}}
					flood.Go(func() {
						if len(hello) > 0 {
							_, _ = here.Write(hello)
						}
						_, _ = io.Copy(io.Discard, here)
					})
					time.Sleep(time.Millisecond)
				}
			})
			for n := range 20 {
				time.Sleep(time.Second)
				here, there := net.Pipe()
				began := time.Now()
				conns.conns <- from{there, &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+n%20))}}
				go here.Write([]byte{'G'})
				said, _ := io.ReadAll(io.LimitReader(here, 6))
				if took := time.Since(began); string(said) != "served" || took > admission.Grace/5 {
					t.Errorf("%d: %q after %v", n, said, took)
				}
				here.Close()
			}
			close(over)
			opening.Wait()
			if err := e.Close(); err != nil {
				t.Error(err)
			}
			flood.Wait()
		})
	}
}
