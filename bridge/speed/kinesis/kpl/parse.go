package kpl

import (
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A message is an AggregatedRecord. What it holds in memory is at most some 20
// times its bytes.
type message struct {
	keys, hashes []string
	records      []Record
	keyOf        []uint32 // of each record, the index in keys
}

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
		case f.is(1, protowire.BytesType):
			m.keys = append(m.keys, string(f.bytes))
		case f.is(2, protowire.BytesType):
			if _, err := streams.ParseHash(string(f.bytes)); err != nil {
				return nil, false
			}
			m.hashes = append(m.hashes, string(f.bytes))
		case f.is(3, protowire.BytesType):
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
		case f.is(1, protowire.VarintType):
			key, hasKey = f.value, true
		case f.is(2, protowire.VarintType):
			hash, hasHash = f.value, true
		case f.is(3, protowire.BytesType):
			r.Data, hasData = f.bytes, true
		case f.is(4, protowire.BytesType):
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
		has = has || f.is(1, protowire.BytesType)
	}
	return has
}

// A field of a message.
type field struct {
	number protowire.Number
	wire   protowire.Type
	value  uint64 // of a varint
	bytes  []byte // of what has a length
}

func (f *field) is(number protowire.Number, wire protowire.Type) bool {
	return f.number == number && f.wire == wire
}

// next splits a field off b. A group is taken whole.
func next(b []byte) (f field, rest []byte, ok bool) {
	number, wire, n := protowire.ConsumeTag(b)
	if n < 0 {
		return f, nil, false
	}
	b = b[n:]
	if n = protowire.ConsumeFieldValue(number, wire, b); n < 0 {
		return f, nil, false
	}
	f = field{number: number, wire: wire}
	switch wire {
	case protowire.VarintType:
		f.value, _ = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		v, _ := protowire.ConsumeBytes(b)
		f.bytes = v[:len(v):len(v)]
	}
	return f, b[n:], true
}
