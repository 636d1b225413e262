package server

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/customauth/customauthtest"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
)

// Who comes and goes is told on $aws/events, to subscribers and rules.
func TestLifecycleEvents(t *testing.T) {
	cfg := configure(t)
	cfg.MQTT.Events = true
	b := start(t, cfg)
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	if code := watcher.subscribe("$aws/events/+/+/dev"); code != 1 {
		t.Fatalf("0x%x", code)
	}
	id := b.thing("dev", all("", ""))
	d := b.connect(id, "dev")
	d.subscribe("a/b")
	d.ok(d.Unsubscribe("a/b"))
	d2 := b.connect(id, "dev") // takes over
	d.ends()
	d2.Disconnect(100)
	odd := b.connect(b.thing("odd", all("", "")), "odd+one") // gets none
	odd.Disconnect(0)

	type event struct {
		ClientID, EventType, SessionIdentifier, PrincipalIdentifier, DisconnectReason, IPAddress string
		ClientInitiatedDisconnect                                                                *bool
		VersionNumber                                                                            *int
		Topics                                                                                   []string
		Timestamp                                                                                int64
	}
	next := func(topic string) (e event) {
		t.Helper()
		name, text, _ := strings.Cut(watcher.next(), " ")
		if name != "$aws/events/"+topic+"/dev" {
			t.Fatalf("%s %s, want %s", name, text, topic)
		}
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			t.Fatal(err)
		}
		if e.ClientID != "dev" || e.PrincipalIdentifier != id.CertificateID ||
			time.Since(time.UnixMilli(e.Timestamp)) > time.Minute || len(e.SessionIdentifier) != 36 {
			t.Errorf("%s", text)
		}
		return e
	}
	first := next("presence/connected")
	if first.VersionNumber == nil || *first.VersionNumber != 0 || first.IPAddress != "127.0.0.1" ||
		first.EventType != "connected" || first.ClientInitiatedDisconnect != nil {
		t.Errorf("%+v", first)
	}
	for _, kind := range []string{"subscribed", "unsubscribed"} {
		if e := next("subscriptions/" + kind); e.EventType != kind || len(e.Topics) != 1 || e.Topics[0] != "a/b" ||
			e.SessionIdentifier != first.SessionIdentifier || e.VersionNumber != nil {
			t.Errorf("%+v", e)
		}
	}
	if e := next("presence/disconnected"); *e.ClientInitiatedDisconnect ||
		e.DisconnectReason != gateway.ReasonDuplicate || *e.VersionNumber != 0 || e.IPAddress != "" {
		t.Errorf("%+v", e)
	}
	second := next("presence/connected")
	if *second.VersionNumber != 1 || second.SessionIdentifier == first.SessionIdentifier {
		t.Errorf("%+v", second)
	}
	if e := next("presence/disconnected"); !*e.ClientInitiatedDisconnect ||
		e.DisconnectReason != gateway.ReasonClient || *e.VersionNumber != 1 {
		t.Errorf("%+v", e)
	}
}

