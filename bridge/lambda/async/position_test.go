package async

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

func TestPosition(t *testing.T) {
	for _, p := range []Position{{}, {Cursor: 7}, {Cursor: 1, Open: []uint64{0}},
		{Cursor: 1 << 63, Open: []uint64{0, 1, 300, 1<<63 - 1}}} {
		got, err := ParsePosition(p.Encode())
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Errorf("%v: %v, %v", p, got, err)
		}
	}
	for name, data := range map[string][]byte{"empty": {}, "another format": {3, 1},
		"8 bytes":   {9, 0, 0, 0, 0, 0, 0, 0},
		"no cursor": {2}, "cut off": {2, 9, 0x80}, "twice": {2, 9, 1, 0}, "beyond the cursor": {2, 9, 9},
		"too many": append([]byte{2, 0xff, 0xff, 0x7f}, bytes.Repeat([]byte{1}, maxWaiting+1)...)} {
		if p, err := ParsePosition(data); err == nil {
			t.Errorf("%s: %v", name, p)
		}
	}
}

// The older format had the first offset that is not dealt with, and no others.
func TestOlderPosition(t *testing.T) {
	for _, data := range [][]byte{nil, binary.BigEndian.AppendUint64(nil, 0), binary.BigEndian.AppendUint64(nil, 513)} {
		want := Position{}
		if data != nil {
			want.Cursor = binary.BigEndian.Uint64(data)
		}
		if p, err := ParsePosition(data); err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%x: %v, %v", data, p, err)
		}
	}
}

// Whatever is read is written so that it is read as the same.
func FuzzPosition(f *testing.F) {
	f.Add([]byte{2, 9, 1, 3})
	f.Add([]byte{2, 9, 3, 1, 1, 1, 1, 1})
	f.Add(binary.BigEndian.AppendUint64(nil, 513))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePosition(data)
		if err != nil {
			return
		}
		again, err := ParsePosition(p.Encode())
		if err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%v: %v, %v", p, again, err)
		}
	})
}
