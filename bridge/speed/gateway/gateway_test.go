package gateway

import (
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

func TestPublishSubscribe(t *testing.T) {
	f := start(t, Config{}, nil)
	a, b := f.connect(t, "a"), f.connect(t, "b")
	b.send(&packet.Subscribe{ID: 5, Filters: []packet.Filter{{Filter: "x/+", Options: 1}, {Filter: "x/#", Options: 2},
		{Filter: "y", Options: 0}}})
	b.want(&packet.Suback{ID: 5, Codes: []byte{1, 2, 0}})

	a.send(pub("x/1", "zero", 0, 0))
	b.want(pub("x/1", "zero", 0, 0)) // once, though two filters match
	a.send(pub("x/1", "one", 1, 11))
	a.want(ackOf(packet.PUBACK, 11))
	b.want(pub("x/1", "one", 1, 1))
	b.send(ackOf(packet.PUBACK, 1))
	b.ping()
	a.send(pub("x", "two", 2, 12))
	a.want(ackOf(packet.PUBREC, 12))
	a.send(pub("x", "two", 2, 12)) // PUBREC was lost, says the client
	a.want(ackOf(packet.PUBREC, 12))
	a.send(ackOf(packet.PUBREL, 12))
	a.want(ackOf(packet.PUBCOMP, 12))
	b.want(pub("x", "two", 2, 1))
	b.send(ackOf(packet.PUBREC, 1))
	b.want(ackOf(packet.PUBREL, 1))
	b.send(ackOf(packet.PUBCOMP, 1))
	a.send(pub("y", "down to 0", 1, 13))
	a.want(ackOf(packet.PUBACK, 13))
	b.want(pub("y", "down to 0", 0, 0))

	b.send(&packet.Unsubscribe{ID: 6, Filters: []string{"x/#", "x/+", "never/was"}})
	b.want(&packet.Unsuback{ID: 6})
	a.send(pub("x/1", "nobody", 0, 0), pub("y", "last", 0, 0))
	b.want(pub("y", "last", 0, 0))
	b.ping()
	await.True(t, "nothing is queued", func() bool { return f.Stats().QueueBytes == 0 })
	if st := f.Stats(); st.Clients != 2 || st.Subscriptions != 1 {
		t.Errorf("%+v", st)
	}
	b.send(&packet.Disconnect{Kind: packet.DISCONNECT})
	b.wantEnd()
	await.True(t, "b is gone", func() bool { return f.Stats().Sessions == 1 })
	if n := f.Stats().Subscriptions; n != 0 {
		t.Errorf("%d subscriptions are left", n)
	}
	f.stop()
	if st := f.Stats(); st.Disconnects[ReasonClient] != 1 || st.Disconnects[ReasonShutdown] != 1 || st.BytesIn == 0 ||
		st.BytesOut == 0 {
		t.Errorf("%+v", st)
	}
	if in, out := f.Stats().packets(packet.PUBLISH); in != 7 || out != 5 {
		t.Errorf("%d PUBLISH came, %d went", in, out)
	}
}

func TestReservedTopics(t *testing.T) {
	f := start(t, Config{}, nil)
	for filter, code := range map[string]byte{
		"$aws/things/t/shadow/#": 1, "$aws/#": 1, "#": 1, "+/x": 1,
		"$aws/events/#": 1, "$aws/certificates/create/json/accepted": 1, "$aws/x/#": 0x80, "$aws/rules": 0x80,
		"$aws/rules/r/x": 0x80, "$aws/rules/#": 0x80, "$tidemill/batch": 0x80, "$SYS/#": 0x80, "$aws": 0x80, "$": 0x80,
		"$share/g/x": 1, "$share/g/$aws/rules/r/x": 0x80, "$share/g/$SYS/#": 0x80,
	} {
		w := f.connect(t, "s")
		w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: filter, Options: 1}}})
		w.want(&packet.Suback{ID: 1, Codes: []byte{code}})
		w.send(&packet.Disconnect{Kind: packet.DISCONNECT})
		w.wantEnd()
	}
	for name, ok := range map[string]bool{
		"$aws/things/t/shadow/update": true, "$aws/rules/r/x": true, "$tidemill/batch": true,
		"$tidemill/x": false, "$SYS/x": false, "$aws": false, "$": false,
		"$aws/x": false, "$aws/events/presence/connected/t": false, "$aws/certificates/create/json/accepted": false,
		"$aws/provisioning-templates/x/provision/json/accepted": false,
		"$aws/things/t/shadow/update/accepted":                  false, "$aws/things/t/shadow/update/delta": false,
		"$aws/things/t/shadow/name/n/update/documents": false, "$aws/things/t/shadow/get/rejected": false,
		"$aws/things/t/jobs/$next/get": false, "$aws/things/t/jobs/notify": false,
		"$aws/things/t/defender/metrics/json": false, "$aws/things/t/x": false,
	} {
		for _, retain := range []bool{false, true} {
			w := f.connect(t, "p")
			p := pub(name, "", 1, 1)
			p.Retain = retain
			w.send(p)
			if ok && !retain {
				w.want(ackOf(packet.PUBACK, 1))
			} else {
				w.wantEnd()
			}
		}
	}
	if n := f.Stats().RefusedReserved; n != f.Stats().RefusedPublish || n < 30 {
		t.Errorf("%d publishes were refused for their topics, of %d refused", n, f.Stats().RefusedPublish)
	}
	// Nobody sees what goes to a rule or is a batch, nor $ with a wildcard.
	w, p := f.connect(t, "w"), f.connect(t, "p")
	for _, filter := range []string{"#", "+/#", "$aws/#", "$aws/+/+/shadow/get"} {
		w.subscribe(filter, 0)
	}
	p.send(pub("$aws/rules/r/x", "1", 0, 0), pub("$tidemill/batch", "2", 0, 0),
		pub("$aws/things/t/shadow/get", "3", 0, 0), pub("a", "4", 0, 0))
	w.want(pub("$aws/things/t/shadow/get", "3", 0, 0))
	w.want(pub("a", "4", 0, 0))
}

