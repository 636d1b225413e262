package telemetry

import (
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
)

// PlainBound is the error, in ms, up to which a time stamp is right without
// another word: a batch of such a clock is of format version 1, and its records
// have no member more. A second is what records are looked at by; no rule of a
// weather or machine sensor asks for less.
const PlainBound = 1000

// maxBound is the largest bound, in ms: what a float64, and so a rule, holds.
const maxBound = 1 << 53

const (
	maxTimeBlock = 3 * binary.MaxVarintLen64

	// timeSpare is left free in a batch with a Time, so that it still fits when
	// its Time changes, and as a batch without one whose body is encoded anew.
	timeSpare = 2*binary.MaxVarintLen64 + 12
)

// OldestClock is a time, 2025-01-01 in epoch ms, that no clock can truly show any
// more: what lies before it is of a clock that was never set.
const OldestClock = 1_735_689_600_000

// A Time is what is known of the times of a batch, in ms.
type Time struct {
	// Anchor is the times less the device's monotonic clock (CLOCK_BOOTTIME of its
	// kernel, which counts from boot and while suspended): all times of a batch
	// were made with one, so no step of the wall clock lies between them.
	Anchor int64
	// Bound says how far the true times are from those stated, at most: 0 to
	// 2^53. With ClockUnknown they are so much earlier at most, and nothing says
	// how much later.
	Bound int64
}

// A timeBlock is a Time as it is encoded: the times of the body were made with
// anchor, and shift is to be added to them.
type timeBlock struct{ anchor, shift, bound int64 }

func (t timeBlock) of() Time { return Time{Anchor: t.anchor + t.shift, Bound: t.bound} }

func (t timeBlock) append(dst []byte) []byte {
	dst = binary.AppendUvarint(dst, zigzag(t.anchor))
	dst = binary.AppendUvarint(dst, zigzag(t.shift))
	return binary.AppendUvarint(dst, uint64(t.bound))
}

// read refuses one of zeros: such a batch is of version 1.
func (t *timeBlock) read(in []byte) (rest []byte, ok bool) {
	anchor, in, ok1 := uvarint(in)
	shift, in, ok2 := uvarint(in)
	bound, in, ok3 := uvarint(in)
	*t = timeBlock{unzigzag(anchor), unzigzag(shift), int64(bound)}
	return in, ok1 && ok2 && ok3 && bound <= maxBound && t.of() != Time{}
}

// shift adds ms to all times.
func (b *Batch) shift(ms int64) {
	if ms == 0 {
		return
	}
	for i := range b.Series {
		for j := range b.Series[i].Times {
			b.Series[i].Times[j] += ms
		}
	}
}

// Shifted returns a batch whose times are b's and ms. It shares all else with b.
func (b *Batch) Shifted(ms int64) *Batch {
	out := &Batch{Header: b.Header, Series: slices.Clone(b.Series)}
	for i := range out.Series {
		out.Series[i].Times = slices.Clone(out.Series[i].Times)
	}
	out.shift(ms)
	return out
}

// ErrNoTime is Retime's answer to a batch of format version 1: what its times were
// made of is not known.
var ErrNoTime = errors.New("telemetry: batch without a Time")

// Retime returns an encoded batch with another Time and clock state, so that its
// readings are at the device's monotonic clock and t.Anchor. The body stays as it
// is, so the result is the same batch to who knows it by its number. It is not
// longer than MaxBytes, if Append made src.
func Retime(src []byte, c Clock, t Time) ([]byte, error) {
	in, err := envelope(src)
	switch {
	case err != nil:
		return nil, err
	case in.head.Time == Time{}:
		return nil, ErrNoTime
	}
	in.head.Clock = c
	block := timeBlock{anchor: in.time.anchor, shift: t.Anchor - in.time.anchor, bound: min(max(t.Bound, 0), maxBound)}
	if block.of() == (Time{}) {
		block.bound = 1 // so that it is no batch of version 1: the shift would be lost
	}
	return appendEnvelope(make([]byte, 0, len(src)+maxTimeBlock), &in.head, in.flags, block, in.body), nil
}

// Plain returns an encoded batch in format version 1, which every bridge takes:
// its times are corrected, and what else its Time says is left out. One of version
// 1 is returned as it is.
func Plain(src []byte) ([]byte, error) {
	h, err := DecodeHeader(src)
	if err != nil || h.Time == (Time{}) {
		return src, err
	}
	b, err := Decode(src)
	if err != nil {
		return nil, err
	}
	b.Time = Time{}
	return Append(nil, b)
}

// A Doubt is what records say of their time stamps. The zero value is no doubt, and
// adds nothing. Otherwise a record has one or both of
//
//	"ts_error_ms":1500   the true time is within so many ms of ts
//	"clock":"unknown"    the device's clock was not set
//
// unless it has a value of that name: that stays.
type Doubt struct {
	unknown bool
	bound   int64 // ms; 0: none is known
	came    int64 // when the batch came, epoch ms; 0: no bound
}

// Doubt returns what the records of b say. came is when the batch was received,
// in epoch ms of a good clock, before which all readings were; 0 if there is none.
func (b *Batch) Doubt(came int64) Doubt {
	switch {
	case b.Time != (Time{}) && b.Clock == ClockSynced:
		if b.Time.Bound <= PlainBound {
			return Doubt{}
		}
		return Doubt{bound: b.Time.Bound}
	case b.Time != (Time{}):
		return Doubt{unknown: true, bound: b.Time.Bound, came: came}
	case b.Clock != ClockSynced && b.neverSet():
		return Doubt{unknown: true}
	}
	return Doubt{}
}

// neverSet says whether a batch of an agent of before has times that no clock that
// was set can show.
func (b *Batch) neverSet() bool {
	for i := range b.Series {
		if slices.ContainsFunc(b.Series[i].Times, func(t int64) bool { return t < OldestClock }) {
			return true
		}
	}
	return false
}

// append adds the members to a record of s at t.
func (d Doubt) append(dst []byte, s *Series, t int64) []byte {
	bound := d.bound
	if d.unknown {
		if bound = max(bound, d.came-t); d.came == 0 || d.bound == 0 {
			bound = 0 // nothing bounds one side
		}
	}
	has := func(name string) bool {
		return slices.ContainsFunc(s.Columns, func(c Column) bool { return c.Name == name })
	}
	if bound > 0 && !has("ts_error_ms") {
		dst = strconv.AppendInt(append(dst, `,"ts_error_ms":`...), bound, 10)
	}
	if d.unknown && !has("clock") {
		dst = append(dst, `,"clock":"unknown"`...)
	}
	return dst
}
