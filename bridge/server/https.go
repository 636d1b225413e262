package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"
)

const (
	// maxHTTPS is how many clients of the HTTPS listener may be connected; more
	// wait to be accepted.
	maxHTTPS = 1024
	// httpsTimeout bounds a handshake and request, and an answer.
	httpsTimeout = 30 * time.Second
)

// listenHTTPS opens the listener of the AWS APIs, if there is to be one.
func (s *Server) listenHTTPS(ctx context.Context, lc *net.ListenConfig) error {
	if s.cfg.HTTPS.Listen == "" {
		return nil
	}
	l, err := lc.Listen(ctx, "tcp", s.cfg.HTTPS.Listen)
	if err != nil {
		return fmt.Errorf("https.listen: %w", err)
	}
	s.https = tls.NewListener(newLimited(l, maxHTTPS), s.pki.HTTPSConfig())
	return nil
}

// A limited listener has no more connections open than there are slots. Those
// beyond stay in the kernel's queue.
type limited struct {
	net.Listener
	slots  chan struct{}
	closed chan struct{}
	close  func() error
}

func newLimited(l net.Listener, most int) *limited {
	c := &limited{Listener: l, slots: make(chan struct{}, most), closed: make(chan struct{})}
	c.close = sync.OnceValue(func() error {
		close(c.closed)
		return l.Close()
	})
	return c
}

// Accept implements net.Listener.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: sync.OnceFunc(func() { <-l.slots })}, nil
}

// Close implements net.Listener; it may be called again.
func (l *limited) Close() error { return l.close() }

// A limitedConn gives its slot back when it is closed.
type limitedConn struct {
	net.Conn
	release func()
}

func (c *limitedConn) Close() error {
	defer c.release()
	return c.Conn.Close()
}

// httpLog takes what net/http has to say. Whoever may connect can cause failed
// handshakes; the rest is a handler that panicked.
type httpLog struct{ *slog.Logger }

func (l httpLog) Write(text []byte) (int, error) {
	level := slog.LevelError
	for _, common := range []string{"http: TLS handshake error", "http2: "} {
		if bytes.HasPrefix(text, []byte(common)) {
			level = slog.LevelDebug
		}
	}
	l.Log(context.Background(), level, "http", "said", string(bytes.TrimSpace(text)))
	return len(text), nil
}
