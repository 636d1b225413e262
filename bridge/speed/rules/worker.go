package rules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// Bounds of one group of messages: those share one commit. A worker holds two
// groups at most, one being committed and one being evaluated.
const (
	groupRecords = 2000
	groupBytes   = 2 << 20
	groupOutput  = 8 << 20 // a group that makes more ends with the message that did
	keepOutput   = 1 << 20 // a larger batch is not used again
)

// lazyCommit is how often a position without outputs is made durable. To read
// such messages again after a crash changes nothing, unless the rules did.
const lazyCommit = 5 * time.Second

// lastCommit bounds how long the last one takes, when the engine stops.
const lastCommit = 5 * time.Second

// pace is the time between two groups when a worker keeps up. A message
// that comes alone is taken at once; those that follow are gathered, so that
// a worker that keeps up does not read and commit for each sync of the log: at 5,000
// messages a second 4 ms cost the bridge 6 and 18 % more processor time in two runs.
// The workers of an engine take what they gathered at the same moments: the process
// wakes up once for all of them.
const pace = 20 * time.Millisecond

// gather returns when the next of those moments is there, or ctx ends.
func (e *Engine) gather(ctx context.Context) { sleep(ctx, pace-time.Since(e.made)%pace) }

func (e *Engine) work(ctx context.Context, stream uint32, shard int) {
	log := e.opts.Log.With("shard", shard)
	w := newWorker(e, shard, positionKey(stream, shard), log)
	retry := backoff.NewExponentialBackOff(backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		err := w.run(ctx, retry.Reset)
		if ctx.Err() != nil {
			return
		}
		wait := retry.NextBackOff()
		log.Error("rule worker stopped, will retry", "err", err, "in", wait)
		sleep(ctx, wait)
	}
}

// sleep returns after d, or earlier when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// A worker reads one partition.
type worker struct {
	engine *Engine
	shard  int
	posKey []byte
	log    *slog.Logger

	groups  [2]group
	gate    gate
	taken   uint64    // before it all messages have taken effect, if they have any
	saved   uint64    // the durable position, at most taken
	durable time.Time // when it last became so

	// Scratch, of one message.
	decoder message.Decoder
	message iotsql.Input
	input   action.Input
	matched []*Rule
	doc     []byte
	offset  uint64
	acts    []act
}

func newWorker(e *Engine, shard int, posKey []byte, log *slog.Logger) *worker {
	return &worker{engine: e, shard: shard, posKey: posKey, log: log, groups: [2]group{newGroup(e), newGroup(e)},
		message: iotsql.Input{Account: e.opts.Account}}
}

// positionKey is the metadata key of a worker's position in the log.
func positionKey(stream uint32, shard int) []byte {
	return fmt.Appendf(nil, "rules/%d/%d", stream, shard)
}

// run reads and evaluates until something fails or ctx ends. While a group is
// being committed the next one is evaluated, and committed after it. When a
// commit fails the group behind it is forgotten, and the next run begins where
// that began.
func (w *worker) run(ctx context.Context, progress func()) error {
	if err := w.resume(); err != nil {
		return err
	}
	c := &commits{w: w, filling: &w.groups[0], flying: &w.groups[1], progress: progress}
	c.filling.reset()
	defer func() {
		if c.land() == nil && ctx.Err() != nil && w.taken > w.saved {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCommit)
			defer cancel()
			_ = w.save(last) // else the messages are met again
		}
	}()
	pos, began := w.taken, time.Time{} // began: the last group
	for ctx.Err() == nil {
		if err := c.awaitRoom(ctx); err != nil {
			return err
		}
		recs, err := w.engine.store.Read(ingest.Stream, w.shard, pos, groupRecords, groupBytes)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			if err := c.idle(ctx, pos); err != nil {
				return err
			}
			if time.Since(began) < pace {
				w.engine.gather(ctx)
			}
			continue
		}
		if err := w.noteLost(pos, recs[0].Offset); err != nil {
			return err
		}
		began = time.Now()
		pos = w.evaluate(ctx, c.filling, recs)
		if ctx.Err() != nil { // which calls of services may have failed for
			return ctx.Err()
		}
		if err := c.evaluated(); err != nil {
			return err
		}
		if len(recs) < groupRecords {
			if err := c.land(); err != nil {
				return err
			}
			if len(recs) > 1 { // more are likely to come, which need not wake this worker
				w.engine.gather(ctx)
			}
		}
	}
	return ctx.Err()
}

// roomEvery is how often a worker looks whether there is room again.
const roomEvery = 200 * time.Millisecond