// Sessions and retained messages are there when the bridge starts again.
func TestSessionsAfterRestart(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	sub, pub := b.thing("sub", all("", "")), b.thing("pub", all("", ""))
	s := b.dial(sub, "sub", false)
	s.ok(s.Connect())
	s.subscribe("t/#")
	s.Disconnect(100)
	p := b.connect(pub, "pub")
	p.publish("t/1", "queued")
	p.ok(p.Publish("t/2", 2, true, "kept"))
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}

	b = start(t, cfg)
	p = b.connect(pub, "pub")
	p.publish("t/3", "before it is back")
	s = b.dial(sub, "sub", false)
	tok := s.Connect()
	s.ok(tok)
	if !tok.(*mqtt.ConnectToken).SessionPresent() {
		t.Error("no session")
	}
	for _, want := range []string{"t/1 queued", "t/2 kept", "t/3 before it is back"} {
		if got := s.next(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	fresh := b.connect(pub, "fresh")
	fresh.subscribe("t/2")
	if got := fresh.next(); got != "t/2 kept" {
		t.Error(got)
	}
}

// A session is its principal's, or with mqtt.session_owner the client id's, and
// one principal has so many of them and of retained messages.
func TestWhatAPrincipalMayHave(t *testing.T) {
	for _, owner := range []string{"principal", "client"} {
		cfg := configure(t)
		cfg.MQTT.SessionOwner, cfg.MQTT.MaxPrincipalSessions, cfg.MQTT.MaxPrincipalRetained = owner, 1, 1
		b := start(t, cfg)
		mine, other := b.thing("mine", all("", "")), b.thing("other", all("", ""))
		resume := func(id identity, present bool) *device {
			t.Helper()
			d := b.dial(id, "dev", false)
			tok := d.Connect()
			d.ok(tok)
			if got := tok.(*mqtt.ConnectToken).SessionPresent(); got != present {
				t.Errorf("%s: session present: %v", owner, got)
			}
			return d
		}
		resume(mine, false).Disconnect(100)
		if err := b.dial(mine, "dev-2", false).Connect(); !err.WaitTimeout(patience) || err.Error() == nil {
			t.Error("a second session")
		}
		resume(mine, true).Disconnect(100)
		resume(other, owner == "client").Disconnect(100)

		own := b.requester("", mine.tls(t))
		if status, code, text := own.do("POST", "/topics/a?retain=true", "x"); status != 200 {
			t.Error(status, code, text)
		}
		if status, code, text := own.do("POST", "/topics/b?retain=true", "x"); status != 429 ||
			code != "ThrottlingException" {
			t.Error(status, code, text)
		}
		if status, code, text := b.requester("", other.tls(t)).do("POST", "/topics/b?retain=true", "x"); status != 200 {
			t.Error(status, code, text)
		}
	}
}

// A temporary key's sessions are those of the certificate that it was given to.
func TestOwnerOfKeys(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("dev", "")
	key := registry.TemporaryKey{ID: "ASIATEST", Role: "r", Certificate: id.CertificateID, Thing: "dev",
		Expires: time.Now().Add(time.Hour)}
	b.update(func(tx *registry.Tx) error { return tx.AddTemporaryKey(key) })
	for key, want := range map[string]string{key.ID: id.CertificateID, "AKIAOTHER": "key/AKIAOTHER"} {
		if got := b.authorizer.Key(httptest.NewRequest("GET", "/", nil), key).Owner(); got != want {
			t.Errorf("%s: %s", key, got)
		}
	}
}

// Whom an authorizer calls by a name is nobody that others know by it: not the
// certificate with this fingerprint, nor the guest of another authorizer.
func TestOwnersOfAKind(t *testing.T) {
	anything := customauthtest.Answer{Policy: all("", "")}
	doors, gates := customauthtest.New(t, anything), customauthtest.New(t, anything)
	cfg := configure(t)
	cfg.MQTT.MaxPrincipalRetained = 1
	cfg.Authorizers = []config.Authorizer{{Name: "doors", URL: doors.URL, TokenKey: "x-token", SigningDisabled: true},
		{Name: "gates", URL: gates.URL, SigningDisabled: true}}
	b := start(t, cfg)
	id := b.thing("mine", all("", ""))
	by := func(d *device, present bool) {
		t.Helper()
		tok := d.Connect()
		d.ok(tok)
		if got := tok.(*mqtt.ConnectToken).SessionPresent(); got != present {
			t.Errorf("session present: %v", got)
		}
		d.ok(d.Publish("kept/"+t.Name(), 1, true, "x"))
		d.Disconnect(100)
	}
	guest := func(d *customauthtest.Service, of, name string) *device {
		d.Change(func(a *customauthtest.Answer) { a.Principal = name })
		return b.over("ssl://"+b.MQTTAddr().String(), nil,
			&tls.Config{RootCAs: b.roots(), ServerName: "localhost", NextProtos: []string{"mqtt"}}, "dev",
			as("me?x-amz-customauthorizer-name="+of, "open sesame"), func(o *mqtt.ClientOptions) {
				o.SetCleanSession(false)
			})
	}
	for _, present := range []bool{false, true} {
		by(b.dial(id, "dev", false), present)
	}
	by(guest(doors, "doors", id.CertificateID), false)
	by(guest(doors, "doors", id.CertificateID), true)
	by(b.dial(id, "dev", false), false)
	by(guest(doors, "doors", "user1"), false)
	by(guest(gates, "gates", "user1"), false)
	by(guest(gates, "gates", "user1"), true)

	// Nor do they share what each may keep.
	own := b.requester("", id.tls(t))
	if status, code, text := own.do("POST", "/topics/a?retain=true", "x"); status != 200 {
		t.Error(status, code, text)
	}
	doors.Change(func(a *customauthtest.Answer) { a.Principal = id.CertificateID })
	r := b.requester("", nil)
	if status, code, text := r.do("POST", "/topics/b?retain=true&x-amz-customauthorizer-name=doors", "x", "x-token",
		"sesame"); status != 200 {
		t.Error(status, code, text)
	}
}

// A session that was stored before sessions had owners is the thing's whose name
// its client id is, else the first client's.
func TestWhoAdoptsOlderSessions(t *testing.T) {
	b := start(t, configure(t))
	pump, lamp := b.thing("pump-1", all("", "")), b.thing("lamp-1", all("", ""))
	b.must("POST", "/v1/things", `{"name":"bare"}`, nil)
	if err := b.registry.Update(func(tx *registry.Tx) error {
		for _, c := range tx.ThingCertificates("bare") {
			if err := tx.DetachThing("bare", c); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	b.connect(pump, "pump-1")
	b.connect(lamp, "lamp-1")
	sessions := map[string]gateway.Session{}
	b.gateway.Each(func(c *gateway.Client) { sessions[c.ID()] = c.Session() })
	for _, c := range []struct {
		client, id string
		want       bool
	}{{"pump-1", "pump-1", true}, {"lamp-1", "pump-1", false}, {"lamp-1", "no-thing", true}, {"lamp-1", "bare", true}} {
		if got := b.authorizer.Adopts(sessions[c.client], c.id); got != c.want {
			t.Errorf("%s adopts %s: %v", c.client, c.id, got)
		}
	}
}

// A bridge that stops tells of all whose connections it ends.
func TestStopTellsWhoLeaves(t *testing.T) {
	cfg := configure(t)
	cfg.MQTT.Events, cfg.Ingest.Shards = true, 1
	b := start(t, cfg)
	const clients = 20
	for i := range clients {
		name := fmt.Sprint("leaver-", i)
		b.connect(b.thing(name, all("", "")), name)
	}
	b = b.again(cfg)
	left := 0
	for _, r := range b.records(ingest.Stream) {
		if bytes.Contains(r.Data, []byte("$aws/events/presence/disconnected/leaver-")) {
			left++
		}
	}
	if left != clients {
		t.Errorf("%d clients are told to have left, want %d", left, clients)
	}
}
