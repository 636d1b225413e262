package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/rules/rulestest"
)

// payload is a topic rule that sends what it selects to a stream.
func payload(sql, stream string) string {
	return fmt.Sprintf(`{"sql":%q,"awsIotSqlVersion":"2016-03-23","actions":[{"kinesis":{"streamName":%q,"partitionKey":"k"}}]}`,
		sql, stream)
}

// documents returns what a stream holds.
func (b *bridge) documents(stream string) []string {
	b.t.Helper()
	_, text := b.do("GET", "/v1/streams/records?name="+stream+"&from=oldest", "")
	var all []string
	for line := range strings.Lines(text) {
		_, doc, _ := strings.Cut(line, `"json":`)
		all = append(all, strings.TrimSuffix(strings.TrimSpace(doc), "}"))
	}
	return all
}

// What the API changes is in force for the next message.
func TestRulesChange(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/a.json": `{"StreamName":"out"}`,
		"streams/b.json":     `{"StreamName":"seen"}`,
		"rules/witness.json": payload("SELECT n FROM 'dt/#'", "seen")})
	b := start(t, cfg)
	d := b.connect(b.thing("dev", ""), "dev")
	n := 0
	// publish returns when rules have seen the message.
	publish := func() {
		t.Helper()
		n++
		d.publish("dt/dev/x", fmt.Sprintf(`{"n":%d}`, n))
		b.eventually("seen", func() bool { return len(b.documents("seen")) == n })
	}
	publish()
	for _, change := range []func() error{
		func() error {
			return b.topicRules.Create(t.Context(), "hot", []byte(payload("SELECT n AS a FROM 'dt/#'", "out")))
		},
		func() error { return b.topicRules.SetDisabled(t.Context(), "hot", true) },
		func() error { return b.topicRules.SetDisabled(t.Context(), "hot", false) },
		func() error {
			return b.topicRules.Replace(t.Context(), "hot", []byte(payload("SELECT n AS b FROM 'dt/#'", "out")))
		},
		func() error { return b.topicRules.Delete(t.Context(), "hot") },
	} {
		if err := change(); err != nil {
			t.Fatal(err)
		}
		publish()
	}
	if got, want := b.documents("out"), []string{`{"a":2}`, `{"a":4}`, `{"b":5}`}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, err := b.topicRules.Rule("hot"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("deleted: %v", err)
	}
}

// inForce is rulestest.InForce.
func (b *bridge) inForce(want ...string) {
	b.t.Helper()
	rulestest.InForce(b.t, b.rules, b.topicRules, want...)
}

