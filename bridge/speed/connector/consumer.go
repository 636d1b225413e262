package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
)

// compareIDs is in the order in which shards were made: their number is of a
// fixed width, or longer.
func compareIDs(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

// A consumer works on one shard, in one goroutine: it reads, transforms,
// filters, buffers and delivers, and reads on when that is done. So what it
// holds is a page and a buffer.
type consumer struct {
	*Connector
	held  *held
	shard string
	lease Lease // when the consumer began
	log   *slog.Logger

	at     Position // checkpoint: what is up to here is done
	buffer buffer
	line   *delivery.Line
	reads  *backoff.ExponentialBackOff // waits after reads that failed
	failed bool                        // the last read did
}

// A buffer is what was read and not yet delivered.
type buffer struct {
	first, last Position // covered; zero: nothing
	items       []Item
	dead        []dead // whose transform failed
	bytes       int
	since       time.Time // of the first item, or while there is none of the first record
}

func (b *buffer) count() int { return len(b.items) + len(b.dead) }

// cover notes that a record was read; it is an item if it is one.
func (b *buffer) cover(p Position) {
	if b.first.Sequence == "" {
		b.first, b.since = p, time.Now()
	}
	b.last = p
}

// take takes a record that went through the stages: as it, if it is kept; as it
// was, if err says that they failed.
func (b *buffer) take(p Position, it, was *Item, keep bool, err error) {
	if (keep || err != nil) && b.count() == 0 {
		b.since = time.Now()
	}
	switch {
	case err != nil:
		b.dead = append(b.dead, dead{*was, "transform", err})
		b.bytes += len(was.Data)
	case keep:
		b.items = append(b.items, *it)
		b.bytes += len(it.Data)
	}
	b.cover(p)
}

func newConsumer(c *Connector, h *held) *consumer {
	l := h.now()
	s := &consumer{
		Connector: c, held: h, shard: l.Shard, lease: l, at: l.Checkpoint,
		log: c.log.With("shard", l.Shard), reads: c.retry().BackOff(),
	}
	s.line = delivery.NewLine(c.retry(), s.log, s.report)
	return s
}

// report notes why a shard stands still, and that it no longer does.
func (s *consumer) report(err error) {
	if outage := (*delivery.Outage)(nil); errors.As(err, &outage) {
		s.board.count(func(c *Counts) { c.Outages++ })
		err = fmt.Errorf("emitting: %w", outage.Err)
	}
	s.board.shard(s.shard, func(st *ShardStatus) {
		if st.Trouble = ""; err != nil {
			st.Trouble = err.Error()
		}
	})
}

// persist repeats f until it succeeds, ctx ends or the lease is lost.
func (s *consumer) persist(ctx context.Context, what string, f func(context.Context) error) error {
	return s.line.Persist(ctx, what, func(err error) bool { return errors.Is(err, errLost) }, f)
}

// run works until ctx ends or the shard does. Then what is buffered is
// delivered and the lease released, in FlushTime; when the lease was lost,
// which ends alive too, all is dropped.
func (s *consumer) run(ctx, alive context.Context) {
	s.log.Info("shard begun", "from", s.at.String())
	s.board.shard(s.shard, func(st *ShardStatus) { st.Owner, st.Checkpoint = s.lease.Owner, s.at.String() })
	err := s.work(ctx)
	if err != nil && alive.Err() == nil {
		last, cancel := context.WithTimeout(alive, s.FlushTime)
		defer cancel()
		// A delivery that was interrupted is in the lease, and is made again by
		// whoever has it next.
		if err = s.flush(last); err == nil {
			err = s.held.change(last, nil, func(l *Lease) { l.Owner = "" })
		}
		if err != nil && alive.Err() == nil {
			s.log.Warn("what is buffered could not be delivered before the end; it is read again", "items",
				len(s.buffer.items), "err", err)
			quick, cancel := context.WithTimeout(alive, time.Second)
			defer cancel()
			_ = s.held.change(quick, nil, func(l *Lease) { l.Owner = "" }) // else it expires
		}
	}
	if cause := context.Cause(alive); cause != nil {
		s.log.Warn("shard given up", "err", cause, "dropped", s.buffer.count())
	} else {
		s.log.Info("shard left")
	}
	s.board.shard(s.shard, func(st *ShardStatus) { *st = ShardStatus{Shard: s.shard, Checkpoint: st.Checkpoint} })
}

// work returns nil at the end of the shard, else why it stopped.
func (s *consumer) work(ctx context.Context) error {
	if s.lease.Pending != nil {
		if err := s.repeat(ctx, *s.lease.Pending); err != nil {
			return err
		}
	}
	r := s.Source.Read(s.shard, s.at)
	for {
		p, err := s.read(ctx, r, s.due())
		if err != nil {
			return err
		}
		for i := range p.Records {
			if err := s.add(ctx, &p.Records[i], nil); err != nil {
				return err
			}
		}
		s.show(p.Behind)
		if p.End {
			return s.end(ctx)
		}
		if s.due() <= 0 {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
	}
}

// due is how long the buffer may still wait.
func (s *consumer) due() time.Duration {
	if s.buffer.first.Sequence == "" {
		return time.Hour
	}
	return time.Until(s.buffer.since.Add(s.Age))
}

// unknown is how far a page is behind that could not be had.
const unknown = -1

// read reads a page, waiting for at most as long as most; then it is empty.
func (s *consumer) read(ctx context.Context, r Reader, most time.Duration) (Page, error) {
	wait, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	p, err := r.Next(wait)
	switch {
	case err == nil:
		if s.failed {
			s.report(nil)
			s.reads.Reset()
			s.failed = false
		}
		return p, nil
	case ctx.Err() != nil:
		return p, context.Cause(ctx)
	case wait.Err() != nil:
		return Page{Behind: unknown}, nil
	case errors.Is(err, errGone) && s.gone(ctx):
		s.lost(s.shard)
		return Page{End: true}, nil
	}
	s.board.count(func(c *Counts) { c.ReadFails++ })
	s.failed = true
	s.report(fmt.Errorf("reading: %w", err))
	s.log.LogAttrs(ctx, slog.LevelWarn, "reading failed, will retry", slog.Any("err", err))
	if err := sleep(wait, s.reads.NextBackOff()); err != nil && ctx.Err() != nil {
		return Page{}, context.Cause(ctx)
	}
	return Page{Behind: unknown}, nil
}

// gone says whether the stream is there, but the shard no longer.
func (s *consumer) gone(ctx context.Context) bool {
	all, err := s.Source.Shards(ctx)
	return err == nil && !slices.ContainsFunc(all, func(o Shard) bool { return o.ID == s.shard })
}

// show tells how far the shard is.
func (s *consumer) show(behind time.Duration) {
	s.board.shard(s.shard, func(st *ShardStatus) {
		if behind >= 0 {
			st.Behind = behind
		}
		st.Buffered, st.BufferedB = s.buffer.count(), s.buffer.bytes
	})
}

// add takes a record, or the user records in it, into the buffer, and delivers
// that whenever it is full. Records up to the checkpoint are passed over. With
// most only records up to that are taken, and nothing is delivered.
func (s *consumer) add(ctx context.Context, r *Record, most *Position) error {
	users := userRecords(r, s.lease.Range)
	outside := func(p Position) bool {
		return s.at.isNumber() && p.compare(s.at) <= 0 || most != nil && p.compare(*most) > 0
	}
	if p := r.position(); len(users) == 0 && !outside(p) {
		s.buffer.cover(p)
	}
	for i := range users {
		it := &users[i]
		p := Position{Sequence: it.Sequence, Sub: it.Sub}
		if outside(p) {
			continue
		}
		was := *it
		keep, err := pass(ctx, s.Stages, it)
		if ctx.Err() != nil {
			return context.Cause(ctx) // err may be of that
		}
		s.buffer.take(p, it, &was, keep, err)
		s.board.count(func(c *Counts) {
			c.Records++
			if !keep && err == nil {
				c.Filtered++
			}
		})
		if most == nil && (s.buffer.count() >= s.Records || s.buffer.bytes >= s.Bytes) {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// repeat makes a delivery again that was begun: its records are read, and
// emitted under the same name before any other.
func (s *consumer) repeat(ctx context.Context, span Span) error {
	r := s.Source.Read(s.shard, s.at)
	for done := false; !done; {
		p, err := s.read(ctx, r, time.Hour)
		for i := 0; i < len(p.Records) && err == nil; i++ {
			err = s.add(ctx, &p.Records[i], &span.Last)
			done = done || p.Records[i].position().compare(span.Last.whole()) >= 0
		}
		if err != nil {
			s.buffer = buffer{} // a part of it must not be delivered
			return err
		}
		// At the tip without the last record: it is gone, retention was faster.
		done = done || p.End || len(p.Records) == 0 && p.Behind == 0
	}
	if s.buffer.last != span.Last {
		s.log.Error("records of a delivery that was begun are gone; it is made again with those that are left", "first",
			span.First.String(), "last", span.Last.String())
	}
	s.buffer.first, s.buffer.last = span.First, span.Last
	return s.flush(ctx)
}

// end delivers the rest of a shard that is read to its end, makes the leases of
// the shards that were made of it, and marks its own.
func (s *consumer) end(ctx context.Context) error {
	if err := s.flush(ctx); err != nil {
		return err
	}
	return s.persist(ctx, "ending the shard", func(ctx context.Context) error {
		shards, err := s.Source.Shards(ctx)
		if err != nil && !errors.Is(err, errGone) {
			return err
		}
		for _, c := range shards {
			for _, p := range c.Parents {
				if p != s.shard {
					continue
				}
				if err := s.Leases.Create(ctx, newLease(c, s.lease.Start)); err != nil {
					return err
				}
			}
		}
		return s.held.change(ctx, nil, func(l *Lease) {
			l.Checkpoint, l.Pending, l.Owner = Position{Sequence: ShardEnd}, nil, ""
		})
	})
}
