package server

import (
	"encoding/json"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// do asks the control plane with the bridge's own key, and wants a status.
func (b *bridge) control(method, path, body string, status int) string {
	b.t.Helper()
	resp, text := b.aws(b.key(), true, method, path, body)
	if resp.StatusCode != status {
		b.t.Fatalf("%s %s: %d %s, want %d", method, path, resp.StatusCode, text, status)
	}
	return text
}

// A device gets a key for the role of an alias, if its policies allow it; the
// key may what the role may, and no more, and ends with the certificate.
func TestCredentials(t *testing.T) {
	cfg := configure(t)
	const role = "arn:aws:iam::000000000000:role/upload"
	cfg.Access = []config.Access{{Role: role, Policies: []string{"uploads"}}}
	b := start(t, cfg)
	b.control("POST", "/role-aliases/upload", `{"roleArn":"`+role+`","credentialDurationSeconds":900}`, 200)
	b.control("POST", "/role-aliases/upload", `{"roleArn":"`+role+`"}`, 409)
	b.control("POST", "/role-aliases/short", `{"roleArn":"`+role+`","credentialDurationSeconds":60}`, 400)
	b.control("POST", "/role-aliases/other", `{"roleArn":"arn:aws:iam::000000000000:role/other"}`, 200)
	b.control("PUT", "/policies/x", "", 404)
	allow := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Publish",` +
		`"Resource":"arn:aws:iot:eu-local-1:000000000000:topic/up/${iot:Connection.Thing.ThingName}/*"}]}`
	b.must("PUT", "/v1/policies/uploads", allow, nil)
	assume := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:AssumeRoleWithCertificate",` +
		`"Resource":"arn:aws:iot:eu-local-1:000000000000:rolealias/*"}]}`
	id, stranger := b.thing("pump-1", assume),
		b.thing("pump-2", all("iot:AssumeRoleWithCertificate", "rolealias/upload"))

	type answer struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken, Expiration string }
	}
	ask := func(who identity, alias, thing string, want int) (k sigv4test.Key, ends time.Time) {
		t.Helper()
		status, _, text := b.requester("", who.tls(t)).do("GET", "/role-aliases/"+alias+"/credentials", "",
			"x-amzn-iot-thingname", thing)
		if status != want {
			t.Fatalf("%s as %q: %d %s, want %d", alias, thing, status, text, want)
		}
		var a answer
		if err := json.Unmarshal([]byte(text), &a); want == 200 && err != nil {
			t.Fatal(err)
		}
		ends, _ = time.Parse(time.RFC3339, a.Credentials.Expiration)
		return sigv4test.Key{ID: a.Credentials.AccessKeyID, Secret: a.Credentials.SecretAccessKey,
			Token: a.Credentials.SessionToken}, ends
	}
	ask(stranger, "upload", "pump-2", 403)
	ask(id, "upload", "pump-2", 403)
	ask(id, "none", "pump-1", 404)
	k, ends := ask(id, "upload", "pump-1", 200)
	if life := time.Until(ends); life < 440*time.Second || life > 900*time.Second {
		t.Errorf("lives %v", life)
	}
	if again, _ := ask(id, "upload", "pump-1", 200); again != k {
		t.Log("another key: it was half-time")
	}
	b.record(t, audit.SourceSignIn, "GetCredentials", func(r audit.Record) bool {
		return r.Who == id.CertificateID && r.Key == k.ID && r.Target == "role-aliases/upload" && r.Error == ""
	})
	b.noSecrets(t, k.Secret, k.Token)

	publish := func(k sigv4test.Key, topic string) int {
		t.Helper()
		r := b.requester("", nil)
		req, err := http.NewRequestWithContext(t.Context(), "POST", "https://"+b.https.Addr().String()+"/topics/"+topic+
			"?qos=1", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = req.URL.Host
		sigv4test.Sign(req, nil, k, "eu-local-1", "iotdata", time.Now())
		resp, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if got := publish(k, "up/pump-1/x"); got != 200 {
		t.Errorf("%d", got)
	}
	if got := publish(k, "up/pump-2/x"); got != 403 {
		t.Errorf("another's topic: %d", got)
	}
	if resp, text := b.aws(k, true, "GET", "/things", ""); resp.StatusCode != 403 {
		t.Errorf("the control plane: %d %s", resp.StatusCode, text)
	}
	bare := k
	bare.Token = ""
	if got := publish(bare, "up/pump-1/x"); got != 403 {
		t.Errorf("without its token: %d", got)
	}
	other, _ := ask(id, "other", "pump-1", 200)
	if got := publish(other, "up/pump-1/x"); got != 403 {
		t.Errorf("a role that nobody gave anything: %d", got)
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(id.CertificateID, registry.Inactive) })
	if got := publish(k, "up/pump-1/x"); got != 403 {
		t.Errorf("the certificate is inactive: %d", got)
	}
}

// What a temporary key may by WebSocket ends with the key: when it expires, and
// at once when its certificate is not active any more.
func TestCredentialsEndWebSockets(t *testing.T) {
	cfg := configure(t)
	const role = "arn:aws:iam::000000000000:role/upload"
	cfg.Access = []config.Access{{Role: role, Policies: []string{"uploads"}}}
	b := start(t, cfg)
	b.must("PUT", "/v1/policies/uploads", all("", ""), nil)
	id := b.thing("pump-1", all("", ""))
	key := registry.TemporaryKey{ID: "ASIATEST", Role: role, Certificate: id.CertificateID, Thing: "pump-1",
		Expires: time.Now().Add(15 * time.Minute)}
	b.update(func(tx *registry.Tx) error { return tx.AddTemporaryKey(key) })
	secret := b.pki.Temporary(key.ID)
	host, _, _ := net.SplitHostPort(b.https.Addr().String())
	query := sigv4test.Python1.Query(host, sigv4test.Key{ID: key.ID, Secret: secret.Secret, Token: secret.Token},
		"eu-local-1", time.Now())
	r, err := http.NewRequest("GET", "https://"+host+"/mqtt?"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI = r.URL.RequestURI()
	if via, err := b.authorizer.Upgrade(r); err != nil || via.Ends.After(key.Expires) {
		t.Errorf("ends %v behind its key, %v", via.Ends.Sub(key.Expires), err)
	}
	s := b.authorizer.Key(r, key.ID)
	if !s.May(authz.Publish, "a") {
		t.Fatal("the role allows it")
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(id.CertificateID, registry.Inactive) })
	if s.May(authz.Publish, "a") {
		t.Error("publishes after its certificate was made inactive")
	}
}
