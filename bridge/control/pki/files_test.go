package pki

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/tidemill/tidemill/hal/secretfile"
)

// Temporary folders that the group may write to are none for secrets.
func init() { syscall.Umask(0o022) }

// readAccess is what the files of dir say.
func readAccess(t *testing.T, dir string) Access {
	t.Helper()
	a, err := open(t, dir, Options{}).ReadAccess()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestAccessKeys(t *testing.T) {
	dir := t.TempDir()
	first := readAccess(t, dir)
	if len(first.Keys) != 1 {
		t.Fatalf("%d keys at the first start", len(first.Keys))
	}
	for id, key := range first.Keys {
		if len(id) != 20 || !strings.HasPrefix(id, "AKIA") || len(key.Secret) != 40 || key.Token != "" ||
			first.First != id {
			t.Errorf("key of %d, secret of %d characters, first %s", len(id), len(key.Secret), first.First)
		}
		if n := strings.Count(string(first.Grants), id); n != 1 {
			t.Errorf("granted %d times in\n%s", n, first.Grants)
		}
	}
	if again := readAccess(t, dir); !reflect.DeepEqual(first, again) {
		t.Error("the second start has others")
	}
	for _, c := range []struct {
		text string
		want int // keys; -1: an error
	}{
		{"", 0},
		{"# none\n; none\n[default]\n", 0},
		{"[a]\naws_access_key_id=A\naws_secret_access_key = B=\nregion = x\n[ b ]\r\nAWS_ACCESS_KEY_ID = C\r\naws_secret_access_key = D",
			2},
		{"[a]\naws_access_key_id = A\n", -1},
		{"[a]\naws_secret_access_key = A\n[b]\n", -1},
		{"[a]\naws_access_key_id = A\naws_secret_access_key = B\n[b]\naws_access_key_id = A\naws_secret_access_key = C\n",
			-1},
		{"[a\n", -1},
		{"words\n", -1},
	} {
		got, _, err := parseAccessKeys([]byte(c.text))
		if (err != nil) != (c.want < 0) || err == nil && len(got) != c.want {
			t.Errorf("%q: %v, %v", c.text, got, err)
		}
	}
}

// A start that was killed between the grant and its key makes another key with
// a grant of its own, and leaves what somebody wrote.
func TestGrantBeforeItsKey(t *testing.T) {
	dir := t.TempDir()
	open(t, dir, Options{})
	const mine = "# mine\n[[access]]\nkey = \"A\"\n"
	if err := errors.Join(os.Remove(AccessKeysFile(dir)),
		os.WriteFile(GrantsFile(dir), []byte(mine), 0o600)); err != nil {
		t.Fatal(err)
	}
	if a := readAccess(t, dir); len(a.Keys) != 1 || !strings.HasPrefix(string(a.Grants), mine) ||
		!strings.Contains(string(a.Grants), a.First) {
		t.Errorf("%v\n%s", a.Keys, a.Grants)
	}
}

func TestSecretsOfOthersAreRefused(t *testing.T) {
	for _, name := range []string{"ca-key.pem", "server-key.pem", "access-keys", "access.toml"} {
		dir := t.TempDir()
		open(t, dir, Options{})
		if err := os.Chmod(filepath.Join(dir, name), 0o640); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir, Options{}); err == nil || !strings.Contains(err.Error(), name+": mode 0640") ||
			!errors.Is(err, secretfile.ErrExposed) {
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
		if !bytes.Equal(first.cas.Load().current.cert.RawSubjectPublicKeyInfo,
			second.cas.Load().current.cert.RawSubjectPublicKeyInfo) {
			t.Errorf("%s: another authority", c.lost)
		}
		if err := second.server.Leaf.CheckSignatureFrom(first.cas.Load().current.cert); err != nil {
			t.Errorf("%s: %v", c.lost, err)
		}
	}
}
