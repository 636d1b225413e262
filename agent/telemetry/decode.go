package telemetry

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"
	"sync"
)

// DecodeHeader checks the checksum of an encoded batch and returns its header
// without reading what it holds. Errors are those of Decode.
func DecodeHeader(src []byte) (Header, error) {
	in, err := envelope(src)
	return in.head, err
}

// BeginBytes is what Begins wants to see.
const BeginBytes = fixedBytes + binary.MaxVarintLen64

// Begins returns the sequence number of what looks like the begin of an encoded
// batch. It is for finding one in damaged bytes: no sum is checked, so most of
// what it accepts by chance is none.
func Begins(b []byte) (seq uint64, ok bool) {
	if len(b) <= fixedBytes || b[0] != version && b[0] != versionTimed || b[1]>>(clockShift+2) != 0 {
		return 0, false
	}
	seq, n := binary.Uvarint(b[fixedBytes:])
	return seq, n > 0
}

// An enveloped batch is one whose body is not read yet.
type enveloped struct {
	head  Header
	flags byte // without the clock's
	time  timeBlock
	body  []byte
	sized int // bytes of the batch, those of its Time left out
}

// envelope checks what surrounds the body.
func envelope(src []byte) (in enveloped, err error) {
	if len(src) > MaxBytes {
		return in, fmt.Errorf("%w: %d bytes, at most %d", ErrTooLarge, len(src), MaxBytes)
	}
	if len(src) < fixedBytes+1+crcBytes {
		return in, corrupt("too short")
	}
	if src[0] != version && src[0] != versionTimed {
		return in, fmt.Errorf("%w: %d", errVersion, src[0])
	}
	end := len(src) - crcBytes
	if crc32.Checksum(src[:end], castagnoli) != binary.LittleEndian.Uint32(src[end:]) {
		return in, corrupt("bad checksum")
	}
	h := &in.head
	in.flags = src[1] & flagZstd
	h.Clock = Clock(src[1] >> clockShift & 3)
	if src[1]>>(clockShift+2) != 0 || h.Clock > ClockUnsynced {
		return in, corrupt("unknown flags")
	}
	copy(h.Spool[:], src[2:])
	copy(h.Boot[:], src[18:])
	var ok bool
	if h.Seq, in.body, ok = uvarint(src[fixedBytes:end]); !ok {
		return in, corrupt("bad sequence number")
	}
	in.sized = len(src)
	if src[0] == versionTimed {
		rest, ok := in.time.read(in.body)
		if !ok {
			return in, corrupt("bad time")
		}
		in.sized -= len(in.body) - len(rest)
		in.body, h.Time = rest, in.time.of()
	}
	return in, nil
}

func corrupt(what string) error { return fmt.Errorf("%w: %s", errCorrupt, what) }

// A decoder is Decode's scratch memory.
type decoder struct {
	body  []byte
	ints  []int64
	local []definition
	rows  []int
	mask  []bool // of each column: has a presence bitmap
}

var decoders = sync.Pool{New: func() any { return new(decoder) }}

// Decode reads one batch. The result shares no memory with src. Decode may be
// called by several goroutines at once.
//
// Every limit is checked before the memory it bounds is allocated. Whatever
// Decode accepts, Append writes and Decode reads again as an equal batch,
// except where only a better compressor than ours fits it into MaxBytes, or a
// worse one leaves room for its weight. The times are as the batch's Time
// corrects them.
//
// The errors are errCorrupt, errVersion and ErrTooLarge; none is worth a retry
// with the same bytes.
func Decode(src []byte) (*Batch, error) {
	in, err := envelope(src)
	if err != nil {
		return nil, err
	}
	body := in.body
	d := decoders.Get().(*decoder)
	defer func() {
		clear(d.local)
		decoders.Put(d)
	}()
	if in.flags&flagZstd != 0 {
		var ok bool
		if d.body, ok = decompress(d.body, body); !ok {
			return nil, corrupt("bad zstd frame")
		}
		body = d.body
	} else if len(body) > maxBody {
		return nil, corrupt("body too long")
	}
	b := &Batch{Header: in.head}
	body, total, err := d.schema(body, b)
	if err != nil {
		return nil, err
	}
	if total.room = allowance(in.sized) - total.weight; total.room < 0 {
		return nil, tooDense(total.weight, in.sized)
	}
	if err := d.data(body, b, &total); err != nil {
		return nil, err
	}
	b.shift(in.time.shift)
	return b, nil
}

// totals is what the schema asks to allocate.
type totals struct {
	readings, columns, values          int
	floats, ints, bools, texts, absent int
	weight                             int // without that of texts
	room                               int // weight that is left for texts
	text                               int // bytes, counted while reading
}

