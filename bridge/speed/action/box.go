package action

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// drainRecords and drainData bound how many deliveries are in memory for an outbox
// whose target takes no more together, and of every one while there is no room for more;
// drainRoom bounds what all outboxes have beyond that, each delivery counted with
// deliveryOverhead. drainBytes bounds what deliveries add to one commit of the position:
// a republished message is added once for each session that keeps it.
const (
	drainRecords     = 256
	drainData        = 1 << 20
	drainRoom        = 64 << 20
	deliveryOverhead = 1 << 10 // names, parameters and headers beside the data
	drainBytes       = 4 << 20
)

// patience is how long a target has failed at least before what is older than
// GiveUp is given up. So a bridge that comes back after days, perhaps before
// its target does, does not throw away all that waited meanwhile.
const patience = time.Hour

// attempts of outboxes: a target that is back is found within a minute and a half.
var attempts = delivery.Retry{First: 200 * time.Millisecond, Most: time.Minute, Spread: 0.5}

// A box is one outbox being drained: a delivery.Work whose items are Deliveries. Its
// plan is not kept, since each Delivery has its name with it.
type box struct {
	*delivery.Drain
	drainer *Drainer
	stream  string
	key     []byte // of its position
	log     *slog.Logger
	stop    context.CancelFunc // ends Run
	ended   chan struct{}      // closed when it has

	// Of the job under way.
	work   []work
	most   int            // deliveries that work may have
	room   int64          // bytes that it has of Drainer.room
	batch  *streams.Batch // what is committed with the position
	staged []func(error)  // of what was republished and is not durable yet
}

// A work is a record of an outbox.
type work struct {
	*Delivery // nil: it cannot be read, and is dropped
	offset    uint64
	came      time.Time
	tried     time.Time // last
}

// open returns the box of an outbox. A position that cannot be read fails its run,
// which tries again.
func (x *Drainer) open(info streams.Info) *box {
	bx := &box{drainer: x, stream: info.Name, key: positionKey(info), log: x.opts.Log.With("outbox", info.Name),
		ended: make(chan struct{})}
	bx.Drain = delivery.NewDrain(delivery.NewLine(attempts, bx.log, nil), x.store, bx.stream, bx.key, false, bx)
	return bx
}

// A window is the records of a job.
type window struct{ delivery.Range }

// Cut implements delivery.Work.
func (bx *box) Cut(ctx context.Context, next uint64) (delivery.Plan, error) {
	bx.forget()
	idle, cancel := context.WithTimeout(ctx, lookAgain)
	err := bx.drainer.store.Wait(idle, bx.stream, 0, next)
	over := idle.Err() != nil && ctx.Err() == nil
	cancel()
	if over {
		return nil, bx.drainer.end(ctx, bx, next)
	}
	if err != nil {
		return nil, err
	}
	for {
		plan, err := bx.read(next)
		if err != nil || plan == nil {
			return nil, err
		}
		wait := bx.gather()
		if wait <= 0 {
			return plan, nil
		}
		more, cancel := context.WithTimeout(ctx, wait)
		err = bx.drainer.store.Wait(more, bx.stream, 0, plan.Span().To)
		cancel()
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			return nil, err
		}
	}
}

// gather is how long to wait for more.
func (bx *box) gather() time.Duration {
	first := bx.work[0].Delivery
	if first == nil || len(bx.work) == bx.most {
		return 0
	}
	g, ok := bx.drainer.opts.Senders[first.Kind].(gatherer)
	if !ok {
		return 0
	}
	var ds []*Delivery
	for _, w := range bx.work {
		if w.Delivery != nil {
			ds = append(ds, w.Delivery)
		}
	}
	d := g.Gather(ds)
	return min(d, d-time.Since(bx.work[0].came)) // a clock that jumped does not matter
}

// read reads a job's records, nil if there are none.
func (bx *box) read(next uint64) (delivery.Plan, error) {
	bx.forget()
	recs, err := bx.drainer.store.Read(bx.stream, 0, next, drainRecords, drainData)
	if err == nil && bx.more(recs) {
		recs, err = bx.drainer.store.Read(bx.stream, 0, next, bx.most, int(bx.room)-bx.most*deliveryOverhead)
	}
	if err != nil || len(recs) == 0 {
		return nil, err
	}
	for _, r := range recs {
		d, err := ParseDelivery(r.Data)
		if err != nil {
			bx.log.Error("delivery dropped", "offset", r.Offset, "err", err)
		}
		bx.work = append(bx.work, work{Delivery: d, offset: r.Offset, came: time.UnixMilli(r.Time)})
	}
	return &window{delivery.Range{From: recs[0].Offset, To: recs[len(recs)-1].Offset + 1}}, nil
}

