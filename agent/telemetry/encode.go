package telemetry

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// The envelope's sizes, and the flags of its second byte.
const (
	version      = 1
	versionTimed = 2 // a Time follows the sequence number

	maxBody    = 512 << 10 // bytes of the body before compression
	fixedBytes = 2 + 16 + 16
	crcBytes   = 4

	flagZstd   = 1 << 0
	clockShift = 1

	columnsAlike = 1 // instead of twice the number of columns: those of the series before

	refAbsent = 1 << 0 // of a column's reference: its data begin with a presence bitmap
)

// The modes of bool and text columns.
const (
	boolFalse = iota
	boolTrue
	boolBitmap

	textDict  = 0
	textPlain = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An encoder is Append's scratch memory.
type encoder struct {
	body     []byte
	packed   []byte
	ints     []int64
	res, try []uint64
	xor      []byte
	floats   []float64
	sparse   []int64
	bools    []bool
	texts    []string
	dict     map[string]int64
	local    map[definition]uint64
}

var encoders = sync.Pool{New: func() any {
	return &encoder{dict: make(map[string]int64), local: make(map[definition]uint64)}
}}

// Append encodes b after dst and returns the longer slice: format version 1, or
// 2 if the batch has a Time, the body compressed with zstd where that is smaller.
// It keeps no reference to b or dst and may be called by several goroutines at once.
//
// A b that breaks the rules of its fields is errInvalid, one beyond MaxBytes or
// the limits on what a batch holds ErrTooLarge; dst then comes back unchanged.
// One that packs too well is ErrTooLarge too (see freeWeight): its Halves, or
// theirs, are not, for one reading always has room.
// What absent values hold is not kept.
func Append(dst []byte, b *Batch) ([]byte, error) {
	weight, err := b.check()
	if err != nil {
		return dst, err
	}
	e := encoders.Get().(*encoder)
	defer e.free()
	e.appendSchema(b)
	var before []int64
	for i := range b.Series {
		s := &b.Series[i]
		e.appendTimes(s.Times, before)
		before = s.Times
		for j := range s.Columns {
			e.appendColumn(&s.Columns[j])
		}
	}
	if len(e.body) > maxBody {
		return dst, fmt.Errorf("%w: body of %d bytes, at most %d", ErrTooLarge, len(e.body), maxBody)
	}
	flags, body := byte(0), e.body
	around := fixedBytes + varintLen(b.Seq) + crcBytes
	spare := 0 // that Retime and Plain may need
	if b.Time != (Time{}) {
		spare = timeSpare
	}
	if packed, ok := e.compress(); ok && weight <= allowance(around+len(packed)-spare) {
		flags, body = flagZstd, packed
	}
	size := around + len(body)
	if weight > allowance(size-spare) {
		return dst, tooDense(weight, size-spare)
	}
	if size+spare > MaxBytes {
		return dst, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, size, MaxBytes-spare)
	}
	t := timeBlock{anchor: b.Time.Anchor, bound: b.Time.Bound}
	return appendEnvelope(dst, &b.Header, flags, t, body), nil
}

