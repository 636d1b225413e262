package access

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A function's key may what its role may, until its process ends, its time is over, or
// the function is gone or has another role; what the role may counts at once.
func TestFunctionKeys(t *testing.T) {
	const role, other = "arn:aws:iam::000000000000:role/writer", "arn:aws:iam::000000000000:role/none"
	const stream = "arn:aws:kinesis:eu-local-1:000000000000:stream/"
	s := newSite(t)
	policy := func(name, allows string) {
		s.update(func(tx *registry.Tx) error {
			return tx.CreatePolicy(name, []byte(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+
				`"Action":"kinesis:PutRecord","Resource":"`+stream+allows+`"}]}`))
		})
	}
	policy("writes", "out")
	policy("more", "more")
	s.access = []config.Access{{Role: role, Policies: []string{"writes"}}}
	if err := s.o.Keys.Load(); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	roles := map[string]string{"f": role, "g": other, "h": ""}
	set := func(name, role string) { mu.Lock(); roles[name] = role; mu.Unlock() }
	keys := NewFunctionKeys(s.o.Keys, s.pki, func(name, _ string) string {
		mu.Lock()
		defer mu.Unlock()
		return roles[name]
	})
	s.o.Functions = keys
	for _, name := range []string{"g", "h", "unknown"} {
		if _, _, _, ok := keys.Give(name, "$LATEST", time.Hour); ok {
			t.Errorf("%s has a key, and nothing is granted to its role", name)
		}
	}
	give := func() string {
		t.Helper()
		id, key, _, ok := keys.Give("f", "$LATEST", time.Hour)
		if !ok {
			t.Fatal("no key")
		}
		if secret, token, ok := s.Secret(id); !ok || secret != key.Secret || token != key.Token || token == "" {
			t.Fatal("not the key that was given")
		}
		return id
	}
	may := func(id, name string) bool {
		p := s.Key(by(nil, "/"), id).Person()
		return p != nil && p.Allow("kinesis:PutRecord", stream+name, authz.Context{})
	}
	holds := func(id string) bool { _, _, ok := s.Secret(id); return ok }
	id, second := give(), give()
	if id == second || !may(id, "out") || may(id, "more") || s.Key(by(nil, "/"), id).Whole() ||
		s.Key(by(nil, "/"), id).Owner() != "function/f" {
		t.Error("not as the role's policy says")
	}
	if keys.End(id); holds(id) || may(id, "out") || !holds(second) {
		t.Error("a key does not end with its process alone")
	}
	s.access[0].Policies = []string{"more"}
	if err := s.o.Keys.Load(); err != nil {
		t.Fatal(err)
	}
	if may(second, "out") || !may(second, "more") {
		t.Error("another policy of the role does not count at once")
	}
	set("f", other)
	if holds(second) || may(second, "more") {
		t.Error("the key holds though the function has another role")
	}
	set("f", "")
	if holds(second) {
		t.Error("the key holds though the function is gone")
	}
	set("f", role)
	synctest.Test(t, func(t *testing.T) {
		id, _, _, _ := keys.Give("f", "$LATEST", time.Hour)
		time.Sleep(time.Hour - time.Second)
		_, before := keys.key(id)
		time.Sleep(time.Second)
		if _, after := keys.key(id); !before || after {
			t.Error("the key does not end with its time")
		}
	})
}
