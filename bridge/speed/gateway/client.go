package gateway

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/quota"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// A Client is one connection of a client.
type Client struct {
	srv *Server
	nc  net.Conn
	// address is the other end's, without its port.
	address string
	rd      *packet.Reader

	slot *admission.Slot // among the open connections

	via    Via
	serial uint64 // of the connection, from 1
	asked  string // the client id of its CONNECT

	// Set while connecting, before any other goroutine sees them.
	id        string
	session   Session
	owner     string // of what outlives the connection
	since     time.Time
	version   packet.Version
	keepAlive time.Duration // in force; 0 is none
	will      *message.Message
	s         *session
	v5        version5

	authorized bool          // guarded by Subscribers.mu: id and session are set
	before     chan struct{} // done of the connection whose id this one took

	reason atomic.Pointer[string] // why it was kicked
	heir   atomic.Pointer[Client] // who took its client id over
	polite atomic.Bool            // version 5: it is told why
	gone   chan struct{}          // closed by the first kick
	done   chan struct{}          // closed when all has ended

	// Of the reading goroutine.
	lastPacket           time.Time // when it came
	arrived              time.Time // when the latest PUBLISH did
	deadline             time.Time // of reading, as set on nc
	topics               topics
	aliases              map[uint16]*published // that the client has set
	publishes, published quota.Bucket
	tally                tally
	prompt               int  // publishes in a row that followed an acknowledgement at once, to promptRow
	code                 byte // for the DISCONNECT, if the reason's own is not meant
	withWill             bool // the client's DISCONNECT asks for its will

	// s.mu guards what follows.
	acks         ackRing
	ackedAt      time.Time     // when what told that all were done was last about to be written
	allDone      bool          // all are done, and out says so
	exchanges    int           // QoS 2 messages that came with this connection and are not released
	routing      uint64        // acks number of the message that Route has; 0 if none
	waiting      bool          // the reading goroutine waits for the router
	draining     bool          // the reading goroutine waits until all is done
	room4more    chan struct{} // wakes it in both cases
	out          []byte
	outFrom      *[]byte           // where the pool of buffers kept out
	greeting     int               // bytes of the CONNACK that out begins with
	outAliases   map[string]uint16 // that the client knows
	outPackets   [16]uint32        // in out, by type
	writing      bool              // somebody writes, and will look at out again
	writingBytes int
	closed       bool       // nothing more is written
	written      *sync.Cond // writing became false

	writeBy time.Time // of whoever is writing
	drainer func()    // is drain, so that starting it costs no allocation
}

func newClient(s *Server, nc net.Conn, via Via) *Client {
	c := &Client{srv: s, nc: nc, via: via, version: packet.V311,
		gone: make(chan struct{}), done: make(chan struct{}), room4more: make(chan struct{}, 1)}
	c.drainer = c.drain
	if a := nc.RemoteAddr(); a != nil {
		c.address = admission.Host(a.String())
	}
	return c
}

// ID is the client id.
func (c *Client) ID() string { return c.id }

// Serial tells the connection from all others of its Server.
func (c *Client) Serial() uint64 { return c.serial }

// Session is what the Authorizer returned.
func (c *Client) Session() Session { return c.session }

// Address is the client's address, without its port.
func (c *Client) Address() string { return c.address }

// Remote is the client's address.
func (c *Client) Remote() net.Addr { return c.nc.RemoteAddr() }

// Principal is the session's, when the client connected.
func (c *Client) Principal() string { return c.session.Principal() }

// ConnectedAt is when the connection was admitted.
func (c *Client) ConnectedAt() time.Time { return c.since }

// kick ends the connection from any goroutine, with or without locks held, and
// does not wait. It returns false if the connection was ending already.
func (c *Client) kick(reason string) bool {
	if !c.reason.CompareAndSwap(nil, &reason) {
		return false
	}
	close(c.gone)
	if !c.polite.Load() || goodbyes[reason] == 0 {
		raw(c.nc).Close()
		return true
	}
	// The reading goroutine says goodbye, if it comes to it in time.
	c.nc.SetReadDeadline(time.Unix(1, 0))
	time.AfterFunc(c.srv.conf.DrainTimeout, func() { raw(c.nc).Close() })
	return true
}

// stop is kick for a server that shuts down: it ends the reading only, so that
// what was accepted can still be acknowledged.
func (c *Client) stop() {
	reason := ReasonShutdown
	if c.reason.CompareAndSwap(nil, &reason) {
		close(c.gone)
		c.nc.SetReadDeadline(time.Unix(1, 0))
	}
}

// countingReader counts what comes.
type countingReader struct{ c *Client }

func (r countingReader) Read(b []byte) (int, error) {
	n, err := r.c.nc.Read(b)
	r.c.tally.bytes += uint64(n)
	return n, err
}

// run reads packets until the connection ends and returns why it did.
func (c *Client) run() (reason string) {
	defer c.recovered(&reason)
	for answered := false; ; {
		if !answered && !c.rd.Buffered() {
			answered = true
			c.srv.count.add(&c.tally) // before the answers: who has them may look
			c.flush()
			if err := c.setDeadline(); err != nil {
				return ReasonLost
			}
		}
		select {
		case <-c.gone:
			return ReasonShutdown // or what kick said
		default:
		}
		first, body, owned, err := c.rd.Next()
		if err != nil {
			if reason := c.readError(err); reason != "" {
				return reason
			}
			continue
		}
		answered = false
		c.tally.packets[first>>4]++
		if reason := c.handle(first, body, owned); reason != "" {
			return reason
		}
	}
}

