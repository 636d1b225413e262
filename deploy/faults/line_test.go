package faults

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"slices"
	"sync"
	"testing"
	"time"
)

// A protocol reads what a client sends. next returns how long the first message of
// what came is, 0 for one that has not come whole, and whether the target does
// something when it has it.
type protocol interface {
	next(came []byte) (length int, writes bool)
	busy() []byte    // the answer of a target that has no room; nil: there is none
	refused() []byte // and of one that will not have what was sent
}

// postgres is one connection of a client of PostgreSQL.
type postgres struct {
	writing byte   // type of the message that does something
	text    string // what it has in it
	begun   bool

	meters  map[string]*meter // of statements that have a text in them; nil: of the gate
	known   map[string]*meter // by the name of a prepared statement
	current *meter            // of the statement that was bound last
}

// prepared notes whose statement is prepared or bound (PostgreSQL, "Message Formats").
func (p *postgres) prepared(kind byte, message []byte) {
	parts := bytes.SplitN(message[5:], []byte{0}, 3)
	switch {
	case p.meters == nil || len(parts) < 3:
	case kind == 'P':
		if p.known == nil {
			p.known = map[string]*meter{}
		}
		p.known[string(parts[0])] = nil
		for text, m := range p.meters {
			if bytes.Contains(bytes.ToLower(parts[1]), []byte(text)) {
				p.known[string(parts[0])] = m
			}
		}
	case kind == 'B':
		p.current = p.known[string(parts[1])]
	}
}

// of is the meter of what was written last.
func (p *postgres) of() *meter { return p.current }

// next implements protocol (PostgreSQL, "Message Formats").
func (p *postgres) next(came []byte) (int, bool) {
	at := 1
	if !p.begun { // the first one has no type
		at = 0
	}
	if len(came) < at+4 {
		return 0, false
	}
	n := at + int(binary.BigEndian.Uint32(came[at:]))
	if len(came) < n {
		return 0, false
	}
	if p.begun {
		p.prepared(came[0], came[:n])
	}
	writes := p.begun && came[0] == p.writing && bytes.Contains(bytes.ToLower(came[:n]), []byte(p.text))
	p.begun = true
	return n, writes
}

func (*postgres) busy() []byte    { return sqlError("53300", "too many clients already") }
func (*postgres) refused() []byte { return sqlError("22P02", "invalid input syntax") }

func sqlError(code, text string) []byte {
	fields := "SERROR\x00VERROR\x00C" + code + "\x00M" + text + "\x00\x00"
	return append(binary.BigEndian.AppendUint32([]byte{'E'}, uint32(4+len(fields))), fields...)
}

// kafka is one connection of a client of Kafka.
type kafka struct{}

// next implements protocol: a length, then the number of the API, 0 for Produce.
func (kafka) next(came []byte) (int, bool) {
	if len(came) < 6 {
		return 0, false
	}
	n := 4 + int(binary.BigEndian.Uint32(came))
	if len(came) < n {
		return 0, false
	}
	return n, binary.BigEndian.Uint16(came[4:]) == 0
}

func (kafka) busy() []byte    { return nil }
func (kafka) refused() []byte { return nil }

// A chooser is a protocol of which not all messages are of the same row; nil: of none.
type chooser interface{ of() *meter }

// A lineGate stands before a server of a protocol over TCP.
type lineGate struct {
	meters   []*meter // of connections: they are reset while all rows are away
	to       string
	l        net.Listener
	protocol func() protocol
	all      sync.WaitGroup

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

// newLineGate opens a gate before an address and returns its own.
func newLineGate(t testing.TB, to string, p func() protocol, meters ...*meter) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startLineGate(t, l, to, p, meters...)
}

func startLineGate(t testing.TB, l net.Listener, to string, p func() protocol, meters ...*meter) string {
	g := &lineGate{meters: meters, to: to, l: l, protocol: p, conns: map[net.Conn]bool{}}
	g.all.Go(g.run)
	t.Cleanup(func() {
		for _, m := range meters {
			m.set(pass, 0)
		}
		l.Close()
		g.mu.Lock()
		for c := range g.conns {
			c.Close()
		}
		g.conns = nil
		g.mu.Unlock()
		g.all.Wait()
	})
	return l.Addr().String()
}

