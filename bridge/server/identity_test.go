package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// A foreign CA and what it signs.
type foreign struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newForeign(t testing.TB) *foreign {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	f := &foreign{t, key, nil}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Foreign"}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour)}
	f.cert = f.sign(tmpl, tmpl)
	return f
}

func (f *foreign) sign(c, parent *x509.Certificate) *x509.Certificate {
	f.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, parent, f.key.Public(), f.key)
	if err != nil {
		f.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		f.t.Fatal(err)
	}
	return cert
}

// leaf is a device's certificate; its key is the CA's, which nobody minds.
func (f *foreign) leaf(serial int64, name string) *x509.Certificate {
	return f.sign(&x509.Certificate{SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, f.cert)
}

func pemOf(c *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw}))
}

func (f *foreign) tls(b *bridge, leaf *x509.Certificate) *tls.Config {
	return &tls.Config{RootCAs: b.roots(), ServerName: "localhost",
		Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: f.key}}}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// A certificate of a CA that registers by itself: refused and told of once,
// then activated, and revoked by its CA while it is connected.
func TestJustInTimeRegistration(t *testing.T) {
	b := start(t, configure(t))
	watcher := b.connect(b.thing("watcher", all("", "")), "watcher")
	watcher.subscribe("$aws/events/certificates/registered/#")
	f := newForeign(t)
	var code struct{ Code string }
	b.must("GET", "/v1/registration-code", "", &code)
	var ca admin.CAInfo
	in := admin.NewCA{Certificate: pemOf(f.cert), Verification: pemOf(f.leaf(2, code.Code)), Active: true,
		AutoRegister: true}
	b.must("POST", "/v1/cas", asJSON(t, in), &ca)
	leaf := f.leaf(3, "dev")
	id := pki.Fingerprint(leaf.Raw)
	for range 3 {
		if got, _, err := b.knock(f.tls(b, leaf), "dev"); err != nil || got != 4 {
			t.Errorf("code %d, %v", got, err)
		}
	}
	topic, text, _ := strings.Cut(watcher.next(), " ")
	var event map[string]any
	if err := json.Unmarshal([]byte(text), &event); err != nil {
		t.Fatal(err)
	}
	at, ok := event["timestamp"].(float64)
	if delete(event, "timestamp"); !ok || topic != "$aws/events/certificates/registered/"+ca.ID ||
		fmt.Sprint(event) != fmt.Sprint(map[string]any{"certificateId": id, "caCertificateId": ca.ID,
			"certificateStatus": "PENDING_ACTIVATION",
			"awsAccountId":      b.cfg.Account, "certificateRegistrationTimestamp": strconv.FormatInt(int64(at), 10)}) {
		t.Errorf("%s %s", topic, text)
	}
	b.must("PUT", "/v1/policies/any", all("", ""), nil)
	b.must("POST", "/v1/policies/any/targets", asJSON(t, admin.PolicyTarget{Certificate: id}), nil)
	b.must("POST", "/v1/certificates/"+id, `{"status":"ACTIVE"}`, nil)
	dev := identity{admin.Identity{Certificate: pemOf(leaf), CA: string(b.pki.CA())}}
	raw, err := x509.MarshalPKCS8PrivateKey(f.key)
	if err != nil {
		t.Fatal(err)
	}
	dev.Key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}))
	d := b.connect(dev, "dev")
	watcher.publish("end", "")
	select {
	case m := <-watcher.got:
		t.Errorf("told again: %s", m.Payload())
	default:
	}
	crl, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1),
		ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour),
		RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(3), RevocationTime: time.Now()},
			{SerialNumber: big.NewInt(4), RevocationTime: time.Now()}}}, f.cert, f.key)
	if err != nil {
		t.Fatal(err)
	}
	var out registry.CRLImport
	b.must("POST", "/v1/crls", string(crl), &out)
	if out.Revoked != 1 || out.Unknown != 1 {
		t.Errorf("%+v", out)
	}
	d.ends()
	if got, _, err := b.knock(f.tls(b, leaf), "dev"); err != nil || got != 4 {
		t.Errorf("revoked: code %d, %v", got, err)
	}
	if got, _, err := b.knock(f.tls(b, f.leaf(4, "late")), "late"); err != nil || got != 4 {
		t.Errorf("revoked before it came: code %d, %v", got, err)
	}
	if code, text := b.do("GET", "/v1/certificates/"+pki.Fingerprint(f.leaf(4, "late").Raw), ""); code != 404 {
		t.Errorf("%d %s", code, text)
	}
}

