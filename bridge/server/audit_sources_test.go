package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// auditedAs are those of the audit log with a source and an action.
func (b *bridge) auditedAs(t *testing.T, source, action string) (all []audit.Record) {
	t.Helper()
	for _, r := range b.audited(t) {
		if r.Source == source && r.Action == action {
			all = append(all, r)
		}
	}
	return all
}

// record waits for the record of a source and an action for which is says yes.
func (b *bridge) record(t *testing.T, source, action string, is func(audit.Record) bool) (got audit.Record) {
	t.Helper()
	b.eventually(source+" "+action+" is recorded", func() bool {
		for _, r := range b.auditedAs(t, source, action) {
			if is == nil || is(r) {
				got = r
				return true
			}
		}
		return false
	})
	return got
}

// noSecrets fails if the audit log has one of these, or anything that looks so.
func (b *bridge) noSecrets(t *testing.T, secrets ...string) {
	t.Helper()
	_, text := b.do("GET", "/v1/streams/records?name=$audit&from=oldest", "")
	for _, s := range append(secrets, "PRIVATE KEY") {
		if s == "" {
			t.Fatal("no secret to look for")
		}
		// Within JSON within a record it may be escaped.
		if line, _, _ := strings.Cut(strings.TrimSpace(s), "\n"); strings.Contains(text, line) {
			t.Errorf("%.40q is in the audit log", s)
		}
	}
}

