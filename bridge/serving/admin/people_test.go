package admin

import (
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/people"
)

// Users and keys by the API: the secret is told once.
func TestPeople(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/v1/users", `{"name":"alice","roles":["viewer"]}`, nil)
	var k, second CreatedKey
	a.must("POST", "/v1/access-keys", `{"user":"alice"}`, &k)
	a.must("PUT", "/v1/users/alice/password", `{"password":"correct horse battery"}`, nil)
	a.must("POST", "/v1/access-keys/"+k.ID+"/rotate", `{"after_ns":3600000000000}`, &second)
	var keys []people.KeyInfo
	a.must("GET", "/v1/access-keys", "", &keys)
	if len(keys) != 3 || keys[0].Declared == "" || keys[1].ID != k.ID || time.Until(keys[1].Ends) < 59*time.Minute ||
		keys[2].ID != second.ID || second.User != "alice" {
		t.Errorf("%+v", keys)
	}
	a.must("POST", "/v1/access-keys/"+second.ID, `{"status":"INACTIVE"}`, nil)
	a.must("DELETE", "/v1/access-keys/"+k.ID, "", nil)
	var u people.UserInfo
	a.must("GET", "/v1/users/alice", "", &u)
	if len(u.Keys) != 1 || u.Keys[0].Status != "INACTIVE" || !u.Password {
		t.Errorf("%+v", u)
	}
	a.must("PUT", "/v1/users/alice", `{"roles":["operator"]}`, nil)
	for _, path := range []string{"/v1/users", "/v1/users/alice", "/v1/access-keys", "/v1/access-keys/" + second.ID} {
		_, text := a.do("GET", path, "")
		if strings.Contains(text, k.Secret) || strings.Contains(text, second.Secret) || strings.Contains(text, "argon2") {
			t.Errorf("%s tells a secret: %s", path, text)
		}
	}
	for _, c := range []struct {
		method, path, body string
		code               int
		says               string
	}{
		{"POST", "/v1/users", `{"name":"bob","roles":["root"]}`, 400, "admin, operator, viewer, device-data"},
		{"POST", "/v1/users", `{"name":"bob","policies":{"p":{}}}`, 400, "no Statement"},
		{"PUT", "/v1/users/alice", `{"name":"bob"}`, 400, "keeps the name"},
		{"PUT", "/v1/users/alice/password", `{"password":"short"}`, 400, "12 characters"},
		{"POST", "/v1/access-keys", `{"user":"bob"}`, 404, "bob"},
		{"GET", "/v1/access-keys?user=bob", "", 404, "bob"},
		{"DELETE", "/v1/access-keys/AKIAOFAFILE", "", 409, "declared in pki/access-keys: change it there"},
		{"POST", "/v1/access-keys/AKIAOFAFILE/rotate", "{}", 409, "declared in"},
		{"POST", "/v1/access-keys/" + second.ID + "/rotate", `{"after_ns":0}`, 409, "not active"},
		{"GET", "/v1/access-keys/AKIANONE", "", 404, "AKIANONE"},
	} {
		if code, text := a.do(c.method, c.path, c.body); code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, code, text)
		}
	}
	a.must("DELETE", "/v1/users/alice", "", nil)
	if a.log.String() != "" {
		t.Errorf("the bridge has logged %s", a.log.String())
	}
}
