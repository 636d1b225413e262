package notice

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What happens often is told when it begins, once a minute with how often, and
// when it has stopped.
func TestEpisodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		var got []string
		begin := time.Now()
		happened := func(key string) {
			l.Happened(key, func(n uint64) {
				got = append(got, fmt.Sprint(time.Since(begin).Round(time.Second), " ", key, " ", n))
			})
		}
		for i := range 150 { // a second each
			happened("a")
			if i == 30 {
				happened("b")
			}
			time.Sleep(time.Second)
		}
		for range 5 {
			time.Sleep(time.Minute)
			l.Flush()
		}
		if len(l.seen) != 0 {
			t.Errorf("%d keys are remembered", len(l.seen))
		}
		happened("a") // begins anew
		happened("a")
		l.Close()
		want := []string{"0s a 1", "30s b 1", "1m0s a 60", "2m0s a 60", "3m30s a 29", "7m30s a 1", "7m30s a 1"}
		if !slices.Equal(got, want) {
			t.Errorf("told\n%q, want\n%q", got, want)
		}
	})
}

// The end of what happened is logged once, with what was not counted before, a minute
// after the last line; what goes on and off is one episode.
func TestEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		var got []string
		begin := time.Now()
		line := func(what string) func(uint64) {
			return func(n uint64) {
				got = append(got, fmt.Sprint(time.Since(begin).Round(time.Second), " ", what, " ", n))
			}
		}
		for range 3 {
			l.Happened("a", line("fails"))
		}
		time.Sleep(time.Second)
		l.Ended("a", line("ended"))
		time.Sleep(time.Minute)
		l.Flush()
		for range 60 { // on and off, for ten minutes
			l.Happened("a", line("fails"))
			time.Sleep(5 * time.Second)
			l.Ended("a", line("ended"))
			time.Sleep(5 * time.Second)
		}
		for range 5 {
			time.Sleep(time.Minute)
			l.Flush()
		}
		if len(l.seen) != 0 {
			t.Errorf("%d keys are remembered", len(l.seen))
		}
		if len(got) > 15 || !slices.Equal(got[:3], []string{"0s fails 1", "1m1s ended 2", "2m1s fails 7"}) {
			t.Errorf("told\n%q", got)
		}
		// One that was forgotten meanwhile, since nobody asked, ends at once.
		got, begin = nil, time.Now()
		l.Ended("a", line("ended"))
		l.Close()
		if want := []string{"0s ended 0"}; !slices.Equal(got, want) {
			t.Errorf("told\n%q, want\n%q", got, want)
		}
	})
}

// However many keys there are, the memory is bounded, and none goes uncounted.
func TestManyKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Log
		lines, all := 0, uint64(0)
		const n = 100_000
		for i := range n {
			l.Happened(fmt.Sprint(i), func(k uint64) { lines++; all += k })
		}
		if len(l.seen) != maxKeys || lines != maxKeys+1 {
			t.Errorf("%d keys, %d lines", len(l.seen), lines)
		}
		time.Sleep(time.Minute)
		l.Flush()
		if len(l.seen) != 0 || all != n || lines != maxKeys+2 {
			t.Errorf("%d keys are left, %d of %d told in %d lines", len(l.seen), all, n, lines)
		}
	})
}