// Whatever way a certificate came in, its states count at once.
func TestStatesLive(t *testing.T) {
	b := start(t, configure(t))
	f := newForeign(t)
	b.must("PUT", "/v1/policies/any", all("", ""), nil)
	b.must("POST", "/v1/cas", asJSON(t, admin.NewCA{Certificate: pemOf(f.cert), Mode: "SNI_ONLY", Active: true}), nil)
	signed, pinned := f.leaf(5, "signed"), newForeign(t)
	b.must("PUT", "/v1/certificates", asJSON(t, admin.ForeignCertificate{Certificate: pemOf(signed), Status: "ACTIVE"}),
		nil)
	b.must("PUT", "/v1/certificates", asJSON(t,
		admin.ForeignCertificate{Certificate: pemOf(pinned.cert), Pinned: true, Status: "INACTIVE"}), nil)
	for name, c := range map[string]struct {
		conf *tls.Config
		id   string
	}{
		"signed": {f.tls(b, signed), pki.Fingerprint(signed.Raw)},
		"pinned": {pinned.tls(b, pinned.cert), pki.Fingerprint(pinned.cert.Raw)},
	} {
		b.must("POST", "/v1/policies/any/targets", asJSON(t, admin.PolicyTarget{Certificate: c.id}), nil)
		set := func(status string) {
			b.must("POST", "/v1/certificates/"+c.id, `{"status":"`+status+`"}`, nil)
		}
		for _, status := range []struct {
			name string
			code byte
		}{{"ACTIVE", 0}, {"INACTIVE", 4}, {"ACTIVE", 0}, {"REVOKED", 4}} {
			set(status.name)
			if code, _, err := b.knock(c.conf, name); err != nil || code != status.code {
				t.Errorf("%s, %s: code %d, %v", name, status.name, code, err)
			}
		}
		if code, text := b.do("POST", "/v1/certificates/"+c.id, `{"status":"ACTIVE"}`); code != 409 {
			t.Errorf("%s: back from REVOKED: %d %s", name, code, text)
		}
	}
}

