package field

import (
	"encoding/binary"
	"testing"
	"time"
)

// What the append functions write is read, and each record that is cut off is bad.
func TestReader(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	whole := AppendText(nil, "dt/é")
	whole = AppendTime(AppendTime(whole, at), time.Time{})
	whole = binary.AppendVarint(binary.AppendUvarint(whole, 300), -1)
	whole = append(whole, 7)
	whole = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint16(whole, 500), 1<<63)
	whole = AppendText(whole, []byte{})
	for n := range len(whole) + 1 {
		r := NewReader(whole[:n])
		name, first, none := r.Text(), r.Time(), r.Time()
		u, v, b, short, long, empty := r.Uvarint(), r.Varint(), r.Byte(), r.Uint16(), r.Uint64(), r.Text()
		if r.Bad() != (n < len(whole)) {
			t.Fatalf("%d of %d bytes: bad is %t", n, len(whole), r.Bad())
		}
		if n == len(whole) && (string(name) != "dt/é" || !first.Equal(at) || !none.IsZero() || u != 300 || v != -1 ||
			b != 7 ||
			short != 500 || long != 1<<63 || empty != nil || r.Left() != 0) {
			t.Error(string(name), first, none, u, v, b, short, long, empty, r.Left())
		}
	}
}

// No Reader yields bytes that an append could write behind, nor anything after
// a field was missing.
func TestReaderBounds(t *testing.T) {
	r := NewReader([]byte{1, 'a', 'b', 'c'})
	if p := r.Text(); cap(p) != 1 {
		t.Errorf("a text of capacity %d", cap(p))
	}
	if p := r.Take(3); p != nil || !r.Bad() || r.Left() != 0 || len(r.Rest()) != 0 {
		t.Errorf("%q, bad %t, %d bytes left", p, r.Bad(), r.Left())
	}
	r = NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 'x'}) // a length of 2⁶⁴-1
	if p := r.Text(); p != nil || !r.Bad() {
		t.Errorf("%q, bad %t", p, r.Bad())
	}
}
