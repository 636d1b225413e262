package gateway

import (
	"bytes"
	"maps"
	"reflect"
	"testing"
	"time"
)

func TestRecords(t *testing.T) {
	at := time.UnixMilli(1_700_000_000_123)
	r := sessionRecord{life: 1 << 63, expiry: time.Hour, away: at, subs: map[string]options{"a/#": newOptions(0x2f, 1, 1<<28-1), "$share/g/+": 2}}
	got, err := parseSession(r.append(nil))
	if err != nil || got.life != r.life || got.expiry != r.expiry || !got.away.Equal(at) || !maps.Equal(got.subs, r.subs) {
		t.Errorf("%+v %v", got, err)
	}
	if o := got.subs["a/#"]; o.qos() != 1 || !o.noLocal() || !o.retainAsPublished() || o.retainHandling() != 2 || o.id() != 1<<28-1 {
		t.Errorf("%x", uint64(o))
	}
	o := outbound{m: &Message{Topic: "t", Payload: []byte("p"), QoS: 2, Properties: []byte{1, 1}, Expires: at}, qos: 2, retain: true,
		ids: []uint32{1, 300}, group: &group{filter: "$share/g/t"}}
	back, id, name, err := parseQueued(appendQueued(nil, &o, 7))
	if err != nil || id != 7 || name != "$share/g/t" || !reflect.DeepEqual(back.ids, o.ids) || !back.retain || back.qos != 2 ||
		back.m.Topic != "t" || string(back.m.Payload) != "p" || !bytes.Equal(back.m.Properties, o.m.Properties) || !back.m.Expires.Equal(at) {
		t.Errorf("%+v %d %q %v", back, id, name, err)
	}
	o.m = &released
	if back, id, _, err = parseQueued(appendQueued(nil, &o, 9)); err != nil || back.m != &released || id != 9 {
		t.Errorf("%+v %d %v", back, id, err)
	}
	m := &Message{Topic: "r", Payload: []byte("p"), QoS: 1, Retain: true, Properties: []byte{1, 0}}
	kept, when, err := parseRetained("r", appendRetained(nil, m, at))
	if err != nil || !reflect.DeepEqual(kept, m) || !when.Equal(at) {
		t.Errorf("%+v %v %v", kept, when, err)
	}
	for _, c := range []struct {
		key    []byte
		prefix string
		tail   int
	}{{queueKey("id\xff/x", 5, 6), queuePrefix, 8}, {exchangeKey("id\xff/x", 5, 6), exchangePrefix, 2}} {
		if id, life, rest, err := parseOwned(c.key, c.prefix, c.tail); err != nil || id != "id\xff/x" || life != 5 || len(rest) != c.tail || rest[c.tail-1] != 6 {
			t.Errorf("%q: %q %d %x %v", c.key, id, life, rest, err)
		}
	}
	if _, _, _, err := parseOwned([]byte(queuePrefix+"short"), queuePrefix, 8); err == nil {
		t.Error("a short key")
	}
}

func FuzzRecords(f *testing.F) {
	o := outbound{m: &Message{Topic: "t", Payload: []byte("p")}, qos: 1, ids: []uint32{3}}
	f.Add(appendQueued(nil, &o, 0))
	f.Add((&sessionRecord{subs: map[string]options{"a": 1}}).append(nil))
	f.Add(appendRetained(nil, o.m, time.UnixMilli(1)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := parseSession(b); err == nil {
			if again, err := parseSession(s.append(nil)); err != nil || !maps.Equal(again.subs, s.subs) {
				t.Fatalf("%+v %v", again, err)
			}
		}
		if o, id, name, err := parseQueued(b); err == nil && o.m != &released {
			o.group = &group{filter: name}
			if again, id2, _, err := parseQueued(appendQueued(nil, &o, id)); err != nil || id2 != id || again.m.Topic != o.m.Topic || !bytes.Equal(again.m.Payload, o.m.Payload) {
				t.Fatalf("%+v %v", again, err)
			}
		}
		if m, at, err := parseRetained("t", b); err == nil {
			if again, _, err := parseRetained("t", appendRetained(nil, m, at)); err != nil || !bytes.Equal(again.Payload, m.Payload) {
				t.Fatalf("%+v %v", again, err)
			}
		}
	})
}
