package gateway

import (
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/packet"
)

// overhead is what a queued message costs beside its topic and payload, about.
const overhead = 64

// A session is what MQTT keeps for a client id: subscriptions, what waits to be
// sent or acknowledged, and the QoS 2 messages that it has accepted. It outlives
// its connection if CleanSession was 0.
type session struct {
	srv    *Server
	id     string
	serial uint64
	clean  bool

	// mu guards what follows, and the connection's acknowledgements and
	// output buffer.
	mu      sync.Mutex
	c       *Client // nil while the client is away
	over    bool    // discarded, though a Deliver may still have found it
	subs    map[string]*subscription
	flights []flight // what was sent with packet id index+1
	free    []uint16 // indices of flights not in use
	flying  int
	sent    uint64 // counts QoS 1 and 2 messages sent, for their order
	pending []outbound
	bytes   int                  // of flights and pending
	qos2    map[uint16]*exchange // accepted and not yet released

	recvMu sync.Mutex // guards what follows
	policy Session    // of the latest connection
	recv   verdicts
}

// An outbound is a message on its way to a client.
type outbound struct {
	m      *Message
	qos    byte
	retain bool // because of a new subscription
}

func (o outbound) size() int { return len(o.m.Topic) + len(o.m.Payload) + overhead }

// A flight is an outbound that was sent and is to be acknowledged.
type flight struct {
	outbound        // m is nil if the flight is not in use
	seq      uint64 // order of sending
	released bool   // PUBREC came, PUBCOMP has not
}

// released stands in for the message of a flight that has only its PUBREL left.
var released Message

// An exchange is a QoS 2 message from its PUBLISH to its PUBREL.
type exchange struct {
	durable bool
	echoes  []echo // the same packet sent again before it was durable
}

// An echo is an acknowledgement that waits for an earlier copy of its packet.
type echo struct {
	c   *Client
	seq uint64
}

// mayReceive asks policy whether the client may receive from topic t.
func (s *session) mayReceive(t string, now time.Time) bool {
	s.recvMu.Lock()
	ok, known := s.recv.get(t, now)
	p := s.policy
	s.recvMu.Unlock()
	if known {
		return ok
	}
	ok = p.MayReceive(t) // without the lock: it may call the Server
	if ttl := s.srv.conf.PermissionCache; ttl > 0 {
		s.recvMu.Lock()
		if s.policy == p {
			s.recv.put(t, ok, now.Add(ttl))
		}
		s.recvMu.Unlock()
	}
	return ok
}

// send queues m with quality qos. retain says that it is sent because of a new
// subscription; then too much of it is dropped and does not end the connection.
func (s *session) send(m *Message, qos byte, retain bool) {
	o := outbound{m, qos, retain}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, limit := s.c, s.srv.conf.OutBytes
	if c == nil && qos == 0 || s.over {
		return // not kept for a client that is away (MQTT 3.1.2.4)
	}
	queued := s.bytes
	if c != nil {
		queued += len(c.out) + c.writingBytes
	}
	full := queued > 0 && queued+o.size() > limit ||
		c == nil && s.srv.queued.Load() > int64(s.srv.conf.QueueBytes)
	switch {
	case qos == 0 && queued > 0 && queued+o.size() > limit/2:
		s.srv.count.droppedQoS0.Add(1)
	case qos == 0:
		c.appendPublish(o, 0, false)
		c.startWriter()
	case full && (c == nil || retain):
		s.srv.count.droppedQueue.Add(1)
	case full:
		s.srv.count.droppedQueue.Add(1)
		c.kick(ReasonThrottled)
	default:
		s.grow(o.size())
		if c == nil || len(s.pending) > 0 || s.flying >= s.srv.conf.OutInFlight {
			s.pending = append(s.pending, o)
			return
		}
		s.fly(o)
		c.startWriter()
	}
}

// grow counts n bytes more, or less, that wait. s.mu is held.
func (s *session) grow(n int) {
	s.bytes += n
	s.srv.queued.Add(int64(n))
}

