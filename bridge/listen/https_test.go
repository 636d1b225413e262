package listen

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipes listener accepts the connections that are sent to it.
type pipes struct {
	net.Listener
	conns chan net.Conn
}

func (p pipes) Accept() (net.Conn, error) {
	if c, ok := <-p.conns; ok {
		return c, nil
	}
	return nil, net.ErrClosed
}

func (p pipes) Close() error { close(p.conns); return nil }

// Clients that are silent or slow are let go in time: a place is not held for
// longer by who has no key.
func TestSlowClients(t *testing.T) {
	for _, c := range []struct {
		name, first, drip string // drip is sent once a second
		after             time.Duration
	}{
		{"silent", "", "", 10 * time.Second},
		{"header", "GET / HTTP/1.1\r\n", "x: y\r\n", 10 * time.Second},
		{"body", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "x", httpsTimeout},
		{"idle", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", 2 * time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(t.Context())
			l := pipes{conns: make(chan net.Conn)}
			served := make(chan error, 1)
			read := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
			})
			h := newHTTPS(l, HTTPSOptions{Plaintext: func(net.Addr) bool {
				return true
			}, Idle: time.Hour, Handler: read, Log: slog.New(slog.DiscardHandler)})
			go func() { served <- h.Run(ctx) }()
			here, there := net.Pipe()
			l.conns <- there
			began := time.Now()
			var sender sync.WaitGroup
			sender.Go(func() {
				for text := c.first; text != ""; text = c.drip {
					if _, err := io.WriteString(here, text); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			})
			_, _ = io.Copy(io.Discard, here)
			// net/http waits half a second before it closes what it answered.
			if took := time.Since(began); took < c.after || took > c.after+time.Second {
				t.Errorf("%s: let go after %v, want %v", c.name, took, c.after)
			}
			here.Close()
			sender.Wait()
			stop()
			if err := <-served; err != nil {
				t.Error(err)
			}
		})
	}
}

// What others can cause is for those who look closely, the rest is an error.
func TestHTTPLog(t *testing.T) {
	for said, level := range map[string]string{"http: TLS handshake error from x: EOF\n": "DEBUG",
		"http2: server: error": "DEBUG", "http: panic serving x": "ERROR"} {
		var b bytes.Buffer
		fmt.Fprint(httpLog{slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))}, said)
		if !strings.Contains(b.String(), "level="+level) || !strings.Contains(b.String(), strings.TrimSpace(said)) {
			t.Errorf("%q: %s", said, &b)
		}
	}
}
