package action

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

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
	streams.Writer
	streams.Trimmer
	positions
	List() []streams.Info
	Create(name string, c streams.Config) error
	Read(stream string, shard int, from uint64, maxRecords, maxBytes int) ([]streams.Record, error)
	Wait(ctx context.Context, stream string, shard int, from uint64) error
}

// positions is where an outbox's position is.
type positions interface {
	Describe(name string) (streams.Info, error)
	Get(key []byte) ([]byte, error)
}

// Outboxes are those of a store. Several goroutines may use them.
type Outboxes struct {
	store Log

	mu    sync.Mutex // guards what follows
	boxes map[string]bool
	start func(stream string) // begins to drain; set while a Drainer runs
}

// NewOutboxes returns the outboxes of store, those included that an earlier run
// of the process left behind.
func NewOutboxes(store Log) *Outboxes {
	x := &Outboxes{store: store, boxes: map[string]bool{}}
	for _, info := range store.List() {
		if IsOutbox(info.Name) {
			x.boxes[info.Name] = true
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
	return &Drainer{outboxes: outboxes, store: outboxes.store, opts: o}
}

// Stats returns the counters.
func (x *Drainer) Stats() OutboxStats {
	return OutboxStats{x.delivered.Load(), x.retried.Load(), x.failed.Load()}
}

// Ensure makes the outbox. A Drainer that runs drains it from now on.
func (x *Outboxes) Ensure(stream string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.boxes[stream] {
		return nil
	}
	if err := x.store.Create(stream, streams.Config{Shards: 1}); err != nil && !errors.Is(err, streams.ErrExists) {
		return err
	}
	x.boxes[stream] = true
	if x.start != nil {
		x.start(stream)
	}
	return nil
}

// Run drains until ctx ends and returns when every drainer has stopped. What
// is left stays in the log.
func (x *Drainer) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	x.outboxes.run(ctx, func(stream string) { wg.Go(func() { x.drain(ctx, stream) }) })
	wg.Wait()
	return nil
}

// drainRecords bounds how many deliveries share one commit of the position, and
// drainBytes what they add to it: a republished message is added once for each
// session that keeps it.
const (
	drainRecords = 256
	drainBytes   = 4 << 20
)

// patience is how long a target has failed at least before what is older than
// GiveUp is given up. So a bridge that comes back after days, perhaps before
// its target does, does not throw away all that waited meanwhile.
const patience = time.Hour

// A box is one outbox being drained; its goroutine owns it.
type box struct {
	stream  string
	log     *slog.Logger
	failing time.Time     // since when every attempt failed; zero: the last one did not
	head    uint64        // the delivery that failed last, and since when
	since   time.Time     // it was tried
	ended   []Attempt     // not durable yet
	staged  []func(error) // of what was republished and is not durable yet
}

func (x *Drainer) drain(ctx context.Context, stream string) {
	bx := &box{stream: stream, log: x.opts.Log.With("outbox", stream)}
	retry := newBackoff()
	for ctx.Err() == nil {
		done, err := x.drainOnce(ctx, bx)
		if done > 0 {
			retry.Reset()
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		wait := retry.NextBackOff()
		bx.log.Warn("delivery failed, will retry", "err", err, "in", wait)
		sleep(ctx, wait)
	}
}

// position returns an outbox's position, and the metadata key it is kept at.
func position(store positions, stream string) (key []byte, pos uint64, err error) {
	info, err := store.Describe(stream)
	if err != nil {
		return nil, 0, err
	}
	key = fmt.Appendf(nil, "outbox/%s/%d", stream, info.ID)
	raw, err := store.Get(key)
	if err == nil && len(raw) == 8 {
		pos = binary.BigEndian.Uint64(raw)
	}
	return key, pos, err
}

// Waiting returns the offset of the first delivery of an outbox that is
// neither done nor given up.
func Waiting(store positions, outbox string) (uint64, error) {
	_, pos, err := position(store, outbox)
	return pos, err
}

// drainOnce waits for work, does a run of it up to the first failure, and
// commits the position. done counts what is dealt with.
func (x *Drainer) drainOnce(ctx context.Context, bx *box) (done int, err error) {
	posKey, pos, err := position(x.store, bx.stream)
	if err != nil {
		return 0, err
	}
	if err := x.store.Wait(ctx, bx.stream, 0, pos); err != nil {
		return 0, err
	}
	recs, err := x.store.Read(bx.stream, 0, pos, drainRecords, 1<<20)
	if err != nil || len(recs) == 0 {
		return 0, err
	}
	b := x.store.NewBatch()
	bx.ended, bx.staged = bx.ended[:0], bx.staged[:0]
	var failed error
	for i := range recs {
		if b.Bytes() >= drainBytes {
			break
		}
		if failed = x.deliver(ctx, b, bx, &recs[i]); failed != nil {
			break
		}
		done++
	}
	if done == 0 {
		return 0, failed
	}
	next := recs[done-1].Offset + 1
	b.Set(posKey, binary.BigEndian.AppendUint64(nil, next))
	err = x.store.Commit(ctx, b)
	for _, done := range bx.staged {
		done(err)
	}
	clear(bx.staged)
	if err != nil {
		return 0, err
	}
	for _, a := range bx.ended {
		x.opts.Tried(a)
	}
	clear(bx.ended) // they hold payloads
	return done, errors.Join(failed, x.store.Trim(bx.stream, 0, next))
}

// deliver does the work of one record or gives it up; an error means that it
// is to be tried again.
func (x *Drainer) deliver(ctx context.Context, b *streams.Batch, bx *box, r *streams.Record) error {
	d, err := ParseDelivery(r.Data)
	if err != nil {
		bx.log.Error("delivery dropped", "offset", r.Offset, "err", err)
		x.failed.Add(1)
		return nil
	}
	staged, err := x.attempt(ctx, b, d)
	a := Attempt{Delivery: d, Slot: bx.slot(d), At: time.Now(), Err: err, Final: true}
	if err == nil {
		if staged != nil {
			bx.staged = append(bx.staged, staged)
		}
		bx.ended = append(bx.ended, a)
		bx.failing = time.Time{}
		x.delivered.Add(1)
		return nil
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if !errors.Is(err, ErrPermanent) && !errors.Is(err, sink.ErrName) && !x.old(bx, r) {
		x.retried.Add(1)
		a.Final = false
		x.opts.Tried(a)
		return fmt.Errorf("rule %s: %s %s: %w", d.Rule, d.Kind, d.Name, err)
	}
	bx.log.Error("delivery given up", "rule", d.Rule, "action", d.Kind, "name", d.Name, "err", err)
	x.failed.Add(1)
	bx.ended = append(bx.ended, a)
	// The error action of a failed error action would be itself, without end.
	if a.Slot != ErrorSlot {
		x.opts.Failed(b, d, err)
	}
	return nil
}

// slot returns the slot of the action whose outbox it is.
func (bx *box) slot(d *Delivery) string {
	return strings.TrimPrefix(bx.stream, OutboxStream(d.Rule, ""))
}

// old notes that r failed and says whether it was retried for long enough: by
// its age, by a clock that did not jump, or by our own count.
func (x *Drainer) old(bx *box, r *streams.Record) bool {
	now, expiry := time.Now(), x.store.Expiry()
	if bx.failing.IsZero() {
		bx.failing = now
	}
	if bx.since.IsZero() || bx.head != r.Offset {
		bx.head, bx.since = r.Offset, now
	}
	aged := expiry.Sub(time.UnixMilli(r.Time)) > x.opts.GiveUp && now.Sub(bx.failing) >= min(patience, x.opts.GiveUp)
	return aged || now.Sub(bx.since) > x.opts.GiveUp
}

func (x *Drainer) attempt(ctx context.Context, b *streams.Batch, d *Delivery) (staged func(error), err error) {
	if s := x.opts.Senders[d.Kind]; s != nil {
		return nil, s.Send(ctx, []*Delivery{d})[0]
	}
	switch d.Kind {
	case "s3":
		return nil, x.opts.Objects.Put(ctx, d.Bucket, d.Name, func(w io.Writer) error {
			_, err := w.Write(d.Data)
			return err
		})
	case "republish":
		return x.opts.Republish.Republish(ctx, b, d)
	}
	return nil, fmt.Errorf("%w: unknown action %q", ErrPermanent, d.Kind)
}

func newBackoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(time.Minute),
		backoff.WithMaxElapsedTime(0))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
