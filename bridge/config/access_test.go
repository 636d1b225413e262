package config

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/hal/secretfile"
)

// The sample's tables that are commented out can be used as they are.
func TestSampleTables(t *testing.T) {
	_, tables, ok := strings.Cut(Sample, "# [[access]]\n")
	if !ok {
		t.Fatal("no [[access]]")
	}
	var text strings.Builder
	for line := range strings.Lines("# [[access]]\n" + tables) {
		if line = strings.TrimPrefix(line, "# "); strings.HasPrefix(line, "[[") || strings.Contains(line, " = ") {
			text.WriteString(line)
		}
	}
	c, err := load(t, text.String())
	if err != nil {
		t.Fatal(err)
	}
	if want := []Access{{Key: "AKIAIOSFODNN7EXAMPLE", Policies: []string{"readers"}}, {Key: "AKIAI44QH8DHBEXAMPLE",
		All: true}, {Role: "arn:aws:iam::000000000000:role/upload",
		Policies: []string{"readers"}}}; !reflect.DeepEqual(c.Access, want) {
		t.Errorf("%+v", c.Access)
	}
	if want := []Authorizer{{Name: "tokens", URL: "https://auth.example/iot", TokenKey: "x-token",
		PublicKeys: []string{"tokens.pem"}, Status: "ACTIVE", MaxCalls: 64}}; !reflect.DeepEqual(c.Authorizers, want) {
		t.Errorf("%+v", c.Authorizers)
	}
	if want := []Hook{{"arn:aws:lambda:eu-local-1:000000000000:function:vet", "https://vet.example/provision",
		64}}; !reflect.DeepEqual(c.Hooks, want) {
		t.Errorf("%+v", c.Hooks)
	}
}

// What is wrong in tables is told for each, by number and key.
func TestTablesAllErrors(t *testing.T) {
	_, err := load(t, `
[[access]]
key = "A"
policies = ["x", ""]
[[access]]
key = "A"
secret = "x"
[[authorizers]]
name = "a b"
url = "ftp://x/"
[[authorizers]]
name = "b"
url = "https://"
public_keys = ["k.pem"]
signing_disabled = true
default = true
status = "OFF"
[[authorizers]]
name = "b"
url = "http://x/"
token_key = "x: y"
public_keys = ["k.pem"]
default = true
cache = "yes"
max_calls = -1
[[hooks]]
arn = "a"
url = "user:hush@vet.example?code=hush"
max_calls = 5000
[[hooks]]
arn = "a"
url = "http://vet.example"
`)
	want := []string{
		`access[0].policies: empty name`,
		`access[1].key: "A", want the id of an access key or, instead, the ARN of a role, once`,
		`access[1].secret: unknown key`,
		`authorizers[0].name: "a b"`,
		`authorizers[0].url: "ftp://x/"`,
		`authorizers[0].public_keys: want at least one and a token_key, or signing_disabled`,
		`authorizers[1].url: "https://"`,
		`authorizers[1].public_keys: there are some, and signing_disabled is set`,
		`authorizers[1].status: "OFF"`,
		`authorizers[2].name: "b"`,
		`authorizers[2].token_key: "x: y"`,
		`authorizers[2].default: another one is it already`,
		`authorizers[2].cache: `,
		`authorizers[2].max_calls: -1, want 1 to 4096, or 0 for 64`,
		`hooks[0].url: "…@vet.example"`,
		`hooks[0].max_calls: 5000, want`,
		`hooks[1].arn: "a"`,
	}
	if err == nil {
		t.Fatal("no error")
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), "\n"+w) {
			t.Errorf("no %q in\n%v", w, err)
		}
	}
	if strings.Contains(err.Error(), "hush") {
		t.Errorf("a key is told: %v", err)
	}
	if n := strings.Count(err.Error(), "\n"); n != len(want) {
		t.Errorf("%d errors, want %d:\n%v", n, len(want), err)
	}
	if _, err := load(t, "access = 7"); err == nil ||
		!strings.Contains(err.Error(), "access: want tables, [[access]]") {
		t.Error(err)
	}
}