func TestPolicy(t *testing.T) {
	var events journal
	f := start(t, Config{}, nil, withEvents(events.event))
	for _, d := range []string{"publish secret", "retain a", "subscribe no/#", "receive r/2"} {
		f.policy.deny[d] = true
	}
	w := f.connect(t, "w")
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "no/#"}, {Filter: "r/#", Options: 1}}})
	w.want(&packet.Suback{ID: 1, Codes: []byte{0x80, 1}})
	w.send(pub("r/2", "hidden", 1, 1), pub("r/1", "seen", 0, 0), pub("r/2", "hidden", 0, 0), pub("r/3", "seen", 0, 0))
	got := []string{}
	for len(got) < 3 {
		p, err := w.next()
		if err != nil {
			t.Fatal(err)
		}
		if m, ok := p.(*packet.Publish); ok {
			got = append(got, string(m.Topic))
		} else {
			got = append(got, p.Type().String())
		}
	}
	if s := strings.Join(got, " "); strings.Contains(s, "r/2") || !strings.Contains(s, "r/1 r/3") &&
		!strings.Contains(s, "r/1 PUBACK r/3") {
		t.Errorf("got %s", s)
	}
	if n := f.policy.asked["receive r/2"]; n != 1 {
		t.Errorf("policy was asked %d times about one topic", n)
	}
	w.send(pub("a", "fine", 0, 0), &packet.Publish{Topic: []byte("a"), Retain: true, Payload: []byte("x")})
	w.wantEnd()
	await.True(t, "it ended", func() bool { return strings.Contains(events.String(), "disconnected w AUTH_ERROR") })
	w = f.connect(t, "v")
	w.send(pub("secret", "x", 1, 1), pub("open", "x", 1, 2))
	w.wantEnd()
	await.True(t, "both ended", func() bool { return f.Stats().Disconnects[ReasonAuth] == 2 })
	want := "connected w\ndisconnected w AUTH_ERROR\nconnected v\ndisconnected v AUTH_ERROR\n"
	await.True(t, "events", func() bool { return events.String() == want })
}

func TestConnectRefusals(t *testing.T) {
	f := start(t, Config{MaxConnections: 50}, nil)
	f.policy.deny["publish will/no"], f.policy.deny["retain will/noretain"] = true, true
	f.policy.connect = func(c *Connect) error {
		switch c.Username {
		case "auth":
			return ErrNotAuthorized
		case "bad":
			return ErrBadCredentials
		case "id":
			return ErrIdentifier
		case "panic":
			panic("authorizer")
		case "down":
			return ErrUnavailable
		}
		if c.ClientID == "" {
			t.Error("no client id was assigned")
		}
		return nil
	}
	user := func(name string) *packet.Connect {
		return &packet.Connect{Version: packet.V311, Clean: true, ClientID: "c", HasUsername: true, Username: name}
	}
	will := func(topic string, retain bool) *packet.Connect {
		return &packet.Connect{Version: packet.V311, Clean: true, ClientID: "c", HasWill: true, WillTopic: topic,
			WillRetain: retain}
	}
	for name, c := range map[string]struct {
		p    *packet.Connect
		code byte // 255: closed without an answer
	}{
		"accepted":            {user("ok"), 0},
		"assigned id":         {&packet.Connect{Version: packet.V311, Clean: true}, 0},
		"no id and a session": {&packet.Connect{Version: packet.V311}, 2},
		"128 bytes": {&packet.Connect{Version: packet.V311, Clean: true,
			ClientID: strings.Repeat("x", 128)}, 0},
		"129 bytes": {&packet.Connect{Version: packet.V311, Clean: true,
			ClientID: strings.Repeat("x", 129)}, 2},
		"reserved id":              {&packet.Connect{Version: packet.V311, Clean: true, ClientID: "$x"}, 2},
		"not authorized":           {user("auth"), 5},
		"bad password":             {user("bad"), 4},
		"id refused":               {user("id"), 2},
		"unavailable":              {user("down"), 3},
		"panic":                    {user("panic"), 255},
		"will allowed":             {will("will/yes", true), 0},
		"will not allowed":         {will("will/no", false), 5},
		"will may not be retained": {will("will/noretain", true), 5},
		"will reserved":            {will("$SYS/x", false), 5},
		"will with a wildcard":     {will("a/#", false), 255},
		"will without a topic":     {will("", false), 255},
		"larger than a CONNECT may be": {&packet.Connect{Version: packet.V311, Clean: true, ClientID: "c",
			HasWill: true, WillTopic: "a", WillPayload: make([]byte, 65535)}, 3},
	} {
		w := f.dial(t)
		w.send(c.p)
		if c.code == 255 {
			w.wantEnd()
			continue
		}
		got, err := w.next()
		if ack, ok := got.(*packet.Connack); !ok || ack.Code != c.code || ack.SessionPresent {
			t.Errorf("%s: got %+v, %v, want code %d", name, got, err, c.code)
		}
		if c.code != 0 {
			w.wantEnd()
		} else {
			w.ping()
		}
	}
	// Other versions.
	w := f.dial(t)
	w.bytes([]byte("\x10\x0e\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"))
	w.want(&packet.Connack{Code: 1})
	w.wantEnd()
	st := f.Stats()
	if st.Panics != 1 || st.Refused[2] != 4 || st.Refused[5] != 4 || st.Refused[255] != 3 {
		t.Errorf("%+v", st)
	}
}