// awaitRoom waits while there is no room for what rules make. What they made before
// is durable by then: messages wait in the ingest log.
func (c *commits) awaitRoom(ctx context.Context) error {
	room := c.w.engine.opts.Room
	if room == nil || room() == nil {
		return nil
	}
	if err := c.land(); err != nil {
		return err
	}
	for room() != nil && ctx.Err() == nil {
		sleep(ctx, roomEvery)
	}
	return nil
}

// resume goes to the position that is durable, or behind it where what is between
// has taken effect.
func (w *worker) resume() error {
	raw, err := w.engine.store.Get(w.posKey)
	if err != nil {
		return err
	}
	w.saved, w.durable = 0, time.Now()
	if len(raw) == 8 {
		w.saved = binary.BigEndian.Uint64(raw)
	}
	w.taken = max(w.taken, w.saved)
	return nil
}

// noteLost counts messages that left the log from pos on, before what was read
// first: retention was faster than the rules, or they were off for too long. Offsets
// alone do not tell, an engine may leave some out.
func (w *worker) noteLost(pos, first uint64) error {
	if first == pos {
		return nil
	}
	oldest, _, err := w.engine.store.Bounds(ingest.Stream, w.shard)
	if err != nil || oldest <= pos {
		return err
	}
	lost := min(oldest, first) - pos
	w.engine.skipped.Add(int64(lost))
	w.log.Error("messages left the log before rules saw them", "messages", lost)
	return nil
}

// commits are the two groups of a run: one that is filled while the other may be
// on its way to the log.
type commits struct {
	w               *worker
	filling, flying *group
	flight          chan error // the outcome of flying's commit; nil: there is none
	progress        func()     // called when a group is durable
}

// evaluated commits the group that was filled behind the one before, or only notes
// how far it came if it has no outputs and the position is durable enough.
func (c *commits) evaluated() error {
	if c.filling.batch.Len() == 0 && time.Since(c.w.durable) <= lazyCommit {
		c.settle()
		return nil
	}
	if err := c.land(); err != nil {
		return err
	}
	c.start()
	return nil
}

// start commits the group that was filled, in the background, and begins another.
func (c *commits) start() {
	c.filling.batch.Set(c.w.posKey, binary.BigEndian.AppendUint64(nil, c.filling.next))
	c.filling, c.flying = c.flying, c.filling
	flight, flying := make(chan error, 1), c.flying
	c.flight = flight
	go func() {
		// Not by Commit: the outputs share a sync with what comes in.
		stored := make(chan error, 1)
		c.w.engine.store.CommitAsync(flying.batch, func(err error) { stored <- err })
		err := <-stored
		if err == nil {
			flying.took() // at once, as outboxes begin to tell of what it holds
		}
		flight <- err
	}()
	c.filling.reset()
}

// land waits for the commit that is under way, if any.
func (c *commits) land() error {
	if c.flight == nil {
		return nil
	}
	err := <-c.flight
	c.flight = nil
	if err != nil {
		return err
	}
	w := c.w
	w.taken, w.saved, w.durable = c.flying.next, c.flying.next, time.Now()
	c.progress()
	return nil
}

// settle notes that the messages of a group without outputs have taken effect.
func (c *commits) settle() {
	if c.flight == nil && c.filling.next > c.w.taken { // else it is counted with the group that is committed next
		c.filling.took()
		c.w.taken = c.filling.next
		c.filling.forget()
	}
}

// idle waits for a message at pos, once all before it is done.
func (c *commits) idle(ctx context.Context, pos uint64) error {
	if err := c.land(); err != nil {
		return err
	}
	c.settle()
	return c.w.wait(ctx, pos)
}

// wait returns when there is a message at pos. Where it takes long it makes the
// position durable.
func (w *worker) wait(ctx context.Context, pos uint64) error {
	store := w.engine.store
	if w.taken > w.saved {
		short, cancel := context.WithTimeout(ctx, lazyCommit-time.Since(w.durable))
		err := store.Wait(short, ingest.Stream, w.shard, pos)
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		if err := w.save(ctx); err != nil {
			return err
		}
	}
	return store.Wait(ctx, ingest.Stream, w.shard, pos)
}

// save makes the position durable.
func (w *worker) save(ctx context.Context) error {
	b := w.engine.store.NewBatch()
	b.Set(w.posKey, binary.BigEndian.AppendUint64(nil, w.taken))
	if err := w.engine.store.Commit(ctx, b); err != nil {
		return err
	}
	w.saved, w.durable = w.taken, time.Now()
	return nil
}
