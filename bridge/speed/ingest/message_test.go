package ingest

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func messages() []*Message {
	return []*Message{
		{},
		{Topic: "dt/pump/temp", Payload: []byte(`{"ts":1,"v":2}`), QoS: 1, ClientID: "pump", Thing: "pump",
			Principal: strings.Repeat("0a", 32), SourceIP: "192.168.1.9", Protocol: "mqtt", Time: 1700000000000, Hops: 2, Trace: [16]byte{1, 2}},
		{Topic: "x", QoS: 2, Retain: true, ClientID: "c", Principal: "someone", SourceIP: "2001:db8::1", Protocol: "wss", Time: -1, Hops: 255},
		{SourceIP: "::ffff:1.2.3.4", Protocol: "carrier pigeon"},
		{SourceIP: "fe80::1%eth0"},
		{SourceIP: "not an address", ClientID: "", Thing: "t"},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for i, m := range messages() {
		b := m.AppendRecord([]byte("front"))
		got, err := DecodeMessage(b[5:])
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if len(got.Payload) == 0 {
			got.Payload = nil
		}
		if !reflect.DeepEqual(got, m) {
			t.Errorf("%d:\ngot  %+v\nwant %+v", i, got, m)
		}
		if name, err := RecordTopic(b[5:]); string(name) != m.Topic || err != nil {
			t.Errorf("%d: topic %q, %v", i, name, err)
		}
		// Every front part without payload is refused.
		for n := range len(b) - 5 - len(m.Payload) {
			if _, err := DecodeMessage(b[5 : 5+n]); err == nil {
				t.Errorf("%d: %d of %d bytes were accepted", i, n, len(b)-5)
			}
		}
	}
}

// One decoder reads one record after another, without memory for those whose
// texts it knows, and without holding on to all that it has seen.
func TestDecoderUsedAgain(t *testing.T) {
	var d Decoder
	var got Message
	for round := range 3 {
		for i, m := range messages() {
			b := m.AppendRecord(nil)
			if err := d.Decode(&got, b); err != nil {
				t.Fatal(err)
			}
			if len(got.Payload) == 0 {
				got.Payload = nil
			}
			if !reflect.DeepEqual(&got, m) {
				t.Errorf("round %d, %d:\ngot  %+v\nwant %+v", round, i, got, m)
			}
			if err := d.Decode(&got, b[:10]); err == nil {
				t.Error("half a record was accepted")
			}
		}
	}
	b := messages()[1].AppendRecord(nil)
	if n := testing.AllocsPerRun(100, func() { _ = d.Decode(&got, b) }); n != 0 {
		t.Errorf("%v allocations for a record like one before", n)
	}
	for i := range 10 * maxTexts {
		m := Message{Topic: fmt.Sprint(i)}
		if err := d.Decode(&got, m.AppendRecord(nil)); err != nil || got.Topic != m.Topic {
			t.Fatal(got.Topic, err)
		}
	}
	if n := len(d.names.m); n > maxTexts {
		t.Errorf("%d texts are kept", n)
	}
}

// Whatever DecodeMessage accepts, AppendRecord writes so that it reads the same.
func FuzzDecodeMessage(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.AppendRecord(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := DecodeMessage(in)
		name, topicErr := RecordTopic(in)
		if err != nil {
			return
		}
		if topicErr != nil || string(name) != m.Topic {
			t.Fatalf("%x\ntopic %q, %v, want %q", in, name, topicErr, m.Topic)
		}
		again, err := DecodeMessage(m.AppendRecord(nil))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Fatalf("%x\n1st %+v\n2nd %+v, %v", in, m, again, err)
		}
	})
}

func TestIsJSON(t *testing.T) {
	for payload, want := range map[string]bool{
		`{"a":"°"}`: true, "21.5": true, "": false, "Online": false, "{\"a\":\"\x9b\"}": false, "\xff": false,
	} {
		if got := IsJSON([]byte(payload)); got != want {
			t.Errorf("%q: %t", payload, got)
		}
	}
}
