package gateway

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Subscribers are the sessions of all clients, those that are away too, with what
// they subscribe to and what waits for them, and the retained messages: the half
// of the gateway that delivers. A Server is the other half, which reads what
// clients send. It comes later, since whoever takes that for it, its Router, delivers
// by these. Their methods may be called from several goroutines.
//
// Locks are taken in the order retainMu, then mu or a session's, never both of
// the latter.
type Subscribers struct {
	conf     Config
	count    counters
	subs     topic.Tree[*subscription]
	fans     sync.Pool    // of *fanout
	queued   atomic.Int64 // bytes of all sessions
	retained *Retained

	refusals notice.Log      // of what an owner has too much of
	store    *sessions.Store // nil without Config.Store
	swept    time.Time       // of Run: when expired retained messages were forgotten

	// retainMu makes a SUBSCRIBE and a retained message happen one after the
	// other, so that no subscriber sees an older retained message after a
	// newer live one. Deliver writes, SUBSCRIBE reads.
	retainMu sync.RWMutex

	groupMu sync.Mutex        // taken before a group's; guards what follows
	groups  map[string]*group // shared subscriptions by their whole filter

	mu       sync.Mutex          // guards what follows, and what Server says
	sessions map[string]*session // by client id, of clients connected and away
	owned    map[string]int      // sessions that are counted, by owner
	due      dues                // sessions of clients that are away
	stopped  bool                // Run has ended
	serial   uint64              // of the latest session
}

// NewSubscribers returns them without any session or retained message; Load reads
// those of the store.
func NewSubscribers(c Config) *Subscribers {
	conf := c.withDefaults()
	s := &Subscribers{
		conf:     conf,
		sessions: make(map[string]*session),
		owned:    make(map[string]int),
		groups:   make(map[string]*group),
		retained: newRetained(usage{conf.MaxRetained, conf.MaxRetainedBytes},
			usage{conf.MaxRetainedPerOwner, conf.MaxRetainedBytesPerOwner}),
	}
	if conf.Store != nil {
		s.store = sessions.New(conf.Store, memory{s})
	}
	s.fans.New = func() any { return newFanout() }
	return s
}

// Deliver sends m to the clients with a matching subscription, if they may
// receive it, and keeps it if it is retained. A client whose subscriptions
// overlap gets it once, with the highest quality of service they grant. What is
// addressed to the bridge itself (Basic Ingest, batches, provisioning) reaches
// nobody.
//
// What has to be durable before the publisher of m is told is added to b, and
// goes out when the caller, having committed b, calls later; that is nil if
// nothing was added. Without b everything goes out at once.
//
// Deliver never waits for a client, nor does later. Calls from one goroutine
// reach each client in their order.
func (s *Subscribers) Deliver(m *message.Message, b *streams.Batch) (later func()) {
	if waiting := s.deliver(m, b, false); waiting != nil {
		return waiting.send
	}
	return nil
}

// Stage is Deliver for a caller who has more to commit with the message, such as
// how far it has come: it adds to b what sessions and retained messages have to
// keep of m, and takes room for it in their queues. Nothing goes out to anybody
// before the caller, having committed b, calls done (nil: nobody gets m) with what
// came of it; after an error nothing does, and the room is given back.
func (s *Subscribers) Stage(m *message.Message, b *streams.Batch) (done func(error)) {
	waiting := s.deliver(m, b, true)
	if waiting == nil {
		return nil
	}
	return func(err error) {
		if err != nil {
			waiting.giveBack()
		} else {
			waiting.send()
		}
	}
}

// deliver is Deliver, or Stage if all is put off.
func (s *Subscribers) deliver(m *message.Message, b *streams.Batch, all bool) (waiting staged) {
	if !topic.ForSubscribers(m.Topic) {
		return nil
	}
	if m.Retain {
		s.retainMu.Lock()
		defer s.retainMu.Unlock()
		if !topic.IsReserved(m.Topic) {
			s.retain(m, b)
		}
	}
	f := s.fans.Get().(*fanout)
	if s.conf.StrictHash {
		s.subs.MatchRule(m.Topic, f.add)
	} else {
		s.subs.Match(m.Topic, f.add)
	}
	if len(f.to)+len(f.groups) > 0 {
		waiting = s.fan(m, f, b, all)
	}
	f.reset()
	s.fans.Put(f)
	return waiting
}

// retain keeps m, or forgets what its topic had, in b too if things are durable.
func (s *Subscribers) retain(m *message.Message, b *streams.Batch) {
	now := time.Now()
	stored := s.retained.set(m, now)
	if !stored {
		s.count.droppedRetained.Add(1)
		s.refusedTo(m.Owner, "there is no room for retained messages, they are delivered and not kept")
	}
	switch {
	case s.store == nil:
	case b == nil:
		s.store.Retained(s.store, m.Topic, retainedSize(m))
	default:
		s.store.Retained(b, m.Topic, retainedSize(m))
	}
}

// Retained are the retained messages.
func (s *Subscribers) Retained() *Retained { return s.retained }
