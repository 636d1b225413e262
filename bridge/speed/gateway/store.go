package gateway

import (
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// memory is Subscribers as package sessions sees it.
type memory struct{ *Subscribers }

// Session implements sessions.Memory.
func (s memory) Session(id string) *sessions.Record {
	s.mu.Lock()
	x := s.sessions[id]
	if x == nil || !x.durable.Load() {
		s.mu.Unlock()
		return nil
	}
	r := &sessions.Record{Life: x.life, Expiry: x.expiry, Away: s.steady(x.away), Owner: x.owner,
		Subs: make(map[string]uint64)}
	s.mu.Unlock()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over { // it ended since it was looked up: half a record, without its subscriptions, would outlive a crash
		return nil
	}
	for f, sub := range x.subs {
		r.Subs[f] = sub.opts.Load()
	}
	return r
}

// Retained implements sessions.Memory.
func (s memory) Retained(topic string) *sessions.Retained {
	k, ok := s.retained.get(topic)
	if !ok {
		return nil
	}
	return &sessions.Retained{Topic: topic, QoS: k.m.QoS, At: k.at, Expires: s.steady(k.m.Expires), Owner: k.m.Owner,
		Properties: k.m.Properties, Payload: k.m.Payload}
}

// steady is t, which has a monotonic reading, as it is stored: by a clock that does
// not jump from here to the start that reads it.
func (s *Subscribers) steady(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return s.conf.Steady().Add(time.Until(t))
}

// batch returns an empty one, nil without a store.
func (s *Subscribers) batch() *streams.Batch {
	if s.store == nil {
		return nil
	}
	return s.store.NewBatch()
}

// stored is the session's name in the store.
func (s *session) stored() sessions.Life { return sessions.Life{ID: s.id, Number: s.life} }

// stored is o as srv keeps it; packetID is 0 as long as it has none.
func (o *outbound) stored(srv *Subscribers, packetID uint16) *sessions.Queued {
	return &sessions.Queued{QoS: o.qos, Retain: o.retain, Released: o.m == &released, PacketID: packetID,
		Expires: srv.steady(o.m.Expires),
		Topic:   o.m.Topic, Properties: o.m.Properties, Group: o.group, IDs: o.ids, Payload: o.m.Payload}
}

// forget removes the stored form of o. s.mu may be held.
func (s *session) forget(o *outbound, from sessions.Changes) {
	if o.seq > 0 {
		s.stored().Unqueue(from, o.seq)
	}
}

// newLife is for a session that is made.
func newLife() uint64 { return rand.Uint64() }

// Load makes the sessions and retained messages of the store anew. It comes
// before Serve and Run, and without a store does nothing. Clients that were
// connected count as gone since now. What cannot be read is left out, said in
// the log, and counted.
func (s *Subscribers) Load() error {
	if s.store == nil {
		return nil
	}
	l := &loader{Subscribers: s, now: time.Now(), steady: s.conf.Steady()}
	if err := s.store.Load(l); err != nil {
		return err
	}
	for _, o := range l.orphans {
		if d, ok := s.another(&o.outbound, s.store); ok {
			d.s.sendStaged(d.o) // it is durable where it was
		}
		o.of.Unqueue(s.store, o.seq)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, x := range s.sessions {
		s.schedule(x)
	}
	return nil
}

// A loader fills Subscribers that do nothing yet. It implements sessions.Loader.
type loader struct {
	*Subscribers
	now     time.Time
	steady  time.Time // now, by the clock of what is stored
	orphans []orphan
}

// here undoes Subscribers.steady: it gives a stored time a monotonic reading.
func (l *loader) here(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return l.now.Add(t.Sub(l.steady))
}

// An orphan is a message of a shared subscription whose session had ended and
// which no other member had yet.
type orphan struct {
	of sessions.Life
	outbound
}

func (l *loader) Corrupt(key []byte, err error) {
	l.count.corrupt.Add(1)
	l.conf.Log.Warn("a session's record cannot be read, it is left out", "key", string(key), "err", err)
}

func (l *loader) LoadRetained(r *sessions.Retained) bool {
	m := &message.Message{Topic: r.Topic, Payload: r.Payload, QoS: r.QoS, Retain: true, Properties: r.Properties,
		Expires: l.here(r.Expires), Owner: r.Owner}
	return !m.Expired(l.now) && l.retained.set(m, r.At)
}

func (l *loader) LoadSession(id string, r *sessions.Record) {
	x := l.newSession(id, r.Owner)
	x.life, x.away, x.expiry = r.Life, l.here(r.Away), r.Expiry
	if x.away.IsZero() || x.away.After(l.now) {
		x.away = l.now
	}
	x.durable.Store(true)
	l.enter(x)
	for _, f := range slices.Sorted(maps.Keys(r.Subs)) {
		l.subscribe(x, f, options(r.Subs[f]))
	}
}

// life returns the session that a life is of, if that is not over.
func (l *loader) life(life sessions.Life) *session {
	if x := l.sessions[life.ID]; x != nil && x.life == life.Number {
		return x
	}
	return nil
}

func (l *loader) LoadAccepted(life sessions.Life, packetID uint16) bool {
	x := l.life(life)
	if x == nil {
		return false
	}
	if x.qos2 == nil {
		x.qos2 = make(map[uint16]*exchange)
	}
	x.qos2[packetID] = &exchange{durable: true}
	return true
}

func (l *loader) LoadQueued(life sessions.Life, seq uint64, q *sessions.Queued) bool {
	o := outbound{qos: q.QoS, retain: q.Retain, ids: q.IDs, seq: seq, group: q.Group,
		m: &message.Message{Topic: q.Topic, Payload: q.Payload, QoS: q.QoS, Properties: q.Properties,
			Expires: l.here(q.Expires)}}
	if q.Released {
		o.m = &released
	}
	x := l.life(life)
	if x == nil && q.Group != "" && q.PacketID == 0 {
		l.orphans = append(l.orphans, orphan{life, o})
		return true
	} else if x == nil {
		return false
	}
	x.restore(o, q.PacketID)
	return true
}

// restore puts back what was queued; packetID is that of a QoS 2 message which
// may have been sent.
func (s *session) restore(o outbound, packetID uint16) {
	s.seq = max(s.seq, o.seq)
	s.grow(o.size())
	if packetID == 0 {
		o.again = o.qos == 1
		s.pending = append(s.pending, o)
		return
	}
	for len(s.flights) < int(packetID) {
		s.flights = append(s.flights, flight{})
		if i := len(s.flights); i < int(packetID) {
			s.free = append(s.free, uint16(i-1))
		}
	}
	s.free = slices.DeleteFunc(s.free, func(i uint16) bool { return i == packetID-1 })
	s.sent++
	s.flights[packetID-1] = flight{outbound: o, order: s.sent, released: o.m == &released}
	s.flying++
}
