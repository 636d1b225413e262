package gateway

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// overhead is what a queued message costs beside its topic and payload, about.
const overhead = 64

// A session is what MQTT keeps for a client id: subscriptions, what waits to be
// sent or acknowledged, and the QoS 2 messages that it has accepted. It outlives
// its connection if the client asked for that.
type session struct {
	srv    *Subscribers
	id     string
	serial uint64
	life   uint64 // in its keys in the store
	// durable: it is kept in the store. It changes only before the session is
	// anybody else's.
	durable atomic.Bool

	// Subscribers.mu guards what follows.
	owner   string    // principal; empty: that of whoever resumes it first
	counted bool      // among its owner's: it outlives its connection
	away    time.Time // since then; zero while the client is there
	expiry  time.Duration
	will    *delayedWill
	due     time.Time // when Run has to look
	place   int       // in Subscribers.due, from 1; 0: not there

	// mu guards what follows, and the connection's acknowledgements and
	// output buffer.
	mu      sync.Mutex
	c       *Client // nil while the client is away
	over    bool    // discarded, though a Deliver may still have found it
	subs    map[string]*subscription
	seq     uint64   // of the latest that was stored
	flights []flight // what was sent with packet id index+1
	free    []uint16 // indices of flights not in use
	flying  int
	again   []uint16 // indices of flights to be sent again, once the window lets them
	sent    uint64   // counts QoS 1 and 2 messages sent, for their order
	pending []outbound
	bytes   int                  // of flights and pending
	qos2    map[uint16]*exchange // accepted and not yet released

	recvMu sync.Mutex // guards what follows
	policy Session    // of the latest connection
	recv   verdicts
}

// An outbound is a message on its way to a client.
type outbound struct {
	m      *message.Message
	qos    byte
	retain bool     // as the client sees it
	first  bool     // because of a new subscription
	group  string   // whole filter of the shared subscription that it came by, if any
	ids    []uint32 // of the subscriptions that it came by
	seq    uint64   // in the store; 0: not there
	again  bool     // may have been sent before
}

func (o outbound) size() int {
	return len(o.m.Topic) + len(o.m.Payload) + len(o.m.Properties) + overhead
}

// A flight is an outbound that was sent and is to be acknowledged.
type flight struct {
	outbound        // m is nil if the flight is not in use
	order    uint64 // of sending
	released bool   // PUBREC came, PUBCOMP has not
	held     bool   // PUBLISH or PUBREL waits until its state is durable
	waits    bool   // it is in session.again
}

// released stands in for the message of a flight that has only its PUBREL left.
var released message.Message

// An exchange is a QoS 2 message from its PUBLISH to its PUBREL.
type exchange struct {
	durable bool
	by      *Client // the connection that it came with
	ending  bool    // PUBREL came, and its end is being stored
	echoes  []echo  // the same packet sent again before it was durable
}

// An echo is an acknowledgement that waits for an earlier copy of its packet.
type echo struct {
	c   *Client
	seq uint64
}

// judge is the Session of the latest connection, nil if there was none since the
// start.
func (s *session) judge() Session {
	s.recvMu.Lock()
	defer s.recvMu.Unlock()
	return s.policy
}

// mayReceive asks policy whether the client may receive from topic t.
func (s *session) mayReceive(t string, now time.Time) bool {
	if unasked(t) {
		return true
	}
	s.recvMu.Lock()
	ok, known := s.recv.get(t, now)
	p := s.policy
	s.recvMu.Unlock()
	if known {
		return ok
	}
	if p == nil { // since the start it has not been back: attach will ask
		return true
	}
	ok = p.MayReceive(t) // without the lock: it may call the Subscribers
	if ttl := s.srv.conf.PermissionCache; ttl > 0 {
		s.recvMu.Lock()
		if s.policy == p {
			s.recv.put(t, ok, now.Add(ttl))
		}
		s.recvMu.Unlock()
	}
	return ok
}

// send queues o.
func (s *session) send(o outbound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admits(&o) {
		s.put(o)
	}
}

// stage is send up to where o has to be durable: it finds room for o, and adds
// it to b, which there is for a session that is. It returns false if o is not
// sent.
func (s *session) stage(o *outbound, b sessions.Changes) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.admits(o) {
		return false
	}
	if o.qos > 0 && s.durable.Load() {
		s.seq++
		o.seq = s.seq
		s.stored().Queue(b, o.seq, o.stored(s.srv, 0))
	}
	return true
}

