package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// ready asks /readyz.
func (b *bridge) ready() (code int, text string) {
	b.t.Helper()
	resp, err := http.Get("http://" + b.admin.Addr().String() + "/readyz")
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// What a file of bridge.d declared stays over a restart, though the file is
// damaged, was never synced, is a folder, or lies in a folder that is gone.
func TestDeclarationsOutliveDamage(t *testing.T) {
	names := []string{"streams/s.json", "delivery-streams/d.json", "rules/r.json", "connectors/c.json"}
	damage := map[string]func(path string) error{
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"torn": func(path string) error {
			raw, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, raw[:len(raw)/2], 0o600))
		},
		"zeroed": func(path string) error {
			raw, err := os.ReadFile(path)
			return errors.Join(err, os.WriteFile(path, make([]byte, len(raw)), 0o600))
		},
		"a folder":    func(path string) error { return errors.Join(os.Remove(path), os.Mkdir(path, 0o700)) },
		"folder gone": func(path string) error { return os.RemoveAll(filepath.Dir(path)) },
	}
	for what, do := range damage {
		t.Run(what, func(t *testing.T) {
			cfg := configure(t)
			declareFiles(t, cfg, map[string]string{
				"streams/s.json": `{"StreamName":"s","ShardCount":1}`, "delivery-streams/d.json": aDelivery,
				"rules/r.json":      payload(sql(1), "s"),
				"connectors/c.json": aConnector,
			})
			b := start(t, cfg)
			want := b.inDeclared()
			if len(want) != len(names) {
				t.Fatalf("in force: %q\n%s", want, b.log)
			}
			if err := errors.Join(b.stop(), b.Close()); err != nil {
				t.Fatal(err)
			}
			for _, n := range names {
				if err := do(filepath.Join(cfg.BridgeD.Dir, n)); err != nil {
					t.Fatal(err)
				}
			}
			for range 2 { // the damage must not take its place
				b = start(t, cfg)
				if got := b.inDeclared(); !slices.Equal(got, want) {
					t.Fatalf("in force: %q, want %q\n%s", got, want, b.log)
				}
				if code, text := b.ready(); code != 200 {
					t.Errorf("not ready: %s", text)
				}
				var refused []admin.RefusedInfo
				if b.must("GET", "/v1/refused", "", &refused); len(refused) != len(names) {
					t.Errorf("refused: %v", refused)
				}
				if !strings.Contains(b.log.String(), "what it declared before stays") {
					t.Errorf("not told:\n%s", b.log)
				}
				if err := errors.Join(b.stop(), b.Close()); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// inDeclared lists what files declared and is in force.
func (b *bridge) inDeclared() []string {
	b.t.Helper()
	var all []string
	if _, err := b.store.Describe("s"); err == nil {
		all = append(all, "stream s")
	}
	for name := range b.firehose.Stats() {
		all = append(all, "delivery "+name)
	}
	for _, r := range b.topicRules.Rules() {
		all = append(all, "rule "+r.Name+" "+r.Payload.SQL)
	}
	for _, c := range b.connectors.List() {
		all = append(all, "connector "+c.Name)
	}
	slices.Sort(all)
	return all
}

// A file that is wrong at a start, and never was right, makes the bridge not
// ready until it is mended; one that comes later does not.
func TestNotReadyWithoutDeclarations(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/s.json": `{"StreamName":"s","ShardCount":1}`,
		"rules/good.json": payload(sql(1), "s"), "rules/bad.json": "{"})
	b := idle(t, cfg).answers(cfg, 503)
	if code, text := b.ready(); code != 503 || !strings.Contains(text, filepath.Join(cfg.RulesDir(), "bad.json")) {
		t.Fatalf("%d %s", code, text)
	}
	declareFiles(t, cfg, map[string]string{"rules/bad.json": payload(sql(2), "s")})
	b.eventually("mended", func() bool { code, _ := b.ready(); return code == 200 })
	declareFiles(t, cfg, map[string]string{"rules/late.json": "{"})
	b.eventually("refused", func() bool { return b.declared.NumRefused() == 1 })
	if code, text := b.ready(); code != 200 {
		t.Errorf("%d %s", code, text)
	}
	// A file that is gone is not kept.
	if err := errors.Join(os.Remove(filepath.Join(cfg.RulesDir(), "good.json")),
		os.Remove(filepath.Join(cfg.RulesDir(), "late.json"))); err != nil {
		t.Fatal(err)
	}
	b.eventually("gone", func() bool { return len(b.topicRules.Rules()) == 1 })
	b = b.again(cfg)
	b.inForce("bad " + sql(2))
}

// A file that went while the bridge did not run is named once, with what ended
// with it. What another file declares now, and a stream, stay.
func TestGoneDeclarationsAreTold(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{
		"streams/s.json": `{"StreamName":"s","ShardCount":1}`, "delivery-streams/d.json": aDelivery,
		"connectors/c.json": aConnector,
		"rules/r.json":      payload(sql(1), "s"), "rules/moved.json": `[{"ruleName":"m","topicRulePayload":` +
			payload(sql(2), "s") + `}]`,
		"rules/bad.json": "{",
	})
	b := idle(t, cfg).answers(cfg, 503)
	if err := errors.Join(b.stop(), b.Close()); err != nil {
		t.Fatal(err)
	}
	rules := cfg.RulesDir()
	if err := os.Rename(filepath.Join(rules, "moved.json"), filepath.Join(rules, "n.json")); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"streams/s.json", "delivery-streams/d.json", "connectors/c.json", "rules/r.json",
		"rules/bad.json"} {
		if err := os.Remove(filepath.Join(cfg.BridgeD.Dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	told := func(log string) (all []string) {
		for line := range strings.Lines(log) {
			var l struct {
				Level, Msg, File string
				Ended, Stays     []string
			}
			if err := json.Unmarshal([]byte(line), &l); err != nil {
				t.Fatal(err)
			}
			if l.Msg == "a declaration is gone" {
				all = append(all, fmt.Sprint(l.Level, " ", strings.TrimPrefix(l.File, cfg.BridgeD.Dir+"/"), " ",
					l.Ended, " ", l.Stays))
			}
		}
		slices.Sort(all)
		return all
	}
	b = start(t, cfg)
	want := []string{
		"INFO rules/moved.json [] [rule m]",
		"INFO streams/s.json [] [stream s]",
		"WARN connectors/c.json [connector hot] []",
		"WARN delivery-streams/d.json [delivery stream lake] []",
		"WARN rules/r.json [rule r] []",
	}
	if got := told(b.log.String()); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if b = b.again(cfg); len(told(b.log.String())) > 0 {
		t.Errorf("told again: %q", told(b.log.String()))
	}
	if err := os.Remove(filepath.Join(rules, "n.json")); err != nil {
		t.Fatal(err)
	}
	b.eventually("gone", func() bool { return len(told(b.log.String())) > 0 })
	if got := told(b.log.String()); !slices.Equal(got, []string{"INFO rules/n.json [rule m] []"}) {
		t.Errorf("%q", got)
	}
}
