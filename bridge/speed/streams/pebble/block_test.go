package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func encode(h header, rs ...streams.Record) []byte {
	h.count = uint32(len(rs))
	b := make([]byte, headerLen)
	h.put(b)
	prev := ""
	for i := range rs {
		b = streams.AppendRecord(b, &rs[i], i == 0, prev)
		prev = rs[i].Key
	}
	return b
}

func TestDamagedBlocks(t *testing.T) {
	good := encode(header{time: 7, cum: 9}, streams.Record{Key: "a", Data: []byte("xyz")},
		streams.Record{Key: "a", Time: -3}, streams.Record{Key: "", Data: []byte{0}})
	rs, used, more, err := appendBlock(nil, good, false, 100, 0, 99, 1<<20)
	if err != nil || used != 6 || !more {
		t.Fatalf("%v, %d, %v", err, used, more)
	}
	same(t, "records", texts(rs), "[100 a=xyz 101 a= 102 =\x00]")
	same(t, "times", []int64{rs[0].Time, rs[1].Time, rs[2].Time}, "[7 -3 7]")
	for n := range len(good) {
		if _, _, _, err := appendBlock(nil, good[:n], false, 0, 0, 99, 1<<20); !errors.Is(err, streams.ErrCorrupt) {
			t.Errorf("%d bytes of %d: %v", n, len(good), err)
		}
	}
	for name, b := range map[string][]byte{
		"trailing byte": append(bytes.Clone(good), 0),
		"version":       append([]byte{9}, good[1:]...),
		"first key":     append(bytes.Clone(good[:headerLen]), 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"key length":    append(bytes.Clone(good[:headerLen]), 0xff, 0xff, 0xff, 0xff, 0xff, 0x01),
		"data length":   append(bytes.Clone(good[:headerLen]), 1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f),
	} {
		if _, _, _, err := appendBlock(nil, b, false, 0, 0, 99, 1<<20); !errors.Is(err, streams.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever is accepted as a whole says the same when written again and read in
// pieces.
func FuzzBlock(f *testing.F) {
	f.Add(encode(header{time: 7, cum: 9}, streams.Record{Key: "a", Data: []byte("xyz")},
		streams.Record{Key: "a", Time: -3}, streams.Record{Key: "b"}), uint16(1), uint16(4))
	f.Add(encode(header{}), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, in []byte, from, maxBytes uint16) {
		const first = 1000
		all, _, _, err := appendBlock(nil, in, false, first, 0, 1<<30, 1<<30)
		if err != nil {
			return
		}
		h, err := parseHeader(in)
		if err != nil {
			t.Fatal(err)
		}
		if int(h.count) != len(all) {
			t.Fatalf("%d records, header says %d", len(all), h.count)
		}
		again, _, _, err := appendBlock(nil, encode(h, all...), false, first, 0, 1<<30, 1<<30)
		if err != nil || fmt.Sprint(again) != fmt.Sprint(all) {
			t.Fatalf("%x: again %v, %v", in, again, err)
		}
		var pieces []streams.Record
		for at := uint64(first) + uint64(from)%uint64(len(all)+1); at < first+uint64(len(all)); {
			rs, used, _, err := appendBlock(nil, in, false, first, at, 3, int(maxBytes))
			if err != nil || len(rs) == 0 || len(rs) > 3 || len(rs) > 1 && used > int(maxBytes) {
				t.Fatalf("%x: from %d: %v, %d, %v", in, at, rs, used, err)
			}
			pieces = append(pieces, rs...)
			at += uint64(len(rs))
		}
		if want := all[len(all)-len(pieces):]; fmt.Sprint(pieces) != fmt.Sprint(want) {
			t.Fatalf("%x: pieces %v, want %v", in, pieces, want)
		}
	})
}
