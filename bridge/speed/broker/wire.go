package broker

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
)

// maxPacket is the largest packet that is read: its memory is taken before it
// is there. It is what a record of the log may have.
const maxPacket = 10 << 20

var errEnded = errors.New("connection ended by this side")

// A wire is the connection that the MQTT client reads and writes. It knows what
// ended it, which the client forgets, and looks at the length of each packet
// before the client takes memory for it.
type wire struct {
	net.Conn
	raw   net.Conn // closed when the wire fails, without waiting
	limit time.Duration
	down  chan struct{} // closed with the first cause
	asked atomic.Int64  // filters of the SUBSCRIBE that is not answered yet

	mu    sync.Mutex // guards cause
	cause error

	// Of the reading goroutine, but for head, which is complete before CONNACK
	// is handled.
	head  []byte // the first bytes: a CONNACK
	kind  byte   // of the packet, and its flags
	inLen bool   // the next byte is of a length
	shift uint
	left  int // of the packet's body
}

func newWire(c net.Conn, limit time.Duration) *wire {
	w := &wire{Conn: c, raw: c, limit: limit, down: make(chan struct{})}
	if t, ok := c.(*tls.Conn); ok {
		w.raw = t.NetConn() // Close of TLS may wait for the peer
	}
	return w
}

// Read fails with what ended the wire, never with the text for a closed
// connection, on which the client (paho 1.5.1) would keep silent.
func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if len(w.head) < 4 {
		w.head = append(w.head, p[:min(n, 4-len(w.head))]...)
	}
	if e := w.scan(p[:n]); e != nil {
		w.fail(e)
		return 0, w.why()
	}
	if err != nil {
		w.fail(err)
		return n, w.why()
	}
	return n, nil
}

// scan follows the packets of the stream.
func (w *wire) scan(p []byte) error {
	for len(p) > 0 {
		if !w.inLen {
			n := min(w.left, len(p))
			w.left, p = w.left-n, p[n:]
			if len(p) > 0 { // the first byte of a packet
				w.kind, w.inLen, w.shift, p = p[0], true, 0, p[1:]
			}
			continue
		}
		if w.shift > 21 {
			return errors.New("the broker sent a malformed packet")
		}
		w.left |= int(p[0]&0x7f) << w.shift
		w.shift += 7
		w.inLen = p[0]&0x80 != 0
		if w.left > maxPacket {
			return fmt.Errorf(
				"the broker sent a packet of at least %d bytes, want at most %d: limit the size of messages there",
				w.left, maxPacket)
		}
		if !w.inLen && w.kind>>4 == packets.Suback {
			// the client (paho 1.5.1, net.go) would panic
			if codes, asked := w.left-2, int(w.asked.Swap(0)); codes > asked {
				return badSuback(codes, asked)
			}
		}
		p = p[1:]
	}
	return nil
}

// badSuback is a broker's answer to a SUBSCRIBE that has not one code for each
// filter.
func badSuback(codes, asked int) error {
	return fmt.Errorf("the broker answers a SUBSCRIBE with %d codes, %d filters were asked for", codes, asked)
}

func (w *wire) Write(p []byte) (int, error) {
	if err := w.Conn.SetWriteDeadline(time.Now().Add(w.limit)); err != nil {
		w.fail(err)
		return 0, w.why()
	}
	n, err := w.Conn.Write(p)
	if err != nil {
		w.fail(err)
		return n, w.why()
	}
	return n, nil
}

// SetWriteDeadline does nothing: each write has its own.
func (w *wire) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline counts for reads only.
func (w *wire) SetDeadline(t time.Time) error { return w.Conn.SetReadDeadline(t) }

func (w *wire) Close() error {
	w.fail(errEnded)
	return nil
}

// fail ends the wire. The first cause stays.
func (w *wire) fail(cause error) {
	w.mu.Lock()
	first := w.cause == nil
	if first {
		w.cause = cause
		close(w.down)
	}
	w.mu.Unlock()
	if first {
		_ = w.raw.Close()
	}
}

func (w *wire) why() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cause
}

// dial opens the connection, up to TLS or the WebSocket.
func (b *Broker) dial(ctx context.Context) (net.Conn, error) {
	u, err := url.Parse(b.o.URL)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, b.o.ConnectTimeout)
	defer cancel()
	conf := &tls.Config{}
	if b.o.TLS != nil {
		conf = b.o.TLS.Clone()
	}
	conf.MinVersion = max(conf.MinVersion, tls.VersionTLS12)
	switch u.Scheme {
	case "ws", "wss":
		return mqtt.NewWebsocket(b.o.URL, conf, b.o.ConnectTimeout, nil, nil)
	case "ssl":
		return (&tls.Dialer{Config: conf}).DialContext(ctx, "tcp", u.Host)
	default:
		return (&net.Dialer{}).DialContext(ctx, "tcp", u.Host)
	}
}

