package connector

import (
	"context"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
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
			err := s.persist(ctx, "writing the lease", func(ctx context.Context) error {
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

// emit writes items, and adds to given those that were given up. An item is given
// up when it was refused too often, or for ever, if there is a place for dead
// letters. An outage is none of its refusals.
func (s *consumer) emit(ctx context.Context, span Span, items []Item, given []dead) ([]dead, error) {
	batch := Batch{Connector: s.Name, Stream: s.Source.Name(), Shard: s.shard, First: span.First.String(),
		Last: span.Last.String()}
	j := &delivery.Job{
		Items: len(items),
		Send: func(ctx context.Context, idx []int) ([]Failure, error) {
			if err := s.held.ours(ctx); err != nil {
				return nil, err
			}
			return s.attempt(ctx, batch, items, idx)
		},
		Answered: func(sent []int, refused []Failure) { s.answered(items, sent, refused) },
		Again: func(refused []Failure) {
			if outage := (*delivery.Outage)(nil); !errors.As(refused[0].Err, &outage) {
				s.board.count(func(c *Counts) { c.Retries++ })
			}
		},
		Settle: func(_ context.Context, _ int, up []Failure) error {
			for _, f := range up {
				given = append(given, dead{items[f.Index], "emit", f.Err})
			}
			return nil // the checkpoint moves when all are settled
		},
	}
	if s.Dead != nil {
		j.Enough = func(_ int, f *delivery.Failing) bool { return f.Tries > max(s.Retries, 0) }
	}
	err := s.line.Do(ctx, j)
	return given, err
}

// attempt emits the items of idx, and tells of them by their index in items.
func (s *consumer) attempt(ctx context.Context, batch Batch, items []Item, idx []int) ([]Failure, error) {
	batch.Items = make([]Item, len(idx))
	for n, i := range idx {
		batch.Items[n] = items[i]
	}
	failed, err := s.Emitter.Emit(ctx, &batch)
	for n := range failed {
		if i := failed[n].Index; i >= 0 && i < len(idx) {
			failed[n].Index = idx[i]
		} else {
			failed[n].Index = -1 // of none
		}
	}
	return failed, err
}

// answered counts what was written and what was refused.
func (s *consumer) answered(items []Item, sent []int, refused []Failure) {
	s.board.count(func(c *Counts) {
		c.Failed += int64(len(refused))
		for _, i := range sent {
			if len(refused) > 0 && refused[0].Index == i {
				refused = refused[1:]
				continue
			}
			c.emitted(items[i : i+1])
		}
	})
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
		err := s.persist(ctx, "writing dead letters", func(ctx context.Context) error {
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
	return s.persist(ctx, "committing", func(ctx context.Context) error {
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
