package server

import (
	"crypto/tls"
	"net"
	"sync"
	"time"
)

// recordHandshake begins a TLS connection (RFC 8446, section 5.1), and no HTTP.
const recordHandshake = 22

// firstByte is how long a client may be silent before it says what it speaks.
const firstByte = 10 * time.Second

// An either listener takes TLS, and from those whom plain lets also connections
// without it: the first byte tells them apart. With others it speaks TLS, which
// then fails.
type either struct {
	net.Listener
	config *tls.Config
	plain  func(net.Addr) bool

	ready  chan net.Conn // connections of which it is known
	failed chan error    // of the listener
	closed chan struct{}
	close  func() error

	mu    sync.Mutex     // guards begun, and closing before it is
	begun bool           // Accept was called
	wg    sync.WaitGroup // accept, and a peek for each connection
}

func newEither(l net.Listener, c *tls.Config, plain func(net.Addr) bool) *either {
	e := &either{Listener: l, config: c, plain: plain, ready: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
	e.close = sync.OnceValue(func() error {
		e.mu.Lock()
		close(e.closed)
		e.mu.Unlock()
		err := l.Close()
		e.wg.Wait()
		return err
	})
	return e
}

// Accept implements net.Listener.
func (e *either) Accept() (net.Conn, error) {
	e.begin()
	select {
	case c := <-e.ready:
		return c, nil
	case err := <-e.failed:
		return nil, err
	case <-e.closed:
		return nil, net.ErrClosed
	}
}

// begin starts what accepts, unless that was done or all is over.
func (e *either) begin() {
	e.mu.Lock()
	defer e.mu.Unlock()
	select {
	case <-e.closed:
	default:
		if !e.begun {
			e.begun = true
			e.wg.Go(e.accept)
		}
	}
}

// Close implements net.Listener; it may be called again. Connections that are
// not accepted yet end.
func (e *either) Close() error { return e.close() }

// accept takes connections until the listener is closed; other errors are the
// server's to judge.
func (e *either) accept() {
	for {
		c, err := e.Listener.Accept()
		if err != nil {
			select {
			case e.failed <- err:
				continue
			case <-e.closed:
				return
			}
		}
		if !e.plain(c.RemoteAddr()) {
			e.hand(secured{tls.Server(c, e.config)})
			continue
		}
		e.wg.Go(func() { e.peek(c) })
	}
}

// hand gives c to who calls Accept.
func (e *either) hand(c net.Conn) {
	select {
	case e.ready <- c:
	case <-e.closed:
		c.Close()
	}
}

// peek reads the first byte of c.
func (e *either) peek(c net.Conn) {
	known := make(chan struct{})
	defer close(known)
	e.wg.Go(func() {
		select {
		case <-known:
		case <-e.closed:
			c.Close()
		}
	})
	p := &peeked{Conn: c}
	_ = c.SetReadDeadline(time.Now().Add(firstByte)) // a failure shows in Read
	if n, err := c.Read(p.first[:]); n == 0 || err != nil {
		c.Close()
		return
	}
	_ = c.SetReadDeadline(time.Time{})
	p.has = true
	if p.first[0] == recordHandshake {
		e.hand(secured{tls.Server(p, e.config)})
		return
	}
	e.hand(p)
}

// A secured connection is a TLS connection that net/http doesn't know as one,
// so that it looks for HTTP/2's preface in what it reads. Java's AWS SDK 2
// (seen with 2.41) speaks HTTP/2 without having asked for it in the handshake,
// which net/http would take for a wrong HTTP/1.1.
type secured struct{ net.Conn }

// A peeked connection gives the byte again that was read of it.
type peeked struct {
	net.Conn
	first [1]byte
	has   bool
}

// Read implements net.Conn, for one reader.
func (p *peeked) Read(b []byte) (int, error) {
	if !p.has || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.has = false
	return copy(b, p.first[:]), nil
}