// appendEnvelope appends a batch of a body that is encoded.
func appendEnvelope(dst []byte, h *Header, flags byte, t timeBlock, body []byte) []byte {
	start := len(dst)
	format := byte(version)
	if t != (timeBlock{}) {
		format = versionTimed
	}
	dst = append(dst, format, flags|byte(h.Clock)<<clockShift)
	dst = append(dst, h.Spool[:]...)
	dst = append(dst, h.Boot[:]...)
	dst = binary.AppendUvarint(dst, h.Seq)
	if format == versionTimed {
		dst = t.append(dst)
	}
	dst = append(dst, body...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// free puts e back without references to the caller's strings.
func (e *encoder) free() {
	clear(e.dict)
	clear(e.local)
	clear(e.texts)
	e.body = e.body[:0]
	encoders.Put(e)
}

// check reports what Decode would refuse, or returns the batch's weight.
func (b *Batch) check() (weight int, err error) {
	if b.Clock > ClockUnsynced {
		return 0, fmt.Errorf("%w: clock state %d", errInvalid, b.Clock)
	}
	if b.Time.Bound < 0 || b.Time.Bound > maxBound {
		return 0, fmt.Errorf("%w: bound of %d ms", errInvalid, b.Time.Bound)
	}
	var readings, columns, values, texts int
	for i := range b.Series {
		s := &b.Series[i]
		if !validSensor(s.Sensor) {
			return 0, fmt.Errorf("%w: sensor name %.70q", errInvalid, s.Sensor)
		}
		if len(s.Times) == 0 {
			return 0, fmt.Errorf("%w: sensor %s: no readings", errInvalid, s.Sensor)
		}
		readings += len(s.Times)
		columns += len(s.Columns)
		values += len(s.Times) * len(s.Columns)
		for j := range s.Columns {
			c := &s.Columns[j]
			if err := c.definition().valid(); err != nil {
				return 0, fmt.Errorf("%w: sensor %s: %w", errInvalid, s.Sensor, err)
			}
			if c.rows() != len(s.Times) || c.Present != nil && len(c.Present) != len(s.Times) {
				return 0, fmt.Errorf("%w: sensor %s: column %s: %d values for %d times", errInvalid, s.Sensor, c.Name,
					c.rows(), len(s.Times))
			}
			for k := range j {
				if s.Columns[k].Name == c.Name {
					return 0, fmt.Errorf("%w: sensor %s: column %s twice", errInvalid, s.Sensor, c.Name)
				}
			}
			if c.Kind == Text {
				for k, t := range c.Texts {
					if c.Present != nil && !c.Present[k] {
						continue
					}
					texts += len(t)
					if len(t) > MaxText {
						return 0, fmt.Errorf("%w: sensor %s: column %s: text of %d bytes, at most %d", errInvalid,
							s.Sensor, c.Name, len(t), MaxText)
					}
				}
			}
		}
		if len(s.Columns) > MaxPerSeries {
			return 0, fmt.Errorf("%w: sensor %s: %d columns, at most %d", ErrTooLarge, s.Sensor, len(s.Columns),
				MaxPerSeries)
		}
	}
	if len(b.Series) > MaxSeries || columns > MaxColumns || readings > MaxReadings || values > MaxValues ||
		texts > MaxTexts {
		return 0, fmt.Errorf("%w: %d series, %d columns, %d readings, %d values, %d bytes of text", ErrTooLarge,
			len(b.Series), columns, readings, values, texts)
	}
	return b.weight(texts), nil
}

// appendSchema writes what there is to know before the data: so a reader can
// check the limits and allocate once.
func (e *encoder) appendSchema(b *Batch) {
	e.body = binary.AppendUvarint(e.body, uint64(len(b.Series)))
	for i := range b.Series {
		s := &b.Series[i]
		e.body = appendString(e.body, s.Sensor)
		e.body = binary.AppendUvarint(e.body, uint64(len(s.Times)))
		if i > 0 && alike(s.Columns, b.Series[i-1].Columns) {
			e.body = append(e.body, columnsAlike)
			continue
		}
		e.body = binary.AppendUvarint(e.body, uint64(len(s.Columns))<<1)
		for j := range s.Columns {
			d := s.Columns[j].definition()
			ref := knownRef[d]
			if ref == 0 {
				ref = e.local[d]
			}
			field := ref << 1
			if absent(s.Columns[j].Present) {
				field |= refAbsent
			}
			e.body = binary.AppendUvarint(e.body, field)
			if ref != 0 {
				continue
			}
			e.local[d] = uint64(len(known) + len(e.local) + 1)
			e.body = append(appendString(appendString(e.body, d.name), d.unit), byte(d.kind))
		}
	}
}

// alike says whether two series have the same columns, as the schema sees them.
func alike(a, b []Column) bool {
	return slices.EqualFunc(a, b, func(x, y Column) bool {
		return x.definition() == y.definition() && absent(x.Present) == absent(y.Present)
	})
}

// appendTimes writes times, counted from the first of the series before or, if
// it has as many, each from its own: sensors are mostly read in turns.
func (e *encoder) appendTimes(times, before []int64) {
	e.ints = sized(e.ints, len(times))
	var base int64
	if len(before) > 0 {
		base = before[0]
	}
	for i, t := range times {
		e.ints[i] = t - base
	}
	start := len(e.body)
	e.body = e.appendInts(e.body, e.ints)
	if len(before) != len(times) {
		return
	}
	for i, t := range times {
		e.ints[i] = t - before[i]
	}
	e.xor = e.appendInts(e.xor[:0], e.ints)
	if head := e.xor[0]; len(e.xor) < len(e.body)-start && head>>6 == 1 && head&63 != riceScaled {
		e.xor[0] |= orderBeside << 6
		e.body = append(e.body[:start], e.xor...)
	}
}

func absent(present []bool) bool { return slices.Contains(present, false) }

func (e *encoder) appendColumn(c *Column) {
	floats, ints, bools, texts := c.Floats, c.Ints, c.Bools, c.Texts
	if absent(c.Present) {
		e.body = appendBitmap(e.body, c.Present)
		floats = dense(&e.floats, floats, c.Present)
		bools = dense(&e.bools, bools, c.Present)
		texts = dense(&e.texts, texts, c.Present)
		ints = dense(&e.sparse, ints, c.Present)
		if len(floats)+len(ints)+len(bools)+len(texts) == 0 {
			return
		}
	}
	switch c.Kind {
	case Float:
		e.body = e.appendFloats(e.body, floats)
	case Int:
		e.body = e.appendInts(e.body, ints)
	case Bool:
		e.body = appendBools(e.body, bools)
	case Text:
		e.body = e.appendTexts(e.body, texts)
	}
}

// dense returns the elements of v that are present, in *buf.
func dense[T any](buf *[]T, v []T, present []bool) []T {
	out := (*buf)[:0]
	for i, x := range v {
		if present[i] {
			out = append(out, x)
		}
	}
	*buf = out
	return out
}

func appendBools(out []byte, v []bool) []byte {
	t, f := slices.Contains(v, true), slices.Contains(v, false)
	switch {
	case !t:
		return append(out, boolFalse)
	case !f:
		return append(out, boolTrue)
	}
	return appendBitmap(append(out, boolBitmap), v)
}

// appendTexts writes a dictionary and indexes when any text comes twice, else
// one text after the other.
func (e *encoder) appendTexts(out []byte, v []string) []byte {
	clear(e.dict)
	e.ints = sized(e.ints, len(v))
	for i, t := range v {
		n, ok := e.dict[t]
		if !ok {
			n = int64(len(e.dict))
			e.dict[t] = n
		}
		e.ints[i] = n
	}
	if len(e.dict) == len(v) {
		out = append(out, textPlain)
		for _, t := range v {
			out = appendString(out, t)
		}
		return out
	}
	out = binary.AppendUvarint(append(out, textDict), uint64(len(e.dict)))
	next := int64(0)
	for i, t := range v {
		if e.ints[i] == next {
			out = appendString(out, t)
			next++
		}
	}
	return e.appendInts(out, e.ints)
}
