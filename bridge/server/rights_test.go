package server

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Whatever right ends, it ends with the update that ends it.
func TestRightsEndAtOnce(t *testing.T) {
	b := start(t, configure(t))
	watcher := b.thing("watcher", all("", ""))
	dev := b.thing("dev", all("", ""))
	w, d := b.connect(watcher, "watcher"), b.connect(dev, "dev")
	if code := w.subscribe("a/#"); code != 1 {
		t.Fatalf("subscribe: %d", code)
	}
	d.publish("a/1", "one") // the answer to this one is not remembered
	if got := w.next(); got != "a/1 one" {
		t.Errorf("got %q", got)
	}

	b.must("PUT", "/v1/policies/of-watcher", all("iot:Receive", "topic/a/1"), nil)
	d.publish("a/1", "two")
	d.publish("a/2", "three")
	if got := w.next(); got != "a/2 three" {
		t.Errorf("got %q, want what may be received", got)
	}
	b.must("PUT", "/v1/policies/of-watcher", all("iot:Subscribe", "topicfilter/b"), nil)
	if code := w.subscribe("b"); code != 0x80 {
		t.Errorf("subscribe was granted: %d", code)
	}
	b.must("PUT", "/v1/policies/of-dev", all("iot:Publish", "topic/a/1"), nil)
	d.publish("a/2", "four")
	if got := w.next(); got != "a/2 four" {
		t.Errorf("got %q", got)
	}
	_ = d.wait(d.Publish("a/1", 1, false, "five"))
	d.ends()

	d = b.connect(dev, "dev")
	b.must("DELETE", "/v1/policies/of-dev/targets/"+dev.CertificateID, "", nil)
	d.ends() // no policy lets it connect any more
	if err := d.wait(b.dial(dev, "dev", true).Connect()); err == nil {
		t.Error("connected without a policy")
	}
	if !w.IsConnected() {
		t.Error("the other client has lost its connection")
	}
}

func TestRevocation(t *testing.T) {
	b := start(t, configure(t))
	for _, end := range []struct {
		name string
		do   func(tx *registry.Tx, id string) error
	}{
		{"inactive", func(tx *registry.Tx, id string) error { return tx.SetCertificateStatus(id, registry.Inactive) }},
		{"revoked", func(tx *registry.Tx, id string) error { return tx.SetCertificateStatus(id, registry.Revoked) }},
		{"deleted", func(tx *registry.Tx, id string) error {
			if err := tx.SetCertificateStatus(id, registry.Inactive); err != nil {
				return err
			}
			return tx.DeleteCertificate(id, true)
		}},
		{"another's", func(tx *registry.Tx, id string) error { return tx.DetachThing("another-s", id) }},
	} {
		name := end.name
		if name == "another's" {
			name = "another-s" // the standard policy asks for the thing
		}
		id := b.thing(name, "")
		d := b.connect(id, name)
		d.publish("dt/"+name+"/x", "{}")
		b.update(func(tx *registry.Tx) error { return end.do(tx, id.CertificateID) })
		d.ends()
		if err := d.wait(b.dial(id, name, true).Connect()); err == nil {
			t.Errorf("%s: connected again", end.name)
		}
	}
	stranger := b.thing("stranger", "")
	other := elsewhere(t)
	stranger.Certificate, stranger.Key = string(other.CertPEM), string(other.KeyPEM)
	d := b.dial(stranger, "stranger", true)
	if err := d.wait(d.Connect()); err == nil {
		t.Error("a certificate that nobody registered may connect")
	}
}

// A persistent session whose client is away receives nothing once its
// certificate is revoked.
func TestAwayAndRevoked(t *testing.T) {
	b := start(t, configure(t))
	away, dev := b.thing("away", all("", "")), b.thing("dev", all("", ""))
	a := b.dial(away, "away", false)
	a.ok(a.Connect())
	a.subscribe("a")
	a.Disconnect(0)
	b.eventually("it is away", func() bool { return b.gateway.Stats().Clients == 0 })
	d := b.connect(dev, "dev")
	d.publish("a", "kept")
	if n := b.gateway.Stats().DroppedPolicy; n != 0 {
		t.Error("nothing is kept for who is away")
	}
	b.must("POST", "/v1/certificates/"+away.CertificateID, `{"status":"REVOKED"}`, nil)
	d.publish("a", "not kept")
	if n := b.gateway.Stats().DroppedPolicy; n != 1 {
		t.Error("it is kept for a revoked certificate")
	}
}

