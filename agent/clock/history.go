package clock

import "math"

// All times here are in ms: of the wall since 1970 ("wall"), of the machine's clock
// since its boot ("mono").

// never is the upper bound of what has none.
const never = math.MaxInt64

// PPM is by how many millionths the device's clock may run wrong while nothing holds
// it. Crystals of such boards are specified to within 30 to 50 at room temperature;
// 100 are allowed for heat and age, and as many again since the kernel may go on with
// a correction that is stale. A guess with a margin, not a datasheet's figure.
const PPM = 200

// drift is how far apart two clocks can be ms later.
func drift(ms int64) int64 {
	if ms < 0 {
		ms = -ms
	}
	return ms*PPM/1_000_000 + min(ms, 1)
}

// An anchor is a moment at which the time was known.
type anchor struct {
	At     int64 `json:"mono_ms"`
	Offset int64 `json:"offset_ms"` // wall less mono
	Bound  int64 `json:"error_ms"`
}

// A span is from when to when a moment can have been, in wall ms.
type span struct{ lo, hi int64 }

// at is what the anchor says of a moment of its boot.
func (a anchor) at(mono int64) span {
	e := a.Bound + drift(mono-a.At)
	return span{mono + a.Offset - e, mono + a.Offset + e}
}

// A boot is what is known of the machine's time from one boot to the next.
type boot struct {
	ID     string   `json:"boot"`    // the kernel's
	Starts []string `json:"starts"`  // of the agent in it: the boot ids of batches, hex
	Last   int64    `json:"last_ms"` // mono up to which it is known to have run
	Guess  int64    `json:"guess_ms"`
	// Floor is a time that it was past at FloorAt: of a start of the agent, by what the
	// device had then. It may have come while the machine ran, so it says little of
	// the boot's begin.
	Floor   int64    `json:"floor_ms,omitempty"`
	FloorAt int64    `json:"floor_mono_ms,omitempty"`
	Anchors []anchor `json:"known,omitempty"` // ascending
}

// known is what the anchors say together. Where they contradict each other the one
// counts that is the most exact at that moment, the later of two.
func (b *boot) known(mono int64) (s span, ok bool) {
	if len(b.Anchors) == 0 {
		return span{}, false
	}
	s = span{math.MinInt64, never}
	best := span{math.MinInt64 / 4, never / 4}
	for _, a := range b.Anchors {
		x := a.at(mono)
		s.lo, s.hi = max(s.lo, x.lo), min(s.hi, x.hi)
		if x.hi-x.lo <= best.hi-best.lo {
			best = x
		}
	}
	if s.lo > s.hi {
		return best, true
	}
	return s, true
}

// maxAnchors is how many anchors a boot keeps.
const maxAnchors = 8

// add takes a newer anchor. As long as the clock stays good, its anchors are the
// first and the best of its last: what lies between was stamped rightly. good is
// the error up to which it is.
func (b *boot) add(a anchor, good int64) {
	n := len(b.Anchors)
	if n == 0 {
		b.Anchors = append(b.Anchors, a)
		return
	}
	last := b.Anchors[n-1]
	then := last.at(a.At)
	expects := (then.hi - then.lo) / 2
	agree := a.At+a.Offset+a.Bound >= then.lo && a.At+a.Offset-a.Bound <= then.hi
	switch {
	case agree && a.Bound > expects:
		return // no news
	case agree && expects <= good && n >= 2 && b.joined(n-1, good):
		b.Anchors[n-1] = a
	default:
		b.Anchors = append(b.Anchors, a)
	}
	if len(b.Anchors) > maxAnchors { // the first and the newest bound the most
		b.Anchors = append(b.Anchors[:1], b.Anchors[2:]...)
	}
}

// joined says whether the clock was good all the time between an anchor and the one
// before.
func (b *boot) joined(i int, good int64) bool {
	s := b.Anchors[i-1].at(b.Anchors[i].At)
	return (s.hi-s.lo)/2 <= good
}

// A history is what is known of the machine's boots, in their order. Each is after
// the one before, which bounds the time of those in which it was never known.
type history struct {
	floor int64 // wall before which nothing in it was: the end of boots that are forgotten
	boots []*boot
}

// lower returns before when a moment of boot i was not.
func (h *history) lower(i int, mono int64) int64 {
	if i < 0 {
		return h.floor
	}
	b := h.boots[i]
	base := h.end(i-1) + mono - drift(mono)
	if b.Floor != 0 {
		base = max(base, b.Floor+mono-b.FloorAt-drift(mono-b.FloorAt))
	}
	s, ok := b.known(mono)
	switch {
	case !ok:
		return base
	case s.hi < base: // the boots contradict each other: its own anchors count
		return s.lo
	}
	return max(s.lo, base)
}

// end returns before when the end of boot i was not.
func (h *history) end(i int) int64 {
	if i < 0 {
		return h.floor
	}
	return h.lower(i, h.boots[i].Last)
}

// upper returns after when a moment of boot i was not, or never.
func (h *history) upper(i int, mono int64) int64 {
	b := h.boots[i]
	top := int64(never)
	if i+1 < len(h.boots) {
		if top = h.upper(i+1, 0); top != never {
			left := max(0, b.Last-mono)
			top += drift(left) - left
		}
	}
	s, ok := b.known(mono)
	switch {
	case !ok:
		return top
	case s.lo > top:
		return s.hi
	}
	return min(s.hi, top)
}

// onlyFloor says whether the lower bound of boot i is the floor's alone: nothing is
// known of the time that passed since.
func (h *history) onlyFloor(i int) bool {
	for _, b := range h.boots[:i+1] {
		if len(b.Anchors) > 0 {
			return false
		}
	}
	return true
}

// when estimates a moment of boot i, with the most that it is off. ok is false if
// nothing bounds it above. A boot whose end is bounded from both sides is put in
// the middle; one before which no time is known is put right before the next, as
// it will be after a reboot: its bound goes back to the floor all the same. So the
// order of boots is kept.
func (h *history) when(i int, mono int64) (wall, bound int64, ok bool) {
	lo, hi := h.lower(i, mono), h.upper(i, mono)
	if hi == never {
		return 0, 0, false
	}
	lo, hi = min(lo, hi), max(lo, hi)
	wall = lo + (hi-lo)/2
	if h.onlyFloor(i) {
		next, _, _ := h.when(i+1, 0) // it is bounded, since this one is
		wall = min(hi, next-max(0, h.boots[i].Last-mono))
	}
	return wall, max(hi-wall, wall-lo), true
}
