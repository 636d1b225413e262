package telemetry

import (
	"fmt"
	"math"
	"slices"
)

// A Value is one measured value, or none: the zero Value is absent.
type Value struct {
	kind Kind
	num  uint64
	text string
}

// FloatValue returns a Float of any float64, NaN and infinities included.
func FloatValue(f float64) Value { return Value{kind: Float, num: math.Float64bits(f)} }

// IntValue returns an Int.
func IntValue(i int64) Value { return Value{kind: Int, num: uint64(i)} }

// BoolValue returns a Bool.
func BoolValue(b bool) Value {
	if b {
		return Value{kind: Bool, num: 1}
	}
	return Value{kind: Bool}
}

// TextValue returns a Text.
func TextValue(s string) Value { return Value{kind: Text, text: s} }

// A Channel names one column of a sensor's readings.
type Channel struct {
	Name, Unit string
	Kind       Kind
}

// A Builder collects readings of several sensors for one batch. Its zero value
// is ready. It is not safe for concurrent use.
type Builder struct {
	series   []Series
	latest   map[string]int // sensor: index in series
	readings int
	columns  int
	values   int
	hint     int
}

// The most that the parts of a batch take: what sizeHint adds up. A time or
// integer is at worst an escaped Rice code of 86 bits, a float at worst 77 bits
// (XOR with a new window), a presence bit is one.
const (
	hintBatch  = fixedBytes + 10 + crcBytes + 3 + maxTimeBlock + timeSpare
	hintSeries = 1 + 3 + 2 + 31 // lengths, and the head of the times
	hintColumn = 2 + 3 + 31     // reference, lengths and kind, head of the stream
	hintTime   = 11
	hintNumber = 11
	hintText   = 2 + 4 // length, and index into the dictionary
)

// Add appends one reading: vals has one value for each of chs, absent ones
// included, in their order. t is in epoch ms and need not rise. Add keeps the
// strings but neither slice.
//
// A reading that might not fit into MaxBytes or the limits of a batch together
// with those already there is ErrTooLarge: take the batch, Reset and add it
// again. One that can't be in any batch is errInvalid. The Builder is unchanged
// then.
func (b *Builder) Add(sensor string, chs []Channel, t int64, vals []Value) error {
	if len(chs) != len(vals) {
		return fmt.Errorf("%w: sensor %s: %d values for %d channels", errInvalid, sensor, len(vals), len(chs))
	}
	i, ok := b.latest[sensor]
	fresh := !ok || !b.series[i].has(chs)
	columns, hint := 0, hintTime
	if fresh {
		if err := checkChannels(sensor, chs); err != nil {
			return err
		}
		columns = len(chs)
		hint += hintSeries + len(sensor)
		for _, c := range chs {
			hint += hintColumn + len(c.Name) + len(c.Unit)
		}
	}
	for j, v := range vals {
		switch v.kind {
		case 0:
			hint++
			continue
		case chs[j].Kind:
		default:
			return fmt.Errorf("%w: sensor %s: column %s: value of kind %d, want %d", errInvalid, sensor, chs[j].Name,
				v.kind, chs[j].Kind)
		}
		hint += hintNumber + 1
		if v.kind == Text {
			if len(v.text) > MaxText {
				return fmt.Errorf("%w: sensor %s: column %s: text of %d bytes, at most %d", errInvalid, sensor,
					chs[j].Name, len(v.text), MaxText)
			}
			hint += hintText + len(v.text)
		}
	}
	if b.sizeHint()+hint > MaxBytes || b.readings == MaxReadings || b.values+len(chs) > MaxValues ||
		fresh && (len(b.series) == MaxSeries || b.columns+columns > MaxColumns) {
		return fmt.Errorf("%w: full after %d readings", ErrTooLarge, b.readings)
	}
	if fresh {
		i = b.start(sensor, chs)
	}
	b.hint += hint
	b.readings++
	b.columns += columns
	b.values += len(chs)
	s := &b.series[i]
	s.Times = append(s.Times, t)
	for j := range vals {
		s.Columns[j].add(&vals[j], len(s.Times)-1)
	}
	return nil
}