// What the AWS APIs change is recorded with who, from where, the request's id, the
// target, and what was before and after; so is what was refused.
func TestAuditAWS(t *testing.T) {
	b := start(t, configure(t))
	k, iot := b.key(), b.requester("iot", nil)
	const arn = "arn:aws:iot:eu-local-1:000000000000:"
	ok := func(method, path, body string, headers ...string) string {
		t.Helper()
		status, code, text := iot.do(method, path, body, headers...)
		if status != 200 {
			t.Fatalf("%s %s: %d %s %s", method, path, status, code, text)
		}
		return text
	}
	ok("POST", "/things/pump-1", `{"attributePayload":{"attributes":{"site":"north"}}}`)
	ok("PATCH", "/things/pump-1", `{"attributePayload":{"attributes":{"site":"south"}}}`)
	ok("POST", "/thing-groups/hall", `{}`)
	ok("PUT", "/thing-groups/addThingToThingGroup", `{"thingName":"pump-1","thingGroupName":"hall"}`)
	ok("POST", "/policies/p", asJSON(t, map[string]string{"policyDocument": all("", "")}))
	var keys struct {
		CertificateID string            `json:"certificateId"`
		KeyPair       map[string]string `json:"keyPair"`
	}
	if err := json.Unmarshal([]byte(ok("POST", "/keys-and-certificate?setAsActive=true", "")), &keys); err != nil {
		t.Fatal(err)
	}
	ok("PUT", "/target-policies/p", `{"target":"`+arn+`cert/`+keys.CertificateID+`"}`)
	ok("POST", "/provisioning-templates", asJSON(t, map[string]any{"templateName": "line", "templateBody": lineTemplate,
		"provisioningRoleArn": "arn:aws:iam::000000000000:role/x", "enabled": true}))
	var claim struct {
		KeyPair map[string]string `json:"keyPair"`
	}
	made := ok("POST", "/provisioning-templates/line/provisioning-claim", "")
	if err := json.Unmarshal([]byte(made), &claim); err != nil {
		t.Fatal(err)
	}
	ok("POST", "/things", asJSON(t, map[string]any{"templateBody": `{"Parameters":{"N":{"Type":"String"}},"Resources":{` +
		`"thing":{"Type":"AWS::IoT::Thing","Properties":{"ThingName":{"Ref":"N"}}}}}`,
		"parameters": map[string]string{"N": "made"}}))
	ok("POST", "/rules/hot", `{"sql":"SELECT * FROM 'dt/#'","actions":[]}`)
	if status, _, _ := iot.do("DELETE", "/policies/none", ""); status != 404 {
		t.Errorf("%d", status)
	}
	ok("GET", "/things/pump-1", "")
	kin := b.requester("kinesis", nil)
	call := func(op, body string) int {
		t.Helper()
		status, _, _ := kin.do("POST", "/", body, "X-Amz-Target", "Kinesis_20131202."+op,
			"Content-Type", "application/x-amz-json-1.1")
		return status
	}
	if call("CreateStream", `{"StreamName":"s","ShardCount":1}`) != 200 || call("ListStreams", `{}`) != 200 ||
		call("IncreaseStreamRetentionPeriod", `{"StreamName":"s","RetentionPeriodHours":48}`) != 200 ||
		call("PutRecord", `{"StreamName":"s","PartitionKey":"a","Data":"aGk="}`) != 200 ||
		call("DeleteStream", `{"StreamName":"none"}`) != 400 {
		t.Error("a stream")
	}

	for _, c := range []struct{ action, target, before, after string }{
		{"CreateThing", arn + "thing/pump-1", "", `"things/pump-1":{"attributes":{"site":"north"}`},
		{"UpdateThing", arn + "thing/pump-1", `"site":"north"`, `"site":"south"`},
		{"AddThingToThingGroup", arn + "thing/pump-1", `"things/pump-1":`, `"groups":["hall"]`},
		{"CreatePolicy", arn + "policy/p", "", `"policy-documents/1":{"Version"`},
		{"CreateKeysAndCertificate", "certificates/" + keys.CertificateID, "", `"status":"ACTIVE"`},
		{"AttachPolicy", arn + "cert/" + keys.CertificateID, "", `"certificate-policies/` + keys.CertificateID + `/p":true`},
		{"CreateProvisioningTemplate", arn + "provisioningtemplate/line", "", `"templates/line":`},
		{"CreateProvisioningClaim", arn + "provisioningtemplate/line", "", `"policies/tidemill-claim-line"`},
		{"RegisterThing", "things/made", "", `"things/made":`},
		{"CreateTopicRule", arn + "rule/hot", "", `"rule-documents/hot":`},
		{"CreateStream", "arn:aws:kinesis:eu-local-1:000000000000:stream/s", "", `"ShardCount":1`},
		{"IncreaseStreamRetentionPeriod", "arn:aws:kinesis:eu-local-1:000000000000:stream/s",
			`"RetentionPeriodHours":24`, `"RetentionPeriodHours":48`},
	} {
		r := b.record(t, audit.SourceAWS, c.action, nil)
		if r.Who != k.ID || !strings.HasPrefix(r.From, "127.0.0.1:") || len(r.Request) != 36 || len(r.ID) != 36 ||
			r.Target != c.target || r.Error != "" || (c.before == "") != (r.Before == nil) ||
			!strings.Contains(string(r.Before), c.before) || !strings.Contains(string(r.After), c.after) {
			t.Errorf("%s: %+v\nbefore %s\nafter %s", c.action, r, r.Before, r.After)
		}
	}
	for action, target := range map[string]string{"DeletePolicy": arn + "policy/none",
		"DeleteStream": "arn:aws:kinesis:eu-local-1:000000000000:stream/none"} {
		if r := b.record(t, audit.SourceAWS, action, nil); r.Error == "" || r.Target != target || r.Who != k.ID {
			t.Errorf("%+v", r)
		}
	}
	for _, r := range b.audited(t) {
		if strings.HasPrefix(r.Action, "Describe") || strings.HasPrefix(r.Action, "List") || r.Action == "PutRecord" {
			t.Errorf("%s is no change", r.Action)
		}
	}
	b.noSecrets(t, keys.KeyPair["PrivateKey"], claim.KeyPair["PrivateKey"], k.Secret)
}

// Changes at once each show what they found and what they left.
func TestAuditAtOnce(t *testing.T) {
	b := start(t, configure(t))
	const n = 12
	b.must("PUT", "/v1/policies/p", policyOf("start"), nil)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			if code, text := b.do("PUT", "/v1/policies/p", policyOf(fmt.Sprint("v", i))); code != 200 {
				t.Errorf("%d %s", code, text)
			}
		})
	}
	wg.Wait()
	last := ""
	for i, r := range b.auditedAs(t, audit.SourceAdmin, "PutPolicy") {
		var before, after map[string]json.RawMessage
		if i > 0 {
			if err := json.Unmarshal(r.Before, &before); err != nil {
				t.Fatal(err)
			}
		}
		if err := json.Unmarshal(r.After, &after); err != nil {
			t.Fatal(err)
		}
		if was := string(before["policies/p"]); was != last {
			t.Errorf("record %d: before %s, and the one before it left %s", i, was, last)
		}
		last = string(after["policies/p"])
	}
	if got := len(b.auditedAs(t, audit.SourceAdmin, "PutPolicy")); got != n+1 {
		t.Errorf("%d records of %d changes", got, n+1)
	}
}

