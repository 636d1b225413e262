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
	for id, secret := range keys {
		if len(id) != 20 || !strings.HasPrefix(id, "AKIA") || len(secret) != 40 {
			t.Errorf("key of %d, secret of %d characters", len(id), len(secret))
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