// forget gives back what the last job had in memory.
func (bx *box) forget() {
	clear(bx.work)
	bx.work, bx.most = bx.work[:0], drainRecords
	bx.drainer.room.Add(-bx.room)
	bx.room = 0
}

// more says whether a job may have more than recs: if there may be more, the target takes
// more together, and there is room. It takes that room.
func (bx *box) more(recs []streams.Record) bool {
	if len(recs) == 0 {
		return false
	}
	d, err := ParseDelivery(recs[0].Data)
	if err != nil || bx.drainer.opts.Senders[d.Kind] == nil {
		return false
	}
	bound := bx.drainer.opts.Senders[d.Kind].Bound()
	_, end, err := bx.drainer.store.Bounds(bx.stream, 0)
	switch {
	case err != nil || recs[len(recs)-1].Offset+1 >= end: // there are no more
		return false
	case len(recs) == drainRecords && bound.Deliveries <= drainRecords:
		return false
	case len(recs) < drainRecords && (bound.Bytes <= drainData || bound.Deliveries <= len(recs)):
		return false
	}
	want := int64(max(bound.Bytes, drainData)) + int64(bound.Deliveries)*deliveryOverhead
	if bx.drainer.room.Add(want) > drainRoom {
		bx.drainer.room.Add(-want)
		return false
	}
	bx.room, bx.most = want, bound.Deliveries
	return true
}

// Decode implements delivery.Work.
func (bx *box) Decode([]byte) (delivery.Plan, error) { return nil, nil }

// Lost implements delivery.Work.
func (bx *box) Lost(from, to uint64) {
	bx.log.Error("deliveries left the log before they were done", "from", from, "to", to)
	bx.drainer.failed.Add(int64(to - from))
}

// Job implements delivery.Work.
func (bx *box) Job(context.Context, delivery.Plan) (*delivery.Job, error) {
	bx.batch, bx.staged = bx.drainer.store.NewBatch(), bx.staged[:0]
	done := 0
	return &delivery.Job{
		Items: len(bx.work), Ordered: true, Send: bx.send, Enough: bx.enough, Again: bx.again,
		Settle: func(ctx context.Context, to int, given []sink.Refusal) error {
			err := bx.settle(ctx, done, to, given)
			done = to
			return err
		},
	}, nil
}

// send does deliveries in their order, together where their kind's Sender takes
// several, up to the first that is to be tried again.
func (bx *box) send(ctx context.Context, idx []int) (refused []sink.Refusal, err error) {
	for len(idx) > 0 && bx.batch.Bytes() < drainBytes {
		n := bx.together(idx)
		again := false
		for i, err := range bx.attempt(ctx, idx[:n]) {
			bx.work[idx[i]].tried = time.Now()
			if err == nil {
				continue
			}
			ever := errors.Is(err, ErrPermanent) || errors.Is(err, sink.ErrName)
			err = bx.redact(err)
			again = again || !ever
			refused = append(refused, sink.Refusal{Index: idx[i], Err: err, Permanent: ever})
		}
		if idx = idx[n:]; again {
			break
		}
	}
	for _, i := range idx {
		refused = append(refused, sink.Refusal{Index: i, Err: delivery.Later})
	}
	return refused, nil
}

// redact is an error whose text has no secrets.
func (bx *box) redact(err error) error {
	if text := bx.drainer.opts.Redact(err.Error()); text != err.Error() {
		return &redacted{err, text}
	}
	return err
}

// A redacted error reads otherwise than it did.
type redacted struct {
	error
	text string
}

func (e *redacted) Error() string { return e.text }
func (e *redacted) Unwrap() error { return e.error }

// together is how many of idx go in one Send.
func (bx *box) together(idx []int) int {
	first := bx.work[idx[0]].Delivery
	if first == nil || bx.drainer.opts.Senders[first.Kind] == nil || bx.spreads(first) {
		return 1
	}
	bound := bx.drainer.opts.Senders[first.Kind].Bound()
	n, bytes := 1, first.Size()
	for ; n < len(idx) && n < bound.Deliveries; n++ {
		d := bx.work[idx[n]].Delivery
		if d == nil || d.Kind != first.Kind || bytes+d.Size() > bound.Bytes || bx.spreads(d) {
			break
		}
		bytes += d.Size()
	}
	return n
}

