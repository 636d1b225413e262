// Package clock is the agent's own time. The device may have no clock that runs
// while it is off, so what the system shows can be 1970, and can jump. Readings are
// taken by the clock that counts from boot, which does not jump, and a Clock says
// what to add to it, and how far off the sum is at most.
//
// The time is known when the kernel says that a time service holds the wall clock,
// or when the bridge has told it. From then on it stays known, within a bound that
// grows by 200 ppm. Before that the Clock only knows lower bounds: the newest time
// that was ever known, which it keeps in data_dir, and the build of the program.
// Once it is known, the boots before are too, within what lies between them, and
// batches of those are put right when they are sent. CLOCK.md is the manual.
//
// The Clock never sets the system's.
package clock

import (
	"encoding/hex"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/telemetry"
)

// Options of a Clock.
type Options struct {
	Dir string // data_dir, which exists; "": nothing is kept
	// ReadOnly leaves the file alone: of a tool beside the agent.
	ReadOnly bool
	Start    [16]byte // this start of the agent, as batches have it
	// Floors are times before which it cannot be: of certificates that the device
	// has, and of the program (see Built). The latest counts.
	Floors []time.Time
	Window time.Duration // see CertTime; 0: defaultWindow

	Read   func() kernel.Reading // nil: kernel.Read
	BootID string                // "" with Read nil: the kernel's
	Log    *slog.Logger          // nil: nothing is logged
}

// saveEvery is how often a newer time is written: it bounds what is not known of the
// end of a boot. The spool writes some hundred times as often.
const saveEvery = time.Hour

// A Clock is safe for use by several goroutines. It starts none.
type Clock struct {
	o    Options
	read func() kernel.Reading

	saving  sync.Mutex // held while the file is written
	unsaved bool       // the last write failed, which is logged once; of saving

	mu      sync.Mutex // guards the rest
	h       history    // the last boot is this one
	r       kernel.Reading
	mono    int64 // of r, and never less than before
	source  Source
	refused string        // why the bridge's time was not taken, "" if it was
	changed chan struct{} // closed and replaced when more is known
	saved   int64         // mono of the last write, or of the last try
	news    urgency
	asked   question
	certs   certs
	stamped anchor // the newest offset of this boot that readings have; At 0: none
	oldest  int64  // mono of the oldest reading since the last stamp; never: none
	sent    sent
}

// An urgency says how soon there is something to write.
type urgency uint8

const (
	nothing urgency = iota
	soon
	// The time is known, and well enough for batches that say no more than that. It is
	// written before them: after a kill they could not be put right, and those before
	// them could come to be after them.
	atOnce
)

// Source says who knows the time.
type Source string

// The sources.
const (
	None   Source = ""       // nobody: the clock was never known in this boot
	Kernel Source = "kernel" // a time service holds the wall clock
	Bridge Source = "bridge"
)

// Open reads what is kept in Options.Dir and returns a Clock. last is the newest
// batch in the spool, nil for none: it says up to when the boot before ran. Close
// must follow. A file that cannot be read is told and left out.
func Open(o Options, last []byte) *Clock {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	c := &Clock{o: o, read: o.Read, changed: make(chan struct{}), oldest: never}
	if c.read == nil {
		c.read = kernel.Read
		if c.o.BootID == "" {
			c.o.BootID = kernel.BootID()
		}
	}
	rec := &record{Version: fileVersion}
	if o.Dir != "" {
		kept, err := load(o.Dir)
		if err != nil {
			o.Log.Error("what was known of the time cannot be read, and is begun anew", "err", err)
		} else {
			rec = kept
		}
	}
	c.h = history{floor: rec.Floor, boots: rec.Boots}
	c.mu.Lock()
	c.ended(last)
	c.begin()
	c.look()
	known := c.kept()
	c.mu.Unlock()
	c.save(known)
	return c
}

// ended takes up how far a boot of before came, of its last batch.
func (c *Clock) ended(last []byte) {
	b, err := telemetry.Decode(last)
	if err != nil || (b.Time == telemetry.Time{}) {
		return
	}
	if i := c.bootOf(b.Boot); i >= 0 {
		_, to := monoOf(b)
		c.h.boots[i].Last = max(c.h.boots[i].Last, to)
	}
}

// begin makes this boot the last, or goes on with it after a restart of the agent.
// A clock that counts less than it did is another boot's, whatever its name.
func (c *Clock) begin() {
	c.r = c.read()
	c.mono = c.r.Boot.Milliseconds()
	start := hex.EncodeToString(c.o.Start[:])
	var floor int64
	for _, f := range c.o.Floors {
		floor = max(floor, f.UnixMilli())
	}
	n := len(c.h.boots)
	if n > 0 && c.o.BootID != "" && c.h.boots[n-1].ID == c.o.BootID && c.h.boots[n-1].Last <= c.mono {
		b := c.h.boots[n-1]
		b.Starts, b.Last = append(b.Starts, start), c.mono
	} else {
		b := &boot{ID: c.o.BootID, Starts: []string{start}, Last: c.mono}
		b.Guess = c.firstGuess(floor)
		c.h.boots = append(c.h.boots, b)
	}
	if b := c.now(); floor > c.h.lower(len(c.h.boots)-1, c.mono) {
		b.Floor, b.FloorAt = floor, c.mono
		if len(b.Anchors) == 0 {
			b.Guess = max(b.Guess, floor-c.mono)
		}
	}
	c.forget()
}

