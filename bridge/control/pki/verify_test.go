package pki

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Verify names each file that does not hold what it should, says what to do, and
// says nothing of a sound folder.
func TestVerify(t *testing.T) {
	write := func(name, text string) func(string) error {
		return func(dir string) error { return os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600) }
	}
	other := t.TempDir()
	open(t, other, Options{})
	swap := func(name string) func(string) error {
		return func(dir string) error {
			raw, err := os.ReadFile(filepath.Join(other, name))
			return errors.Join(err, write(name, string(raw))(dir))
		}
	}
	for _, c := range []struct {
		name string
		do   func(dir string) error
		at   time.Duration
		want []string // of the one error; nil: none
	}{
		{name: "sound", do: func(string) error { return nil }},
		// a start renews it
		{name: "server's end", do: func(string) error { return nil }, at: 5 * 365 * 24 * time.Hour},
		{name: "CA's end", do: func(string) error {
			return nil
		}, at: 31 * 365 * 24 * time.Hour, want: []string{"/ca.pem has expired on 20", "new authority"}},
		{name: "CA damaged", do: write("ca.pem", "x"),
			want: []string{"/ca.pem or ca-key.pem is damaged", "restore both"}},
		{name: "CA key damaged", do: write("ca-key.pem", "x"), want: []string{"ca-key.pem is damaged", "restore both"}},
		{name: "another CA's key", do: swap("ca-key.pem"), want: []string{"do not belong together", "restore both"}},
		{name: "no CA", do: func(dir string) error {
			return errors.Join(os.Rename(filepath.Join(dir, "server.pem"), filepath.Join(dir, "ca.pem")),
				os.Rename(filepath.Join(dir, "server-key.pem"), filepath.Join(dir, "ca-key.pem")))
		}, want: []string{"/ca.pem is the certificate of no authority", "restore both"}},
		{name: "server damaged", do: write("server.pem", ""),
			want: []string{"/server.pem or server-key.pem", "take both away"}},
		{name: "another bridge's server", do: func(dir string) error {
			return errors.Join(swap("server.pem")(dir), swap("server-key.pem")(dir))
		}, want: []string{"/server.pem is not signed by the authority", "take both away"}},
		{name: "no server", do: func(dir string) error { return os.Remove(filepath.Join(dir, "server-key.pem")) }},
		{name: "half a key", do: write(accessKeysFile, "[default]\naws_access_key_id = AKIA\n"),
			want: []string{"/access-keys is damaged", "mend it"}},
		{name: "no key", do: write(accessKeysFile, "# none\n"), want: []string{"/access-keys has no key", "restore"}},
		{name: "others may read", do: func(dir string) error {
			return os.Chmod(filepath.Join(dir, accessKeysFile), 0o644)
		}, want: []string{"access-keys", "chmod"}},
		{name: "short secret", do: write(temporarySecretFile, "x"),
			want: []string{"/temporary-secret is too short", "take it away"}},
		{name: "tickets", do: write(ticketKeysFile, "x"), want: []string{"/ticket-keys is damaged", "take it away"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			open(t, dir, Options{})
			if err := c.do(dir); err != nil {
				t.Fatal(err)
			}
			grants, errs := Verify(dir, time.Now().Add(c.at))
			if !strings.Contains(string(grants), "all = true") {
				t.Errorf("grants: %s", grants)
			}
			if (len(errs) == 1) != (c.want != nil) || len(errs) > 1 {
				t.Fatalf("%v", errs)
			}
			for _, want := range c.want {
				if !strings.Contains(fmt.Sprint(errs), want) {
					t.Errorf("%v, want %q", errs, want)
				}
			}
		})
	}
}
