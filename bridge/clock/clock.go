// Package clock is the wall time that expiry may trust.
//
// A wall clock can jump: a wrong time server, a machine that woke up, a hand
// on the wrong switch. What was acknowledged must not be deleted for it. So
// whatever deletes by age asks Clock.Expiry instead of the wall clock: time that
// never runs ahead of what has really passed. It follows the wall clock as long
// as that moves like the machine's monotonic clock. After a jump it goes on by
// the monotonic clock alone, or by the wall clock where that is earlier, until the wall clock
// is back, or somebody or enough time has accepted the new time: it is held.
//
// Held, a stream of 24 hours keeps each record for at least 24 hours of real
// time, and for longer those that were written under the wrong time. Size
// limits work as ever. Decisions about rights, such as whether a key is still
// valid, are no expiry in this sense; they go by the wall clock.
//
// What is stored for nothing but to expire, such as since when a client is away,
// has no use for the wall clock's time at all, which may be wrong when it is
// stored and right when it is judged. It is stored and judged by Clock.Steady.
package clock

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Options of a Clock. The zero value is good for use.
type Options struct {
	// MaxStep is how far the wall clock may depart from the monotonic clock
	// between two looks; 0: 5 minutes, our choice: time services step by less
	// once they run, and no retention is that short.
	MaxStep time.Duration
	// MaxGap is likewise from one run of the program to the next, where no
	// monotonic clock tells how much time has passed; 0: 24 hours, so that a
	// bridge that is switched off at night starts without a word.
	MaxGap time.Duration
	// AcceptAfter is how long the wall clock must stay at its new time until it
	// is accepted without being told; 0: 24 hours; negative: never.
	AcceptAfter time.Duration

	Wall func() time.Time // nil: time.Now
	Log  *slog.Logger     // nil: nothing is logged
}

const (
	lookEvery = 5 * time.Second  // Run's; Expiry looks too
	settle    = 30 * time.Second // that the wall clock must be back before a hold ends
)

// A Clock is safe for use by several goroutines.
type Clock struct {
	opts Options

	mu     sync.Mutex
	mono   time.Time     // of the last look; only its monotonic reading is used
	trust  time.Time     // wall time then, as far as it is trusted
	steady time.Time     // what Steady returned then
	gap    time.Duration // by which the wall clock may differ at the next look
	held   bool
	heldAt time.Duration // for how long it has been held, over all runs
	offset time.Duration // wall clock ahead of trust, as of the last look
	back   time.Duration // for how long the wall clock has been back
}

// New returns a clock that trusts the wall clock as it is. It starts nothing.
func New(o Options) *Clock {
	if o.MaxStep == 0 {
		o.MaxStep = 5 * time.Minute
	}
	if o.MaxGap == 0 {
		o.MaxGap = 24 * time.Hour
	}
	if o.AcceptAfter == 0 {
		o.AcceptAfter = 24 * time.Hour
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	c := &Clock{opts: o, mono: time.Now(), gap: o.MaxStep}
	c.trust = c.wall()
	c.steady = c.trust
	return c
}

// wall is the wall clock without a monotonic reading, by which Sub would go.
func (c *Clock) wall() time.Time { return c.opts.Wall().Round(0) }

// Expiry returns the time by which things may be deleted for their age: never
// later than the wall clock, nor than what has really passed allows.
func (c *Clock) Expiry() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.look()
	if c.trust.Before(wall) {
		return c.trust
	}
	return wall
}

// Steady returns a time that moves by what has really passed and never jumps: that
// of the wall clock when the bridge first ran, and then by the monotonic clock;
// from one run of the program to the next by the wall clock, if that moved ahead by
// MaxGap at most, otherwise not at all. So it may fall behind the wall clock, and
// only its differences mean something.
func (c *Clock) Steady() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	return c.steady
}

// Run looks at the clocks until ctx ends, so that jumps are told when they happen.
func (c *Clock) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			c.Expiry()
		case <-ctx.Done():
			return nil
		}
	}
}

