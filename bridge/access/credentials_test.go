package access

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A device with the right to a role alias gets a key for its role, which may what
// the role may until it expires or its certificate is not active any more.
func TestCredentials(t *testing.T) {
	const role = "arn:aws:iam::000000000000:role/upload"
	s := newSite(t)
	cert := s.thing("pump-1", all("iot:Publish", "topic/secret"))
	other := s.thing("pump-2", all("iot:AssumeRoleWithCertificate", "rolealias/upload"))
	s.access = []config.Access{{Role: role, All: true, Policies: []string{"of-pump-1"}}}
	if err := s.o.Keys.Load(); err != nil {
		t.Fatal(err)
	}
	s.update(func(tx *registry.Tx) error {
		return tx.CreateRoleAlias(registry.RoleAlias{Name: "upload", Role: role, Life: 15 * time.Minute})
	})
	next := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
	ask := func(r *http.Request, thing string) *httptest.ResponseRecorder {
		r.Method = "GET"
		r.Header.Set("X-Amzn-Iot-Thingname", thing)
		w := httptest.NewRecorder()
		s.Credentials(next).ServeHTTP(w, r)
		return w
	}
	for _, c := range []struct {
		name  string
		r     *http.Request
		thing string
		want  int
	}{
		{"another path", by(cert, "/role-aliases/upload"), "", http.StatusTeapot},
		{"no certificate", by(nil, "/role-aliases/upload/credentials"), "", 403},
		{"another's thing", by(cert, "/role-aliases/upload/credentials"), "pump-2", 403},
		{"not allowed", by(other, "/role-aliases/upload/credentials"), "pump-2", 403},
		{"no such alias", by(cert, "/role-aliases/none/credentials"), "pump-1", 404},
	} {
		if w := ask(c.r, c.thing); w.Code != c.want {
			t.Errorf("%s: %d %s, want %d", c.name, w.Code, w.Body, c.want)
		}
	}
	w := ask(by(cert, "/role-aliases/upload/credentials"), "pump-1")
	var out struct {
		Credentials struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &out); err != nil || w.Code != 200 ||
		w.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	k := out.Credentials
	if secret, token, ok := s.Secret(k.AccessKeyID); !ok || secret != k.SecretAccessKey || token != k.SessionToken {
		t.Error("not the key that was given")
	}
	c := s.Key(by(nil, "/"), k.AccessKeyID)
	if c.Whole() || !c.May("iot:Publish", "a") || c.May("iot:Publish", "secret") {
		t.Error("not as the role's policies say")
	}
	if !slices.Contains(s.known, c.Owner()) {
		t.Errorf("%s is not among those authenticated: %q", c.Owner(), s.known)
	}
	s.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(c.Owner(), registry.Inactive) })
	if c.May("iot:Publish", "a") {
		t.Error("allowed after its certificate was deactivated")
	}
	if strings.Contains(s.log.String(), k.SecretAccessKey) {
		t.Error("the secret is in the log")
	}
}
