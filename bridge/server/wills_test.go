package server

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/customauth/customauthtest"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// A client whose rights end has no will published by the kick that this brings,
// on whatever way it came and in whatever form they end.
func TestWillsEndWithTheirRights(t *testing.T) {
	d := newService(t)
	cfg := configure(t)
	cfg.Authorizers = []config.Authorizer{{Name: "doors", URL: d.URL, SigningDisabled: true, Default: true}}
	b := start(t, cfg)
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	if got := watcher.subscribe("#"); got != 1 {
		t.Fatalf("%#x", got)
	}
	leaves := func(topic string, retained bool) func(*mqtt.ClientOptions) {
		return func(o *mqtt.ClientOptions) { o.SetWill(topic, `{"state":{"reported":{"x":1}}}`, 1, retained) }
	}
	n := uint64(0)
	// ended waits for the end of the client, whose will may not come.
	ended := func(name string, c *device) {
		t.Helper()
		c.ends()
		n++
		b.eventually(name+": its will is counted", func() bool { return b.gateway.Stats().RefusedWills == n })
		watcher.publish("marker", name)
		if got := watcher.next(); got != "marker "+name {
			t.Errorf("%s: %s", name, got)
		}
	}
	var err error
	addr := b.https.Addr().String()
	i := 0
	for name, end := range map[string]func(identity, string){
		"denied": func(_ identity, of string) {
			b.must("PUT", "/v1/policies/"+of, all("iot:*", "*"), nil)
		},
		"detached": func(id identity, of string) {
			b.must("DELETE", "/v1/policies/"+of+"/targets/"+id.CertificateID, "", nil)
		},
		"inactive": func(id identity, _ string) {
			b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"INACTIVE"}`, nil)
		},
		"revoked": func(id identity, _ string) {
			b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"REVOKED"}`, nil)
		},
		"deleted": func(id identity, _ string) {
			b.update(func(tx *registry.Tx) error {
				if err = tx.SetCertificateStatus(id.CertificateID, registry.Inactive); err != nil {
					return err
				}
				return tx.DeleteCertificate(id.CertificateID, true)
			})
		},
	} {
		for _, way := range []string{"ssl://" + b.MQTTAddr().String(), "wss://" + addr + "/mqtt"} {
			i++
			thing := fmt.Sprint("dev-", i)
			id := b.thing(thing, all("", ""))
			c := b.over(way, nil, id.tls(t), thing, leaves("$aws/things/"+thing+"/shadow/update", false))
			c.ok(c.Connect())
			end(id, "of-"+thing)
			ended(name+" "+way[:3], c)
		}
	}

	// RetainPublish and Publish are asked apart, as when the client was there.
	id := b.thing("keeper", all("", ""))
	c := b.over("ssl://"+b.MQTTAddr().String(), nil, id.tls(t), "keeper", leaves("kept", true))
	c.ok(c.Connect())
	b.must("PUT", "/v1/policies/of-keeper", all("iot:RetainPublish", "topic/kept"), nil)
	next := b.over("ssl://"+b.MQTTAddr().String(), nil, id.tls(t), "keeper")
	next.ok(next.Connect()) // takes over
	ended("retained", c)

	url, h := b.signed(sigv4test.Python1, time.Now())
	keyed := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, "keyed", leaves("gone", false))
	keyed.ok(keyed.Connect())
	b.changeKeys("[default]\naws_access_key_id=AKIANEW\naws_secret_access_key=new\n")
	ended("key", keyed)

	visitor := b.over("wss://"+addr+"/mqtt", http.Header{}, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"},
		"visitor", as("me", "open sesame"), leaves("gone", false))
	visitor.ok(visitor.Connect())
	d.Change(func(a *customauthtest.Answer) { a.Deny = true })
	var g interface{ Refresh(context.Context) bool } // of the authorizer's word
	b.gateway.Each(func(c *gateway.Client) {
		if c.ID() == "visitor" {
			g = c.Session().(interface{ Refresh(context.Context) bool })
		}
	})
	if g.Refresh(t.Context()) {
		t.Error("the authorizer says no, and the guest may stay")
	}
	// as Begin does
	b.gateway.Disconnect(func(c *gateway.Client) bool { return c.ID() == "visitor" }, gateway.ReasonForbidden)
	ended("guest", visitor)
	if doc, err := b.shadow.Do(t.Context(), "dev-1", "", "get", nil); err == nil {
		t.Errorf("a will changed a shadow: %s", doc)
	}
}

// A will that may be published is no request: a shadow does not change by it,
// though subscribers and rules see it (developer guide, "Device Shadow MQTT
// topics"). One that waits is asked about when its time comes.
func TestWillsAreNoRequests(t *testing.T) {
	b := start(t, configure(t))
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	const update = "$aws/things/dev/shadow/update"
	for _, f := range []string{"$aws/things/dev/shadow/#", "gone"} {
		if got := watcher.subscribe(f); got != 1 {
			t.Fatalf("%#x", got)
		}
	}
	id := b.thing("dev", all("", ""))
	leave := func(topic string, delay uint32) {
		t.Helper()
		nc, err := tls.Dial("tcp", b.MQTTAddr().String(), id.tls(t))
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		p := packet.Connect{Version: packet.V5, Clean: true, ClientID: "dev",
			Properties: packet.AppendNumber(nil, packet.SessionExpiry, 60),
			HasWill:    true, WillTopic: topic, WillPayload: []byte(`{"state":{"reported":{"x":1}}}`),
			WillProperties: packet.AppendNumber(nil, packet.WillDelay, delay)}
		if _, err := nc.Write(p.Append(nil, packet.V5)); err != nil {
			t.Fatal(err)
		}
		in := packet.NewReader(nc, 1024, 1<<16)
		if first, body, _, err := in.Next(); err != nil || packet.Type(first>>4) != packet.CONNACK || body[1] != 0 {
			t.Fatalf("%x %x %v", first, body, err)
		}
	}
	leave(update, 0)
	if got := watcher.next(); got != update+` {"state":{"reported":{"x":1}}}` {
		t.Error(got)
	}
	leave("gone", 1)
	if got := watcher.next(); got != `gone {"state":{"reported":{"x":1}}}` { // and no accepted
		t.Error(got)
	}
	if doc, err := b.shadow.Do(t.Context(), "dev", "", "get", nil); err == nil {
		t.Errorf("a will changed a shadow: %s", doc)
	}
	for _, own := range []string{telemetry.Topic, "$aws/certificates/create/json"} { // who is gone can't be answered
		d := b.over("ssl://"+b.MQTTAddr().String(), nil, id.tls(t), "dev", func(o *mqtt.ClientOptions) {
			o.SetWill(own, encoded(t, 1, "temp"), 1, false)
		})
		if err := d.wait(d.Connect()); err == nil || err.Error() != "not Authorized" {
			t.Errorf("a will for %s: %v", own, err)
		}
	}
	if st := b.ingest.Stats(); st.Readings != 0 {
		t.Errorf("%+v", st)
	}
	leave("gone", 1)
	b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"REVOKED"}`, nil)
	b.eventually("its will is counted", func() bool { return b.gateway.Stats().RefusedWills == 1 })
	watcher.publish("gone", "marker")
	if got := watcher.next(); got != "gone marker" {
		t.Error(got)
	}
}
