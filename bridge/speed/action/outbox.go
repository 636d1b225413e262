package action

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Republisher is what the republish action needs of the message path.
type Republisher interface {
	// Deliver hands a message to live subscribers and services.
	Deliver(d *Delivery)
	// Stage adds the message's record, if its topic is stored, to b.
	Stage(b *streams.Batch, d *Delivery)
}

// Options of an Outboxes.
type Options struct {
	Objects   sink.Objects
	Republish Republisher
	// Failed stages the rule's error action for a delivery that was given up.
	Failed func(b *streams.Batch, d *Delivery, err error)
	// GiveUp bounds how long one delivery is retried; 0 is 24 hours, as long as
	// delivery streams keep what they cannot deliver (Firehose quotas).
	GiveUp time.Duration
	Log    *slog.Logger
}

// Outboxes drains all outboxes of a store, one goroutine for each.
type Outboxes struct {
	store *streams.Store
	opts  Options

	mu    sync.Mutex // guards what follows
	boxes map[string]bool
	start func(stream string) // begins to drain; set while Run runs

	delivered, retried, failed atomic.Int64
}

// OutboxStats counts since the start of the process.
type OutboxStats struct{ Delivered, Retried, Failed int64 }

// NewOutboxes returns the drainer of store's outboxes, those included that an
// earlier run of the process left behind. It starts nothing.
func NewOutboxes(store *streams.Store, o Options) *Outboxes {
	if o.GiveUp == 0 {
		o.GiveUp = 24 * time.Hour
	}
	x := &Outboxes{store: store, opts: o, boxes: map[string]bool{}}
	for _, info := range store.List() {
		if IsOutbox(info.Name) {
			x.boxes[info.Name] = true
		}
	}
	return x
}

// Stats returns the counters.
func (x *Outboxes) Stats() OutboxStats {
	return OutboxStats{x.delivered.Load(), x.retried.Load(), x.failed.Load()}
}

// Ensure makes the outbox and drains it from now on.
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
func (x *Outboxes) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	x.mu.Lock()
	x.start = func(stream string) { wg.Go(func() { x.drain(ctx, stream) }) }
	for stream := range x.boxes {
		x.start(stream)
	}
	x.mu.Unlock()
	<-ctx.Done()
	x.mu.Lock()
	x.start = nil
	x.mu.Unlock()
	wg.Wait()
	return nil
}

// drainRecords bounds how many deliveries share one commit of the position.
const drainRecords = 256

func (x *Outboxes) drain(ctx context.Context, stream string) {
	log := x.opts.Log.With("outbox", stream)
	retry := newBackoff()
	for ctx.Err() == nil {
		err := x.drainOnce(ctx, stream, log)
		if err == nil {
			retry.Reset()
			continue
		}
		if ctx.Err() != nil {
			return
		}
		wait := retry.NextBackOff()
		log.Warn("outbox stopped, will retry", "err", err, "in", wait)
		sleep(ctx, wait)
	}
}

// drainOnce waits for work, does a run of it and commits the position.
func (x *Outboxes) drainOnce(ctx context.Context, stream string, log *slog.Logger) error {
	info, err := x.store.Describe(stream)
	if err != nil {
		return err
	}
	posKey := []byte(fmt.Sprintf("outbox/%s/%d", stream, info.ID))
	var pos uint64
	if raw, err := x.store.Get(posKey); err != nil {
		return err
	} else if len(raw) == 8 {
		pos = binary.BigEndian.Uint64(raw)
	}
	if err := x.store.Wait(ctx, stream, 0, pos); err != nil {
		return err
	}
	recs, err := x.store.Read(stream, 0, pos, drainRecords, 1<<20)
	if err != nil || len(recs) == 0 {
		return err
	}
	b := x.store.NewBatch()
	for _, r := range recs {
		d, err := parseDelivery(r.Data)
		if err != nil {
			log.Error("delivery dropped", "offset", r.Offset, "err", err)
			x.failed.Add(1)
			continue
		}
		if err := x.deliver(ctx, b, d, time.UnixMilli(r.Time), log); err != nil {
			return err
		}
	}
	next := recs[len(recs)-1].Offset + 1
	b.Set(posKey, binary.BigEndian.AppendUint64(nil, next))
	if err := x.store.Commit(ctx, b); err != nil {
		return err
	}
	return x.store.Trim(stream, 0, next)
}

// deliver does d, retrying until it is done or given up; it fails only when
// ctx ends. since is when d was put into the outbox.
func (x *Outboxes) deliver(ctx context.Context, b *streams.Batch, d *Delivery, since time.Time, log *slog.Logger) error {
	retry := newBackoff()
	for {
		err := x.attempt(ctx, b, d)
		if err == nil {
			x.delivered.Add(1)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		permanent := errors.Is(err, ErrPermanent) || errors.Is(err, sink.ErrName)
		if permanent || time.Since(since) > x.opts.GiveUp {
			log.Error("delivery given up", "rule", d.Rule, "action", d.Kind, "name", d.Name, "err", err)
			x.failed.Add(1)
			x.opts.Failed(b, d, err)
			return nil
		}
		x.retried.Add(1)
		wait := retry.NextBackOff()
		log.Warn("delivery failed, will retry", "rule", d.Rule, "action", d.Kind, "name", d.Name, "err", err, "in", wait)
		sleep(ctx, wait)
	}
}

func (x *Outboxes) attempt(ctx context.Context, b *streams.Batch, d *Delivery) error {
	switch d.Kind {
	case "s3":
		return x.opts.Objects.Put(ctx, d.Bucket, d.Name, func(w io.Writer) error {
			_, err := w.Write(d.Data)
			return err
		})
	case "republish":
		x.opts.Republish.Deliver(d)
		x.opts.Republish.Stage(b, d)
		return nil
	}
	return fmt.Errorf("%w: unknown action %q", ErrPermanent, d.Kind)
}

func newBackoff() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(200*time.Millisecond), backoff.WithMaxInterval(time.Minute), backoff.WithMaxElapsedTime(0))
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
