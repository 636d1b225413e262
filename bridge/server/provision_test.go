package server

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"io"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/deploy/counterpart"
)

const lineTemplate = `{
"Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Fn::Join": ["", ["press-", {"Ref": "SerialNumber"}]]},
    "AttributePayload": {"serial": {"Ref": "SerialNumber"}}}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
    "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "everything"}}
},
"DeviceConfiguration": {"hall": "3"}
}`

// fleet makes a template called line and an identity with a claim for it.
func (b *bridge) fleet() identity {
	b.t.Helper()
	b.must("PUT", "/v1/policies/everything", all("", ""), nil)
	b.update(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.Template{Name: "line", Enabled: true}, []byte(lineTemplate))
		return err
	})
	claim, err := b.Server.provision.CreateClaim(b.t.Context(), "line")
	if err != nil {
		b.t.Fatal(err)
	}
	return identity{admin.Identity{CA: string(b.pki.CA()), Certificate: claim.PEM, Key: claim.Key,
		CertificateID: claim.ID}}
}

// ask publishes a request and returns its answer, of which the end of the topic
// is wanted.
func (d *device) ask(topic string, payload any, end string) (out map[string]any) {
	d.t.Helper()
	text, isText := payload.(string)
	unmarshal := json.Unmarshal
	raw := []byte(text)
	if !isText {
		var err error
		marshal := json.Marshal
		if strings.HasSuffix(topic, "cbor") {
			marshal, unmarshal = cbor.Marshal, cbor.Unmarshal
		}
		if raw, err = marshal(payload); err != nil {
			d.t.Fatal(err)
		}
	}
	d.ok(d.Publish(topic, 1, false, raw))
	m := <-d.got
	if m.Topic() != topic+end || m.Qos() != 0 {
		d.t.Fatalf("%s: %s %q, quality of service %d", topic, m.Topic(), m.Payload(), m.Qos())
	}
	if err := unmarshal(m.Payload(), &out); err != nil {
		d.t.Fatalf("%s: %v in %q", topic, err, m.Payload())
	}
	return out
}

func text(v any) string { s, _ := v.(string); return s }