// sendStaged is the rest of send.
func (s *session) sendStaged(o outbound) {
	// Another connection may have come meanwhile, with other rights.
	allowed := true
	for p := (Session)(nil); ; {
		if p = s.judge(); p != nil {
			allowed = p.MayReceive(o.m.Topic) // without the lock, as in mayReceive
		}
		s.mu.Lock()
		if s.judge() == p {
			break
		}
		s.mu.Unlock()
	}
	over := s.over
	switch {
	case over:
	case !allowed:
		s.srv.count.droppedPolicy.Add(1)
		s.unstage(&o)
	case s.c != nil && !s.c.fits(&o): // likewise
		s.srv.count.droppedTooLarge.Add(1)
		s.unstage(&o)
	default:
		s.put(o)
	}
	s.mu.Unlock()
	if over {
		s.srv.handOver(&o)
		s.forget(&o, s.srv.store)
	}
}

// withdraw ends what was staged and is not sent.
func (s *session) withdraw(o outbound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unstage(&o)
}

// unstage undoes stage. s.mu is held.
func (s *session) unstage(o *outbound) {
	s.forget(o, s.srv.store)
	s.unadmit(o)
}

// unadmit gives back the room that admits took. s.mu is held.
func (s *session) unadmit(o *outbound) {
	if o.qos > 0 && !s.over {
		s.grow(-o.size())
	}
}

// release is unadmit, for what is not durable.
func (s *session) release(o *outbound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unadmit(o)
}

// admits says whether there is room for o, which it then takes. Too much of what
// is sent because of a new subscription is dropped and does not end the
// connection. s.mu is held.
func (s *session) admits(o *outbound) bool {
	c, limit := s.c, s.srv.conf.OutBytes
	if c == nil && o.qos == 0 || s.over {
		return false // not kept for a client that is away (MQTT 3.1.2.4)
	}
	if c != nil && !c.fits(o) {
		s.srv.count.droppedTooLarge.Add(1)
		return false
	}
	queued := s.bytes
	if c != nil {
		queued += len(c.out) + c.writingBytes
	}
	full := queued > 0 && queued+o.size() > limit ||
		c == nil && s.srv.queued.Load() > int64(s.srv.conf.QueueBytes)
	switch {
	case o.qos == 0 && queued > 0 && queued+o.size() > limit/2:
		s.srv.count.droppedQoS0.Add(1)
		return false
	case o.qos == 0:
		return true
	case full:
		s.srv.count.droppedQueue.Add(1)
		if c != nil && !o.first {
			c.kick(ReasonThrottled)
		}
		return false
	}
	s.grow(o.size())
	return true
}

// put sends what was admitted, or lets it wait. s.mu is held.
func (s *session) put(o outbound) {
	c := s.c
	switch {
	case o.qos == 0 && c == nil: // it has left since
	case o.qos == 0:
		c.appendPublish(o, 0, false)
		c.startWriter()
	case c == nil || len(s.pending) > 0 || !s.room():
		s.pending = append(s.pending, o)
	default:
		s.fly(o)
		c.startWriter()
	}
}

// room says whether the client takes one more QoS 1 or 2 message. s.mu is held
// and the client is connected.
func (s *session) room() bool { return s.flying-len(s.again) < s.c.window() }

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
	s.flights[i] = flight{outbound: o, order: s.sent}
	s.flying++
	if o.qos == 2 && o.seq > 0 {
		s.hold(i)
		return
	}
	s.c.appendPublish(o, i+1, o.again)
}

// hold stores the state of flight i and sends its packet afterwards. s.mu is
// held.
func (s *session) hold(i uint16) {
	f := &s.flights[i]
	f.held = true
	order := f.order
	s.stored().Queue(s.srv.store, f.seq, f.stored(s.srv, i+1))
	s.srv.store.After(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if int(i) >= len(s.flights) || s.flights[i].order != order || !s.flights[i].held {
			return // discarded
		}
		s.flights[i].held = false
		if s.c == nil {
			return // attach will send it
		}
		if f := &s.flights[i]; !f.released && !s.c.fits(&f.outbound) { // this client takes less
			s.land(i)
			s.srv.count.droppedTooLarge.Add(1)
			return
		}
		s.resend(i, s.flights[i].again)
		s.c.startWriter()
	})
}

// resend sends the packet that flight i is at. s.mu is held.
func (s *session) resend(i uint16, dup bool) {
	if f := &s.flights[i]; f.released {
		s.c.appendAck(packet.PUBREL, i+1, 0)
	} else {
		s.c.appendPublish(f.outbound, i+1, dup)
	}
}

// window is how many messages may be on their way to the client.
func (c *Client) window() int {
	if n := c.v5.sendMax; n > 0 {
		return min(n, c.srv.conf.OutInFlight)
	}
	return c.srv.conf.OutInFlight
}

// takes says whether the client is there, and then whether it has room for so
// many bytes more; and whether the session has ended.
func (s *session) takes(size int) (there, room, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c == nil {
		return false, false, s.over
	}
	queued := s.bytes + len(s.c.out) + s.c.writingBytes
	return true, queued == 0 || queued+size <= s.srv.conf.OutBytes/2, s.over
}

