package clock

import (
	"bytes"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A wallClock is ahead of the bubble's clock by what the test sets.
type wallClock struct{ ahead time.Duration }

func (w *wallClock) now() time.Time { return time.Now().Add(w.ahead) }

func newClock(o Options) (*Clock, *wallClock, *bytes.Buffer) {
	w, log := &wallClock{}, &bytes.Buffer{}
	o.Wall, o.Log = w.now, slog.New(slog.NewTextHandler(log, nil))
	return New(o), w, log
}

// ahead is how far expiry is ahead of the bubble's time, which nobody sets wrong.
func ahead(c *Clock) time.Duration { return time.Until(c.Expiry()).Round(time.Second) }

func TestJumpAheadAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, log := newClock(Options{})
		time.Sleep(time.Hour)
		if got := ahead(c); got != 0 || c.Status().Held {
			t.Fatalf("ahead %v, %+v", got, c.Status())
		}
		w.ahead = 72 * time.Hour
		time.Sleep(45 * time.Second)
		if got := ahead(c); got != 0 {
			t.Errorf("expiry went %v ahead with the clock", got)
		}
		if s := c.Status(); !s.Held || s.Ahead.Round(time.Minute) != 72*time.Hour {
			t.Errorf("held: %+v", s)
		}
		w.ahead = 0
		if got := ahead(c); got != 0 {
			t.Errorf("back: ahead %v", got)
		}
		time.Sleep(settle)
		if s := c.Status(); s.Held {
			t.Errorf("back for %v: %+v", settle, s)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "clock accept") {
			t.Errorf("told %d times:\n%s", n, log)
		}
	})
}

// A clock that is back for a moment only stays held.
func TestSettle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newClock(Options{})
		for range 3 {
			w.ahead = 72 * time.Hour
			c.Status()
			w.ahead = 0
			c.Status()
			time.Sleep(settle - time.Second)
			if s := c.Status(); !s.Held {
				t.Fatalf("trusted after %v: %+v", settle-time.Second, s)
			}
		}
		time.Sleep(time.Second)
		if s := c.Status(); s.Held {
			t.Errorf("back for %v: %+v", settle, s)
		}
	})
}

// A clock that goes back deletes nothing early, neither while it is back nor
// when it returns.
func TestJumpBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newClock(Options{})
		w.ahead = -72 * time.Hour
		if got := ahead(c); got != -72*time.Hour || !c.Status().Held {
			t.Errorf("ahead %v, %+v", got, c.Status())
		}
		time.Sleep(time.Minute)
		w.ahead = 0
		if got := ahead(c); got != 0 {
			t.Errorf("ahead %v", got)
		}
	})
}

func TestAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newClock(Options{})
		if c.Accept() {
			t.Error("there was nothing to accept")
		}
		w.ahead = 72 * time.Hour
		if !c.Accept() || ahead(c) != 72*time.Hour || c.Status().Held {
			t.Errorf("accepted: ahead %v, %+v", ahead(c), c.Status())
		}
		w.ahead = 144 * time.Hour
		for range 25 {
			c.Status()
			time.Sleep(time.Hour)
		}
		if ahead(c) != 144*time.Hour || c.Status().Held {
			t.Errorf("a day later: ahead %v, %+v", ahead(c), c.Status())
		}
		never, w2, _ := newClock(Options{AcceptAfter: -1})
		w2.ahead = 72 * time.Hour
		for range 100 {
			never.Status()
			time.Sleep(time.Hour)
		}
		if ahead(never) != 0 || !never.Status().Held {
			t.Errorf("not accepted: ahead %v, %+v", ahead(never), never.Status())
		}
	})
}