func TestRetained(t *testing.T) {
	f := start(t, Config{MaxRetained: 3, MaxRetainedBytes: 100}, nil)
	p := f.connect(t, "p")
	retain := func(topic, payload string) *packet.Publish {
		return &packet.Publish{Topic: []byte(topic), Payload: []byte(payload), Retain: true, QoS: 1, ID: 1}
	}
	set := func(topic, payload string) {
		p.send(retain(topic, payload))
		p.want(ackOf(packet.PUBACK, 1))
	}
	live := f.connect(t, "live")
	live.subscribe("r/#", 0)
	set("r/1", "old")
	live.want(pub("r/1", "old", 0, 0)) // without RETAIN [MQTT-3.3.1-9]
	set("r/1", "new")
	set("r/2", "two")
	set("r/2", "")
	set("s", "s")
	set("t", "t")
	set("u", "no room for a fourth")
	set("t", strings.Repeat("x", 100)) // does not fit, and the old one is not true any more
	f.Deliver(&message.Message{Topic: "$aws/events/x", Payload: []byte("never kept"), Retain: true}, nil)

	w := f.connect(t, "w")
	w.subscribe("r/+", 1)
	got := &packet.Publish{Topic: []byte("r/1"), Payload: []byte("new"), Retain: true, QoS: 1, ID: 1}
	w.want(got)
	w.send(ackOf(packet.PUBACK, 1))
	for _, filter := range []string{"r/2", "t", "u", "$aws/events/x"} {
		w.subscribe(filter, 1)
	}
	w.ping()
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "s"}}})
	w.want(&packet.Suback{ID: 1, Codes: []byte{0}})
	w.want(&packet.Publish{Topic: []byte("s"), Payload: []byte("s"), Retain: true})
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "s"}}}) // again: sent again [MQTT-3.8.4-3]
	w.want(&packet.Suback{ID: 1, Codes: []byte{0}})
	w.want(&packet.Publish{Topic: []byte("s"), Payload: []byte("s"), Retain: true})
	if n := f.Stats().DroppedRetained; n != 2 {
		t.Errorf("%d were dropped, want 2", n)
	}
}

func TestAWSDialect(t *testing.T) {
	conf := AWSConfig()
	f := start(t, conf, nil)
	p, w := f.connect(t, "p"), f.connect(t, "w")
	p.send(&packet.Publish{Topic: []byte("r/1"), Payload: []byte("x"), Retain: true, QoS: 1, ID: 1})
	p.want(ackOf(packet.PUBACK, 1))
	w.subscribe("r/#", 1)
	p.send(pub("r", "not matched", 0, 0), pub("r/2", "y", 0, 0))
	w.want(pub("r/2", "y", 0, 0))
	w.subscribe("r/1", 1)
	w.want(&packet.Publish{Topic: []byte("r/1"), Payload: []byte("x"), Retain: true, QoS: 1, ID: 1})
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "q", Options: 2}, {Filter: "1/2/3/4/5/6/7/8"},
		{Filter: "1/2/3/4/5/6/7/8/9"},
		{Filter: strings.Repeat("x", 257)}, {Filter: "5"}, {Filter: "6"}, {Filter: "7"}, {Filter: "8"}, {Filter: "9"}}})
	w.want(&packet.Suback{ID: 1, Codes: []byte{1, 0, 0x80, 0x80, 0, 0, 0, 0, 0x80}})
	p.send(pub("$aws/rules/r/1/2/3/4/5/6/7/8", "the prefix does not count", 1, 2))
	p.want(ackOf(packet.PUBACK, 2))
	p.send(pub("q", "two", 2, 3))
	p.wantEnd()
}

// packets returns how many packets of one type came and went.
func (s Stats) packets(t packet.Type) (in, out uint64) { return s.PacketsIn[t], s.PacketsOut[t] }