// fly sends a QoS 1 or 2 message to the connected client. s.mu is held.
func (s *session) fly(o outbound) {
	var i uint16
	if n := len(s.free); n > 0 {
		i, s.free = s.free[n-1], s.free[:n-1]
	} else {
		i = uint16(len(s.flights))
		s.flights = append(s.flights, flight{})
	}
	s.sent++
	s.flights[i] = flight{outbound: o, seq: s.sent}
	s.flying++
	s.c.appendPublish(o, i+1, false)
}

// acked handles PUBACK, PUBREC and PUBCOMP from the client. It returns false if
// the packet cannot be the answer to what was sent.
func (s *session) acked(kind packet.Type, id uint16) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var f *flight
	if int(id) <= len(s.flights) && s.flights[id-1].m != nil {
		f = &s.flights[id-1]
	}
	switch kind {
	case packet.PUBREC:
		if f != nil && f.qos != 2 {
			return false
		}
		if f != nil && !f.released {
			// The payload is the client's now.
			s.grow(-f.size())
			f.m, f.released = &released, true
			s.grow(f.size())
		}
		// An unknown id gets its PUBREL too, since the client waits for it.
		s.c.appendAck(packet.PUBREL, id)
		return true
	case packet.PUBACK:
		if f == nil {
			return true
		}
		if f.qos != 1 {
			return false
		}
	case packet.PUBCOMP:
		if f == nil {
			return true
		}
		if !f.released {
			return false
		}
	}
	s.land(id - 1)
	s.sendPending()
	return true
}

// land ends flight i. s.mu is held.
func (s *session) land(i uint16) {
	f := &s.flights[i]
	s.grow(-f.size())
	*f = flight{}
	s.free = append(s.free, i)
	s.flying--
}

// sendPending sends what waits as far as the window lets it. s.mu is held and
// the client is connected; the caller sees to the writing.
func (s *session) sendPending() {
	n := 0
	for ; n < len(s.pending) && s.flying < s.srv.conf.OutInFlight; n++ {
		s.fly(s.pending[n])
	}
	if n == len(s.pending) {
		s.pending = nil
		return
	}
	clear(s.pending[:n])
	s.pending = s.pending[n:]
}

// attach makes c the session's connection: CONNACK, what is still to be
// acknowledged [MQTT-4.4.0-1], what came while the client was away.
func (s *session) attach(c *Client, present bool) {
	s.recvMu.Lock()
	s.policy, s.recv = c.session, verdicts{}
	s.recvMu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.c, c.s = c, s
	c.appendPacket(&packet.Connack{SessionPresent: present, Code: packet.Accepted})
	again := make([]uint16, 0, s.flying)
	for i, f := range s.flights {
		switch {
		case f.m == nil:
		case f.released || c.session.MayReceive(f.m.Topic):
			again = append(again, uint16(i))
		default: // sent before, but perhaps to another principal, and not taken
			s.land(uint16(i))
			s.srv.count.droppedPolicy.Add(1)
		}
	}
	slices.SortFunc(again, func(a, b uint16) int { return int(s.flights[a].seq) - int(s.flights[b].seq) })
	for _, i := range again {
		if f := s.flights[i]; f.released {
			c.appendAck(packet.PUBREL, i+1)
		} else {
			c.appendPublish(f.outbound, i+1, true)
		}
	}
	kept := s.pending[:0]
	for _, o := range s.pending {
		if c.session.MayReceive(o.m.Topic) {
			kept = append(kept, o)
		} else {
			s.grow(-o.size())
			s.srv.count.droppedPolicy.Add(1)
		}
	}
	clear(s.pending[len(kept):])
	s.pending = kept
	s.sendPending()
	c.startWriter()
}

// detach parts the session from its ended connection.
func (s *session) detach() {
	s.mu.Lock()
	s.c = nil
	s.mu.Unlock()
}

// discard takes the subscriptions of a session that ended out of the tree.
func (s *session) discard() {
	s.mu.Lock()
	subs := s.subs
	s.subs, s.pending, s.flights, s.free, s.flying = nil, nil, nil, nil, 0
	s.grow(-s.bytes)
	s.over = true
	s.mu.Unlock()
	for filter, sub := range subs {
		s.srv.subs.Remove(filter, func(v *subscription) bool { return v == sub })
	}
}
