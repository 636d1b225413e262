package access

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// userKey makes a user with roles, and a key of this user.
func (s *site) userKey(user string, roles ...string) (id, secret string) {
	s.t.Helper()
	if err := s.people.CreateUser(s.t.Context(), user, roles, nil); err != nil {
		s.t.Fatal(err)
	}
	id, secret, err := s.people.CreateKey(s.t.Context(), user, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return id, secret
}

// A user's key has the rights of the user, as of now, and is the user's in all it
// owns.
func TestUserKeys(t *testing.T) {
	s := newSite(t)
	id, secret := s.userKey("alice", "device-data")
	if got, token, ok := s.Secret(id); got != secret || token != "" || !ok {
		t.Error("the secret is not found")
	}
	x := s.key(id, authz.Context{ClientID: "app"})
	if x.Principal() != "user alice" || x.Owner() != "user/alice" || x.Whole() || x.Person() == nil {
		t.Errorf("%s %s %v", x.Principal(), x.Owner(), x.Person())
	}
	if !x.mayConnect() || !x.MayPublish("a", true) || !x.MaySubscribe("a") || !x.MayReceive("a") ||
		x.May(authz.AssumeRole, "alias") {
		t.Error("not the rights of the role")
	}
	if err := s.people.ChangeUser(s.t.Context(), "alice", nil, map[string]json.RawMessage{"p": json.RawMessage(
		`{"Statement":{"Effect":"Allow","Action":"iot:*","Resource":"arn:aws:iot:*:*:client/app"}}`)}); err != nil {
		t.Fatal(err)
	}
	if !x.mayConnect() || x.MayPublish("a", false) {
		t.Error("not the rights of the policy")
	}
	x.Signed("iotdata")
	s.key("AKIASTRANGER", authz.Context{}).Signed("iot")
	if u := s.people.LastUse(id); time.Since(u.At) > time.Minute || u.Service != "iotdata" {
		t.Errorf("%+v", u)
	}
	if u := s.people.LastUse("AKIASTRANGER"); !u.At.IsZero() {
		t.Error("the use of a key is kept that nobody has")
	}
	if err := s.people.SetKeyStatus(s.t.Context(), id, registry.Inactive); err != nil {
		t.Fatal(err)
	}
	if _, _, ok := s.Secret(id); ok || x.mayConnect() || x.Person() != nil || x.May(authz.Connect, "app") {
		t.Error("an inactive key lets in")
	}
	if err := s.people.SetKeyStatus(s.t.Context(), id, registry.Active); err != nil || !x.mayConnect() {
		t.Error("it is not back", err)
	}
	if err := s.people.DeleteUser(s.t.Context(), "alice"); err != nil || x.mayConnect() {
		t.Error("a revoked user is let in", err)
	}
}

// A connection by a key that ends, ends a second before it.
func TestUserKeyEnds(t *testing.T) {
	s := newSite(t)
	id, _ := s.userKey("alice", "admin")
	if _, _, _, err := s.people.RotateKey(s.t.Context(), id, time.Hour); err != nil {
		t.Fatal(err)
	}
	if end := time.Until(s.keyEnd(id)); end < 59*time.Minute || end > time.Hour {
		t.Error(end)
	}
	if !s.keyEnd(s.first().ID).IsZero() {
		t.Error("a key of a file ends")
	}
}

// A key is declared in a file or a user's, not both; what is declared is listed.
func TestOneTableOfKeys(t *testing.T) {
	s := newSite(t)
	id, _ := s.userKey("alice", "admin")
	declared := s.o.Keys.Declared()
	if len(declared) != 1 || declared[0].ID != s.first().ID || declared[0].Grants != "all" ||
		!strings.HasSuffix(declared[0].Declared, "access-keys") || declared[0].User != "" {
		t.Errorf("%+v", declared)
	}
	s.grant("[[access]]\nkey = \"" + id + "\"\nall = true\n")
	err := s.o.Keys.Load()
	if err == nil || !strings.Contains(err.Error(), "which is user alice's: take it out of ") {
		t.Error(err)
	}
	if !s.Key(httptest.NewRequest("GET", "/", nil), s.first().ID).Whole() {
		t.Error("the files of before do not hold any more")
	}
	s.grant("")
	s.addKey("[x]\naws_access_key_id=" + id + "\naws_secret_access_key=x\n")
	if err = s.o.Keys.Load(); err == nil || !strings.Contains(err.Error(), "is user alice's in the registry too") {
		t.Error(err)
	}
}
