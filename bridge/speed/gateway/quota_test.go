package gateway

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// One owner has so many retained messages, by number and by bytes, over a
// restart too; what is too much is refused where the protocol has a word for it.
func TestRetainedPerOwner(t *testing.T) {
	fs := vfs.NewMem()
	var log bytes.Buffer
	conf := Config{MaxRetainedPerOwner: 2, MaxRetainedBytesPerOwner: 100, Log: slog.New(slog.NewTextHandler(&log, nil))}
	f := startDurable(t, conf, fs, start)
	retain := func(topic, payload string, qos byte) *packet.Publish {
		m := pub(topic, payload, qos, uint16(qos))
		m.Retain = true
		return m
	}
	ack := func(code byte) *packet.Ack { return &packet.Ack{Kind: packet.PUBACK, ID: 1, Reason: code} }
	a, other := f.clean5(t, "a"), f.clean5(t, "other")
	say := func(w *wire, m *packet.Publish, code byte) {
		t.Helper()
		w.send(m)
		w.want(ack(code))
	}
	say(a, retain("a/1", "x", 1), 0)
	say(a, retain("a/2", "x", 1), 0)
	say(a, retain("a/3", "x", 1), codeQuota)
	say(a, retain("a/2", "y", 1), 0)                              // in its own place
	say(a, retain("a/2", strings.Repeat("y", 200), 1), codeQuota) // but not so large
	say(other, retain("b/1", "x", 1), 0)
	say(other, retain("a/1", "theirs", 1), 0) // and so it is the other's
	say(a, retain("a/3", "x", 1), 0)
	say(a, retain("a/3", "", 1), 0)
	say(a, retain("a/4", "x", 1), 0)
	a.send(retain("a/5", "x", 2))
	a.want(&packet.Ack{Kind: packet.PUBREC, ID: 2, Reason: codeQuota})
	if st := f.Stats(); st.RefusedRetained != 3 || st.DroppedRetained != 0 {
		t.Errorf("%d refused, %d dropped", st.RefusedRetained, st.DroppedRetained)
	}
	f.leaves(t, a, "a")
	f.leaves(t, other, "other")
	f.stop()

	f = startDurable(t, conf, fs, start)
	old, sub := f.connect(t, "a"), f.connect(t, "sub")
	sub.subscribe("a/6", 1)
	old.send(retain("a/6", "seen", 1)) // MQTT 3.1.1 has no word for it
	old.want(ackOf(packet.PUBACK, 1))
	sub.want(pub("a/6", "seen", 1, 1))
	if st := f.Stats(); st.RefusedRetained != 0 || st.DroppedRetained != 1 {
		t.Errorf("%d refused, %d dropped", st.RefusedRetained, st.DroppedRetained)
	}
	if _, _, ok := f.Retained().Get("a/6"); ok {
		t.Error("it is kept")
	}
	if err := f.Check(&message.Message{Topic: "a/7", Payload: []byte("x"), Retain: true,
		Owner: "cert/a"}); !strings.Contains(fmt.Sprint(err), ErrQuota.Error()) {
		t.Errorf("by HTTPS: %v", err)
	}
	// another's stays, one's own is not true any more
	for topic, want := range map[string]string{"a/1": "theirs", "a/4": ""} {
		old.send(retain(topic, strings.Repeat("y", 200), 1))
		old.want(ackOf(packet.PUBACK, 1))
		if m, _, ok := f.Retained().Get(topic); ok != (want != "") || ok && string(m.Payload) != want {
			t.Errorf("%s: %v %v, want %q", topic, m, ok, want)
		}
	}
	f.stop()
	if n := strings.Count(log.String(), "no room for retained"); n != 5 ||
		!strings.Contains(log.String(), "principal=cert/a") {
		t.Errorf("%d warnings, want one at once of each kind and server, and what came since when it ends:\n%s", n,
			&log)
	}
}

// One owner has so many sessions that outlive their connection, over a restart
// too; those that end make room.
func TestSessionsPerOwner(t *testing.T) {
	fs := vfs.NewMem()
	f := startDurable(t, Config{MaxSessionsPerOwner: 2}, fs, start)
	who := func(c *Connect) string { return c.ClientID[:1] }
	f.policy.principal = who
	f.resume(t, "a1", false)
	a2 := f.resume(t, "a2", false)
	f.connect(t, "a3") // not one that is kept
	f.resume(t, "b1", false)
	refused := func(id string) {
		t.Helper()
		w := f.dial(t)
		w.send(&packet.Connect{Version: packet.V311, ClientID: id})
		w.want(&packet.Connack{Code: packet.Unavailable})
		w.wantEnd()
		w = f.five(t)
		w.send(&packet.Connect{Version: packet.V5, ClientID: id, Properties: number(packet.SessionExpiry, 60)})
		w.want(&packet.Connack{Code: codeQuota})
		w.wantEnd()
	}
	refused("a4")
	f.leaves(t, a2, "a2")
	refused("a4") // it is away, and kept
	f.stop()

	f = startDurable(t, Config{MaxSessionsPerOwner: 2}, fs, start)
	f.policy.principal = who
	refused("a4")
	f.resume(t, "a1", true)
	f.connect(t, "a2") // ends its session
	f.resume(t, "a4", false)
	refused("a5")
	if n := f.Stats().RefusedSessions; n != 4 {
		t.Errorf("%d refused", n)
	}
	// Another principal's client takes its place.
	f.policy.principal = func(*Connect) string { return "c" }
	f.resume(t, "a4", false)
	f.policy.principal = who
	f.resume(t, "a5", false)
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, m := f.owned["a"], f.owned["c"]; n != 2 || m != 1 || len(f.owned) != 3 {
		t.Errorf("%v", f.owned)
	}
}

// Each principal that is refused something is named at once, though another one
// was just before.
func TestEveryRefusedOwnerIsNamed(t *testing.T) {
	var log strings.Builder
	s := newServer(Config{Log: slog.New(slog.NewTextHandler(&log, nil)), MaxSessionsPerOwner: 1}, &policy{},
		routerFunc(func(*Client, *message.Message, func(error)) {}))
	for range 3 {
		for _, owner := range []string{"a", "b"} {
			s.owned[owner] = 1
			s.mu.Lock()
			if s.roomForSession(owner, nil) {
				t.Errorf("%s has room", owner)
			}
			s.mu.Unlock()
		}
	}
	s.refusals.Close()
	for _, want := range []string{"principal=a times=1\n", "principal=b times=1\n", "principal=a times=2\n",
		"principal=b times=2\n"} {
		if strings.Count(log.String(), want) != 1 {
			t.Errorf("want one of %q:\n%s", want, log.String())
		}
	}
}