// What is in the registry is in force after a start, as when the bridge was
// killed after it wrote it; what no longer compiles is told and stays.
func TestRulesAtStart(t *testing.T) {
	cfg := configure(t)
	good, bad := payload("SELECT 1 AS v FROM 'a'", "s"), payload("SELECT newer(1) FROM 'a'", "s")
	b := idle(t, cfg)
	b.update(func(tx *registry.Tx) error {
		for name, doc := range map[string]string{"good": good, "bad": bad, "off": good} {
			if _, err := tx.CreateRule(registry.Rule{Name: name, Document: []byte(doc),
				Disabled: name == "off"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	declareFiles(t, cfg, map[string]string{"rules/bad.json": good})
	b = start(t, cfg)
	b.inForce("good SELECT 1 AS v FROM 'a'", "off SELECT 1 AS v FROM 'a'")
	if n := strings.Count(b.log.String(), "does not compile any more"); n != 1 ||
		!strings.Contains(b.log.String(), `"rule":"bad"`) {
		t.Errorf("told %d times:\n%s", n, b.log)
	}
	r, err := b.topicRules.Rule("bad")
	if err != nil || r.Payload.SQL != "SELECT newer(1) FROM 'a'" || r.Created.IsZero() || r.Filter() != "" {
		t.Errorf("bad: %+v, %v", r, err)
	}
	if off, err := b.topicRules.Rule("off"); err != nil || !off.Disabled || !off.Payload.RuleDisabled {
		t.Errorf("off: %+v, %v", off, err)
	}
	var all []admin.RuleInfo
	b.must("GET", "/v1/rules", "", &all)
	if len(all) != 3 || all[0].Name != "bad" || !strings.Contains(all[0].Trouble, "newer") || all[1].Trouble != "" {
		t.Errorf("listed: %+v", all)
	}
	if err := b.topicRules.Create(t.Context(), "bad", []byte(good)); !errors.Is(err, registry.ErrExists) {
		t.Errorf("create in its place: %v", err)
	}
	if err := b.topicRules.SetDisabled(t.Context(), "bad", false); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("enabled: %v", err)
	}
	if err := b.topicRules.SetDisabled(t.Context(), "bad", true); err != nil {
		t.Error(err)
	}
	if r, err := b.topicRules.Rule("bad"); err != nil || !r.Disabled || b.topicRules.Trouble("bad") == nil {
		t.Errorf("disabled: %+v, %v", r, err)
	}
	before := r.Created
	if err := b.topicRules.Replace(t.Context(), "bad", []byte(payload("SELECT 2 AS v FROM 'a'", "s"))); err != nil {
		t.Fatal(err)
	}
	b.inForce("bad SELECT 2 AS v FROM 'a'", "good SELECT 1 AS v FROM 'a'", "off SELECT 1 AS v FROM 'a'")
	if r, err := b.topicRules.Rule("bad"); err != nil || !r.Created.Equal(before) || r.Disabled {
		t.Errorf("mended: %+v, %v", r, err)
	}
	if _, err := b.Reload(); err == nil || !strings.Contains(err.Error(), "rule bad was made through the API") {
		t.Errorf("a file of a name that is taken: %v", err)
	}
	if err := b.topicRules.Delete(t.Context(), "bad"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reload(); err != nil {
		t.Error(err)
	}
	b.inForce("bad SELECT 1 AS v FROM 'a'", "good SELECT 1 AS v FROM 'a'", "off SELECT 1 AS v FROM 'a'")
}

// Without its rules a bridge would pass over what the log holds for them.
func TestNoStartWithoutRules(t *testing.T) {
	b := idle(t, configure(t))
	b.update(func(tx *registry.Tx) error {
		_, err := tx.CreateRule(registry.Rule{Name: "made",
			Document: []byte(`{"sql":"SELECT * FROM 'a'","actions":[{"republish":{"topic":"b","roleArn":"r"}}]}`)})
		return err
	})
	b.rules = rules.New(b.store, rules.Options{Log: b.Server.log, Outbox: func(string) error { return errSick }})
	if err := (&assembly{Server: b.Server}).openDeclared(); err != nil {
		t.Fatal(err)
	}
	if err := b.Listen(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := b.Run(ctx); !errors.Is(err, errSick) || ctx.Err() != nil {
		t.Errorf("Run: %v", err)
	}
}

func sql(n int) string { return fmt.Sprintf("SELECT %d AS v FROM 'a'", n) }

// What waits in an outbox is delivered though its rule was deleted, or replaced
// by one without that action, and the bridge started anew.
func TestDeliveriesOutliveTheirRule(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	object := func(keys ...string) string {
		var actions []string
		for _, key := range keys {
			actions = append(actions, fmt.Sprintf(`{"s3":{"bucketName":"lake","key":%q,"roleArn":"r"}}`, key))
		}
		return fmt.Sprintf(`{"sql":"SELECT n FROM 'dt/#'","actions":[%s]}`, strings.Join(actions, ","))
	}
	inTheWay := filepath.Join(cfg.Objects.Dir, "lake")
	if err := os.Symlink("/none", inTheWay); err != nil { // a failure that may pass
		t.Fatal(err)
	}
	if err := errors.Join(b.topicRules.Create(t.Context(), "gone", []byte(object("a"))),
		b.topicRules.Create(t.Context(), "less", []byte(object("b", "c")))); err != nil {
		t.Fatal(err)
	}
	b.connect(b.thing("dev", ""), "dev").publish("dt/dev/x", `{"n":1}`)
	b.eventually("it waits", func() bool {
		gone, _ := b.store.Size("$outbox/gone/0")
		less, _ := b.store.Size("$outbox/less/1")
		return gone.Records == 1 && less.Records == 1
	})
	if err := errors.Join(b.topicRules.Delete(t.Context(), "gone"),
		b.topicRules.Replace(t.Context(), "less", []byte(object("d")))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.stop(), b.Close(), os.Remove(inTheWay)); err != nil {
		t.Fatal(err)
	}
	start(t, cfg).eventually("delivered", func() bool {
		for _, key := range []string{"a", "b", "c"} {
			if doc, err := os.ReadFile(filepath.Join(inTheWay, key)); err != nil || string(doc) != `{"n":1}` {
				return false
			}
		}
		return true
	})
}
