package gateway

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

func TestMain(m *testing.M) {
	if kind := os.Getenv(serveEnv); kind != "" {
		serveAlone(kind)
		return
	}
	goleak.VerifyTestMain(m)
}

// policy lets everybody do everything except what is named.
type policy struct {
	mu      sync.Mutex
	connect func(*Connect) error
	// principal names who connects; nil: cert/{client id}.
	principal func(*Connect) string
	deny      map[string]bool // "publish a", "retain a", "subscribe a", "receive a"
	asked     map[string]int
	hook      func(what string) // unless nil, called when it is asked
}

func (p *policy) Connect(_ context.Context, c *Connect) (Session, error) {
	if p.connect != nil {
		if err := p.connect(c); err != nil {
			return nil, err
		}
	}
	principal := "cert/" + c.ClientID
	if p.principal != nil {
		principal = p.principal(c)
	}
	return granted{p, c.ClientID, principal}, nil
}

func (p *policy) may(what string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.hook != nil {
		p.hook(what)
	}
	if p.asked == nil {
		p.asked = make(map[string]int)
	}
	p.asked[what]++
	return !p.deny[what]
}

type granted struct {
	p             *policy
	id, principal string
}

func (g granted) Principal() string { return g.principal }
func (g granted) Thing() string     { return g.id }
func (g granted) MayPublish(t string, retain bool) bool {
	return g.p.may("publish "+t) && (!retain || g.p.may("retain "+t))
}
func (g granted) MaySubscribe(f string) bool { return g.p.may("subscribe " + f) }
func (g granted) MayReceive(t string) bool   { return g.p.may("receive " + t) }

// routerFunc is a Router.
//
// Its m is the message of the Publish, which has what a test seldom looks at.
type routerFunc func(c *Client, m *message.Message, done func(error))

func (f routerFunc) Route(p Publish) { f(p.Client, p.Message, p.Done) }

// publishFunc is a Router.
type publishFunc func(p Publish)

func (f publishFunc) Route(p Publish) { f(p) }

// pipes is a listener within the process, fit for synctest.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (l *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipes) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipes", Net: "unix"} }

func (l *pipes) dial(t *testing.T) net.Conn {
	t.Helper()
	a, b := net.Pipe()
	select {
	case l.conns <- b:
	case <-l.done:
		t.Fatal("listener is closed")
	}
	return a
}

// A fixture is a running server.
type fixture struct {
	*Server
	policy *policy
	addr   string
	pipes  *pipes
	stop   func()
	staged atomic.Pointer[func()] // called between the staging of a message and its commit
}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

// newServer is a server of subscribers of its own; a nil router delivers and is
// done at once.
func newServer(conf Config, a Authorizer, r Router, more ...func(*Hooks)) *Server {
	subs := NewSubscribers(conf)
	if r == nil {
		r = deliverer{subs}
	}
	h := Hooks{Authorizer: a, Router: r}
	for _, add := range more {
		add(&h)
	}
	return New(subs, h)
}

// A deliverer is the Router of tests that have none.
type deliverer struct{ *Subscribers }

func (d deliverer) Route(p Publish) {
	d.Deliver(p.Message, nil)
	p.Done(nil)
}

// withEvents has f hear of connections.
func withEvents(f func(Event)) func(*Hooks) { return func(h *Hooks) { h.Events = f } }

// start runs a server on TCP until the test ends. A nil router delivers and is
// done at once.
func start(t *testing.T, conf Config, r Router, more ...func(*Hooks)) *fixture {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := startOn(t, conf, r, l, more...)
	f.addr = l.Addr().String()
	return f
}

// startPipes is start within the process.
func startPipes(t *testing.T, conf Config, r Router, more ...func(*Hooks)) *fixture {
	t.Helper()
	l := newPipes()
	f := startOn(t, conf, r, l, more...)
	f.pipes = l
	return f
}

func startOn(t *testing.T, conf Config, r Router, l net.Listener, more ...func(*Hooks)) *fixture {
	t.Helper()
	if conf.Log == nil {
		conf.Log = quiet()
	}
	f := &fixture{policy: &policy{deny: make(map[string]bool)}}
	f.Server = newServer(conf, f.policy, r, more...)
	if err := f.Load(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- f.Serve(ctx, l) }()
	ran := make(chan error, 1)
	go func() { ran <- f.Run(ctx) }()
	f.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		if st := f.Stats(); st.Connections != 0 || st.UnackedBytes != 0 {
			t.Errorf("after the end: %+v", st)
		}
	})
	t.Cleanup(f.stop)
	return f
}

