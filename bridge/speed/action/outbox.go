package action

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Republisher is what the republish action needs of the message path.
type Republisher interface {
	// Republish hands a message to the services it is for, and adds to b what has
	// to be durable of it: its record, if its topic is stored, and what sessions
	// keep of it. The outbox commits b with its position, and calls done, if that
	// is not nil, with what came of it: nil, and it goes out to who is connected, or
	// why b is not durable, and what it took is given back, for the delivery is tried
	// again. When Republish fails it has added nothing, and that is tried again, too.
	Republish(ctx context.Context, b *streams.Batch, d *Delivery) (done func(error), err error)
}

// Options of a Drainer.
type Options struct {
	Objects   sink.Objects
	Republish Republisher
	Senders   map[string]Sender // of all other kinds, and of s3 in the place of Objects
	Spread    Spreader          // of deliveries to topics; nil: Senders do all
	// Failed stages the rule's error action for a delivery that was given up
	// and is not of the error action itself.
	Failed func(b *streams.Batch, d *Delivery, err error)
	// Tried is told of each attempt: of those that end a delivery once that is
	// durable, of the others at once. nil: nobody is. It must not block.
	Tried func(Attempt)
	// GiveUp bounds how long one delivery is retried; 0 is 24 hours, as long as
	// delivery streams keep what they cannot deliver (Firehose quotas). What
	// grew old while the bridge was down is given up only after its target
	// has failed for an hour.
	GiveUp time.Duration
	// InUse says whether a rule writes to an outbox. One that none writes to ends when
	// it is empty. nil: all are in use.
	InUse func(stream string) bool
	// Redact takes secrets out of errors and names that are logged and told; nil:
	// there are none.
	Redact func(text string) string
	Log    *slog.Logger
}

// An Attempt to do a Delivery.
type Attempt struct {
	*Delivery
	Slot  string // of the action in its rule
	At    time.Time
	Err   error // nil: it is done
	Final bool  // done or given up; else it is tried again
}

// A Log is what outboxes need of the bridge's log: a stream each to read and trim,
// and their positions that are stored with what a delivery writes.
type Log interface {
	delivery.Log
	Describe(name string) (streams.Info, error)
	List() []streams.Info
	Create(name string, c streams.Config) error
	Delete(name string) error
	Size(name string) (streams.Size, error)
	Scan(prefix []byte, f func(key, value []byte) bool) error
}

// positions is where an outbox's position is.
type positions interface {
	Describe(name string) (streams.Info, error)
	Get(key []byte) ([]byte, error)
}

// Outboxes are those of a store. Several goroutines may use them.
type Outboxes struct {
	store Log

	mu    sync.Mutex           // guards what follows
	boxes map[string]time.Time // when a rule last asked for it; zero: none did in this process
	start func(stream string)  // begins to drain; set while a Drainer runs
}

// NewOutboxes returns the outboxes of store, those included that an earlier run
// of the process left behind.
func NewOutboxes(store Log) *Outboxes {
	x := &Outboxes{store: store, boxes: map[string]time.Time{}}
	for _, info := range store.List() {
		if IsOutbox(info.Name) {
			x.boxes[info.Name] = time.Time{}
		}
	}
	return x
}

// run calls start for each outbox, and for each that is made while ctx lasts.
func (x *Outboxes) run(ctx context.Context, start func(stream string)) {
	x.mu.Lock()
	x.start = start
	for stream := range x.boxes {
		start(stream)
	}
	x.mu.Unlock()
	<-ctx.Done()
	x.mu.Lock()
	x.start = nil
	x.mu.Unlock()
}

// A Drainer drains Outboxes, each in a goroutine of its own.
type Drainer struct {
	outboxes *Outboxes
	store    Log
	opts     Options

	delivered, retried, failed atomic.Int64
	room                       atomic.Int64 // bytes that boxes have beyond drainData

	dropping sync.Mutex // held over Drop, until what is dropped has ended
	mu       sync.Mutex // guards boxes
	boxes    map[string]*box
}

