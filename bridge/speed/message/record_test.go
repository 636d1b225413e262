package message

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"
)

func messages() []*Message {
	return []*Message{
		{},
		{Topic: "dt/pump/temp", Payload: []byte(`{"ts":1,"v":2}`), QoS: 1, ClientID: "pump", Thing: "pump",
			Principal: strings.Repeat("0a", 32), SourceIP: "192.168.1.9", Protocol: "mqtt", Time: 1700000000000,
			Hops: 2, Trace: Trace{1, 2}},
		{Topic: "x", QoS: 2, Retain: true, ClientID: "c", Principal: "someone", SourceIP: "2001:db8::1",
			Protocol: "wss", Time: -1, Hops: 255},
		{SourceIP: "::ffff:1.2.3.4", Protocol: "carrier pigeon"},
		{SourceIP: "fe80::1%eth0"},
		{SourceIP: "not an address", ClientID: "", Thing: "t"},
		{Topic: "5", Payload: []byte("p"), Properties: []byte{1, 1}},
		{Topic: "5", Properties: []byte{1, 1}, Expires: time.UnixMilli(1700000060123)},
	}
}

// same compares what was read with what was written.
func same(got, want *Message) bool {
	a, b := *got, *want
	if !a.Expires.Equal(b.Expires) {
		return false
	}
	a.Expires, b.Expires = time.Time{}, time.Time{}
	if len(a.Payload) == 0 && len(b.Payload) == 0 {
		a.Payload, b.Payload = nil, nil
	}
	return reflect.DeepEqual(a, b)
}

func TestRecordRoundTrip(t *testing.T) {
	for i, m := range messages() {
		b := m.AppendRecord([]byte("front"))
		got, err := Decode(b[5:])
		if err != nil {
			t.Errorf("%d: %v", i, err)
			continue
		}
		if !same(got, m) {
			t.Errorf("%d:\ngot  %+v\nwant %+v", i, got, m)
		}
		if name, err := RecordTopic(b[5:]); string(name) != m.Topic || err != nil {
			t.Errorf("%d: topic %q, %v", i, name, err)
		}
		// Every front part without payload is refused.
		for n := range len(b) - 5 - len(m.Payload) {
			if _, err := Decode(b[5 : 5+n]); err == nil {
				t.Errorf("%d: %d of %d bytes were accepted", i, n, len(b)-5)
			}
		}
	}
}

func TestPrincipals(t *testing.T) {
	for _, s := range []string{"", "ab", strings.Repeat("AB", 32), strings.Repeat("0f", 32), strings.Repeat("g", 64)} {
		m := &Message{Principal: s}
		got, err := Decode(m.AppendRecord(nil))
		if err != nil || got.Principal != s {
			t.Errorf("%q: %+v, %v", s, got, err)
		}
	}
	if n := len((&Message{Principal: hex.EncodeToString(make([]byte, 32))}).AppendRecord(nil)); n > 60 {
		t.Errorf("a certificate id costs %d bytes", n)
	}
}

// Records that the first bridges wrote are read, and written again byte for byte.
func TestRecordsOfFirstBridges(t *testing.T) {
	file, err := os.Open("testdata/version1.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	n, lines := 0, bufio.NewScanner(file)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		record, err := hex.DecodeString(lines.Text())
		if err != nil || !lines.Scan() {
			t.Fatal(err, lines.Err())
		}
		var want struct {
			Message
			Expires int64 // epoch ms
		}
		if err := json.Unmarshal(lines.Bytes(), &want); err != nil {
			t.Fatal(err)
		}
		if want.Expires != 0 {
			want.Message.Expires = time.UnixMilli(want.Expires)
		}
		n++
		got, err := Decode(record)
		if err != nil || !same(got, &want.Message) {
			t.Errorf("%x\ngot  %+v, %v\nwant %+v", record, got, err, &want.Message)
			continue
		}
		if again := got.AppendRecord(nil); string(again) != string(record) {
			t.Errorf("%s\nread  %x\nwrote %x", lines.Text(), record, again)
		}
	}
	if n != 11 {
		t.Errorf("%d records, want 11", n)
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
			if !same(&got, m) {
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

// Whatever Decode accepts, AppendRecord writes so that it reads the same.
func FuzzDecode(f *testing.F) {
	for _, m := range messages() {
		f.Add(m.AppendRecord(nil))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := Decode(in)
		name, topicErr := RecordTopic(in)
		if err != nil {
			return
		}
		if topicErr != nil || string(name) != m.Topic {
			t.Fatalf("%x\ntopic %q, %v, want %q", in, name, topicErr, m.Topic)
		}
		again, err := Decode(m.AppendRecord(nil))
		if err != nil || !same(m, again) {
			t.Fatalf("%x\n1st %+v\n2nd %+v, %v", in, m, again, err)
		}
	})
}
