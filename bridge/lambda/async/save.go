package async

import (
	"context"
	"slices"
	"time"
)

// A saving is what of a run is done and not durable. One commit is under way at a time;
// what is done meanwhile gathers for the next.
type saving struct {
	done  []outcome
	batch []outcome  // of the commit that is under way; nil: none is
	ended chan error // of that
	after time.Time  // no commit before that, since one failed
}

// saveBytes bounds the records that one commit appends, but for the first.
const saveBytes = 4 << 20

// startSave starts a commit of what is done. It goes on when the run is told to end.
func (r *run) startSave() {
	s := &r.save
	n, size := 0, 0
	var records [][]byte
	for n < len(s.done) && (n == 0 || size+len(s.done[n].next) <= saveBytes) {
		if next := s.done[n].next; next != nil {
			records, size = append(records, next), size+len(next)
		}
		n++
	}
	s.batch, s.done = s.done[:n:n], s.done[n:]
	p := Position{Cursor: r.next, Open: without(slices.Clone(r.open), s.batch)}
	r.workers.Go(func() {
		err := r.q.o.Log.Done(context.Background(), p, records)
		if err == nil {
			if err := r.q.o.Log.Trim(p.low()); err != nil {
				r.q.o.Slog.Warn("the log of queued calls cannot be trimmed, will try again", "err", err)
			}
		}
		s.ended <- err
	})
}

// saved takes how a commit ended. One that failed is made again.
func (r *run) saved(err error) {
	s := &r.save
	if err != nil {
		r.q.o.Slog.Warn("it cannot be kept which queued calls were made, will try again", "err", err,
			"in", firstBackOff)
		s.done = append(s.batch, s.done...)
		s.after = time.Now().Add(firstBackOff)
	} else {
		r.open = without(r.open, s.batch)
	}
	s.batch = nil
}

// without removes the offsets of outcomes, which are among all, which is ascending.
func without(all []uint64, outcomes []outcome) []uint64 {
	gone := make(map[uint64]bool, len(outcomes))
	for _, o := range outcomes {
		gone[o.offset] = true
	}
	return slices.DeleteFunc(all, func(o uint64) bool { return gone[o] })
}