// look compares the clocks and returns the wall clock's time. mu is held.
func (c *Clock) look() time.Time {
	now, wall := time.Now(), c.wall()
	passed := now.Sub(c.mono)
	c.mono = now
	c.trust, c.steady = c.trust.Add(passed), c.steady.Add(passed)
	c.offset = wall.Sub(c.trust)
	within := c.offset.Abs() <= c.gap
	if !c.held {
		if within {
			c.trust, c.gap = wall, c.opts.MaxStep
			return wall
		}
		c.held, c.heldAt, c.back = true, 0, 0
		c.warnHeld("the clock jumped")
		return wall
	}
	c.heldAt += passed
	if c.back += passed; !within {
		c.back = 0
	}
	switch {
	case c.back >= settle:
		c.release(wall, "it is back")
	case !within && c.opts.AcceptAfter > 0 && c.heldAt >= c.opts.AcceptAfter:
		c.release(wall, "it has stayed")
	}
	return wall
}

func (c *Clock) warnHeld(what string) {
	accepted := "when you say so"
	if c.opts.AcceptAfter > 0 {
		accepted = (c.opts.AcceptAfter - c.heldAt).String()
	}
	c.opts.Log.Warn(what+": nothing is deleted for its age by the new time; set the clock right, or accept it "+
		"with: tidemill-bridge clock accept",
		"ahead", c.offset.Round(time.Second).String(), "expected", c.trust.UTC(), "accepted_after", accepted)
}

// release trusts the wall clock. mu is held.
func (c *Clock) release(wall time.Time, why string) {
	c.opts.Log.Warn("the clock is trusted again: things are deleted for their age as before", "why", why,
		"held", c.heldAt.Round(time.Second).String(), "ahead", c.offset.Round(time.Second).String())
	c.trust, c.gap, c.held, c.heldAt, c.offset = wall, c.opts.MaxStep, false, 0, 0
}

// Accept trusts the wall clock as it is now, and says whether it was held.
func (c *Clock) Accept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.look()
	held := c.held
	if held {
		c.release(wall, "it was accepted")
	}
	return held
}

// A Status is what a Clock thinks of the wall clock.
type Status struct {
	Held  bool          `json:"held"`     // nothing is deleted by the wall clock's time
	For   time.Duration `json:"held_for"` // ns, 0 unless held
	Ahead time.Duration `json:"ahead"`    // ns of the wall clock before the time that is expected, negative behind it
}

// Status looks and returns what came of it.
func (c *Clock) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.look()
	return Status{c.held, c.heldAt, c.offset}
}

// A State is what a clock hands on to the next run of the program.
type State struct {
	Wall   time.Time     `json:"wall"`   // the wall clock
	Expiry time.Time     `json:"expiry"` // the time that was trusted; Wall unless held
	Held   time.Duration `json:"held"`   // ns for which it has been held, 0: it is not
	Steady time.Time     `json:"steady"` // Clock.Steady; zero, from an earlier release: Expiry
}

// State returns the state as of now.
func (c *Clock) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.look()
	s := State{Wall: wall.UTC(), Expiry: c.trust.UTC(), Steady: c.steady.UTC()}
	if c.held {
		s.Held = max(c.heldAt, 1)
	}
	return s
}

// Resume continues the clock of an earlier run, before this one is used. A
// program without a state gives the time of the newest thing that it has
// stored, as both Wall and Expiry. More than MaxGap since then is a jump.
func (c *Clock) Resume(s State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wall := c.wall()
	c.mono = time.Now()
	if c.steady = s.Steady; c.steady.IsZero() {
		c.steady = s.Expiry
	}
	if off := wall.Sub(s.Wall); off > 0 && off <= c.opts.MaxGap {
		c.steady = c.steady.Add(off)
	}
	sinceWall, sinceExpiry := wall.Sub(s.Wall).Abs(), wall.Sub(s.Expiry).Abs()
	switch {
	case s.Held > 0 && sinceWall <= c.opts.MaxGap && sinceWall < sinceExpiry: // it is still wrong
		c.trust = wall.Add(s.Expiry.Sub(s.Wall))
		c.held, c.heldAt, c.gap = true, s.Held, c.opts.MaxStep
	case sinceExpiry <= c.opts.MaxGap:
		c.trust, c.held = wall, false
		return
	default:
		c.trust = s.Expiry
		c.held, c.heldAt, c.gap = true, 0, c.opts.MaxGap
	}
	c.back, c.offset = 0, wall.Sub(c.trust)
	c.warnHeld("the clock is far from when the bridge last ran, or it was off for long")
}