// spreads says whether a delivery goes to outboxes of subscribers.
func (bx *box) spreads(d *Delivery) bool {
	return bx.drainer.opts.Spread != nil && bx.drainer.opts.Spread.Spreads(d)
}

// attempt does deliveries that together found, and returns an error for each.
func (bx *box) attempt(ctx context.Context, idx []int) []error {
	d := bx.work[idx[0]].Delivery
	switch {
	case d == nil: // dropped
		return []error{nil}
	case bx.spreads(d):
		return []error{bx.drainer.opts.Spread.Spread(bx.batch, d, bx.slot(d))}
	case bx.drainer.opts.Senders[d.Kind] != nil:
		ds := make([]*Delivery, len(idx))
		for n, i := range idx {
			ds[n] = bx.work[i].Delivery
		}
		errs := bx.drainer.opts.Senders[d.Kind].Send(ctx, ds)
		if len(errs) != len(ds) { // it is not known what was done
			errs = make([]error, len(ds))
			for i := range errs {
				errs[i] = fmt.Errorf("the sender of %s answered for another number of deliveries", d.Kind)
			}
		}
		return errs
	case d.Kind == "s3":
		return []error{bx.drainer.opts.Objects.Put(ctx, d.Bucket, d.Name, func(w io.Writer) error {
			_, err := w.Write(d.Data)
			return err
		})}
	case d.Kind == "republish":
		staged, err := bx.drainer.opts.Republish.Republish(ctx, bx.batch, d)
		if staged != nil {
			bx.staged = append(bx.staged, staged)
		}
		return []error{err}
	}
	return []error{Permanent(fmt.Errorf("unknown action %q", d.Kind))}
}

// enough says whether a delivery was tried for long enough: by its age, by a clock
// that did not jump, or by our own count.
func (bx *box) enough(i int, f *delivery.Failing) bool {
	now, giveUp := time.Now(), bx.drainer.opts.GiveUp
	aged := bx.drainer.store.Expiry().Sub(bx.work[i].came) > giveUp && now.Sub(f.Down) >= min(patience, giveUp)
	return aged || now.Sub(f.Since) > giveUp
}

// again tells of attempts that will be repeated.
func (bx *box) again(refused []sink.Refusal) {
	for _, r := range refused {
		bx.drainer.retried.Add(1)
		bx.drainer.opts.Tried(bx.attemptOf(r.Index, r.Err, false))
	}
}

func (bx *box) attemptOf(i int, err error, final bool) Attempt {
	w := &bx.work[i]
	return Attempt{Delivery: w.Delivery, Slot: bx.slot(w.Delivery), At: w.tried, Err: err, Final: final}
}

// slot returns the slot of the action whose delivery it is.
func (bx *box) slot(d *Delivery) string {
	if d.Subscriber() != "" {
		return d.Parameter(slotParameter)
	}
	return strings.TrimPrefix(bx.stream, OutboxStream(d.Rule, ""))
}

// settle makes durable what became of deliveries from to to: the position, what was
// republished, and the error actions of those that were given up.
func (bx *box) settle(ctx context.Context, from, to int, given []sink.Refusal) error {
	why := map[int]error{}
	for _, r := range given {
		d := bx.work[r.Index].Delivery
		bx.log.Error("delivery given up", "rule", d.Rule, "action", d.Kind, "name",
			post.Shown(bx.drainer.opts.Redact(d.Name)), "err", r.Err)
		why[r.Index] = r.Err
		// The error action of a failed error action would be itself, without end.
		if bx.slot(d) != ErrorSlot {
			bx.drainer.opts.Failed(bx.batch, d, r.Err)
		}
	}
	return bx.Move(ctx, bx.batch, bx.work[to-1].offset+1, func(err error) {
		for _, done := range bx.staged {
			done(err)
		}
		clear(bx.staged)
		bx.batch, bx.staged = bx.drainer.store.NewBatch(), bx.staged[:0]
		if err == nil {
			bx.report(from, to, why)
		}
	})
}

// report counts and tells of what became durable.
func (bx *box) report(from, to int, why map[int]error) {
	for i := from; i < to; i++ {
		switch d, err := bx.work[i].Delivery, why[i]; {
		case d == nil:
			bx.drainer.failed.Add(1)
			continue
		case err != nil:
			bx.drainer.failed.Add(1)
		default:
			bx.drainer.delivered.Add(1)
		}
		// The action was done when subscribers' outboxes had it.
		if why[i] != nil || bx.work[i].Subscriber() == "" {
			bx.drainer.opts.Tried(bx.attemptOf(i, why[i], true))
		}
		bx.work[i].Delivery = nil // it holds a payload
	}
}
