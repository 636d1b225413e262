package uplink

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal/mqttbound"
)

// chunk is how much one write to the network may hold, so that the time limit
// of a write means progress: 16 KiB, the largest TLS record.
const chunk = 16 << 10

// backlog is how many bytes may wait in a link before the next PUBLISH does.
const backlog = 64 << 10

// flushFor is how long Close waits for bytes still to be written.
const flushFor = time.Second

// reasonFor is how long a failed write waits for the reader to learn why: the
// TLS alert or the FIN often lies unread in the socket already.
const reasonFor = 500 * time.Millisecond

var errClosed = errors.New("connection ended by this side")

// A link is the connection that the MQTT client talks through. Its Write only
// queues, so that no client goroutine is ever stuck behind a dead network, and
// it remembers what ended it, which the client forgets.
type link struct {
	net.Conn                  // over TLS, or raw itself
	bound     *mqttbound.Conn // the same
	raw       net.Conn        // closed when the link fails: waits for nothing
	certified bool            // this device had a certificate to show
	secure    bool            // over TLS: who answers is the broker
	// Over TLS: from and until when the certificates of who answers are valid.
	from, until time.Time
	limit       time.Duration // for one chunk to be written
	down        chan struct{} // closed with the first cause
	wake        chan struct{} // there is something to write, or to close
	room        chan struct{} // something was written
	stretch     *stretch      // learns how long this link may be silent

	mu      sync.Mutex // guards the rest
	buf     []byte
	writing int // bytes of the write to the network under way
	closing bool
	cause   error
	head    []byte // the first bytes read: a CONNACK
	used    traffic
}

func newLink(c, raw net.Conn, limit time.Duration, s *stretch) *link {
	b := mqttbound.New(c, mqttbound.MaxPacket)
	return &link{Conn: b, bound: b, raw: raw, limit: limit, down: make(chan struct{}), wake: make(chan struct{}, 1),
		room: make(chan struct{}, 1), stretch: s, used: traffic{last: time.Now()}}
}

// run writes what was queued, until the link is down.
func (l *link) run() {
	for {
		select {
		case <-l.wake:
		case <-l.down:
			return
		}
		for {
			l.mu.Lock()
			out := l.buf
			l.buf, l.writing = nil, len(out)
			closing := l.closing
			l.mu.Unlock()
			if len(out) == 0 {
				if closing {
					l.end(errClosed) // before the peer's answer to the goodbye
					_ = l.Conn.SetDeadline(time.Now().Add(flushFor))
					_ = l.Conn.Close()
					_ = l.raw.Close()
					return
				}
				break
			}
			if err := l.flush(out); err != nil {
				select {
				case <-l.down:
				case <-time.After(reasonFor):
					l.fail(err)
				}
				return
			}
			l.mu.Lock()
			l.writing = 0
			l.mu.Unlock()
			signal(l.room)
		}
	}
}

func (l *link) flush(out []byte) error {
	for len(out) > 0 {
		n := min(len(out), chunk)
		if err := l.Conn.SetWriteDeadline(time.Now().Add(l.limit)); err != nil {
			return err
		}
		if _, err := l.Conn.Write(out[:n]); err != nil {
			return err
		}
		out = out[n:]
	}
	return nil
}

// Read fails with what ended the link, never with the text for a closed
// connection, on which the MQTT client would keep silent.
func (l *link) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.mu.Lock()
		if len(l.head) < 4 {
			l.head = append(l.head, p[:min(n, 4-len(l.head))]...)
		}
		silence := l.used.read(time.Now())
		l.mu.Unlock()
		l.stretch.held(silence)
	}
	if err != nil {
		l.fail(err)
		return n, l.why()
	}
	return n, nil
}

// Write queues p. The callers see to it that little is queued: see backlog.
func (l *link) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause != nil {
		return 0, l.cause
	}
	if l.closing {
		return 0, errClosed
	}
	l.buf = append(l.buf, p...)
	l.used.wrote(time.Now())
	signal(l.wake)
	return len(p), nil
}

// Close writes what is queued, says goodbye and ends the link.
func (l *link) Close() error {
	l.mu.Lock()
	l.closing = true
	l.mu.Unlock()
	signal(l.wake)
	select {
	case <-l.down:
	case <-time.After(2 * flushFor):
		l.fail(errClosed)
	}
	return nil
}

// SetDeadline of the MQTT client's handshake counts for reads only; writes
// have their own.
func (l *link) SetDeadline(t time.Time) error { return l.Conn.SetReadDeadline(t) }

// SetWriteDeadline does nothing: the link has its own limit.
func (l *link) SetWriteDeadline(time.Time) error { return nil }

// fail ends the link at once. The first cause stays.
func (l *link) fail(cause error) {
	l.end(cause)
	_ = l.raw.Close()
}

func (l *link) end(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		l.cause, l.buf = cause, nil
		close(l.down)
	}
}

// why returns what ended the link, nil while it stands.
func (l *link) why() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// connack returns the return code of the CONNACK, if that was read, and
// whether the peer began with something else.
func (l *link) connack() (code byte, ok, alien bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.head) > 0 && l.head[0] != 0x20 {
		return 0, false, true
	} else if len(l.head) < 4 {
		return 0, false, false
	}
	return l.head[3], true, false
}

// full says whether the next PUBLISH has to wait for room.
func (l *link) full() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.buf)+l.writing > backlog
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