// setDeadline is called before the client is waited for. A deadline that is set
// stays, even if it comes too early now: setting one costs, and readError sets
// the right one then.
func (c *Client) setDeadline() error {
	c.lastPacket = time.Now()
	if c.keepAlive == 0 || c.deadline.After(c.lastPacket) {
		return nil
	}
	c.deadline = c.lastPacket.Add(c.keepAlive * 3 / 2)
	return c.nc.SetReadDeadline(c.deadline)
}

// readError returns why the connection ends, or "" if it does not.
func (c *Client) readError(err error) string {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		if c.reason.Load() != nil {
			return ReasonShutdown // or what kick said
		}
		by := c.lastPacket.Add(c.keepAlive * 3 / 2)
		if c.keepAlive == 0 || !time.Now().Before(by) {
			return ReasonKeepAlive
		}
		c.rd.Shrink()
		c.deadline = by
		if c.nc.SetReadDeadline(by) != nil {
			return ReasonLost
		}
		return ""
	case errors.Is(err, packet.ErrTooLarge):
		return c.refused(codeTooLarge, fmt.Errorf("%w; %w", err,
			over("MaxPayload", c.srv.conf.MaxPayload, "of which the payload")))
	case errors.Is(err, packet.ErrMalformed):
		return c.refused(codeMalformed, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed):
		return ReasonLost
	}
	c.debug("read failed", err)
	return ReasonLost
}

// handle acts on one packet and returns why the connection ends, or "".
func (c *Client) handle(first byte, body []byte, owned bool) string {
	kind := packet.Type(first >> 4)
	if kind == packet.PUBLISH {
		return c.publish(first, body, owned)
	}
	p, err := packet.Decode(first, body, c.version)
	if err != nil {
		return c.refused(codeOf(err), err)
	}
	switch p := p.(type) {
	case *packet.Ack:
		if _, err := c.properties(p.Kind, p.Properties); err != nil {
			return c.refused(codeOf(err), err)
		}
		if p.Kind == packet.PUBREL {
			return c.pubrel(p.ID)
		}
		if !c.s.acked(p.Kind, p.ID, p.Reason) {
			return c.refused(codeProtocol,
				fmt.Errorf("%w: %s %d for a message that was not sent so", packet.ErrProtocol, p.Kind, p.ID))
		}
		return ""
	case *packet.Subscribe:
		return c.subscribe(p)
	case *packet.Unsubscribe:
		return c.unsubscribe(p)
	case *packet.Ping:
		if p.Kind == packet.PINGREQ {
			c.s.mu.Lock()
			c.appendPacket(&packet.Ping{Kind: packet.PINGRESP})
			c.s.mu.Unlock()
			return ""
		}
	case *packet.Disconnect:
		if p.Kind == packet.DISCONNECT {
			return c.disconnect(p)
		}
	}
	// A second CONNECT [MQTT-3.1.0-2], or what only servers send.
	return c.refused(codeProtocol, fmt.Errorf("%w: %s after CONNECT", packet.ErrProtocol, kind))
}

// properties reads the properties of a packet; before version 5 there are none.
func (c *Client) properties(t packet.Type, b []byte) (p packet.Properties, err error) {
	if len(b) > 0 {
		err = p.Parse(t, b)
	}
	return p, err
}

// disconnect takes the client's goodbye.
func (c *Client) disconnect(p *packet.Disconnect) string {
	props, err := c.properties(p.Kind, p.Properties)
	if err != nil {
		return c.refused(codeOf(err), err)
	}
	if props.Has(packet.SessionExpiry) {
		expiry := c.srv.expiry(props.Number(packet.SessionExpiry, 0))
		if c.v5.expiry == 0 && expiry > 0 { // [MQTT-3.14.2-2] is of servers; 3.14.2.2.2 of clients
			return c.refused(codeProtocol, fmt.Errorf("%w: session expiry set at the end", packet.ErrProtocol))
		}
		c.v5.expiry = expiry
	}
	c.withWill = p.Reason == codeWithWill || p.Reason >= codeUnspecified
	return ReasonClient
}

// recovered turns a panic into the end of this connection alone.
func (c *Client) recovered(reason *string) {
	if p := recover(); p != nil {
		*reason = ReasonServer
		c.srv.count.panics.Add(1)
		c.srv.conf.Log.Error("panic while serving a client", "client", c.id, "panic", p, "stack", string(debug.Stack()))
	}
}

// denied tells why the client is refused something, or altogether.
func (c *Client) denied(err error) {
	if hook := c.srv.hooks.Denied; hook != nil {
		hook(c.nc.RemoteAddr(), c.asked, err)
	}
}

func (c *Client) debug(what string, err error) {
	c.srv.conf.Log.LogAttrs(ctxBackground, levelDebug, what, attr("client", c.id), attr("remote", c.nc.RemoteAddr()),
		attr("err", err))
}