// A conn is a client for one connection.
type conn struct {
	mqtt.Client
	wire *wire
	b    *Broker
	gone chan struct{} // closed when the client's goroutines have ended
}

// connect makes a client; the session stays unless clean.
func (b *Broker) connect(ctx context.Context, id string, clean bool, take func(mqtt.Message)) (*conn, error) {
	nc, err := b.dial(ctx)
	if err != nil {
		return nil, err
	}
	c := &conn{wire: newWire(nc, b.o.AckTimeout), b: b, gone: make(chan struct{})}
	o := mqtt.NewClientOptions()
	o.AddBroker("tcp://broker:1") // only a label: the connection stands
	o.SetClientID(id).SetUsername(b.o.Username).SetPassword(b.o.Password).SetProtocolVersion(4).SetCleanSession(clean)
	o.SetAutoReconnect(false).SetConnectRetry(false).SetStore(noStore{})
	o.SetOrderMatters(true).SetAutoAckDisabled(true)
	o.SetKeepAlive(b.o.KeepAlive).SetPingTimeout(min(b.o.KeepAlive, b.o.AckTimeout))
	o.SetConnectTimeout(b.o.ConnectTimeout).SetWriteTimeout(b.o.AckTimeout)
	o.SetConnectionLostHandler(func(mqtt.Client, error) { close(c.gone) })
	o.SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { take(m) })
	o.SetCustomOpenConnectionFn(func(*url.URL, mqtt.ClientOptions) (net.Conn, error) { return c.wire, nil })
	c.Client = mqtt.NewClient(o)
	stop := context.AfterFunc(ctx, func() { c.wire.fail(ctx.Err()) })
	defer stop()
	tok := c.Connect()
	timer := time.AfterFunc(b.o.ConnectTimeout, func() { c.wire.fail(context.DeadlineExceeded) })
	defer timer.Stop()
	<-tok.Done()
	// The client takes return codes it does not know for success.
	if h := c.wire.head; tok.Error() == nil && (len(h) < 4 || h[3] != packets.Accepted) {
		c.end(errors.New("refused"))
		return nil, refusal(h)
	} else if err := tok.Error(); err != nil {
		why := c.wire.why()
		c.wire.fail(err)
		if len(h) == 4 && h[0] == packets.Connack<<4 && h[3] != packets.Accepted {
			return nil, refusal(h)
		}
		if why != nil && why != errEnded {
			return nil, why
		}
		return nil, err
	}
	return c, nil
}

// refusal puts a CONNACK's return code into words (MQTT 3.1.1, table 3.1).
func refusal(connack []byte) error {
	if len(connack) < 4 {
		return errors.New("the broker does not answer as one")
	}
	words := map[byte]string{1: "it does not take MQTT 3.1.1", 2: "it does not take the client id",
		3: "it is not available",
		4: "the user name or password is wrong", 5: "the client is not authorized"}
	if s, ok := words[connack[3]]; ok {
		return fmt.Errorf("the broker refused the connection: %s (CONNACK %d)", s, connack[3])
	}
	return fmt.Errorf("the broker refused the connection (CONNACK %d)", connack[3])
}

// wait waits for the answer to one packet.
func (c *conn) wait(ctx context.Context, tok mqtt.Token, what string) error {
	timer := time.NewTimer(c.b.o.AckTimeout)
	defer timer.Stop()
	select {
	case <-tok.Done():
		if err := tok.Error(); err != nil {
			if why := c.wire.why(); why != nil {
				return why
			}
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	case <-c.wire.down:
		select {
		case <-tok.Done():
			if tok.Error() == nil { // the answer was the last that came
				return nil
			}
		default:
		}
		return c.wire.why()
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("the broker did not answer a %s within %v", what, c.b.o.AckTimeout)
	}
}

// end closes a connection that was accepted and waits for the client's
// goroutines.
func (c *conn) end(why error) {
	c.wire.fail(why)
	select {
	case <-c.gone:
	case <-time.After(c.b.o.AckTimeout):
		c.b.o.Log.Error("the MQTT client does not end")
	}
}

// noStore keeps the client from keeping messages: what has to be sent again
// comes from the queue here, or from the broker.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
