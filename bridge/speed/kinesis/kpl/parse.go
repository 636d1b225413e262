package kpl

import (
	"encoding/binary"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A message is an AggregatedRecord. What it holds in memory is at most some 20
// times its bytes.
type message struct {
	keys, hashes []string
	records      []Record
	keyOf        []uint32 // of each record, the index in keys
}

// Wire types of protobuf.
const (
	varint = 0
	fixed8 = 1
	length = 2
	begin  = 3 // a group
	end    = 4
	fixed4 = 5
)

// parse reads a message as protobuf has it: fields in any order, the last of
// one that can't repeat, unknown ones skipped. ok is false if it is none, or
// refers to keys that it has not.
func parse(b []byte) (m *message, ok bool) {
	m = &message{}
	var bodies [][]byte
	for len(b) > 0 {
		var f field
		if f, b, ok = next(b); !ok {
			return nil, false
		}
		switch {
		case f.is(1, length):
			m.keys = append(m.keys, string(f.bytes))
		case f.is(2, length):
			if _, err := streams.ParseHash(string(f.bytes)); err != nil {
				return nil, false
			}
			m.hashes = append(m.hashes, string(f.bytes))
		case f.is(3, length):
			bodies = append(bodies, f.bytes)
		}
	}
	m.records = make([]Record, len(bodies))
	m.keyOf = make([]uint32, len(bodies))
	for i, body := range bodies {
		if !m.record(i, body) {
			return nil, false
		}
	}
	return m, true
}

func (m *message) record(i int, b []byte) bool {
	var key, hash uint64
	var hasKey, hasHash, hasData bool
	r := &m.records[i]
	for len(b) > 0 {
		var f field
		var ok bool
		if f, b, ok = next(b); !ok {
			return false
		}
		switch {
		case f.is(1, varint):
			key, hasKey = f.value, true
		case f.is(2, varint):
			hash, hasHash = f.value, true
		case f.is(3, length):
			r.Data, hasData = f.bytes, true
		case f.is(4, length):
			if !tag(f.bytes) {
				return false
			}
		}
	}
	if !hasKey || !hasData || key >= uint64(len(m.keys)) || hasHash && hash >= uint64(len(m.hashes)) {
		return false
	}
	r.Key, m.keyOf[i] = m.keys[key], uint32(key)
	if hasHash {
		r.Hash = m.hashes[hash]
	}
	return true
}

// tag says whether b is a Tag: its key is required.
func tag(b []byte) bool {
	has := false
	for len(b) > 0 {
		var f field
		var ok bool
		if f, b, ok = next(b); !ok {
			return false
		}
		has = has || f.is(1, length)
	}
	return has
}

// A field of a message.
type field struct {
	number uint64
	wire   byte
	value  uint64 // of a varint
	bytes  []byte // of what has a length
}

func (f *field) is(number uint64, wire byte) bool { return f.number == number && f.wire == wire }

// maxDepth is how deep groups may be nested, as protobuf's own readers have it.
const maxDepth = 100

// next splits a field off b. A group is taken whole.
func next(b []byte) (f field, rest []byte, ok bool) { return nextAt(b, 0) }

func nextAt(b []byte, depth int) (f field, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 == 0 || tag>>3 >= 1<<29 {
		return f, nil, false
	}
	f, b = field{number: tag >> 3, wire: byte(tag & 7)}, b[n:]
	size := uint64(0)
	switch f.wire {
	case varint:
		if f.value, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		return f, b[n:], true
	case length:
		if size, n = binary.Uvarint(b); n <= 0 {
			return f, nil, false
		}
		b = b[n:]
	case fixed8:
		size = 8
	case fixed4:
		size = 4
	case begin:
		for depth < maxDepth {
			var in field
			if in, b, ok = nextAt(b, depth+1); !ok {
				return f, nil, false
			}
			if in.wire == end {
				return f, b, in.number == f.number
			}
		}
		return f, nil, false
	case end:
		return f, b, depth > 0
	default:
		return f, nil, false
	}
	if size > uint64(len(b)) {
		return f, nil, false
	}
	f.bytes = b[:size:size]
	return f, b[size:], true
}
