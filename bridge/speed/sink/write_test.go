package sink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

var errRefused, errDown, errBusy = errors.New("refused"), errors.New("down"), errors.New("busy")

// Whatever a store refuses, every item is written, in order the first time, or
// in the failures, once; and no request is larger than it may be.
func TestWriteAccountsForEachItem(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var wrong []string
		fault := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
		n := rapid.IntRange(1, 40).Draw(rt, "n")
		sizes := rapid.SliceOfN(rapid.IntRange(0, 30), n, n).Draw(rt, "sizes")
		faults := rapid.SliceOfN(rapid.IntRange(0, 9), n, n).Draw(rt, "faults") // 9: never taken; 7, 8: busy so often
		downAt := rapid.IntRange(-1, 12).Draw(rt, "down")
		busy, calls := map[int]int{}, 0
		written := map[int]bool{}
		w := Writer{Most: 7, Bytes: 50,
			Size:    func(i int) int { return sizes[i] },
			Refused: func(err error) bool { return errors.Is(err, errRefused) },
			Put: func(_ context.Context, idx []int) ([]Refusal, error) {
				calls++
				total := 0
				for _, i := range idx {
					total += sizes[i]
				}
				if len(idx) == 0 || len(idx) > 7 || len(idx) > 1 && total > 50 {
					fault("a request of %d items, %d bytes", len(idx), total)
				}
				if calls == downAt {
					return nil, errDown
				}
				if slices.ContainsFunc(idx, func(i int) bool { return faults[i] == 9 }) {
					return nil, errRefused
				}
				var failed []Refusal
				for _, i := range idx {
					if faults[i] >= 7 && busy[i] < faults[i] {
						busy[i]++
						failed = append(failed, Refusal{Index: i, Err: errBusy})
						continue
					}
					written[i] = true
				}
				return failed, nil
			}}
		synctest.Test(t, func(*testing.T) {
			failed, err := w.Write(context.Background(), Indexes(n))
			if err != nil {
				if !errors.Is(err, errDown) || len(failed) > 0 {
					fault("%v with %d failures", err, len(failed))
				}
				return
			}
			seen := map[int]bool{}
			for _, f := range failed {
				if seen[f.Index] {
					fault("item %d failed twice", f.Index)
				}
				seen[f.Index] = true
				if f.Permanent != (faults[f.Index] == 9 && !errors.Is(f.Err, errDown)) {
					fault("item %d: permanent %v, %v", f.Index, f.Permanent, f.Err)
				}
			}
			for i := range n {
				if !written[i] && !seen[i] {
					fault("item %d is lost", i)
				}
			}
		})
		if len(wrong) > 0 {
			rt.Fatal(wrong)
		}
	})
}

func TestWriteGivesUpWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, began := 0, time.Now()
		w := Writer{Most: 10, Bytes: 10, Size: func(int) int {
			return 1
		}, Put: func(_ context.Context, idx []int) (f []Refusal, _ error) {
			calls++
			for _, i := range idx {
				f = append(f, Refusal{Index: i, Err: errBusy})
			}
			return f, nil
		}}
		failed, err := w.Write(t.Context(), Indexes(3))
		if err != nil || len(failed) != 3 || calls != Fruitless {
			t.Errorf("%d failures, %v, after %d calls", len(failed), err, calls)
		}
		if d := time.Since(began); d < 350*time.Millisecond || d > 1050*time.Millisecond {
			t.Errorf("after %v, want half to one and a half of 700 ms", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if failed, err := w.Write(ctx, Indexes(3)); err != nil || len(failed) != 3 || calls != Fruitless+1 {
			t.Errorf("cancelled: %d failures, %v, after %d calls", len(failed), err, calls)
		}
	})
}