// A client over WebSocket by certificate loses its connection as others do.
func TestWebSocketCertificateRevoked(t *testing.T) {
	b := start(t, configure(t))
	for _, status := range []string{"INACTIVE", "REVOKED"} {
		name := "dev-" + strings.ToLower(status)
		id := b.thing(name, "")
		d := b.over("wss://"+b.https.Addr().String()+"/mqtt", nil, id.tls(t), name)
		d.ok(d.Connect())
		d.publish("dt/"+name+"/x", "{}")
		b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"`+status+`"}`, nil)
		d.ends()
		again := b.over("wss://"+b.https.Addr().String()+"/mqtt", nil, id.tls(t), name)
		if err := again.wait(again.Connect()); err == nil {
			t.Errorf("%s: connected again", status)
		}
	}
}

func TestAskAboutPolicies(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("dev", "")
	var who []admin.WhoCanLine
	_, text := b.do("GET", "/v1/who-can?action=publish&resource=dt/dev/x", "")
	for dec := json.NewDecoder(strings.NewReader(text)); ; {
		var l admin.WhoCanLine
		if dec.Decode(&l) != nil {
			break
		}
		who = append(who, l)
	}
	if len(who) != 2 || who[0].Access == nil || who[0].Thing != "dev" || who[0].Certificate != id.CertificateID ||
		len(who[0].Grants) != 1 || !who[1].End {
		t.Errorf("%s", text)
	}
	var results []admin.PolicyTestResult
	b.must("POST", "/v1/policy-tests", asJSON(t, admin.PolicyTest{Certificate: id.CertificateID, ClientID: "dev",
		Infos: []registry.AuthInfo{{Action: "PUBLISH", Resources: []string{"dt/dev/x"}},
			{Action: "SUBSCRIBE", Resources: []string{"#"}}}}), &results)
	if len(results) != 2 || results[0].Decision != "ALLOWED" || results[1].Decision != "IMPLICIT_DENY" ||
		results[0].Status != "ACTIVE" {
		t.Errorf("%+v", results)
	}
	var effective []admin.EffectivePolicy
	b.must("GET", "/v1/effective-policies?thing=dev&certificate="+id.CertificateID, "", &effective)
	if len(effective) != 1 || effective[0].Name != "tidemill-thing" || !json.Valid(effective[0].Document) {
		t.Errorf("%+v", effective)
	}
	for _, c := range []struct {
		method, path, body string
		code               int
	}{
		{"GET", "/v1/who-can?action=dance&resource=x", "", 400},
		{"GET", "/v1/who-can?action=publish", "", 400},
		{"GET", "/v1/effective-policies", "", 400},
		{"GET", "/v1/effective-policies?thing=nosuch", "", 404},
		{"POST", "/v1/policy-tests", `{"certificate":"x"}`, 404},
		{"POST", "/v1/policy-tests", `{"certificate":"` + id.CertificateID + `"}`, 400},
		{"POST", "/v1/crls", "noise", 400},
		{"POST", "/v1/cas", `{"certificate":"x"}`, 400},
		{"GET", "/v1/cas/x", "", 404},
		{"POST", "/v1/certificates", `{"name":"","status":"ACTIVE"}`, 400},
		{"POST", "/v1/certificates", `{"name":"x","status":"PENDING_TRANSFER"}`, 400},
		{"POST", "/v1/certificates", `{"csr":"x","status":"ACTIVE"}`, 400},
		{"PUT", "/v1/certificates", `{"certificate":"x","pinned":true,"ca":"y"}`, 400},
		{"DELETE", "/v1/certificates/" + id.CertificateID, "", 409},
		{"DELETE", "/v1/policies/tidemill-thing", "", 409},
		{"DELETE", "/v1/policies/tidemill-thing/versions/1", "", 409},
		{"DELETE", "/v1/policies/tidemill-thing/versions/x", "", 400},
		{"POST", "/v1/policies/tidemill-thing/default", `{"version":7}`, 404},
	} {
		if code, text := b.do(c.method, c.path, c.body); code != c.code {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, code, text, c.code)
		}
	}
}

// A certificate of a registered CA that is another CA's, or for servers, is not
// registered by its connection, nor provisioned by a template.
func TestFirstConnectionOfNoDevice(t *testing.T) {
	b := start(t, configure(t))
	b.must("PUT", "/v1/policies/everything", all("", ""), nil)
	template := strings.NewReplacer(`"SerialNumber"`, `"AWS::IoT::Certificate::CommonName"`).Replace(lineTemplate)
	for way, registration := range map[string]string{"JITR": "",
		"JITP": asJSON(t, map[string]string{"templateBody": template})} {
		f := newForeign(t)
		b.update(func(tx *registry.Tx) error {
			_, err := tx.RegisterCA(registry.NewCA{Certificate: []byte(pemOf(f.cert)), Mode: registry.SNIOnly,
				Active: true, AutoRegister: true, Registration: json.RawMessage(registration)})
			return err
		})
		for i, leaf := range []*x509.Certificate{
			{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign},
			{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}},
		} {
			leaf.SerialNumber, leaf.Subject, leaf.NotBefore, leaf.NotAfter = big.NewInt(int64(i+10)),
				pkix.Name{CommonName: way}, time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
			signed := f.sign(leaf, f.cert)
			if got, _, err := b.knock(f.tls(b, signed), "press-"+way); err != nil || got != 4 {
				t.Errorf("%s %d: code %d, %v", way, i, got, err)
			}
			if err := b.registry.View(func(tx *registry.Tx) error {
				_, err := tx.Certificate(pki.Fingerprint(signed.Raw))
				return err
			}); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("%s %d: it is registered: %v", way, i, err)
			}
		}
		if got, _, err := b.knock(f.tls(b, f.leaf(30, way)), "press-"+way); err != nil || way == "JITP" && got != 0 {
			t.Errorf("%s: a device's: code %d, %v", way, got, err)
		}
	}
	if log := b.log.String(); !strings.Contains(log, "is no device's: is a CA's") {
		t.Error("the log does not say why")
	}
}
