package connector

import (
	"context"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// flush delivers what is buffered and moves the checkpoint behind it. It
// returns an error only when ctx ended or the lease was lost: the rest is
// tried again. The buffer is then as it was.
func (s *consumer) flush(ctx context.Context) error {
	b := &s.buffer
	if b.first.Sequence == "" {
		return nil
	}
	s.show(-1)
	span := Span{b.first, b.last}
	into, with := s.together()
	items, given := b.items, b.dead
	if into != nil {
		items, given = into.fitting(items, given)
	} else if len(items) > 0 {
		// The range is durable before the first attempt, so that the next one,
		// even of another worker, has the same name.
		if p := s.held.now().Pending; p == nil || *p != span {
			err := s.persist(ctx, s.shard, "writing the lease", func(ctx context.Context) error {
				return s.held.change(ctx, nil, func(l *Lease) { l.Pending = &span })
			})
			if err != nil {
				return err
			}
		}
		var err error
		if given, err = s.emit(ctx, span, items, given); err != nil {
			return err
		}
	}
	if err := s.finish(ctx, span.Last, into, with, items, given); err != nil {
		return err
	}
	s.board.count(func(c *Counts) {
		c.Dead += int64(len(given))
		if into != nil {
			c.emitted(items)
		}
		if b.count() > 0 {
			c.Batches++
		}
	})
	s.at = span.Last
	s.buffer = buffer{}
	s.board.shard(s.shard, func(st *ShardStatus) { st.Checkpoint, st.Pending = s.at.String(), "" })
	s.show(-1)
	return nil
}

func (c *Counts) emitted(items []Item) {
	c.Emitted += int64(len(items))
	for i := range items {
		c.Bytes += int64(len(items[i].Data))
	}
}

// together says what is committed with the lease, in one: the items, where they
// go into the log that has the leases, and the dead letters, likewise. nil: they
// are not.
func (s *consumer) together() (into, letters *localStream) {
	leases, ok := s.Leases.(*LogLeases)
	if !ok {
		return nil, nil
	}
	if e, ok := s.Emitter.(*localStream); ok && e.store == leases.store {
		into = e
	}
	if d, ok := s.Dead.(*localStream); ok && d.store == leases.store {
		letters = d
	}
	return into, letters
}

// emit writes items, and adds to given those that were given up.
func (s *consumer) emit(ctx context.Context, span Span, items []Item, given []dead) ([]dead, error) {
	batch := Batch{Connector: s.Name, Stream: s.Source.Name(), Shard: s.shard, First: span.First.String(),
		Last: span.Last.String(), Items: items}
	r := retry{first: s.RetryWait, most: s.RetryMost}
	for tries := 0; ; {
		if err := s.held.ours(ctx); err != nil {
			return nil, err
		}
		attempt := batch
		failed, err := s.Emitter.Emit(ctx, &attempt)
		if ctx.Err() != nil && (err != nil || len(failed) > 0) {
			return nil, context.Cause(ctx)
		}
		var left []Item
		if err == nil {
			tries++
			var up []dead
			left, up, err = s.sort(batch.Items, failed, tries > max(s.Retries, 0))
			given = append(given, up...)
		}
		if err != nil {
			s.board.count(func(c *Counts) { c.Outages++ })
			s.trouble(ctx, s.shard, "emitting", err)
		} else {
			s.board.count(func(c *Counts) {
				c.emitted(written(batch.Items, failed))
				c.Failed += int64(len(failed))
				if len(left) > 0 {
					c.Retries++
				}
			})
			if len(left) == 0 {
				s.board.shard(s.shard, func(st *ShardStatus) { st.Trouble = "" })
				return given, nil
			}
			batch.Items = left
			s.trouble(ctx, s.shard, "emitting",
				fmt.Errorf("%d of %d items were refused: %w", len(left), len(items), failed[0].Err))
		}
		if err := r.wait(ctx); err != nil {
			return nil, err
		}
	}
}

// written are the items that did not fail.
func written(items []Item, failed []Failure) []Item {
	if len(failed) == 0 {
		return items
	}
	no := make([]bool, len(items))
	for _, f := range failed {
		no[f.Index] = true
	}
	var all []Item
	for i := range items {
		if !no[i] {
			all = append(all, items[i])
		}
	}
	return all
}

// sort parts the items that failed into those to be tried again, and those to
// be given up: all of them when it was the last attempt. Without dead letters
// nothing is given up.
func (s *consumer) sort(items []Item, failed []Failure, last bool) (left []Item, up []dead, err error) {
	why := make([]*Failure, len(items))
	for i := range failed {
		f := &failed[i]
		if f.Index < 0 || f.Index >= len(items) || f.Err == nil {
			return nil, nil, fmt.Errorf("the emitter says that item %d of %d failed: %v", f.Index, len(items), f.Err)
		}
		why[f.Index] = f
	}
	for i, f := range why {
		switch {
		case f == nil:
		case s.Dead != nil && (last || f.Permanent):
			up = append(up, dead{items[i], "emit", f.Err})
		default:
			left = append(left, items[i])
		}
	}
	return left, up, nil
}

// finish makes the dead letters durable and then moves the checkpoint to last;
// what goes into the log of the leases goes with it.
func (s *consumer) finish(ctx context.Context, last Position, into, with *localStream, items []Item,
	given []dead) error {
	var letters []Letter
	if s.Dead != nil {
		for i := range given {
			letters = append(letters, newLetter(s.Name, s.Source.Name(), s.shard, &given[i], s.Dead.limit()))
		}
	}
	if len(given) > 0 && with == nil {
		err := s.persist(ctx, s.shard, "writing dead letters", func(ctx context.Context) error {
			if s.Dead == nil {
				return fmt.Errorf("%w: %w", errNoDeadLetters, given[0].err)
			}
			return s.Dead.Put(ctx, letters)
		})
		if err != nil {
			return err
		}
		letters = nil
	}
	return s.persist(ctx, s.shard, "committing", func(ctx context.Context) error {
		var b *streams.Batch
		if into != nil || len(letters) > 0 {
			b = s.Leases.(*LogLeases).store.NewBatch()
			if into != nil {
				into.append(b, items)
			}
			if len(letters) > 0 {
				with.add(b, letters)
			}
		}
		return s.held.change(ctx, b, func(l *Lease) {
			l.Checkpoint, l.Pending, l.Switches = last, nil, 0
		})
	})
}