func policyOf(sid string) string {
	return `{"Version":"2012-10-17","Statement":[{"Sid":"` + sid + `","Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`
}

// What devices make with a claim is recorded, and what they are refused, some of it;
// no key and no token.
func TestAuditProvisioning(t *testing.T) {
	b := start(t, configure(t))
	claim := b.fleet()
	d := b.connect(claim, "claim-anything")
	for _, f := range []string{"$aws/certificates/create/json/+", "$aws/provisioning-templates/line/provision/+/+"} {
		d.subscribe(f)
	}
	made := d.ask("$aws/certificates/create/json", "", "/accepted")
	id, token := text(made["certificateId"]), text(made["certificateOwnershipToken"])
	d.ask("$aws/provisioning-templates/line/provision/json", map[string]any{"certificateOwnershipToken": token,
		"parameters": map[string]string{"SerialNumber": "1"}}, "/accepted")
	for range 3 * mostProvisioning {
		d.ask("$aws/provisioning-templates/line/provision/json", `{"certificateOwnershipToken":"x"}`, "/rejected")
	}
	r := b.record(t, audit.SourceProvisioning, "CreateKeysAndCertificate", nil)
	if r.Who != claim.CertificateID || r.Client != "claim-anything" || r.From != "127.0.0.1" ||
		r.Target != "certificates/"+id || !strings.Contains(string(r.After), `"status":"PENDING_ACTIVATION"`) {
		t.Errorf("%+v", r)
	}
	done := func(r audit.Record) bool { return r.Error == "" }
	if r = b.record(t, audit.SourceProvisioning, "RegisterThing", done); r.Target != "things/press-1" ||
		!strings.Contains(string(r.Before), "PENDING_ACTIVATION") || !strings.Contains(string(r.After), `"ACTIVE"`) {
		t.Errorf("%+v", r)
	}
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	_ = b.auditDenied.Run(stop) // as a minute later
	left := b.record(t, audit.SourceProvisioning, "RegisterThing", func(r audit.Record) bool { return r.Left > 0 })
	if got := len(b.auditedAs(t, audit.SourceProvisioning, "RegisterThing")); got != 1+mostProvisioning+1 ||
		left.Left != 2*mostProvisioning-1 || left.Target != "templates/line" {
		t.Errorf("%d records, %+v", got, left)
	}
	b.noSecrets(t, text(made["privateKey"]), token)
}

// Devices of a registered CA that come for the first time are recorded, with and
// without a template.
func TestAuditFirstConnection(t *testing.T) {
	b := start(t, configure(t))
	f := newForeign(t)
	b.must("POST", "/v1/cas", asJSON(t, admin.NewCA{Certificate: pemOf(f.cert), Mode: "SNI_ONLY", Active: true,
		AutoRegister: true}), nil)
	leaf := f.leaf(2, "dev")
	id := pki.Fingerprint(leaf.Raw)
	_, _, _ = b.knock(f.tls(b, leaf), "dev")
	r := b.record(t, audit.SourceFirstConnection, "RegisterCertificate", nil)
	if r.Who != id || r.Client != "dev" || r.Target != "certificates/"+id || !strings.HasPrefix(r.From, "127.0.0.1:") ||
		!strings.Contains(string(r.After), "PENDING_ACTIVATION") {
		t.Errorf("%+v", r)
	}
	b.must("PUT", "/v1/policies/everything", all("", ""), nil)
	g := newForeign(t)
	b.update(func(tx *registry.Tx) error {
		if _, err := tx.CreateTemplate(registry.Template{Name: "jitp", Type: registry.JITP, Enabled: true},
			[]byte(jitpTemplate)); err != nil {
			return err
		}
		_, err := tx.RegisterCA(registry.NewCA{Certificate: []byte(pemOf(g.cert)), Mode: registry.SNIOnly, Active: true,
			AutoRegister: true, Registration: []byte(`{"templateName":"jitp"}`)})
		return err
	})
	pump := g.sign(&x509.Certificate{SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "pump-1",
		Country: []string{"NZ"}}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}, g.cert)
	if code, _, err := b.knock(g.tls(b, pump), "pump-1"); err != nil || code != 0 {
		t.Fatalf("code %d, %v", code, err)
	}
	if r = b.record(t, audit.SourceFirstConnection, "RegisterThing", nil); r.Target != "things/pump-1" ||
		r.Who != pki.Fingerprint(pump.Raw) || !strings.Contains(string(r.After), `"things/pump-1":`) {
		t.Errorf("%+v", r)
	}
}