func (g *lineGate) run() {
	for {
		c, err := g.l.Accept()
		if err != nil {
			return
		}
		g.all.Go(func() { g.serve(c) })
	}
}

// keep says whether c is one that the end of the gate closes.
func (g *lineGate) keep(c net.Conn) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conns == nil {
		return false
	}
	g.conns[c] = true
	return true
}

func (g *lineGate) drop(c net.Conn) {
	g.mu.Lock()
	delete(g.conns, c)
	g.mu.Unlock()
	c.Close()
}

// A wire is a connection through a gate.
type wire struct {
	*lineGate
	client, server net.Conn
	gone           context.Context // until the client has closed

	mu       sync.Mutex
	swallow  bool
	answered chan struct{} // closed when an answer was swallowed
}

func (g *lineGate) serve(c net.Conn) {
	defer g.drop(c)
	if !g.keep(c) {
		return
	}
	if !slices.ContainsFunc(g.meters, func(m *meter) bool { return m.now() != away }) {
		for _, m := range g.meters {
			m.meet()
		}
		resetConn(c)
		return
	}
	s, err := net.Dial("tcp", g.to)
	if err != nil || !g.keep(s) {
		return
	}
	defer g.drop(s)
	gone, left := context.WithCancel(context.Background())
	w := &wire{lineGate: g, client: c, server: s, gone: gone, answered: make(chan struct{})}
	g.all.Go(w.back)
	came := make(chan []byte, 64)
	g.all.Go(func() {
		defer left()
		defer close(came)
		for {
			b := make([]byte, 64<<10)
			n, err := c.Read(b)
			if n > 0 {
				came <- b[:n]
			}
			if err != nil {
				return
			}
		}
	})
	w.forth(came)
	for range came { // the reader ends with the connection
	}
}

// back brings the server's answers.
func (w *wire) back() {
	b := make([]byte, 64<<10)
	for {
		n, err := w.server.Read(b)
		if n > 0 {
			w.mu.Lock()
			swallow := w.swallow
			w.mu.Unlock()
			if swallow {
				select {
				case <-w.answered:
				default:
					close(w.answered)
				}
			} else if _, err := w.client.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			w.mu.Lock()
			if !w.swallow {
				w.client.Close()
			}
			w.mu.Unlock()
			return
		}
	}
}

// forth brings what the client sends.
func (w *wire) forth(came <-chan []byte) {
	p := w.protocol()
	var rest []byte
	for b := range came {
		rest = append(rest, b...)
		whole, writes := 0, false
		for whole < len(rest) {
			n, does := p.next(rest[whole:])
			if n == 0 {
				break
			}
			whole += n
			writes = writes || does
		}
		if writes && w.meets(p, rest[:whole]) {
			w.drop(w.client)
			return
		}
		if _, err := w.server.Write(rest[:whole]); err != nil {
			return
		}
		rest = rest[whole:]
	}
}

// meets does to messages what the gate has for them, and says whether that ends the
// connection.
func (w *wire) meets(p protocol, messages []byte) bool {
	m := w.meters[0]
	if c, ok := p.(chooser); ok && len(w.meters) > 1 {
		if m = c.of(); m == nil {
			return false
		}
	}
	does := m.meet()
	switch does {
	case pass, half:
		return false
	case slow:
		time.Sleep(lateBy)
		return false
	case away:
		resetConn(w.client)
		return true
	case before:
		m.hold(w.gone)
		return true
	case busy, throttled:
		_, _ = w.client.Write(p.busy())
		return true
	case refused:
		_, _ = w.client.Write(p.refused())
		return true
	}
	w.mu.Lock()
	w.swallow = true
	w.mu.Unlock()
	if _, err := w.server.Write(messages); err == nil {
		select {
		case <-w.answered:
		case <-w.gone.Done():
		}
	}
	switch does {
	case garbage:
		_, _ = w.client.Write([]byte("\x00\xff<what{ and no more of it than that"))
	case silent, after:
		m.hold(w.gone)
	}
	resetConn(w.client)
	return true
}

func resetConn(c net.Conn) {
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	c.Close()
}
