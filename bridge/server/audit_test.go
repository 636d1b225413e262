package server

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// audited are the records of the audit log.
func (b *bridge) audited(t *testing.T) (all []audit.Record) {
	t.Helper()
	_, text := b.do("GET", "/v1/streams/records?name=$audit&from=oldest", "")
	for line := range strings.Lines(text) {
		var s admin.StreamRecord
		var r audit.Record
		if err := errors.Join(json.Unmarshal([]byte(line), &s), json.Unmarshal(s.JSON, &r)); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	return all
}

// What was changed by the admin socket and by files is in the audit log when it is
// answered, with who and what; rules see it; a key is not in it; it outlives a kill.
func TestAudit(t *testing.T) {
	cfg := configure(t)
	cfg.Audit.Events = true
	b := start(t, cfg)
	id := b.thing("pump", "")
	b.must("PUT", "/v1/policies/p", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:Connect","Resource":"*"}]}`,
		nil)
	b.must("POST", "/v1/certificates/"+id.CertificateID, `{"status":"INACTIVE"}`, nil)
	if code, _ := b.do("DELETE", "/v1/policies/none", ""); code != 404 {
		t.Errorf("a policy that is not there: %d", code)
	}
	file := filepath.Join(cfg.BridgeD.Dir, "streams", "s.json")
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700),
		os.WriteFile(file, []byte(`{"StreamName":"s","ShardCount":1}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	b.must("POST", "/v1/reload", "", nil)

	all := b.audited(t)
	find := func(source, action string) audit.Record {
		t.Helper()
		for _, r := range all {
			if r.Source == source && r.Action == action {
				return r
			}
		}
		t.Fatalf("no %s of %s in %+v", action, source, all)
		return audit.Record{}
	}
	made := find("admin", "CreateThing")
	if made.Who != "uid "+strconv.Itoa(os.Getuid()) || made.From != "pid "+strconv.Itoa(os.Getpid()) ||
		made.Target != "things/pump" || made.Before != nil ||
		!strings.Contains(string(made.After), `"things/pump":{`) ||
		!strings.Contains(string(made.After), `"certificate-things/`+id.CertificateID+`/pump":true`) {
		t.Errorf("%+v, after %s", made, made.After)
	}
	if r := find("admin", "UpdateCertificate"); !strings.Contains(string(r.Before), `"ACTIVE"`) ||
		!strings.Contains(string(r.After), `"INACTIVE"`) {
		t.Errorf("before %s, after %s", r.Before, r.After)
	}
	if r := find("admin", "DeletePolicy"); r.Error == "" || r.Target != "policies/none" {
		t.Errorf("%+v", r)
	}
	if r := find("bridge.d", "Apply"); r.Target != file || len(r.After) == 0 {
		t.Errorf("%+v", r)
	}
	find("admin", "PutPolicy")
	find("admin", "Reload")
	_, text := b.do("GET", "/v1/streams/records?name=$audit&from=oldest", "")
	if strings.Contains(text, "PRIVATE KEY") {
		t.Error("a private key is in the audit log")
	}
	_, text = b.do("GET", "/v1/streams/records?name=$ingest&from=oldest", "")
	seen := false
	for line := range strings.Lines(text) {
		var m admin.StreamRecord
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		seen = seen || strings.Contains(string(m.Data), "$tidemill/events/audit/admin/UpdateCertificate")
	}
	if !seen {
		t.Errorf("the log of messages, which rules read, has no event: %.500s", text)
	}
	n := len(all)
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	b = start(t, cfg)
	if again := b.audited(t); len(again) != n {
		t.Errorf("%d records after a restart, %d before", len(again), n)
	}
}