// Whoever is not let in is recorded with the way and the reason, a few of an address
// and kind, with how many were left away; and there is a line in the log for each
// way. Nothing a stranger sends is in either in full.
func TestAuditSignIns(t *testing.T) {
	b := start(t, configure(t))
	narrow := b.thing("narrow", all("iot:Connect", "client/forbidden"))
	f := newForeign(t)
	leaf := f.leaf(9, "stranger")
	alpn := f.tls(b, leaf)
	alpn.NextProtos = []string{"x-amzn-mqtt-ca"}
	_, _, _ = b.knock(f.tls(b, leaf), "stranger")
	r := b.record(t, audit.SourceSignIn, "Connect", nil)
	if r.Who != pki.Fingerprint(leaf.Raw) || !strings.Contains(r.Error, "is not registered") ||
		!strings.HasPrefix(r.From, "127.0.0.1:") || r.Client != "stranger" {
		t.Errorf("%+v", r)
	}
	b.wantRefusal("MQTT over TLS", "is not registered", "cert register")
	b.flushRefusals() // forgets what was told
	if _, _, err := b.knockAt(b.https.Addr(), alpn, "alpn"); err != nil {
		t.Error(err)
	}
	b.wantRefusal("MQTT by ALPN", `"client":"alpn"`, "is not registered")
	_, _, _ = b.knock(narrow.tls(t), "forbidden")
	b.record(t, audit.SourceSignIn, "Connect", func(r audit.Record) bool {
		return strings.Contains(r.Error, "lets it connect") && r.Client == "forbidden" && r.Who == narrow.CertificateID
	})

	wrong, unknown := b.key(), sigv4test.Key{ID: "AKIANOBODY", Secret: "guessed"}
	wrong.Secret = "guessed"
	if url, h := b.signedAs(wrong, sigv4test.Version2, b.now()); true {
		if c, status := b.wss(url, h, nil, "mqtt"); c != nil || status != 403 {
			t.Errorf("%d", status)
		}
	}
	b.record(t, audit.SourceSignIn, "OpenWebSocket", func(r audit.Record) bool {
		return r.Who == audit.Claimed(wrong.ID) && r.Key == ""
	})
	b.wantRefusal("a WebSocket", "WebSocket refused", "does not match", `"claimed_key":"`+wrong.ID)
	if c, status := b.wss("wss://"+b.https.Addr().String()+"/mqtt", nil, nil, "chat"); c != nil || status != 400 {
		t.Errorf("%d", status)
	}
	b.wantRefusal("a request for no WebSocket", "no WebSocket of MQTT", "subprotocol mqtt")
	if resp, _ := b.aws(wrong, true, "POST", "/things/x", `{}`); resp.StatusCode != 403 {
		t.Errorf("%d", resp.StatusCode)
	}
	if resp, _ := b.aws(unknown, false, "GET", "/things", ""); resp.StatusCode != 403 {
		t.Errorf("%d", resp.StatusCode)
	}
	for who, why := range map[string]string{wrong.ID: "does not match", unknown.ID: "not known"} {
		b.record(t, audit.SourceSignIn, "CallAPI", func(r audit.Record) bool {
			return r.Who == audit.Claimed(who) && strings.Contains(r.Error, why)
		})
		b.wantRefusal("an API", "request refused", why)
	}
	status, _, _ := b.requester("", f.tls(b, leaf)).do("POST", "/topics/x", "hi")
	if status != 403 {
		t.Errorf("%d", status)
	}
	b.record(t, audit.SourceSignIn, "CallAPI", func(r audit.Record) bool { return r.Who == pki.Fingerprint(leaf.Raw) })
	status, _, _ = b.requester("", f.tls(b, leaf)).do("GET", "/role-aliases/a/credentials", "")
	if status != 403 {
		t.Errorf("%d", status)
	}
	b.record(t, audit.SourceSignIn, "GetCredentials", nil)

	b.flushRefusals()
	if nc, err := tls.Dial("tcp", b.https.Addr().String(), &tls.Config{ServerName: "localhost"}); err == nil {
		nc.Close()
		t.Error("a CA that is not known")
	}
	b.wantRefusal("a handshake at the HTTPS listener", "does not accept the bridge")

	const most, before = 5, 2 // in a minute; and those above
	for range 4 * most {
		_, _, _ = b.knock(f.tls(b, leaf), "stranger")
	}
	stop, cancel := context.WithCancel(t.Context())
	cancel()
	_ = b.auditRefusals.Run(stop) // as a minute later
	b.record(t, audit.SourceSignIn, "Connect", func(r audit.Record) bool { return r.Left == before+4*most-most-1 })
	got := 0
	for _, r := range b.auditedAs(t, audit.SourceSignIn, "Connect") {
		if strings.Contains(r.Error, "is not registered") {
			got++
		}
	}
	if got != most+1 {
		t.Errorf("%d records of %d knocks", got, before+4*most)
	}
	b.noSecrets(t, "guessed")
}