// A wire is a client that says exactly what it is told to.
type wire struct {
	t  *testing.T
	nc net.Conn
	rd *packet.Reader
	v  packet.Version
}

const patience = time.Minute // for what must come; no test waits so long

func (f *fixture) dial(t *testing.T) *wire {
	t.Helper()
	var nc net.Conn
	if f.pipes != nil {
		nc = f.pipes.dial(t)
	} else {
		var err error
		if nc, err = net.Dial("tcp", f.addr); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { nc.Close() })
	return &wire{t, nc, packet.NewReader(nc, 4096, 1<<20), packet.V311}
}

// connect dials and connects with a clean session.
func (f *fixture) connect(t *testing.T, id string) *wire {
	t.Helper()
	w := f.dial(t)
	w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: id})
	w.want(&packet.Connack{})
	return w
}

// resume dials and connects with CleanSession 0.
func (f *fixture) resume(t *testing.T, id string, present bool) *wire {
	t.Helper()
	w := f.dial(t)
	w.send(&packet.Connect{Version: packet.V311, ClientID: id})
	w.want(&packet.Connack{SessionPresent: present})
	return w
}

func (w *wire) send(ps ...packet.Packet) {
	w.t.Helper()
	var b []byte
	for _, p := range ps {
		b = p.Append(b, w.v)
	}
	w.bytes(b)
}

func (w *wire) bytes(b []byte) {
	w.t.Helper()
	w.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := w.nc.Write(b); err != nil {
		w.t.Fatalf("write: %v", err)
	}
}

func (w *wire) next() (packet.Packet, error) {
	w.nc.SetReadDeadline(time.Now().Add(patience))
	first, body, _, err := w.rd.Next()
	if err != nil {
		return nil, err
	}
	return packet.Decode(first, append([]byte(nil), body...), w.v)
}

// want reads the next packet, which must be p.
func (w *wire) want(p packet.Packet) {
	w.t.Helper()
	got, err := w.next()
	if err != nil {
		w.t.Fatalf("want %s: %v", p.Type(), err)
	}
	if a, b := got.Append(nil, w.v), p.Append(nil, w.v); string(a) != string(b) {
		w.t.Fatalf("got %s %x, want %s %x", got.Type(), a, p.Type(), b)
	}
}

// wantEnd reads until the server closes, and fails on any packet before.
func (w *wire) wantEnd() {
	w.t.Helper()
	p, err := w.next()
	var ne net.Error
	if err == nil {
		w.t.Fatalf("got %s, want the end of the connection", p.Type())
	} else if errors.As(err, &ne) && ne.Timeout() {
		w.t.Fatal("the server did not close the connection")
	}
}

func (w *wire) subscribe(filter string, qos byte) {
	w.t.Helper()
	w.send(&packet.Subscribe{ID: 99, Filters: []packet.Filter{{Filter: filter, Options: qos}}})
	w.want(&packet.Suback{ID: 99, Codes: []byte{qos}})
}

// ping makes sure that the server has seen all that was sent.
func (w *wire) ping() {
	w.t.Helper()
	w.send(&packet.Ping{Kind: packet.PINGREQ})
	w.want(&packet.Ping{Kind: packet.PINGRESP})
}

func pub(topic, payload string, qos byte, id uint16) *packet.Publish {
	return &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), QoS: qos, ID: id}
}

func ackOf(kind packet.Type, id uint16) *packet.Ack { return &packet.Ack{Kind: kind, ID: id} }

// journal records events.
type journal struct {
	mu sync.Mutex
	b  strings.Builder
}

func (j *journal) add(s string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.b.WriteString(s + "\n")
}

func (j *journal) event(e Event) {
	if e.Kind == Connected {
		j.add("connected " + e.Client.ID())
	} else if e.Kind == Disconnected {
		j.add("disconnected " + e.Client.ID() + " " + e.Reason)
	}
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}
