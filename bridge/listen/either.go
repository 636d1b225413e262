package listen

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// recordHandshake begins a TLS connection (RFC 8446, section 5.1), and no HTTP.
const recordHandshake = 22

// firstByte is how long a client may be silent before it says what it speaks,
// and how long its TLS handshake may take.
const firstByte = 10 * time.Second

// An either listener takes TLS, and from those whom plain lets also connections
// without it: the first byte tells them apart. With others it speaks TLS, which
// then fails. What it accepts is past its handshake; connections whose clients
// chose MQTT in it (ALPN) are not accepted but given to mqtt.
type either struct {
	net.Listener
	config *tls.Config
	plain  func(net.Addr) bool
	mqtt   func(*tls.Conn) // nil: they are closed
	log    *slog.Logger
	denied func(remote net.Addr, clientID string, err error) // hears of handshakes that failed; nil: nobody does

	broken atomic.Int64  // handshakes that failed
	ready  chan net.Conn // connections of which it is known
	failed chan error    // of the listener
	closed chan struct{}
	close  func() error

	mu    sync.Mutex     // guards begun, and closing before it is
	begun bool           // Accept was called
	wg    sync.WaitGroup // accept, and a meet for each connection
}

func newEither(l net.Listener, c *tls.Config, plain func(net.Addr) bool, mqtt func(*tls.Conn), denied func(net.Addr, string, error), log *slog.Logger) *either {
	e := &either{Listener: l, config: c, plain: plain, mqtt: mqtt, denied: denied, log: log, ready: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
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
		e.wg.Go(func() { e.meet(c) })
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

// meet finds out what the client speaks, within the time that it has for that.
func (e *either) meet(c net.Conn) {
	known := make(chan struct{})
	e.wg.Go(func() {
		select {
		case <-known:
		case <-e.closed:
			c.Close()
		}
	})
	to := e.introduce(c)
	close(known)
	if to == nil {
		c.Close()
	} else {
		to()
	}
}

// introduce returns what is to be done with the connection, nil to close it.
func (e *either) introduce(c net.Conn) func() {
	_ = c.SetDeadline(time.Now().Add(firstByte)) // a failure shows in Read
	if e.plain(c.RemoteAddr()) {
		p := &peeked{Conn: c}
		if n, err := c.Read(p.first[:]); n == 0 || err != nil {
			return nil
		}
		p.has = true
		c = p
		if p.first[0] != recordHandshake {
			_ = c.SetDeadline(time.Time{})
			return func() { e.hand(c) }
		}
	}
	t := tls.Server(c, e.config)
	if err := t.Handshake(); err != nil {
		e.broken.Add(1)
		e.log.Debug("TLS handshake failed", "remote", c.RemoteAddr(), "err", err)
		if e.denied != nil {
			e.denied(c.RemoteAddr(), "", fmt.Errorf("TLS handshake: %w", err))
		}
		return nil
	}
	_ = t.SetDeadline(time.Time{})
	state := t.ConnectionState()
	switch {
	case state.NegotiatedProtocol != "mqtt" && state.NegotiatedProtocol != "x-amzn-mqtt-ca":
		return func() { e.hand(secured{t, &state}) }
	case e.mqtt != nil:
		return func() { e.mqtt(t) }
	}
	return nil
}

// A secured connection is a TLS connection that net/http doesn't know as one,
// so that it looks for HTTP/2's preface in what it reads. Java's AWS SDK 2
// (seen with 2.41) speaks HTTP/2 without having asked for it in the handshake,
// which net/http would take for a wrong HTTP/1.1.
type secured struct {
	net.Conn
	state *tls.ConnectionState
}

// NetConn is the connection with TLS.
func (s secured) NetConn() net.Conn { return s.Conn }

// A peeked connection gives the byte again that was read of it.
type peeked struct {
	net.Conn
	first [1]byte
	has   bool
}

// NetConn is the connection below.
func (p *peeked) NetConn() net.Conn { return p.Conn }

// Read implements net.Conn, for one reader.
func (p *peeked) Read(b []byte) (int, error) {
	if !p.has || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.has = false
	return copy(b, p.first[:]), nil
}
