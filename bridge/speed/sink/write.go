package sink

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Writer writes items by their indexes, in requests of a bounded size.
type Writer struct {
	Most  int             // items of a request
	Bytes int             // of a request
	Size  func(i int) int // bytes that an item adds
	// Put makes one request. It tells which items were not written; an error,
	// that it is not known.
	Put func(ctx context.Context, idx []int) ([]Refusal, error)
	// Refused tells whether Put's error means that the request can never be
	// taken as it is: its halves are tried, down to the item at fault.
	Refused func(error) bool
}

// Waits for items that a store had no capacity for, before they are left to
// the runtime, which counts its attempts.
const (
	firstWait = 100 * time.Millisecond // doubled each time
	mostWait  = 5 * time.Second
	Fruitless = 4 // times in a row that nothing was written
)

// Write writes the items of idx, some again while the store takes a part. The
// indexes of the failures ascend only among those of one request. An error
// means that nothing is known to be written.
func (w *Writer) Write(ctx context.Context, idx []int) (failed []Refusal, err error) {
	wrote, barren, wait := 0, 0, firstWait
	for {
		var again []Refusal
		before := wrote
		for rest := idx; len(rest) > 0; {
			n := w.fit(rest)
			f, err := w.halves(ctx, rest[:n])
			if err != nil && wrote == 0 {
				return nil, err
			}
			if err != nil {
				// What was written need not be written again.
				for _, i := range rest {
					failed = append(failed, Refusal{Index: i, Err: err})
				}
				return append(failed, again...), nil
			}
			wrote += n - len(f)
			for _, f := range f {
				if f.Permanent {
					failed = append(failed, f)
				} else {
					again = append(again, f)
				}
			}
			rest = rest[n:]
		}
		if barren++; wrote > before {
			barren, wait = 0, firstWait
		}
		if len(again) == 0 || barren == Fruitless || !pause(ctx, wait) {
			return append(failed, again...), nil
		}
		wait = min(2*wait, mostWait)
		idx = nil
		for _, f := range again {
			idx = append(idx, f.Index)
		}
	}
}

// pause waits for about d, and tells whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d/2 + rand.N(d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// fit says how many of idx, at least one, go into one request.
func (w *Writer) fit(idx []int) int {
	n, bytes := 0, 0
	for n < len(idx) && n < w.Most {
		if bytes += w.Size(idx[n]); n > 0 && bytes > w.Bytes {
			break
		}
		n++
	}
	return n
}

func (w *Writer) halves(ctx context.Context, idx []int) ([]Refusal, error) {
	failed, err := w.Put(ctx, idx)
	if err == nil || !w.Refused(err) {
		return failed, err
	}
	if len(idx) == 1 {
		return []Refusal{{Index: idx[0], Err: err, Permanent: true}}, nil
	}
	half := len(idx) / 2
	if failed, err = w.halves(ctx, idx[:half]); err != nil {
		return nil, err
	}
	more, err := w.halves(ctx, idx[half:])
	return append(failed, more...), err
}

// Indexes are 0 to n-1.
func Indexes(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = i
	}
	return all
}