func TestResume(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name     string
		held     time.Duration // the clock was ahead of trust by that, 0: not held
		off      time.Duration // by which the wall clock moved while the bridge was off
		wantHeld bool
		want     time.Duration // expiry, from the wall clock
	}{
		{"a night", 0, 14 * time.Hour, false, 0},
		{"three days ahead", 0, 3 * day, true, -3 * day},
		{"back by years", 0, -3650 * day, true, 0},
		{"still wrong", 3 * day, time.Minute, true, -3 * day},
		{"still wrong by less than a gap", 10 * time.Hour, time.Minute, true, -10 * time.Hour},
		{"right again", 3 * day, -3*day + time.Hour, false, 0},
		{"wrong in another way", 3 * day, 30 * day, true, -33 * day},
		{"wrong, then off for long", 3 * day, -30 * day, true, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				before, w, _ := newClock(Options{})
				w.ahead = tc.held
				state := before.State()
				if (state.Held > 0) != (tc.held > 0) {
					t.Fatalf("state %+v", state)
				}
				c, w, log := newClock(Options{})
				w.ahead = tc.held + tc.off
				c.Resume(state)
				if got := c.Expiry().Sub(w.now()); got != tc.want || c.Status().Held != tc.wantHeld {
					t.Errorf("expiry %v from the wall clock, %+v; want %v, held %v", got, c.Status(), tc.want,
						tc.wantHeld)
				}
				if tc.wantHeld != strings.Contains(log.String(), "level=WARN") {
					t.Errorf("log: %s", log)
				}
				if !tc.wantHeld {
					return
				}
				w.ahead = 0 // set right after the start; the off time is not told
				c.Status()
				time.Sleep(settle)
				if c.Status().Held {
					t.Errorf("set right: %+v", c.Status())
				}
			})
		})
	}
}

// Whatever the wall clock does, nothing expires before its time has really
// passed, unless the new time was accepted.
func TestNeverEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		rnd := rand.New(rand.NewPCG(seed, 0))
		c, w, _ := newClock(Options{AcceptAfter: -1, MaxStep: time.Minute})
		var steps time.Duration // that were small enough to follow
		for range 2000 {
			switch rnd.IntN(6) {
			case 0:
				w.ahead = time.Duration(rnd.Int64N(int64(200*24*time.Hour))) - 100*24*time.Hour
			case 1:
				w.ahead = 0
			case 2:
				w.ahead += time.Duration(rnd.Int64N(int64(time.Second)))
				steps += time.Second
			}
			time.Sleep(time.Duration(rnd.Int64N(int64(10 * time.Minute))))
			if got := ahead(c); got > steps+time.Minute {
				t.Fatalf("seed %d: expiry is %v ahead of what has passed", seed, got)
			}
		}
	})
}

// Steady moves by what passes, whatever the wall clock does and whoever accepts
// it, and from run to run by a wall clock that moved ahead by a gap at most.
func TestSteady(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) {
		c, w, _ := newClock(Options{})
		begin, passed := c.Steady(), time.Duration(0)
		check := func(what string) {
			t.Helper()
			if got := c.Steady().Sub(begin); got != passed {
				t.Errorf("%s: %v, want %v", what, got, passed)
			}
		}
		for _, ahead := range []time.Duration{0, 26 * 365 * day, time.Minute, -10 * 365 * day, 3 * day} {
			w.ahead = ahead
			time.Sleep(time.Hour)
			passed += time.Hour
			check("jumped to " + ahead.String())
			c.Accept()
			check("accepted")
		}
		for moved, counted := range map[time.Duration]time.Duration{14 * time.Hour: 14 * time.Hour, 3 * day: 0,
			-time.Hour: 0, 0: 0} {
			state := c.State()
			ahead := w.ahead + moved
			c, w, _ = newClock(Options{})
			w.ahead = ahead
			c.Resume(state)
			passed += counted
			check("off while the clock moved by " + moved.String())
			c.Accept()
			check("and accepted")
		}
		old := c.State()
		old.Steady = time.Time{}
		c, _, _ = newClock(Options{})
		c.Resume(old)
		if got := c.Steady(); !got.Equal(old.Expiry) {
			t.Errorf("after an earlier release: %v, want %v", got, old.Expiry)
		}
	})
}