// forget drops the oldest boots and starts beyond what is kept: those of a device
// that restarts all the time.
func (c *Clock) forget() {
	for len(c.h.boots) > maxBoots {
		c.h.floor = max(c.h.floor, c.h.end(0))
		c.h.boots = c.h.boots[1:]
	}
	starts := 0
	for _, b := range slices.Backward(c.h.boots) {
		room := max(0, maxStarts-starts)
		b.Starts = b.Starts[max(0, len(b.Starts)-room):]
		starts += len(b.Starts)
	}
}

// Forget drops what is known of boots before this one: the spool is empty.
func (c *Clock) Forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.h.boots)
	c.h.floor = max(c.h.floor, c.h.end(n-2))
	c.h.boots = c.h.boots[n-1:]
}

// firstGuess is what this boot's clock is taken to be less than the wall's while
// nothing is known: by the wall clock, which a battery or a saved time may have
// set, but not before what was, or was guessed, at the end of the last boot.
func (c *Clock) firstGuess(floor int64) int64 {
	n := len(c.h.boots)
	guess := max(c.r.Wall.UnixMilli(), floor, c.h.end(n-1)+c.mono)
	if n > 0 {
		b := c.h.boots[n-1]
		end := b.Last + b.Guess
		if wall, _, ok := c.h.when(n-1, b.Last); ok {
			end = wall
		}
		guess = max(guess, end+c.mono)
	}
	return guess - c.mono
}

// now is this boot. mu is held.
func (c *Clock) now() *boot { return c.h.boots[len(c.h.boots)-1] }

// look reads the clocks and takes up what they say. mu is held.
func (c *Clock) look() {
	c.r = c.read()
	c.mono = max(c.mono, c.r.Boot.Milliseconds())
	b := c.now()
	b.Last = c.mono
	if !c.r.Synced {
		if c.source == Kernel {
			c.source = Bridge
			if len(b.Anchors) == 0 {
				c.source = None
			}
			c.logKnown("no time service holds the clock any more: it goes on by itself")
		}
		// Forward alone: a guess that goes back would put readings before those
		// that were taken before them.
		if len(b.Anchors) == 0 {
			b.Guess = max(b.Guess, min(c.r.Wall.UnixMilli()-c.mono, farthest))
		}
		return
	}
	a := anchor{At: c.mono, Offset: c.r.Wall.UnixMilli() - c.mono, Bound: c.r.MaxError.Milliseconds() + 1}
	if lo := c.h.lower(len(c.h.boots)-1, c.mono); a.At+a.Offset+a.Bound < lo && len(b.Anchors) == 0 {
		c.o.Log.Warn("the system's clock is held, and behind a time that was known before: that was wrong, or this is",
			"now", c.r.Wall, "known", time.UnixMilli(lo))
		c.h.floor, b.Floor = min(c.h.floor, a.At+a.Offset-a.Bound), 0
	}
	c.take(a, Kernel)
}

// take takes an anchor of this boot. It is news to others where nothing was known, or where
// what was known was worse by more than a clock that is looked at again makes it. mu is held.
func (c *Clock) take(a anchor, from Source) {
	b := c.now()
	fresh := len(b.Anchors) == 0
	before, bound, _ := c.h.when(len(c.h.boots)-1, c.mono)
	b.add(a, telemetry.PlainBound)
	if c.source != from {
		c.source = from
		c.logKnown("the time is known")
	}
	off := a.At + a.Offset - before
	if !fresh && max(off, -off) > bound+a.Bound+telemetry.PlainBound {
		c.o.Log.Warn("the time that is known has changed by more than it could", "source", string(from),
			"by", time.Duration(off)*time.Millisecond)
	}
	_, now, _ := c.h.when(len(c.h.boots)-1, c.mono)
	better := now <= bound-bound/4 || max(off, -off) > bound
	if fresh || bound > telemetry.PlainBound && better {
		c.news = max(c.news, soon)
		if fresh || now <= telemetry.PlainBound {
			c.news = atOnce
		}
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// logKnown logs what is known now.
func (c *Clock) logKnown(what string) {
	b := c.now()
	if len(b.Anchors) == 0 {
		return
	}
	wall, bound, _ := c.h.when(len(c.h.boots)-1, c.mono)
	c.o.Log.Info(what, "source", string(c.source), "now", time.UnixMilli(wall).UTC(),
		"error", time.Duration(bound)*time.Millisecond,
		"system_behind", time.UnixMilli(wall).Sub(c.r.Wall).Round(time.Millisecond))
}

// saveSoon is how soon after a write news is written: a time service that comes and
// goes must not wear the flash.
const saveSoon = 10 * time.Minute

// Close writes what is known. The Clock may still be used.
func (c *Clock) Close() {
	c.mu.Lock()
	c.look()
	known := c.kept()
	c.mu.Unlock()
	c.save(known)
}
