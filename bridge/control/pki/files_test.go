package pki

import (
	"bytes"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAccessKeys(t *testing.T) {
	dir := t.TempDir()
	keys := open(t, dir, Options{}).AccessKeys()
	if len(keys) != 1 {
		t.Fatalf("%d keys at the first start", len(keys))
	}
	for id, key := range keys {
		if len(id) != 20 || !strings.HasPrefix(id, "AKIA") || len(key.Secret) != 40 || key.Token != "" {
			t.Errorf("key of %d, secret of %d characters", len(id), len(key.Secret))
		}
	}
	if again := open(t, dir, Options{}).AccessKeys(); !maps.Equal(keys, again) {
		t.Error("the second start has other keys")
	}
	for _, c := range []struct {
		text string
		want int // keys; -1: an error
	}{
		{"", 0},
		{"# none\n; none\n[default]\n", 0},
		{"[a]\naws_access_key_id=A\naws_secret_access_key = B=\nregion = x\n[ b ]\r\nAWS_ACCESS_KEY_ID = C\r\naws_secret_access_key = D", 2},
		{"[a]\naws_access_key_id = A\n", -1},
		{"[a]\naws_secret_access_key = A\n[b]\n", -1},
		{"[a]\naws_access_key_id = A\naws_secret_access_key = B\n[b]\naws_access_key_id = A\naws_secret_access_key = C\n", -1},
		{"[a\n", -1},
		{"words\n", -1},
	} {
		got, err := parseAccessKeys([]byte(c.text))
		if (err != nil) != (c.want < 0) || err == nil && len(got) != c.want {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

func TestAccessKeysAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	p := open(t, dir, Options{})
	write := func(text string) error {
		if err := os.WriteFile(AccessKeysFile(dir), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p.ReloadAccessKeys()
	}
	if err := write("[a]\naws_access_key_id=A\naws_secret_access_key=B\naws_session_token=C\n[d]\naws_access_key_id=D\naws_secret_access_key=E\n"); err != nil {
		t.Fatal(err)
	}
	check := func() {
		t.Helper()
		if secret, token, ok := p.Secret("A"); !ok || secret != "B" || token != "C" {
			t.Error(secret, token, ok)
		}
		if secret, token, ok := p.Secret("D"); !ok || secret != "E" || token != "" {
			t.Error(secret, token, ok)
		}
		if _, _, ok := p.Secret(""); ok || len(p.AccessKeys()) != 2 {
			t.Error("more keys than written")
		}
	}
	check()
	if err := write("words\n"); err == nil || !strings.Contains(err.Error(), "access-keys: line 1") {
		t.Error(err)
	}
	check()
	if err := os.Chmod(AccessKeysFile(dir), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.ReloadAccessKeys(); err == nil || !strings.Contains(err.Error(), "access-keys: mode 0644") {
		t.Error(err)
	}
	check()
}

func TestSecretsOfOthersAreRefused(t *testing.T) {
	for _, name := range []string{"ca-key.pem", "server-key.pem", "access-keys"} {
		dir := t.TempDir()
		open(t, dir, Options{})
		if err := os.Chmod(filepath.Join(dir, name), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), name+": mode 0640") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever file a crash or a hand has taken away, Open either makes it again
// under the same authority or says that it cannot.
func TestLostFiles(t *testing.T) {
	for _, c := range []struct {
		lost string
		ok   bool
	}{{"ca.pem", true}, {"server-key.pem", true}, {"server.pem", true}, {"ca-key.pem", false}} {
		dir := t.TempDir()
		first := open(t, dir, Options{})
		if err := os.Remove(filepath.Join(dir, c.lost)); err != nil {
			t.Fatal(err)
		}
		second, err := Open(dir, Options{})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.lost, err)
		}
		if err != nil {
			continue
		}
		if !bytes.Equal(first.ca.RawSubjectPublicKeyInfo, second.ca.RawSubjectPublicKeyInfo) {
			t.Errorf("%s: another authority", c.lost)
		}
		if err := second.server.Leaf.CheckSignatureFrom(first.ca); err != nil {
			t.Errorf("%s: %v", c.lost, err)
		}
	}
}
