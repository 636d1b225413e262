package async

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Position says what of a log is dealt with: all before Cursor but what is open.
type Position struct {
	Cursor uint64   // nothing from here on was read
	Open   []uint64 // offsets before Cursor, ascending, at most maxWaiting
}

// positionFormat is the first byte. That of the older format, 8 bytes, is 0: the first
// of a big endian offset.
const positionFormat = 2

// low is the first offset that is not dealt with.
func (p Position) low() uint64 {
	if len(p.Open) > 0 {
		return p.Open[0]
	}
	return p.Cursor
}

// Encode writes a position as FORMAT.md says.
func (p Position) Encode() []byte {
	data := binary.AppendUvarint([]byte{positionFormat}, p.Cursor)
	last := uint64(0)
	for _, o := range p.Open {
		data = binary.AppendUvarint(data, o-last)
		last = o
	}
	return data
}

// ParsePosition reads what Encode wrote, or a position of the older format; nil is
// where a log begins.
func ParsePosition(data []byte) (p Position, err error) {
	switch {
	case data == nil:
		return p, nil
	case len(data) == 8 && data[0] == 0:
		return Position{Cursor: binary.BigEndian.Uint64(data)}, nil
	case len(data) == 0 || data[0] != positionFormat:
		return p, fmt.Errorf("position of queued calls: %d bytes of an unknown format", len(data))
	}
	cursor, w := binary.Uvarint(data[1:])
	if w <= 0 {
		return p, errPosition
	}
	p.Cursor = cursor
	last := uint64(0)
	for data = data[1+w:]; len(data) > 0; data = data[w:] {
		var step uint64
		step, w = binary.Uvarint(data)
		o := last + step
		if w <= 0 || o < last || o >= cursor || step == 0 && len(p.Open) > 0 || len(p.Open) == maxWaiting {
			return Position{}, errPosition
		}
		p.Open = append(p.Open, o)
		last = o
	}
	return p, nil
}

var errPosition = errors.New("position of queued calls: it is damaged")