// schema reads the series and their columns, all but the values.
func (d *decoder) schema(in []byte, b *Batch) (rest []byte, t totals, err error) {
	d.local, d.rows, d.mask = d.local[:0], d.rows[:0], d.mask[:0]
	series, in, ok := uvarint(in)
	if !ok || series > MaxSeries || series > uint64(len(in)) {
		return nil, t, corrupt("bad number of series")
	}
	if series > 0 {
		b.Series = make([]Series, series)
	}
	var all []Column
	for i := range b.Series {
		s := &b.Series[i]
		var name []byte
		var rows, columns uint64
		if name, in, ok = readString(in, maxSensor); !ok {
			return nil, t, corrupt("bad sensor name")
		}
		if s.Sensor = string(name); !validSensor(s.Sensor) {
			return nil, t, corrupt("bad sensor name")
		}
		if rows, in, ok = uvarint(in); !ok || rows == 0 || rows > MaxReadings {
			return nil, t, corrupt("bad number of readings")
		}
		if columns, in, ok = uvarint(in); !ok {
			return nil, t, corrupt("bad number of columns")
		}
		same := columns == columnsAlike && i > 0
		if same {
			columns = uint64(len(b.Series[i-1].Columns))
		} else if columns&1 != 0 || columns>>1 > MaxPerSeries || columns>>1 > uint64(len(in)) {
			return nil, t, corrupt("bad number of columns")
		} else {
			columns >>= 1
		}
		t.readings += int(rows)
		t.columns += int(columns)
		t.values += int(rows) * int(columns)
		if t.readings > MaxReadings || t.columns > MaxColumns || t.values > MaxValues {
			return nil, t, corrupt("more than a batch may hold")
		}
		d.rows = append(d.rows, int(rows))
		start := len(all)
		if all == nil {
			// Series are mostly alike, so a guess saves copies.
			all = make([]Column, 0, min(int(columns)*int(series), MaxColumns, 64+len(in)))
		}
		for k := range int(columns) {
			var c Column
			var mask bool
			if same {
				c, mask = b.Series[i-1].Columns[k], d.mask[len(d.mask)-int(columns)]
			} else if c, mask, in, err = d.column(in); err != nil {
				return nil, t, err
			} else if slices.ContainsFunc(all[start:], func(o Column) bool { return o.Name == c.Name }) {
				return nil, t, corrupt("column twice")
			}
			switch c.Kind {
			case Float:
				t.floats += int(rows)
			case Int:
				t.ints += int(rows)
			case Bool:
				t.bools += int(rows)
			case Text:
				t.texts += int(rows)
			}
			if mask {
				t.absent += int(rows)
			}
			d.mask = append(d.mask, mask)
			all = append(all, c)
		}
		t.weight += int(rows) * rowWeight(all[start:])
		if columns > 0 {
			s.Columns = all[start:len(all):len(all)]
		}
	}
	return in, t, nil
}

// column reads one column of the schema.
func (d *decoder) column(in []byte) (c Column, mask bool, rest []byte, err error) {
	field, in, ok := uvarint(in)
	if !ok {
		return c, false, nil, corrupt("bad column")
	}
	ref := field >> 1
	switch {
	case ref == 0:
		var name, unit []byte
		if name, in, ok = readString(in, maxName); ok {
			unit, in, ok = readString(in, maxUnit)
		}
		if !ok || len(in) == 0 {
			return c, false, nil, corrupt("bad column")
		}
		def := definition{string(name), string(unit), Kind(in[0])}
		in = in[1:]
		if def.valid() != nil {
			return c, false, nil, corrupt("bad column name, unit or kind")
		}
		d.local = append(d.local, def)
		ref = uint64(len(known) + len(d.local))
	case ref > uint64(len(known)+len(d.local)):
		return c, false, nil, corrupt("bad column reference")
	}
	var def *definition
	if ref <= uint64(len(known)) {
		def = &known[ref-1]
	} else {
		def = &d.local[ref-1-uint64(len(known))]
	}
	c.Name, c.Unit, c.Kind = def.name, def.unit, def.kind
	return c, field&refAbsent != 0, in, nil
}

// data reads the times and values, one allocation for each kind.
func (d *decoder) data(in []byte, b *Batch, t *totals) error {
	times := make([]int64, t.readings)
	floats := slab[float64](t.floats)
	ints := slab[int64](t.ints)
	bools := slab[bool](t.bools + t.absent)
	texts := slab[string](t.texts)
	var before []int64
	column, ok := 0, false
	for i := range b.Series {
		s := &b.Series[i]
		rows := d.rows[i]
		s.Times = cut(&times, rows)
		if in, ok = readTimes(in, s.Times, before); !ok {
			return corrupt("bad times")
		}
		before = s.Times
		for j := range s.Columns {
			c := &s.Columns[j]
			switch c.Kind {
			case Float:
				c.Floats = cut(&floats, rows)
			case Int:
				c.Ints = cut(&ints, rows)
			case Bool:
				c.Bools = cut(&bools, rows)
			case Text:
				c.Texts = cut(&texts, rows)
			}
			n := rows
			if d.mask[column] {
				c.Present = cut(&bools, rows)
				if in, n, ok = readBitmap(in, c.Present); !ok || n == rows {
					return corrupt("bad presence bitmap")
				}
			}
			column++
			if n == 0 {
				continue
			}
			if in, ok = d.values(in, c, n, t); !ok {
				return corrupt("bad values")
			}
		}
	}
	if len(in) != 0 {
		return corrupt("bytes after the end")
	}
	return nil
}