// OutboxStats counts since the start of the process.
type OutboxStats struct{ Delivered, Retried, Failed int64 }

// NewDrainer returns a Drainer of outboxes. It starts nothing.
func NewDrainer(outboxes *Outboxes, o Options) *Drainer {
	if o.GiveUp == 0 {
		o.GiveUp = 24 * time.Hour
	}
	if o.Tried == nil {
		o.Tried = func(Attempt) {}
	}
	if o.InUse == nil {
		o.InUse = func(string) bool { return true }
	}
	if o.Redact == nil {
		o.Redact = func(text string) string { return text }
	}
	return &Drainer{outboxes: outboxes, store: outboxes.store, opts: o, boxes: map[string]*box{}}
}

// Stats returns the counters.
func (x *Drainer) Stats() OutboxStats {
	return OutboxStats{x.delivered.Load(), x.retried.Load(), x.failed.Load()}
}

// Ensure makes the outbox. A Drainer that runs drains it from now on.
func (x *Outboxes) Ensure(stream string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, there := x.boxes[stream]; there {
		x.boxes[stream] = time.Now()
		return nil
	}
	if err := x.store.Create(stream, streams.Config{Shards: 1}); err != nil && !errors.Is(err, streams.ErrExists) {
		return err
	}
	x.boxes[stream] = time.Now()
	if x.start != nil {
		x.start(stream)
	}
	return nil
}

// Run drains until ctx ends and returns when every drain has stopped. What is left
// stays in the log.
func (x *Drainer) Run(ctx context.Context) error {
	if err := x.clean(ctx); err != nil && ctx.Err() == nil {
		x.opts.Log.Warn("positions of outboxes that are gone cannot be removed", "err", err)
	}
	var wg sync.WaitGroup
	x.outboxes.run(ctx, func(stream string) { wg.Go(func() { x.drain(ctx, stream) }) })
	wg.Wait()
	return nil
}

// drain drains one outbox.
func (x *Drainer) drain(ctx context.Context, stream string) {
	info, err := x.store.Describe(stream)
	if err != nil { // it is not there
		x.opts.Log.Error("an outbox cannot be drained", "outbox", stream, "err", err)
		return
	}
	bx := x.open(info)
	ctx, bx.stop = context.WithCancel(ctx)
	defer bx.stop()
	defer close(bx.ended)
	x.mu.Lock()
	x.boxes[stream] = bx
	x.mu.Unlock()
	bx.Run(ctx)
	bx.forget()
	x.mu.Lock()
	if x.boxes[stream] == bx {
		delete(x.boxes, stream)
	}
	x.mu.Unlock()
}

// positionPrefix begins the keys of positions.
const positionPrefix = "outbox/"

// positionKey is the metadata key of an outbox's position. A stream of the same name
// that is made later has another.
func positionKey(info streams.Info) []byte {
	return fmt.Appendf(nil, "%s%s/%d", positionPrefix, info.Name, info.ID)
}

// clean removes positions of outboxes that are gone, such as those whose removal a
// kill cut short.
func (x *Drainer) clean(ctx context.Context) error {
	var keys [][]byte
	err := x.store.Scan([]byte(positionPrefix), func(key, _ []byte) bool {
		keys = append(keys, bytes.Clone(key))
		return true
	})
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, info := range x.store.List() { // after the scan: what is made meanwhile has no key in it
		used[string(positionKey(info))] = true
	}
	b := x.store.NewBatch()
	n := 0
	for _, key := range keys {
		if !used[string(key)] {
			b.Unset(key)
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return x.store.Commit(ctx, b)
}

// Waiting returns the offset of the first delivery of an outbox that is
// neither done nor given up.
func Waiting(store positions, outbox string) (uint64, error) {
	info, err := store.Describe(outbox)
	if err != nil {
		return 0, err
	}
	return delivery.Next(store, positionKey(info))
}