// A client whose rights are withdrawn, or whose client id another takes, leaves a
// record.
func TestAuditKicks(t *testing.T) {
	b := start(t, configure(t))
	one, other := b.thing("one", all("", "")), b.thing("other", all("", ""))
	d := b.connect(one, "shared")
	e := b.connect(other, "shared")
	d.ends()
	r := b.record(t, audit.SourceConnection, "TakeOver", nil)
	if r.Who != other.CertificateID || r.Target != "clients/shared" ||
		!strings.Contains(string(r.Before), one.CertificateID) ||
		!strings.Contains(string(r.After), other.CertificateID) {
		t.Errorf("%+v", r)
	}
	again := b.connect(other, "shared")
	e.ends()
	b.must("POST", "/v1/certificates/"+other.CertificateID, `{"status":"INACTIVE"}`, nil)
	again.ends()
	if r = b.record(t, audit.SourceConnection, "Disconnect", nil); r.Who != other.CertificateID || r.Client != "shared" ||
		!strings.Contains(string(r.After), "FORBIDDEN_ACCESS") {
		t.Errorf("%+v", r)
	}
	if got := b.auditedAs(t, audit.SourceConnection, "TakeOver"); len(got) != 1 {
		t.Errorf("its own second connection is recorded: %+v", got)
	}
}

// Users and keys are shown as they change, and neither a password's hash nor a
// secret is.
func TestAuditPeople(t *testing.T) {
	b := start(t, configure(t))
	b.must("POST", "/v1/users", `{"name":"ann","roles":["viewer"]}`, nil)
	b.must("PUT", "/v1/users/ann/password", `{"password":"correct horse battery"}`, nil)
	var key struct{ ID, Secret string }
	b.must("POST", "/v1/access-keys", `{"user":"ann"}`, &key)
	b.must("PUT", "/v1/users/ann", `{"roles":["operator"]}`, nil)
	var hash string
	b.update(func(tx *registry.Tx) error {
		u, err := tx.User("ann")
		hash = u.Password
		return err
	})
	r := b.record(t, audit.SourceAdmin, "UpdateUser", nil)
	if !strings.Contains(string(r.Before), `"viewer"`) || !strings.Contains(string(r.After), `"operator"`) {
		t.Errorf("before %s, after %s", r.Before, r.After)
	}
	if r = b.record(t, audit.SourceAdmin, "CreateAccessKey", nil); !strings.Contains(string(r.After), key.ID) {
		t.Errorf("after %s", r.After)
	}
	b.record(t, audit.SourceAdmin, "SetPassword", nil)
	b.noSecrets(t, "correct horse battery", key.Secret, hash)
}
