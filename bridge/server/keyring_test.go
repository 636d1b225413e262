package server

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

const (
	mallory = "[mallory]\naws_access_key_id=AKIAMALLORY\naws_secret_access_key=secret\n"
	granted = "[[access]]\nkey = \"AKIAMALLORY\"\n"
)

// doors asks everything that takes access keys, and says what let k in.
func (b *bridge) doors(k sigv4test.Key) []string {
	b.t.Helper()
	var open []string
	_ = b.registry.Update(func(tx *registry.Tx) error { return tx.CreateThing(registry.Thing{Name: "t"}) }) // once
	for _, c := range []struct{ name, service, method, path, body string }{
		{"rules", "iot", "GET", "/rules", ""},
		{"registry", "iot", "GET", "/things", ""},
		{"data plane", "iotdata", "POST", "/topics/open", "x"},
		{"shadows", "iotdata", "POST", "/things/t/shadow", `{"state":{"desired":{"a":1}}}`},
	} {
		r := b.requester(c.service, nil)
		if status, _, _ := r.as(k, c.method, c.path, c.body); status == 200 {
			open = append(open, c.name)
		}
	}
	if resp, _, err := b.askAs(k, speaking(true, false, false), "https", "ListStreams", "{}"); err == nil &&
		resp.StatusCode == 200 {
		open = append(open, "streams")
	}
	url, h := b.signedAs(k, sigv4test.Python1, time.Now())
	d := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, "ws-"+k.ID)
	if d.wait(d.Connect()) == nil {
		open = append(open, "WebSocket")
		d.Disconnect(0)
	}
	return open
}

var allDoors = []string{"rules", "registry", "data plane", "shadows", "streams", "WebSocket"}

// A key may do nothing until it is granted something. Keys and grants, of the
// data directory and of the configuration, are read together by a reload.
func TestKeysAreDeniedUnlessGranted(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	first, other := b.key(), sigv4test.Key{ID: "AKIAMALLORY", Secret: "secret"}
	want := func(k sigv4test.Key, doors ...string) {
		t.Helper()
		if got := b.doors(k); !slices.Equal(got, doors) {
			t.Errorf("%s: %q, want %q", k.ID, got, doors)
		}
	}
	want(first, allDoors...)
	keys, err := os.ReadFile(pki.AccessKeysFile(filepath.Join(cfg.DataDir, "pki")))
	if err != nil {
		t.Fatal(err)
	}
	b.changeKeys(string(keys) + mallory)
	want(first, allDoors...)
	want(other)
	if !strings.Contains(b.log.String(), `an access key may do nothing`) ||
		!strings.Contains(b.log.String(), `"key":"AKIAMALLORY","profile":"mallory"`) {
		t.Error("no warning of a key without a grant")
	}

	cfg.Access = []config.Access{{Key: other.ID, Policies: []string{"open"}}, {Key: "AKIAGONE", All: true}}
	b.must("PUT", "/v1/policies/open", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow",`+
		`"Action":["iot:Connect","iot:Publish"],"Resource":"*"}]}`,
		nil)
	want(other) // not read yet
	b.must("POST", "/v1/reload", "", nil)
	want(other, "data plane", "WebSocket")
	if !strings.Contains(b.log.String(), `to a key that is not there","key":"AKIAGONE"`) {
		t.Error("no warning of a grant without a key")
	}

	// What the configuration says counts before the file of the data directory.
	b.writeGrants(granted + "all = true\n")
	b.must("POST", "/v1/reload", "", nil)
	want(other, "data plane", "WebSocket")
	want(first) // its grant is gone from the file
	cfg.Access = nil
	b.must("POST", "/v1/reload", "", nil)
	want(other, allDoors...)

	// A mistake in either leaves both as they were.
	b.writeGrants("[[access]]\nkey = 1\n")
	b.writeKeys("[x]\naws_access_key_id=AKIAX\naws_secret_access_key=x\n")
	if code, text := b.do("POST", "/v1/reload", ""); code != 400 ||
		!strings.Contains(text, "access.toml: access[0].key") {
		t.Errorf("%d %s", code, text)
	}
	want(other, allDoors...)
}

// Live connections lose with a reload what was taken from their key.
func TestRevokedKeysEndWebSockets(t *testing.T) {
	b := start(t, configure(t))
	url, h := b.signed(sigv4test.Python1, time.Now())
	d := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, "app")
	d.ok(d.Connect())
	b.writeGrants("")
	b.must("POST", "/v1/reload", "", nil)
	d.ends()
}

// The key of a data directory from before there were grants keeps what it had,
// once, in so many words. Others, and one that [[access]] names, get nothing.
func TestGrantsOfOlderDataDirectories(t *testing.T) {
	for _, c := range []struct {
		name      string
		keys      string // "": those of the first start
		narrow    bool   // [[access]] names the key of the first start
		wantFirst bool
	}{
		{"one key", "", false, true},
		{"held to policies", "", true, false},
		{"two keys", mallory, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := configure(t)
			b := start(t, cfg)
			first, dir := b.key(), filepath.Join(cfg.DataDir, "pki")
			if err := errors.Join(b.stop(), b.Close(), os.Remove(pki.GrantsFile(dir))); err != nil {
				t.Fatal(err)
			}
			forget(t, cfg)
			if c.keys != "" {
				old, err := os.ReadFile(pki.AccessKeysFile(dir))
				if err != nil {
					t.Fatal(err)
				}
				b.writeKeys(string(old) + c.keys)
			}
			if c.narrow {
				cfg.Access = []config.Access{{Key: first.ID}}
			}
			may := func(b *bridge, id string) bool {
				return b.keys.Granted(id).All
			}
			b = idle(t, cfg) // a query
			_, err := os.Stat(pki.GrantsFile(dir))
			if may(b, first.ID) || err == nil || strings.Contains(b.log.String(), "may do") {
				t.Errorf("a query has granted: %v\n%s", err, b.log)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			b = start(t, cfg)
			if may(b, first.ID) != c.wantFirst || may(b, "AKIAMALLORY") {
				t.Errorf("first %v, other %v", may(b, first.ID), may(b, "AKIAMALLORY"))
			}
			if n := strings.Count(b.log.String(), "from now on what is granted"); n != 1 {
				t.Errorf("told %d times", n)
			}
			text, err := os.ReadFile(pki.GrantsFile(dir))
			if err != nil || strings.Contains(string(text), first.ID) != c.wantFirst {
				t.Errorf("%v\n%s", err, text)
			}
			// What is taken away does not come back.
			b.writeGrants("")
			if err := errors.Join(b.stop(), b.Close()); err != nil {
				t.Fatal(err)
			}
			b = start(t, cfg)
			if may(b, first.ID) || strings.Contains(b.log.String(), "from now on what is granted") {
				t.Error("granted again")
			}
		})
	}
}

// A file of grants that was taken away grants nothing, and no reload, start or
// query writes it again.
func TestGrantsTakenAwayStayAway(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	first, file := b.key(), pki.GrantsFile(filepath.Join(cfg.DataDir, "pki"))
	without := func(how string) {
		t.Helper()
		if b.keys.Granted(first.ID).All {
			t.Errorf("%s: granted again", how)
		}
		if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: the file is there again: %v", how, err)
		}
		told := strings.Contains(b.log.String(), "the file of what access keys may do is missing")
		if told != (how != "query") { // which only wants its answer
			t.Errorf("%s: told %v", how, told)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.must("POST", "/v1/reload", "", nil)
	without("reload")
	b = b.again(cfg)
	without("restart")
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	b = idle(t, cfg)
	without("query")
}