// A device with a temporary claim becomes a thing, in JSON with a key of the
// bridge's and in CBOR with its own, connects as what it is now, and rotates its
// certificate. Nobody else hears of it, nor does the log.
func TestClaimProvisioning(t *testing.T) {
	cfg := configure(t)
	cfg.Ingest.Shards = 1
	b := start(t, cfg)
	claim := b.fleet()
	listener := b.connect(b.thing("listener", all("", "")), "listener")
	for _, f := range []string{"#", "$aws/#", "$aws/certificates/#", "$aws/provisioning-templates/#",
		"$tidemill/certificates/#"} {
		if q := listener.subscribe(f); q != 1 {
			t.Fatalf("%s: %d", f, q)
		}
	}

	thief := b.dial(claim, "listener", true)
	if err := thief.wait(thief.Connect()); err == nil {
		t.Error("a claim takes the place of a thing")
	}
	d := b.connect(claim, "claim-anything")
	for _, f := range []string{"$aws/certificates/create/json/+", "$aws/certificates/create-from-csr/+/+",
		"$aws/provisioning-templates/line/provision/+/+"} {
		if q := d.subscribe(f); q != 1 {
			t.Fatalf("%s: %d", f, q)
		}
	}
	if q := d.subscribe("dt/#"); q != 0x80 {
		t.Errorf("a claim may subscribe to dt/#: %d", q)
	}
	made := d.ask("$aws/certificates/create/json", "", "/accepted")
	first := identity{admin.Identity{CA: claim.CA, Certificate: text(made["certificatePem"]),
		Key: text(made["privateKey"]), CertificateID: text(made["certificateId"])}}
	ask := map[string]any{"certificateOwnershipToken": made["certificateOwnershipToken"],
		"parameters": map[string]string{"SerialNumber": "1"}}
	if err := b.dial(first, "press-1", true).connects(); err == nil {
		t.Error("it connects before it is provisioned")
	}
	for range 2 {
		out := d.ask("$aws/provisioning-templates/line/provision/json", ask, "/accepted")
		if out["thingName"] != "press-1" || text(out["deviceConfiguration"].(map[string]any)["hall"]) != "3" {
			t.Errorf("%v", out)
		}
	}
	press := b.connect(first, "press-1")

	// In CBOR, with a key of its own: the next certificate of the same thing.
	request, private := counterpart.SigningRequest(t)
	csr, key := string(request), string(private)
	made = d.ask("$aws/certificates/create-from-csr/cbor", map[string]string{"certificateSigningRequest": csr},
		"/accepted")
	if made["privateKey"] != nil {
		t.Error("there is a private key for a signing request")
	}
	next := identity{admin.Identity{CA: claim.CA, Certificate: text(made["certificatePem"]), Key: key,
		CertificateID: text(made["certificateId"])}}
	ask["certificateOwnershipToken"] = made["certificateOwnershipToken"]
	d.ask("$aws/provisioning-templates/line/provision/cbor", ask, "/accepted")

	// It takes the place of the old certificate.
	second := b.dial(next, "press-1b", true)
	second.ok(second.Connect())
	retire := "$tidemill/certificates/" + first.CertificateID + "/retire/json"
	if q := second.subscribe(retire + "/+"); q != 1 {
		t.Fatalf("%d", q)
	}
	for range 2 {
		second.ask(retire, "", "/accepted")
	}
	press.ends()
	if err := b.dial(first, "press-1", true).connects(); err == nil {
		t.Error("the retired certificate connects")
	}
	for id, code := range map[string]string{next.CertificateID: "AccessDenied", claim.CertificateID: "AccessDenied",
		"x": "AccessDenied"} {
		other := "$tidemill/certificates/" + id + "/retire/json"
		second.subscribe(other + "/+")
		if out := second.ask(other, "", "/rejected"); out["errorCode"] != code {
			t.Errorf("%s: %v", id, out)
		}
	}

	// What is wrong is refused, and the connection goes on.
	for _, c := range []struct {
		topic, payload string
		status         float64
		code           string
	}{
		{"$aws/certificates/create-from-csr/json", "", 400, "InvalidPayload"},
		{"$aws/certificates/create-from-csr/json", `{"certificateSigningRequest":"x"}`, 400,
			"InvalidCertificateSigningRequest"},
		{"$aws/provisioning-templates/line/provision/json", `{}`, 400, "InvalidCertificateOwnershipToken"},
		{"$aws/provisioning-templates/line/provision/json", `{"certificateOwnershipToken":"x"}`, 400,
			"InvalidCertificateOwnershipToken"},
		{"$aws/provisioning-templates/line/provision/json", `[`, 400, "InvalidPayload"},
	} {
		if out := d.ask(c.topic, c.payload, "/rejected"); out["statusCode"] != c.status || out["errorCode"] != c.code ||
			text(out["errorMessage"]) == "" {
			t.Errorf("%s %s: %v", c.topic, c.payload, out)
		}
	}

	resp, err := http.Get("http://" + b.admin.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	for _, line := range []string{`{code="OK",operation="provision"} 3`, `{code="OK",operation="create-from-csr"} 1`,
		`{code="AccessDenied",operation="retire"} 3`} {
		if err != nil || !strings.Contains(string(metrics), "tidemill_provisioning_requests_total"+line) {
			t.Errorf("no %s, %v", line, err)
		}
	}

	// Nobody has heard of it.
	d.Disconnect(50)
	listener.publish("x", "the end")
	if got := listener.next(); got != "x the end" {
		t.Errorf("the listener got %s", got)
	}
	records := b.records(ingest.Stream)
	if len(records) != 1 {
		t.Errorf("%d messages in the log", len(records))
	}
	for _, r := range records {
		m, err := message.Decode(r.Data)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(m.Topic, "$aws/") || strings.HasPrefix(m.Topic, "$tidemill/") {
			t.Errorf("in the log: %s", m.Topic)
		}
	}
	if log := b.log.String(); strings.Contains(log, "PRIVATE KEY") ||
		strings.Contains(log, text(made["certificateOwnershipToken"])) {
		t.Error("a secret is in what the bridge logs")
	}
}

// connects tries to connect and returns what the bridge says.
func (d *device) connects() error { return d.wait(d.Connect()) }

const jitpTemplate = `{
"Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Country": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
"Resources": {
  "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "AWS::IoT::Certificate::CommonName"}, "AttributePayload": {"country": {"Ref": "AWS::IoT::Certificate::Country"}}}},
  "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {"CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
  "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "everything"}}
}}`

// A device with a certificate of a CA that has a template is a thing as soon as
// it connects, and connected. What its template cannot make of it is not made.
func TestJustInTimeProvisioning(t *testing.T) {
	b := start(t, configure(t))
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	watcher.subscribe("$aws/events/certificates/registered/#")
	f := newForeign(t)
	subject := func(serial int64, name pkix.Name) *x509.Certificate {
		return f.sign(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name,
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, f.cert)
	}
	pump, nowhere := subject(2, pkix.Name{CommonName: "pump-1", Country: []string{"NZ"}}),
		subject(3, pkix.Name{CommonName: "pump-2"})
	odd := subject(4, pkix.Name{CommonName: "pump 3", Country: []string{"NZ"}})
	var ca registry.CA
	b.update(func(tx *registry.Tx) (err error) {
		ca, err = tx.RegisterCA(registry.NewCA{Certificate: []byte(pemOf(f.cert)), Mode: registry.SNIOnly, Active: true,
			AutoRegister: true, Registration: []byte(`{"templateName":"jitp"}`)})
		return err
	})
	knock := func(leaf *x509.Certificate, want byte) {
		t.Helper()
		if got, _, err := b.knock(f.tls(b, leaf), leaf.Subject.CommonName); err != nil || got != want {
			t.Errorf("%s: code %d, %v, want %d", leaf.Subject, got, err, want)
		}
	}
	knock(pump, 4) // there is no template
	b.update(func(tx *registry.Tx) error {
		_, err := tx.CreateTemplate(registry.Template{Name: "jitp", Type: registry.JITP, Enabled: true},
			[]byte(jitpTemplate))
		return err
	})
	knock(pump, 4) // there is no policy
	b.must("PUT", "/v1/policies/everything", all("", ""), nil)
	for range 2 {
		knock(pump, 0)
	}
	knock(nowhere, 4) // it has no country
	knock(odd, 4)     // things have no spaces
	err := b.registry.View(func(tx *registry.Tx) error {
		th, err := tx.Thing("pump-1")
		if ids := tx.ThingCertificates("pump-1"); err != nil || th.Attributes["country"] != "NZ" || len(ids) != 1 ||
			ids[0] != pki.Fingerprint(pump.Raw) {
			t.Errorf("%+v %v %v", th, ids, err)
		}
		if all, _ := tx.CACertificates(ca.ID, "", 0); len(all) != 1 {
			t.Errorf("%d certificates of the CA", len(all))
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	watcher.publish("x", "")
	select {
	case m := <-watcher.got:
		t.Errorf("%s: somebody is asked to activate it", m.Topic())
	default:
	}
}