// A file with a service's or a webhook's URL that has a user, a path or a query, which
// may be a key, is the owner's alone, as other files with secrets are.
func TestKeysInURLs(t *testing.T) {
	const authorizer = "[[authorizers]]\nname = \"a\"\nsigning_disabled = true\nurl = "
	const hook = "[[hooks]]\narn = \"a\"\nurl = "
	const topic = "[[topics]]\nname = \"a\"\nwebhooks = [\"https://x/\", "
	for _, c := range []struct {
		text   string
		mode   os.FileMode
		folder os.FileMode
		want   string
	}{
		{authorizer + `"https://x/"`, 0o644, 0o755, ""},
		{hook + `"https://x:8443"`, 0o644, 0o755, ""},
		{hook + `"arn:aws:lambda:eu-local-1:000000000000:function:f"` + "\n[lambda]\nenabled = true", 0o644, 0o755, ""},
		{authorizer + `"https://x/iot"`, 0o600, 0o755, ""},
		{authorizer + `"https://x/hush"`, 0o644, 0o755, "\nauthorizers[0].url: "},
		{hook + `"https://x/hush"`, 0o640, 0o755, "\nhooks[0].url: "},
		{authorizer + `"https://x/iot?code=hush"`, 0o600, 0o755, ""},
		{hook + `"https://user:hush@x/iot"`, 0o400, 0o755, ""},
		{authorizer + `"https://x/iot?code=hush"`, 0o644, 0o755, "\nauthorizers[0].url: "},
		{authorizer + `"https://hush@x/iot"`, 0o640, 0o755, "\nauthorizers[0].url: "},
		{hook + `"https://x/iot?code=hush"`, 0o604, 0o755, "\nhooks[0].url: "},
		{hook + `"https://user:hush@x/iot"`, 0o600, 0o777, "\nhooks[0].url: "},
		{topic + `"http://y"]`, 0o644, 0o755, ""},
		{topic + `"https://y/services/hush"]`, 0o600, 0o755, ""},
		{topic + `"https://y/services/hush"]`, 0o644, 0o755, "\ntopics[0].webhooks[1]: "},
		{topic + `"https://y?hush"]`, 0o640, 0o755, "\ntopics[0].webhooks[1]: "},
	} {
		folder := t.TempDir()
		path := filepath.Join(folder, "bridge.toml")
		err := errors.Join(os.WriteFile(path, []byte(c.text), 0o600), os.Chmod(path, c.mode),
			os.Chmod(folder, c.folder))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Load(path, none, nil)
		if (err == nil) != (c.want == "") || err != nil &&
			(!strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "run: chmod") ||
				!errors.Is(err, secretfile.ErrExposed) || strings.Contains(err.Error(), "hush")) {
			t.Errorf("%s, %o in %o: %v", c.text, c.mode, c.folder, err)
		}
	}
}

func TestParseAccess(t *testing.T) {
	for text, want := range map[string]string{
		"":                                    "",
		"[[access]]\nkey = \"A\"\nall = true": "",
		"[[access]]\nkey = \"A\"\nall = true\npolicies = [\"x\"]": "access[0].all",
		"[[access]]\nrole = \"A\"\nall = true":                    "access[0].all",
		"[[access]]\nall = true":                                  "access[0].key",
		"region = \"x\"":                                          "nothing else",
		"[[acess]]\nkey = \"A\"":                                  "acess: unknown key",
		"[[access]":                                               "expected",
	} {
		_, err := ParseAccess([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// A file that is no TOML is told by the line, what is wanted, and none of its text.
func TestAccessSyntax(t *testing.T) {
	for text, line := range map[string]string{
		"sesame here":                            "line 1: ",
		"[[access]]\nkey = \"A\"\n[access\n":     "line 3: ",
		"[[access]]\nkey = \"sesame\\":           "line 2: ",
		"\x00":                                   "line 1: ",
		"[[access]]\nkey = sesame\nall = true\n": "line 2: ",
	} {
		_, err := ParseAccess([]byte(text))
		if err == nil || !strings.Contains(err.Error(), line) || !strings.Contains(err.Error(), "want tables [[access]]") ||
			!strings.Contains(err.Error(), "key = value") || strings.Contains(err.Error(), "toml:") ||
			strings.Contains(err.Error(), "last key") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
