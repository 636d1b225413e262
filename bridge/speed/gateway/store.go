package gateway

import (
	"bytes"
	"context"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// settleEvery is how long what is only to be cleared away may wait for company.
const settleEvery = 20 * time.Millisecond

// settled gathers small changes to the store that nobody commits otherwise: what
// clients have acknowledged, packet ids, who left. Run commits them. They are
// put here also by the log's committer, which must not wait for itself.
type settled struct {
	wake chan struct{} // one token: there is something

	mu      sync.Mutex // guards what follows
	changes []change
	after   []func() // when the changes are durable
}

// A change sets a key, or removes it when value is nil.
type change struct{ key, value []byte }

// Unset removes key some time soon.
func (w *settled) Unset(key []byte) { w.put(change{key, nil}, nil) }

// put makes a change; after, unless nil, is called when it is durable, soon.
func (w *settled) put(c change, after func()) {
	w.mu.Lock()
	w.changes = append(w.changes, c)
	if after != nil {
		w.after = append(w.after, after)
	}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// urgent says whether somebody waits for a change.
func (w *settled) urgent() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.after) > 0
}

// take moves the changes into b and returns what to call afterwards.
func (w *settled) take(b *streams.Batch) (after []func()) {
	w.mu.Lock()
	changes, after := w.changes, w.after
	w.changes, w.after = nil, nil
	w.mu.Unlock()
	for _, c := range changes {
		if c.value == nil {
			b.Unset(c.key)
		} else {
			b.Set(c.key, c.value)
		}
	}
	return after
}

// settle commits what was gathered.
func (s *Server) settle() {
	b := s.conf.Store.NewBatch()
	after := s.settled.take(b)
	if b.Bytes() == 0 {
		return
	}
	s.conf.Store.CommitAsync(b, func(err error) {
		if err != nil {
			return // the store has failed, and the bridge ends
		}
		for _, f := range after {
			f()
		}
	})
}

// runStore commits what is gathered until ctx ends.
func (s *Server) runStore(ctx context.Context) {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-s.settled.wake:
		case <-ctx.Done():
			s.settle()
			return
		}
		if !s.settled.urgent() {
			pause.Reset(settleEvery)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		}
		s.settle()
	}
}

// commit makes b durable.
func (s *Server) commit(ctx context.Context, b *streams.Batch) error {
	if b.Bytes() == 0 {
		return nil
	}
	return s.conf.Store.Commit(ctx, b)
}

// record is what the session is made anew of. The caller sees to it that away
// and expiry do not change.
func (s *session) record(expiry time.Duration, away time.Time) change {
	r := sessionRecord{life: s.life, expiry: expiry, away: away, subs: make(map[string]options)}
	s.mu.Lock()
	for f, sub := range s.subs {
		r.subs[f] = options(sub.opts.Load())
	}
	s.mu.Unlock()
	return change{sessionKey(s.id), r.append(nil)}
}

// An unsetter takes keys out of the store: a batch, or what is gathered.
type unsetter interface{ Unset(key []byte) }

// forget removes the stored form of o. s.mu may be held.
func (s *session) forget(o *outbound, from unsetter) {
	if o.seq > 0 {
		from.Unset(queueKey(s.id, s.life, o.seq))
	}
}

// newLife is for a session that is made.
func newLife() uint64 { return rand.Uint64() }

// Load makes the sessions and retained messages of the store anew. It comes
// before Serve and Run, and without a store does nothing. Clients that were
// connected count as gone since now. What cannot be read is left out, said in
// the log, and counted.
func (s *Server) Load() error {
	if s.conf.Store == nil {
		return nil
	}
	now := time.Now()
	bad := func(key []byte, err error) {
		s.count.corrupt.Add(1)
		s.conf.Log.Warn("a session's record cannot be read, it is left out", "key", string(key), "err", err)
	}
	scan := func(prefix string, f func(key, value []byte) error) error {
		return s.conf.Store.Scan([]byte(prefix), func(key, value []byte) bool {
			if err := f(key, value); err != nil {
				bad(bytes.Clone(key), err)
			}
			return true
		})
	}
	err := scan(retainedPrefix, func(key, value []byte) error {
		m, at, err := parseRetained(string(key[len(retainedPrefix):]), value)
		if err != nil {
			return err
		}
		if m.expired(now) || !s.retained.set(m, at) {
			s.settled.Unset(bytes.Clone(key))
		}
		return nil
	})
	if err != nil {
		return err
	}
	expiries := make(map[*session]time.Duration)
	err = scan(sessionPrefix, func(key, value []byte) error {
		r, err := parseSession(value)
		if err != nil {
			return err
		}
		x := s.newSession(string(key[len(sessionPrefix):]))
		x.life, x.away = r.life, r.away
		if x.away.IsZero() || x.away.After(now) {
			x.away = now
		}
		x.durable.Store(true)
		s.sessions[x.id] = x
		for _, f := range slices.Sorted(maps.Keys(r.subs)) {
			s.subscribe(x, f, r.subs[f])
		}
		expiries[x] = r.expiry
		return nil
	})
	if err != nil {
		return err
	}
	owner := func(id string, life uint64) *session {
		if x := s.sessions[id]; x != nil && x.life == life {
			return x
		}
		return nil
	}
	err = scan(exchangePrefix, func(key, _ []byte) error {
		id, life, rest, err := parseOwned(key, exchangePrefix, 2)
		if err != nil {
			return err
		}
		x := owner(id, life)
		if x == nil {
			s.settled.Unset(bytes.Clone(key))
			return nil
		}
		if x.qos2 == nil {
			x.qos2 = make(map[uint16]*exchange)
		}
		x.qos2[uint16(rest[0])<<8|uint16(rest[1])] = &exchange{durable: true}
		return nil
	})
	if err != nil {
		return err
	}
	err = scan(queuePrefix, func(key, value []byte) error {
		id, life, rest, err := parseOwned(key, queuePrefix, 8)
		if err != nil {
			return err
		}
		x := owner(id, life)
		if x == nil {
			s.settled.Unset(bytes.Clone(key))
			return nil
		}
		o, packetID, group, err := parseQueued(value)
		if err != nil {
			return err
		}
		r := reader{b: rest}
		o.seq = r.uint64()
		o.group = s.groups[group]
		x.restore(o, packetID)
		return nil
	})
	if err != nil {
		return err
	}
	s.mu.Lock()
	for x, expiry := range expiries {
		x.expiry = expiry
		s.schedule(x)
	}
	s.mu.Unlock()
	return nil
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
