package sessions

import (
	"bytes"
	"encoding/hex"
	"maps"
	"reflect"
	"testing"
	"time"
)

var at = time.UnixMilli(1_700_000_000_123)

func TestRecords(t *testing.T) {
	r := &Record{Life: 1 << 63, Expiry: time.Hour, Away: at, Owner: "cert",
		Subs: map[string]uint64{"a/#": 1<<36 | 0x2d, "$share/g/+": 2}}
	got, err := parseRecord(r.append(nil))
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%+v %v", got, err)
	}
	q := &Queued{QoS: 2, Retain: true, PacketID: 7, Expires: at, Topic: "t", Properties: []byte{1, 1},
		Group: "$share/g/t", IDs: []uint32{1, 300},
		Payload: []byte("p")}
	if back, err := parseQueued(q.append(nil)); err != nil || !reflect.DeepEqual(back, q) {
		t.Errorf("%+v %v", back, err)
	}
	q = &Queued{QoS: 2, Released: true, PacketID: 9, Payload: []byte{}}
	if back, err := parseQueued(q.append(nil)); err != nil || !reflect.DeepEqual(back, q) {
		t.Errorf("%+v %v", back, err)
	}
	m := &Retained{Topic: "r", QoS: 1, At: at, Expires: at, Owner: "cert", Properties: []byte{1, 0},
		Payload: []byte("p")}
	if back, err := parseRetained("r", m.append(nil)); err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("%+v %v", back, err)
	}
	l := Life{"id\xff/x", 5}
	for _, c := range []struct {
		key    []byte
		prefix string
		tail   int
	}{{l.queueKey(6), queuePrefix, 8}, {l.acceptedKey(6), acceptedPrefix, 2}} {
		if got, rest, err := parseOwned(c.key, c.prefix, c.tail); err != nil || got != l || len(rest) != c.tail ||
			rest[c.tail-1] != 6 {
			t.Errorf("%q: %v %x %v", c.key, got, rest, err)
		}
	}
	if _, _, err := parseOwned([]byte(queuePrefix+"short"), queuePrefix, 8); err == nil {
		t.Error("a short key")
	}
}

// Records of releases before sessions and retained messages had owners.
func TestRecordsWithoutOwner(t *testing.T) {
	bytesOf := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	r, err := parseRecord(bytesOf("01" + "0000000000000005" + "80dddb01" + "f6a1abfef962" + "01" + "03612f23" + "01"))
	if err != nil || r.Life != 5 || r.Expiry != time.Hour || !r.Away.Equal(at) || r.Owner != "" ||
		!maps.Equal(r.Subs, map[string]uint64{"a/#": 1}) {
		t.Errorf("%+v %v", r, err)
	}
	m, err := parseRetained("r", bytesOf("01"+"01"+"f6a1abfef962"+"00"+"020100"+"70"))
	if err != nil || m.QoS != 1 || !m.At.Equal(at) || !m.Expires.IsZero() || m.Owner != "" ||
		!bytes.Equal(m.Properties, []byte{1, 0}) || string(m.Payload) != "p" {
		t.Errorf("%+v %v", m, err)
	}
}

func FuzzRecords(f *testing.F) {
	f.Add((&Queued{QoS: 1, Topic: "t", IDs: []uint32{3}, Payload: []byte("p")}).append(nil))
	f.Add((&Record{Subs: map[string]uint64{"a": 1}, Owner: "o"}).append(nil))
	f.Add((&Retained{At: time.UnixMilli(1), Owner: "o", Payload: []byte("p")}).append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseRecord(b); err == nil {
			if again, err := parseRecord(r.append(nil)); err != nil || again.Owner != r.Owner ||
				!maps.Equal(again.Subs, r.Subs) {
				t.Fatalf("%+v %v", again, err)
			}
		}
		if q, err := parseQueued(b); err == nil {
			if again, err := parseQueued(q.append(nil)); err != nil || again.PacketID != q.PacketID ||
				again.Topic != q.Topic || !bytes.Equal(again.Payload, q.Payload) {
				t.Fatalf("%+v %v", again, err)
			}
		}
		if m, err := parseRetained("t", b); err == nil {
			if again, err := parseRetained("t", m.append(nil)); err != nil || again.Owner != m.Owner ||
				!bytes.Equal(again.Payload, m.Payload) {
				t.Fatalf("%+v %v", again, err)
			}
		}
	})
}
