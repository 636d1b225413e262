// Package service is the cloud half of device shadows: it answers requests on
// the shadow topics and keeps the documents.
//
// Requests for one shadow are handled one after another, in the order they
// came; different shadows do not wait for each other. An update is on the
// disk before its answer is published. A crash between the two leaves a
// request without an answer; the client asks again, which changes the version
// and nothing else.
package service

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/tidemill/tidemill/shadow"
)

// A Store keeps documents. boltstore.Store is one.
type Store interface {
	// Get returns the document of a shadow, perhaps a deleted one, or nil
	// when there never was one.
	Get(thing, name string) (*shadow.Document, error)
	// Put stores a document; it is on the disk when Put returns.
	Put(thing, name string, d *shadow.Document) error
	// Names returns up to most names of the named shadows that exist, in
	// order, from the first that sorts after the given one.
	Names(thing, after string, most int) ([]string, error)
	// Usage returns how many named shadows a thing has but for the one named,
	// and the bytes of all its shadows but that one. Deleted ones count, until
	// they are forgotten.
	Usage(thing, but string) (named, bytes int, err error)
	// Forget takes away what is left of a thing's shadows that were deleted at
	// the given time or before.
	Forget(thing string, deleted time.Time) error
}

// A Publisher sends a message to the subscribers of topic and to the rules,
// QoS 1, not retained. It must not block; it may keep payload.
type Publisher interface {
	Publish(topic string, payload []byte)
}

// Defaults of Options; the first is the quota of AWS IoT Core per thing.
const (
	DefaultPerThing = 10
	DefaultPending  = 10_000
)

// Options of a Service. The zero value is good.
type Options struct {
	Log      *slog.Logger
	Limits   shadow.Limits    // of each document
	PerThing int              // requests in flight per thing; beyond it 429. Negative: no limit
	Pending  int              // requests in flight in all; beyond it 429
	MaxNamed int              // named shadows of a thing; beyond it 400. 0: no limit
	MaxBytes int              // of a thing's shadows as stored, with their times; beyond it 413. 0: no limit
	Now      func() time.Time // of answers and metadata; default time.Now
	// Steady is by what clock the versions of deleted shadows are forgotten, one
	// that does not jump, over restarts too; default time.Now.
	Steady func() time.Time
}

// Errors of Handle and Do beside those of the store.
var (
	ErrClosed     = errors.New("shadow service: closed")
	ErrNotRequest = errors.New("shadow service: not a request topic")
)

// A Service answers requests. Its methods may be called from several
// goroutines.
type Service struct {
	store Store
	pub   Publisher
	o     Options

	mu      sync.Mutex
	lanes   map[lane][]request // requests that wait behind the one being handled
	things  map[string]int     // requests in flight
	pending int
	closed  bool
	running sync.WaitGroup // one for each lane
}

// A lane is the queue of one shadow. It is in Service.lanes while a goroutine
// works on it.
type lane struct{ thing, name string }

type request struct {
	topic   shadow.Topic
	payload []byte
	quiet   bool // a refusal is not published: the caller gets it
	done    func(answer []byte, refusal *shadow.Error)
}

// New returns a service over store. It starts nothing; each shadow with work
// has a goroutine until that is done.
func New(store Store, pub Publisher, o Options) *Service {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PerThing == 0 {
		o.PerThing = DefaultPerThing
	}
	if o.Pending == 0 {
		o.Pending = DefaultPending
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Steady == nil {
		o.Steady = time.Now
	}
	return &Service{store: store, pub: pub, o: o, lanes: make(map[lane][]request), things: make(map[string]int)}
}

// Handle takes a message published on a request topic and returns at once;
// it keeps payload until done. done is called once, from any goroutine, when
// the request is answered: the change is on the disk and accepted, delta and
// documents, or rejected, were published. A refusal is an answer, so done's
// error is nil then; it is ErrClosed, ErrNotRequest or ctx's error when
// nothing was done. ctx counts until the request is queued.
func (s *Service) Handle(ctx context.Context, topic string, payload []byte, done func(error)) {
	t, ok := shadow.ParseTopic(topic)
	if !ok || t.Kind != shadow.Request {
		done(ErrNotRequest)
		return
	}
	if err := ctx.Err(); err != nil {
		done(err)
		return
	}
	r := request{topic: t, payload: payload, done: func([]byte, *shadow.Error) { done(nil) }}
	if err := s.queue(r); err != nil {
		done(err)
	}
}

// Do handles a request as Handle does and returns the document of the
// accepted message. A refusal is not published: it comes back as a
// *shadow.Error, whose code is the HTTP status. Do waits behind earlier
// requests for the same shadow; when ctx ends first the request may still be
// done.
func (s *Service) Do(ctx context.Context, thing, name string, op shadow.Op, payload []byte) ([]byte, error) {
	type result struct {
		answer  []byte
		refusal *shadow.Error
	}
	answered := make(chan result, 1)
	err := s.queue(request{
		topic:   shadow.Topic{Thing: thing, Name: name, Op: op},
		payload: payload,
		quiet:   true,
		done:    func(a []byte, e *shadow.Error) { answered <- result{a, e} },
	})
	if err != nil {
		return nil, err
	}
	select {
	case r := <-answered:
		if r.refusal != nil {
			return nil, r.refusal
		}
		return r.answer, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// List returns up to size (1 to 100; 0 means 25) names of the thing's named
// shadows in order, and the token for the next page or "".
func (s *Service) List(thing, token string, size int) (names []string, next string, err error) {
	if size == 0 {
		size = 25
	}
	if !shadow.ValidThing(thing) {
		return nil, "", shadow.ErrThingName
	}
	if size < 1 || size > 100 {
		return nil, "", &shadow.Error{Code: 400, Message: "Invalid page size"}
	}
	names, err = s.store.Names(thing, token, size+1)
	if len(names) > size {
		names = names[:size]
		next = names[size-1]
	}
	return names, next, err
}

// Close refuses further requests and waits for those accepted.
func (s *Service) Close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
}

// queue puts r into its lane, which it starts when there is none, or refuses
// it for its thing's or the service's limit.
func (s *Service) queue(r request) error {
	l := lane{r.topic.Thing, r.topic.Name}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	if s.pending >= s.o.Pending || s.o.PerThing > 0 && s.things[l.thing] >= s.o.PerThing {
		s.running.Add(1) // Close waits for the refusal too
		s.mu.Unlock()
		token, _ := shadow.ParseToken(r.payload)
		s.refuse(r, shadow.ErrTooMany, token)
		s.running.Done()
		return nil
	}
	s.pending++
	s.things[l.thing]++
	waiting, running := s.lanes[l]
	if running {
		s.lanes[l] = append(waiting, r)
	} else {
		s.lanes[l] = nil
		s.running.Add(1)
		go s.work(l, r)
	}
	s.mu.Unlock()
	return nil
}

// work handles r and all that comes for the lane meanwhile.
func (s *Service) work(l lane, r request) {
	defer s.running.Done()
	for more := true; more; {
		answer, refusal := s.handle(r)

		s.mu.Lock()
		s.pending--
		if s.things[l.thing]--; s.things[l.thing] == 0 {
			delete(s.things, l.thing)
		}
		done := r.done
		if waiting := s.lanes[l]; len(waiting) > 0 {
			r, s.lanes[l] = waiting[0], waiting[1:]
		} else {
			delete(s.lanes, l)
			more = false
		}
		s.mu.Unlock()
		done(answer, refusal)
	}
}