// checkChannels is what Append would refuse of them.
func checkChannels(sensor string, chs []Channel) error {
	if !validSensor(sensor) {
		return fmt.Errorf("%w: sensor name %.70q", errInvalid, sensor)
	}
	if len(chs) > MaxPerSeries {
		return fmt.Errorf("%w: sensor %s: %d channels, at most %d", errInvalid, sensor, len(chs), MaxPerSeries)
	}
	for i, c := range chs {
		if err := (definition{c.Name, c.Unit, c.Kind}).valid(); err != nil {
			return fmt.Errorf("%w: sensor %s: %w", errInvalid, sensor, err)
		}
		for _, o := range chs[:i] {
			if o.Name == c.Name {
				return fmt.Errorf("%w: sensor %s: column %s twice", errInvalid, sensor, c.Name)
			}
		}
	}
	return nil
}

// start opens a series, in the memory of one that Reset left.
func (b *Builder) start(sensor string, chs []Channel) int {
	i := len(b.series)
	if i < cap(b.series) {
		b.series = b.series[:i+1]
	} else {
		b.series = append(b.series, Series{})
	}
	s := &b.series[i]
	s.Sensor = sensor
	s.Times = s.Times[:0]
	s.Columns = slices.Grow(s.Columns[:0], len(chs))[:len(chs)]
	for j, c := range chs {
		o := &s.Columns[j]
		o.Name, o.Unit, o.Kind = c.Name, c.Unit, c.Kind
		o.Present = nil
		o.Floats, o.Ints, o.Bools, o.Texts = o.Floats[:0], o.Ints[:0], o.Bools[:0], o.Texts[:0]
	}
	if b.latest == nil {
		b.latest = make(map[string]int)
	}
	b.latest[sensor] = i
	return i
}

func (s *Series) has(chs []Channel) bool {
	if len(s.Columns) != len(chs) {
		return false
	}
	for i := range chs {
		if c := &s.Columns[i]; c.Name != chs[i].Name || c.Unit != chs[i].Unit || c.Kind != chs[i].Kind {
			return false
		}
	}
	return true
}

// add appends v as the value of row.
func (c *Column) add(v *Value, row int) {
	if v.kind == 0 && c.Present == nil {
		c.Present = make([]bool, row, row+8)
		for i := range c.Present {
			c.Present[i] = true
		}
	}
	if c.Present != nil {
		c.Present = append(c.Present, v.kind != 0)
	}
	switch c.Kind {
	case Float:
		c.Floats = append(c.Floats, math.Float64frombits(v.num))
	case Int:
		c.Ints = append(c.Ints, int64(v.num))
	case Bool:
		c.Bools = append(c.Bools, v.num != 0)
	case Text:
		c.Texts = append(c.Texts, v.text)
	}
}

// Readings returns the number of readings added since the last Reset.
func (b *Builder) Readings() int { return b.readings }

// sizeHint returns the most bytes that Append can need for what was added. It
// is never above MaxBytes; real batches are some ten times smaller.
func (b *Builder) sizeHint() int { return hintBatch + b.hint }

// Batch returns what was added since the last Reset, the series in the order
// of their first readings. It shares the Builder's memory: it is valid until
// the next Add or Reset.
func (b *Builder) Batch(h Header) *Batch {
	return &Batch{Header: h, Series: b.series}
}

// Reset empties b and keeps its memory.
func (b *Builder) Reset() {
	for i := range b.series {
		for j := range b.series[i].Columns {
			clear(b.series[i].Columns[j].Texts)
		}
	}
	b.series = b.series[:0]
	clear(b.latest)
	b.readings, b.columns, b.values, b.hint = 0, 0, 0, 0
}