func slab[T any](n int) []T {
	if n == 0 {
		return nil
	}
	return make([]T, n)
}

// cut takes n elements off *s, so that an append to them copies.
func cut[T any](s *[]T, n int) []T {
	out := (*s)[:n:n]
	*s = (*s)[n:]
	return out
}

func readTimes(in []byte, dst, before []int64) (rest []byte, ok bool) {
	if len(in) > 0 && in[0]>>6 == orderBeside {
		k := in[0] & 63
		if len(before) != len(dst) || k == riceScaled {
			return nil, false
		}
		if in, ok = readStream(1<<6|k, in[1:], dst); ok {
			for i := range dst {
				dst[i] += before[i]
			}
		}
		return in, ok
	}
	if in, ok = readInts(in, dst); ok && len(before) > 0 {
		for i := range dst {
			dst[i] += before[0]
		}
	}
	return in, ok
}

// values reads the n present values of c and moves them to their rows.
func (d *decoder) values(in []byte, c *Column, n int, t *totals) (rest []byte, ok bool) {
	if c.Kind == Int {
		in, ok = readInts(in, c.Ints[:n])
		spread(c.Ints, n, c.Present)
		return in, ok
	}
	if len(in) == 0 {
		return nil, false
	}
	mode := in[0]
	in = in[1:]
	switch c.Kind {
	case Float:
		d.ints = sized(d.ints, n)
		in, ok = readFloats(in, mode, c.Floats[:n], d.ints)
		spread(c.Floats, n, c.Present)
	case Bool:
		in, ok = readBools(in, mode, c.Bools[:n])
		spread(c.Bools, n, c.Present)
	case Text:
		in, ok = d.readTexts(in, mode, c.Texts[:n], t)
		spread(c.Texts, n, c.Present)
	}
	return in, ok
}

// spread moves the first n of v to the rows that are present and makes the
// others zero.
func spread[T any](v []T, n int, present []bool) {
	if present == nil {
		return
	}
	var zero T
	for i := len(v) - 1; i >= 0; i-- {
		if !present[i] {
			v[i] = zero
			continue
		}
		n--
		v[i] = v[n]
	}
}

func readBools(in []byte, mode byte, dst []bool) (rest []byte, ok bool) {
	switch mode {
	case boolFalse:
		return in, true
	case boolTrue:
		for i := range dst {
			dst[i] = true
		}
		return in, true
	case boolBitmap:
		in, _, ok = readBitmap(in, dst)
		return in, ok
	}
	return nil, false
}

func readString(in []byte, limit int) (s, rest []byte, ok bool) {
	n, in, ok := uvarint(in)
	if !ok || n > uint64(limit) || n > uint64(len(in)) {
		return nil, nil, false
	}
	return in[:n], in[n:], true
}

// readTexts fills dst, which holds at least one element, from one string per
// column, so that a column of texts is one allocation.
func (d *decoder) readTexts(in []byte, mode byte, dst []string, t *totals) (rest []byte, ok bool) {
	n := uint64(len(dst))
	if mode == textDict {
		if n, in, ok = uvarint(in); !ok || n == 0 || n > uint64(len(dst)) {
			return nil, false
		}
	} else if mode != textPlain {
		return nil, false
	}
	end := in
	for range n {
		if _, end, ok = readString(end, MaxText); !ok {
			return nil, false
		}
	}
	blob := string(in[:len(in)-len(end)])
	for i := range n {
		size, after, _ := uvarint(in)
		in = after[size:]
		at := len(blob) - (len(in) - len(end))
		dst[i] = blob[at-int(size) : at]
	}
	if mode == textDict {
		d.ints = sized(d.ints, len(dst))
		if in, ok = readInts(in, d.ints); !ok {
			return nil, false
		}
		words := append([]string(nil), dst[:n]...)
		for i, k := range d.ints {
			if k < 0 || k >= int64(n) {
				return nil, false
			}
			dst[i] = words[k]
		}
	}
	for _, s := range dst {
		t.text += len(s)
	}
	return in, t.text <= min(MaxTexts, t.room)
}
