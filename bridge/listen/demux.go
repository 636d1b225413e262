package listen

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// recordHandshake begins a TLS connection (RFC 8446, section 5.1), and no HTTP.
const recordHandshake = 22

// firstByteTimeout is how long a client may be silent before it says what it speaks,
// and how long its TLS handshake may take.
const firstByteTimeout = 10 * time.Second

// A demuxListener accepts TLS connections, and from the addresses that plain
// allows also connections without TLS: the first byte tells them apart. What it
// accepts is past its handshake. Connections whose clients chose MQTT in the
// handshake (ALPN) are not accepted but given to mqtt.
type demuxListener struct {
	net.Listener
	config *tls.Config
	plain  func(net.Addr) bool
	mqtt   func(*tls.Conn) // nil: they are closed
	log    *slog.Logger
	denied func(remote net.Addr, clientID string, err error) // is told who is closed, and why; may be nil

	failedHandshakes atomic.Int64
	ready            chan net.Conn // connections that passed the handshake
	failed           chan error    // of the listener
	closed           chan struct{}
	close            func() error

	mu    sync.Mutex     // guards begun, and closing before it is
	begun bool           // Accept was called
	wg    sync.WaitGroup // accept, and a handshake for each connection
}

func newDemuxListener(l net.Listener, c *tls.Config, plain func(net.Addr) bool, mqtt func(*tls.Conn),
	denied func(net.Addr, string, error), log *slog.Logger) *demuxListener {
	d := &demuxListener{Listener: l, config: c, plain: plain, mqtt: mqtt, denied: denied, log: log,
		ready: make(chan net.Conn), failed: make(chan error), closed: make(chan struct{})}
	d.close = sync.OnceValue(func() error {
		d.mu.Lock()
		close(d.closed)
		d.mu.Unlock()
		err := l.Close()
		d.wg.Wait()
		return err
	})
	return d
}

// Accept implements net.Listener.
func (d *demuxListener) Accept() (net.Conn, error) {
	d.begin()
	select {
	case c := <-d.ready:
		return c, nil
	case err := <-d.failed:
		return nil, err
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// begin starts what accepts, unless that was done or all is over.
func (d *demuxListener) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	select {
	case <-d.closed:
	default:
		if !d.begun {
			d.begun = true
			d.wg.Go(d.accept)
		}
	}
}

// Close implements net.Listener; it may be called again. Connections that are
// not accepted yet end.
func (d *demuxListener) Close() error { return d.close() }

// accept takes connections until the listener is closed; other errors are the
// server's to judge.
func (d *demuxListener) accept() {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			select {
			case d.failed <- err:
				continue
			case <-d.closed:
				return
			}
		}
		d.wg.Go(func() { d.handshake(c) })
	}
}

// deliver hands c to the caller of Accept.
func (d *demuxListener) deliver(c net.Conn) {
	select {
	case d.ready <- c:
	case <-d.closed:
		c.Close()
	}
}

// handshake finds out what the client speaks, within firstByteTimeout, and hands
// the connection on.
func (d *demuxListener) handshake(c net.Conn) {
	detected := make(chan struct{})
	d.wg.Go(func() {
		select {
		case <-detected:
		case <-d.closed:
			c.Close()
		}
	})
	to := d.detect(c)
	close(detected)
	if to == nil {
		c.Close()
	} else {
		to()
	}
}

// detect returns what hands the connection on, nil if it is to be closed.
func (d *demuxListener) detect(c net.Conn) func() {
	_ = c.SetDeadline(time.Now().Add(firstByteTimeout)) // a failure shows in Read
	if d.plain(c.RemoteAddr()) {
		p := &peekedConn{Conn: c}
		if n, err := c.Read(p.first[:]); n == 0 || err != nil {
			d.deny(c, err) // a look at the port is told apart there
			return nil
		}
		p.has = true
		c = p
		if p.first[0] != recordHandshake {
			_ = c.SetDeadline(time.Time{})
			return func() { d.deliver(c) }
		}
	}
	t := tls.Server(c, d.config)
	if err := t.Handshake(); err != nil {
		d.failedHandshakes.Add(1)
		d.log.Debug("TLS handshake failed", "remote", c.RemoteAddr(), "err", err)
		d.deny(c, fmt.Errorf("TLS handshake: %w", err))
		return nil
	}
	_ = t.SetDeadline(time.Time{})
	state := t.ConnectionState()
	switch {
	case state.NegotiatedProtocol != "mqtt" && state.NegotiatedProtocol != "x-amzn-mqtt-ca":
		return func() { d.deliver(tlsConn{t, &state}) }
	case d.mqtt != nil:
		return func() { d.mqtt(t) }
	}
	d.deny(c, errNoMQTT)
	return nil
}

// errNoMQTT is MQTT by ALPN where another broker has the clients.
var errNoMQTT = errors.New("MQTT is not served here: clients connect to the broker of broker.url")

// deny tells why a connection is closed.
func (d *demuxListener) deny(c net.Conn, err error) {
	if d.denied != nil && err != nil {
		d.denied(c.RemoteAddr(), "", err)
	}
}

// A tlsConn is a TLS connection that net/http does not recognize as one,
// so that it looks for HTTP/2's preface in what it reads. Java's AWS SDK 2
// (seen with 2.41) speaks HTTP/2 without having asked for it in the handshake,
// which net/http would take for a wrong HTTP/1.1.
type tlsConn struct {
	net.Conn
	state *tls.ConnectionState
}

// NetConn is the connection with TLS.
func (s tlsConn) NetConn() net.Conn { return s.Conn }

// A peekedConn returns the byte again that was read from it.
type peekedConn struct {
	net.Conn
	first [1]byte
	has   bool
}

// NetConn is the connection below.
func (p *peekedConn) NetConn() net.Conn { return p.Conn }

// Read implements net.Conn, for one reader.
func (p *peekedConn) Read(b []byte) (int, error) {
	if !p.has || len(b) == 0 {
		return p.Conn.Read(b)
	}
	p.has = false
	return copy(b, p.first[:]), nil
}