// While clients connect, their certificates are deactivated: whoever is
// connected in the end may be.
func TestRevocationRacesConnect(t *testing.T) {
	b := start(t, configure(t))
	const n = 4
	var ids [n]identity
	for i := range ids {
		ids[i] = b.thing(fmt.Sprint("dev-", i), "")
	}
	for range 3 {
		var wg sync.WaitGroup
		var devices [n]*device
		for i := range ids {
			devices[i] = b.dial(ids[i], fmt.Sprint("dev-", i), true)
			wg.Go(func() { devices[i].Connect().WaitTimeout(patience) })
		}
		b.update(func(tx *registry.Tx) error {
			for i := range ids {
				if err := tx.SetCertificateStatus(ids[i].CertificateID, registry.Inactive); err != nil {
					return err
				}
			}
			return nil
		})
		wg.Wait()
		b.eventually("nobody is connected", func() bool { return b.gateway.Stats().Clients == 0 })
		b.update(func(tx *registry.Tx) error {
			for i := range ids {
				if err := tx.SetCertificateStatus(ids[i].CertificateID, registry.Active); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func TestReservedTopics(t *testing.T) {
	b := start(t, configure(t))
	id, data := b.thing("dev", all("", "")), b.requester("iotdata", nil)
	for topic, retain := range map[string]bool{
		"$aws/events/presence/connected/dev": false, "$aws/certificates/create/json/accepted": false, "$SYS/x": false,
		"$aws/things/dev/shadow/update": true, "$tidemill/other": false,
		"$aws/things/dev/shadow/update/accepted": false, "$aws/things/dev/shadow/update/delta": false,
		"$aws/things/dev/shadow/name/n/update/documents": false,
		"$aws/things/dev/jobs/$next/get":                 false, "$aws/things/dev/jobs/notify": false,
		"$aws/things/dev/defender/metrics/json":         false,
		"$tidemill/certificates/x/retire/json/accepted": false,
	} {
		d := b.connect(id, "dev")
		_ = d.wait(d.Publish(topic, 1, retain, "{}"))
		d.ends()
		path := fmt.Sprintf("/topics/%s?qos=1&retain=%t", url.PathEscape(topic), retain)
		if status, code, text := data.do("POST", path, "{}"); status != 403 || code != "ForbiddenException" {
			t.Errorf("%s by HTTPS: %d %s", topic, status, text)
		}
	}
	if n := b.ingest.Stats().Messages; n != 0 {
		t.Errorf("%d messages are in the log", n)
	}
	if st := b.gateway.Stats(); st.RefusedReserved != st.RefusedPublish || st.RefusedReserved < 10 {
		t.Errorf("%d of %d publishes were refused for their topics", st.RefusedReserved, st.RefusedPublish)
	}
	d := b.connect(id, "dev")
	for filter, want := range map[string]byte{"$aws/events/#": 1, "$aws/rules/#": 0x80, "$SYS/#": 0x80,
		"$aws/things/dev/shadow/#": 1} {
		if got := d.subscribe(filter); got != want {
			t.Errorf("%s: %d, want %d", filter, got, want)
		}
	}
	deep := "x"
	for range maxSlashes {
		deep += "/x"
	}
	if got := d.subscribe(deep); got != 1 {
		t.Errorf("%d levels: %d", maxSlashes+1, got)
	}
	if got := d.subscribe(deep + "/x"); got != 0x80 {
		t.Errorf("more levels: %d", got)
	}
}

// The limits of MQTT's text can be lifted, in either profile.
func TestLimitsAreSettings(t *testing.T) {
	for _, profile := range []string{"mqtt", "aws"} {
		cfg := configure(t)
		cfg.MQTT.Profile, cfg.MQTT.MaxTopic, cfg.MQTT.MaxSlashes, cfg.MQTT.MaxFilters,
			cfg.MQTT.MaxSubscriptions = profile, 5000, 200, 150, 1500
		b := start(t, cfg)
		d := b.connect(b.thing("dev", all("", "")), "dev")
		deep, long := strings.Repeat("x/", 200)+"x", strings.Repeat("x", 5000)
		for _, name := range []string{deep, long} {
			if got := d.subscribe(name); got != 1 {
				t.Errorf("%s: %.20q: %#x", profile, name, got)
			}
			d.publish(name, "y")
			if got := d.next(); got != name+" y" {
				t.Errorf("%s: %.20q", profile, got)
			}
		}
		for _, name := range []string{deep + "/x", long + "x"} {
			if got := d.subscribe(name); got != 0x80 {
				t.Errorf("%s: %.20q: %#x", profile, name, got)
			}
		}
		for part := range 11 { // 1,650 filters, of which two are there
			filters := map[string]byte{}
			for i := range 150 {
				filters[fmt.Sprint("many/", part, "/", i)] = 1
			}
			tok := d.SubscribeMultiple(filters, nil)
			_ = d.wait(tok)
			refused := 0
			for _, code := range tok.(*mqtt.SubscribeToken).Result() {
				if code == 0x80 {
					refused++
				}
			}
			if want := map[int]int{9: 2, 10: 150}[part]; refused != want {
				t.Errorf("%s: %d filters of part %d refused, want %d", profile, refused, part, want)
			}
		}
	}
}

// provision registers a certificate for a thing of that name.
func (b *bridge) provision(t testing.TB, name string, text []byte) *x509.Certificate {
	t.Helper()
	err := b.registry.Update(func(tx *registry.Tx) error {
		_, err := tx.Provision(registry.Provision{Thing: registry.Thing{Name: name}, Certificate: text,
			Policy: authz.ThingPolicyName, Document: authz.ThingPolicy(b.cfg.Account, b.cfg.Region)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// elsewhere issues a certificate by an authority of its own.
func elsewhere(t *testing.T) *pki.Issued {
	t.Helper()
	p, err := pki.Open(t.TempDir(), pki.Options{})
	if err != nil {
		t.Fatal(err)
	}
	issued, err := p.Issue("stranger")
	if err != nil {
		t.Fatal(err)
	}
	return issued
}
