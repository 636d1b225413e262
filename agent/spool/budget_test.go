package spool

import (
	"context"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A day's bytes are kept by fewer flushes; no longer than
// MaxLoss, and then it says that it does not. What would be lost is always told.
func TestMaxWrites(t *testing.T) {
	const flushBytes = 8 << 10 // of the pages of one flush
	for _, c := range []struct {
		name      string
		perDay    int64
		every     time.Duration // between flushes, at the end
		over, cut bool          // the bound is not kept; the flushes are fewer
	}{
		{"none", 0, 5 * time.Second, false, false},
		{"more than it takes", 500 << 20, 5 * time.Second, false, false},
		{"20 MiB", 20 << 20, 35 * time.Second, false, true},
		{"1 MiB", 1 << 20, 10 * time.Minute, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				var s *Spool
				s = open(t, filepath.Join(dir, "spool.db"), Options{MaxWrites: c.perDay,
					Written: func() (int64, bool) { return int64(s.flushes) * flushBytes, true }})
				ctx, stop := context.WithCancel(t.Context())
				done := make(chan error)
				go func() { done <- s.Run(ctx) }()
				const hours = 3 // the saved hour is used up after one
				start := time.Now()
				for n := range int64(hours * 3600) {
					add(t, s, n)
					time.Sleep(time.Second)
					st := s.Stats()
					if age := time.Since(st.Loss.Since); st.Unflushed > 0 && age > st.Loss.Interval+time.Second ||
						(st.Unflushed == 0) != st.Loss.Since.IsZero() {
						t.Fatalf("after %v: %v, %d unflushed, the oldest for %v", time.Since(start), st.Loss,
							st.Unflushed, age)
					}
				}
				st := s.Stats()
				stop()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				// Evenly, and an hour of it at the start.
				wrote, allowed := int64(st.Flushes)*flushBytes, c.perDay*(23*hours+24)/(24*24)
				if c.perDay > 0 && !c.over && wrote > allowed {
					t.Errorf("%d bytes in %d h, %d are allowed", wrote, hours, allowed)
				}
				if i := st.Loss.Interval; i < c.every*9/10 || i > c.every*11/10 || st.Loss.Over != c.over ||
					(st.Loss.Interval > st.Loss.Every) != c.cut {
					t.Errorf("want a flush every %v; %+v", c.every, st.Loss)
				}
			})
		})
	}
}