// acked handles PUBACK, PUBREC and PUBCOMP from the client. It returns false if
// the packet cannot be the answer to what was sent.
func (s *session) acked(kind packet.Type, id uint16, reason byte) bool {
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
		if f != nil && !f.released && reason >= codeUnspecified {
			break // refused: there is no PUBREL (MQTT 5, 4.3.3)
		}
		if f != nil && !f.released {
			s.ground(id - 1)
			// The payload is the client's now.
			s.grow(-f.size())
			f.m, f.released = &released, true
			s.grow(f.size())
			if f.seq > 0 {
				s.hold(id - 1)
				return true
			}
		}
		if f != nil && f.held {
			return true
		}
		// An unknown id gets its PUBREL too, since the client waits for it.
		code := byte(0)
		if f == nil {
			code = codeUnknownID
		}
		s.c.appendAck(packet.PUBREL, id, code)
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
	s.ground(i)
	f := &s.flights[i]
	s.forget(&f.outbound, s.srv.store)
	s.grow(-f.size())
	*f = flight{}
	s.free = append(s.free, i)
	s.flying--
}

// ground takes flight i from those that are to be sent again: the client has
// answered it. s.mu is held.
func (s *session) ground(i uint16) {
	if s.flights[i].waits {
		s.flights[i].waits = false
		s.again = slices.DeleteFunc(s.again, func(j uint16) bool { return j == i })
	}
}

// sendAgain sends the first of those that are to be sent again. s.mu is held.
func (s *session) sendAgain() {
	i := s.again[0]
	s.again = s.again[1:]
	s.flights[i].waits = false
	s.resend(i, true)
}

// sendPending sends what waits as far as the window lets it. s.mu is held and
// the client is connected; the caller sees to the writing.
func (s *session) sendPending() {
	for len(s.again) > 0 && s.room() {
		s.sendAgain()
	}
	n := 0
	now := time.Now()
	for ; n < len(s.pending) && len(s.again) == 0 && s.room(); n++ {
		o := s.pending[n]
		switch {
		case o.m.Expired(now):
			s.srv.count.droppedExpired.Add(1)
		case !s.c.fits(&o):
			s.srv.count.droppedTooLarge.Add(1)
		default:
			s.fly(o)
			continue
		}
		s.forget(&o, s.srv.store)
		s.grow(-o.size())
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
	c.appendPacket(c.connack(present))
	c.greeting = len(c.out)
	s.again = nil
	all := make([]uint16, 0, s.flying)
	for i := range s.flights {
		s.flights[i].waits = false
		switch f := &s.flights[i]; {
		case f.m == nil, f.held:
		case f.released:
			all = append(all, uint16(i))
		case c.fits(&f.outbound) && c.session.MayReceive(f.m.Topic):
			all, s.again, f.waits = append(all, uint16(i)), append(s.again, uint16(i)), true
		default: // sent before, but perhaps to another principal, and not taken
			s.land(uint16(i))
			s.srv.count.droppedPolicy.Add(1)
		}
	}
	inOrder := func(a, b uint16) int { return cmp.Compare(s.flights[a].order, s.flights[b].order) }
	slices.SortFunc(all, inOrder)
	slices.SortFunc(s.again, inOrder)
	for _, i := range all {
		if s.flights[i].released {
			s.resend(i, true)
		} else if s.room() {
			s.sendAgain()
		}
	}
	kept := s.pending[:0]
	for _, o := range s.pending {
		if c.session.MayReceive(o.m.Topic) {
			kept = append(kept, o)
		} else {
			s.forget(&o, s.srv.store)
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

// discard takes the subscriptions of a session that ended out of the tree, and
// what it has in the store from there by b, which is nil without a store. What
// others of its groups take on is in b, too, and goes out with then, once b is
// durable.
func (s *session) discard(b sessions.Changes) (then func()) {
	s.mu.Lock()
	subs, flights, pending := s.subs, s.flights, s.pending
	if s.durable.Load() {
		s.srv.store.Session(b, s.id)
		for id := range s.qos2 {
			s.stored().Release(b, id)
		}
		for i := range flights {
			s.forget(&flights[i].outbound, b)
		}
		for i := range pending {
			s.forget(&pending[i], b)
		}
	}
	s.subs, s.pending, s.flights, s.free, s.again, s.flying = nil, nil, nil, nil, nil, 0
	s.grow(-s.bytes)
	s.over = true
	s.mu.Unlock()
	for filter, sub := range subs {
		s.srv.drop(s, filter, sub)
	}
	var taken staged
	take := func(o *outbound) {
		if d, ok := s.srv.another(o, b); ok {
			taken = append(taken, d)
		}
	}
	for i := range flights {
		// QoS 2 that was sent may go to nobody else [MQTT-4.8.2-5].
		if f := &flights[i]; f.m != nil && f.qos == 1 {
			take(&f.outbound)
		}
	}
	for i := range pending {
		take(&pending[i])
	}
	return taken.send
}
