package access

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/pki"
)

// grant writes the file of what access keys may do.
func (s *site) grant(text string) {
	s.t.Helper()
	if err := os.WriteFile(pki.GrantsFile(filepath.Join(s.dir, "pki")), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// A key may do what is granted to it, the configuration's grant before that of the
// file; a file that is wrong changes nothing.
func TestKeyring(t *testing.T) {
	s := newSite(t)
	keys, first := s.o.Keys, s.first().ID
	if !keys.Granted(first).All || keys.Granted("AKIAOTHER").All {
		t.Fatal("the first key may not do all, or another may")
	}
	s.access = []config.Access{{Key: first, Policies: []string{"narrow"}}, {Key: "AKIAGONE", All: true}}
	if keys.Granted(first).All != true {
		t.Error("read before Load")
	}
	if err := keys.Load(); err != nil || keys.Granted(first).All {
		t.Errorf("the configuration does not count: %v", err)
	}
	keys.Warn()
	if !strings.Contains(s.log.String(), `to a key that is not there","key":"AKIAGONE"`) {
		t.Error("no warning of a grant without its key")
	}
	s.access = nil
	s.grant("[[access]]\nkey = 1\n")
	if err := keys.Load(); err == nil || keys.Granted(first).All {
		t.Errorf("a wrong file counts: %v", err)
	}
	s.grant("")
	if err := keys.Load(); err != nil || keys.Granted(first).All {
		t.Errorf("nothing is granted: %v", err)
	}
	keys.Warn()
	if !strings.Contains(s.log.String(), `may do nothing`) {
		t.Error("no warning of a key without a grant")
	}
}

// A key's rights follow the grants while it is used, and nothing is allowed by a
// policy that is not there.
func TestKeySessionFollowsGrants(t *testing.T) {
	s := newSite(t)
	first := s.first().ID
	k := s.Key(by(nil, "/"), first)
	if !k.Whole() || !k.May("iot:Publish", "a") || k.Owner() != "key/"+first {
		t.Fatal("the first key may not do all")
	}
	s.access = []config.Access{{Key: first, Policies: []string{"narrow"}}}
	if err := s.o.Keys.Load(); err != nil {
		t.Fatal(err)
	}
	if k.Whole() || k.May("iot:Publish", "a") {
		t.Error("allowed by a policy that is not there")
	}
	s.thing("pump-1", all("iot:Publish", "topic/secret")) // makes the policy of-pump-1
	s.access[0].Policies = []string{"of-pump-1"}
	if err := s.o.Keys.Load(); err != nil {
		t.Fatal(err)
	}
	if k.Whole() || !k.May("iot:Publish", "a") || k.May("iot:Publish", "secret") {
		t.Error("not as the policy says")
	}
}

// addKey appends to the file of access keys.
func (s *site) addKey(text string) {
	s.t.Helper()
	file := pki.AccessKeysFile(filepath.Join(s.dir, "pki"))
	old, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append(old, text...), 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}
