package telemetry

import "fmt"

// What a batch may become. A sensor that says the same for hours, at even
// times, takes no bytes at all, so limits on the batch alone would let 112 bytes
// become 16,384 records. A batch's weight is about what its readings are as
// JSON, and may be no more than freeWeight and weightPerByte for each encoded
// byte. What an agent gathers in one flush is far below that (a test has the
// traces); what is not is split by the spool, which costs a few bytes more.
const (
	freeWeight    = 32 << 10
	weightPerByte = 64

	readingWeight = 32 // {"ts":1700000000000} and the separators
	valueWeight   = 12 // beside the column's name; of a text also its bytes
)

// allowance is the weight that an encoded batch of size bytes may have.
func allowance(size int) int { return freeWeight + weightPerByte*size }

// rowWeight is the weight of one of the series' readings, without the bytes of
// its texts.
func rowWeight(columns []Column) int {
	w := readingWeight
	for i := range columns {
		w += valueWeight + len(columns[i].Name)
	}
	return w
}

// weight is the batch's, texts being the bytes of all its texts.
func (b *Batch) weight(texts int) int {
	for i := range b.Series {
		texts += len(b.Series[i].Times) * rowWeight(b.Series[i].Columns)
	}
	return texts
}

// Halves returns two batches that hold b's readings, each about half of them, in
// their order, for when Append finds b too large. Both share b's memory and have
// its header. ok is false if b has one reading or none.
func (b *Batch) Halves() (first, second *Batch, ok bool) {
	left := b.Readings() / 2
	if left == 0 {
		return nil, nil, false
	}
	first, second = &Batch{Header: b.Header}, &Batch{Header: b.Header}
	for i := range b.Series {
		s := &b.Series[i]
		n := min(left, len(s.Times))
		left -= n
		if n > 0 {
			first.Series = append(first.Series, s.rows(0, n))
		}
		if n < len(s.Times) {
			second.Series = append(second.Series, s.rows(n, len(s.Times)))
		}
	}
	return first, second, true
}

// rows returns readings from to to-1 of s.
func (s *Series) rows(from, to int) Series {
	part := Series{Sensor: s.Sensor, Times: s.Times[from:to], Columns: make([]Column, len(s.Columns))}
	for j, c := range s.Columns {
		if c.Present != nil {
			c.Present = c.Present[from:to]
		}
		switch c.Kind {
		case Float:
			c.Floats = c.Floats[from:to]
		case Int:
			c.Ints = c.Ints[from:to]
		case Bool:
			c.Bools = c.Bools[from:to]
		case Text:
			c.Texts = c.Texts[from:to]
		}
		part.Columns[j] = c
	}
	return part
}

func tooDense(weight, size int) error {
	return fmt.Errorf("%w: readings of weight %d in %d bytes, at most %d", ErrTooLarge, weight, size, allowance(size))
}
