package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// payload is a topic rule that sends what it selects to a stream.
func payload(sql, stream string) string {
	return fmt.Sprintf(`{"sql":%q,"awsIotSqlVersion":"2016-03-23","actions":[{"kinesis":{"streamName":%q,"partitionKey":"k"}}]}`, sql, stream)
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
func TestRulebookChanges(t *testing.T) {
	cfg := configure(t)
	declare(t, cfg, map[string]string{"streams/a.json": `{"StreamName":"out"}`, "streams/b.json": `{"StreamName":"seen"}`,
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
		func() error { return b.topicRules.Create("hot", []byte(payload("SELECT n AS a FROM 'dt/#'", "out"))) },
		func() error { return b.topicRules.SetDisabled("hot", true) },
		func() error { return b.topicRules.SetDisabled("hot", false) },
		func() error { return b.topicRules.Replace("hot", []byte(payload("SELECT n AS b FROM 'dt/#'", "out"))) },
		func() error { return b.topicRules.Delete("hot") },
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

func TestRulebookRefuses(t *testing.T) {
	cfg := configure(t)
	declare(t, cfg, map[string]string{"rules/filed.json": payload("SELECT * FROM 'a'", "s")})
	b := idle(t, cfg)
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	good := payload("SELECT * FROM 'a'", "s")
	if err := b.topicRules.Create("made", []byte(good)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(cfg.BridgeD.Dir, "rules/filed.json")
	var syntax *iotsql.SyntaxError
	for _, c := range []struct {
		what string
		err  error
		is   error
		says string
	}{
		{"create again", b.topicRules.Create("made", []byte(good)), registry.ErrExists, "made"},
		{"create one of a file", b.topicRules.Create("filed", []byte(good)), registry.ErrExists, file},
		{"replace one of a file", b.topicRules.Replace("filed", []byte(good)), registry.ErrConflict, file},
		{"delete one of a file", b.topicRules.Delete("filed"), registry.ErrConflict, file},
		{"disable one of a file", b.topicRules.SetDisabled("filed", true), registry.ErrConflict, file},
		{"replace none", b.topicRules.Replace("none", []byte(good)), registry.ErrNotFound, "none"},
		{"delete none", b.topicRules.Delete("none"), registry.ErrNotFound, "none"},
		{"enable none", b.topicRules.SetDisabled("none", false), registry.ErrNotFound, "none"},
		{"no JSON", b.topicRules.Create("x", []byte("{")), registry.ErrInvalid, "rule x"},
		{"bad name", b.topicRules.Create("a-b", []byte(good)), registry.ErrInvalid, "a-b"},
		{"another's document", b.topicRules.Create("x", []byte(`{"ruleName":"y","topicRulePayload":`+good+`}`)), registry.ErrInvalid, "of rule y"},
		{"no service", b.topicRules.Create("x", []byte(payload("SELECT aws_lambda('arn:aws:lambda:eu-local-1:000000000000:function:f', *) FROM 'a'", "s"))), registry.ErrInvalid, "aws_lambda"},
		{"bad SQL", b.topicRules.Replace("made", []byte(payload("SELECT FROM FROM", "s"))), registry.ErrInvalid, "line 1, column 8"},
	} {
		if !errors.Is(c.err, c.is) || !strings.Contains(c.err.Error(), c.says) {
			t.Errorf("%s: %v, want %v and %q", c.what, c.err, c.is, c.says)
		}
		if c.what == "bad SQL" && !errors.As(c.err, &syntax) {
			t.Errorf("%s: no syntax error in %v", c.what, c.err)
		}
	}
	b.inForce("filed SELECT * FROM 'a'", "made SELECT * FROM 'a'")
}

// inForce wants what the engine has, as "name SQL", in order, and that the
// book lists the same.
func (b *bridge) inForce(want ...string) {
	b.t.Helper()
	names := func(all []*rules.Rule) []string {
		got := []string{}
		for _, r := range all {
			got = append(got, r.Name+" "+r.Payload.SQL)
		}
		return got
	}
	if got := names(b.rules.Rules()); !slices.Equal(got, want) {
		b.t.Errorf("in force %q, want %q", got, want)
	}
	listed := slices.DeleteFunc(slices.Clone(b.topicRules.Rules()), func(r *rules.Rule) bool { return r.File == "" && b.topicRules.Trouble(r.Name) != nil })
	if got := names(listed); !slices.Equal(got, want) {
		b.t.Errorf("listed %q, want %q", got, want)
	}
}

// What is in the registry is in force after a start, as when the bridge was
// killed after it wrote it; what no longer compiles is told and stays.
func TestRulebookStart(t *testing.T) {
	cfg := configure(t)
	good, bad := payload("SELECT 1 AS v FROM 'a'", "s"), payload("SELECT newer(1) FROM 'a'", "s")
	b := idle(t, cfg)
	b.update(func(tx *registry.Tx) error {
		for name, doc := range map[string]string{"good": good, "bad": bad, "off": good} {
			if _, err := tx.CreateRule(registry.Rule{Name: name, Document: []byte(doc), Disabled: name == "off"}); err != nil {
				return err
			}
		}
		return nil
	})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	declare(t, cfg, map[string]string{"rules/bad.json": good})
	b = start(t, cfg)
	b.inForce("good SELECT 1 AS v FROM 'a'", "off SELECT 1 AS v FROM 'a'")
	if n := strings.Count(b.log.String(), "does not compile any more"); n != 1 || !strings.Contains(b.log.String(), `"rule":"bad"`) {
		t.Errorf("told %d times:\n%s", n, b.log)
	}
	r, err := b.topicRules.Rule("bad")
	if err != nil || r.Payload.SQL != "SELECT newer(1) FROM 'a'" || r.Created.IsZero() || r.Filter() != "" {
		t.Errorf("bad: %+v, %v", r, err)
	}
	if off, err := b.topicRules.Rule("off"); err != nil || !off.Disabled || !off.Payload.RuleDisabled {
		t.Errorf("off: %+v, %v", off, err)
	}
	var all []RuleInfo
	b.must("GET", "/v1/rules", "", &all)
	if len(all) != 3 || all[0].Name != "bad" || !strings.Contains(all[0].Trouble, "newer") || all[1].Trouble != "" {
		t.Errorf("listed: %+v", all)
	}
	if err := b.topicRules.Create("bad", []byte(good)); !errors.Is(err, registry.ErrExists) {
		t.Errorf("create in its place: %v", err)
	}
	if err := b.topicRules.SetDisabled("bad", false); !errors.Is(err, registry.ErrInvalid) {
		t.Errorf("enabled: %v", err)
	}
	if err := b.topicRules.SetDisabled("bad", true); err != nil {
		t.Error(err)
	}
	if r, err := b.topicRules.Rule("bad"); err != nil || !r.Disabled || b.topicRules.Trouble("bad") == nil {
		t.Errorf("disabled: %+v, %v", r, err)
	}
	before := r.Created
	if err := b.topicRules.Replace("bad", []byte(payload("SELECT 2 AS v FROM 'a'", "s"))); err != nil {
		t.Fatal(err)
	}
	b.inForce("bad SELECT 2 AS v FROM 'a'", "good SELECT 1 AS v FROM 'a'", "off SELECT 1 AS v FROM 'a'")
	if r, err := b.topicRules.Rule("bad"); err != nil || !r.Created.Equal(before) || r.Disabled {
		t.Errorf("mended: %+v, %v", r, err)
	}
	if _, err := b.Reload(); err == nil || !strings.Contains(err.Error(), "rule bad was made through the API") {
		t.Errorf("a file of a name that is taken: %v", err)
	}
	if err := b.topicRules.Delete("bad"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reload(); err != nil {
		t.Error(err)
	}
	b.inForce("bad SELECT 1 AS v FROM 'a'", "good SELECT 1 AS v FROM 'a'", "off SELECT 1 AS v FROM 'a'")
}

// A change is on the disk before it is in force, and what could not be put in
// force is at the next change.
func TestRulebookOrder(t *testing.T) {
	b := idle(t, configure(t))
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	sick := true
	toObject := `{"sql":"SELECT * FROM 'a'","actions":[{"s3":{"bucketName":"bucket","key":"k","roleArn":"r"}}]}`
	b.rules = rules.New(b.store, rules.Options{Log: b.Server.log, Outbox: func(string) error {
		err := b.registry.View(func(tx *registry.Tx) error { _, err := tx.Rule("first"); return err })
		if err == nil && sick {
			err = errSick
		}
		return err
	}})
	b.topicRules.opts.Engine = b.rules
	if err := b.topicRules.Create("first", []byte(toObject)); !errors.Is(err, errSick) {
		t.Errorf("create: %v", err)
	}
	b.inForce()
	declare(t, b.cfg, map[string]string{"rules/filed.json": payload("SELECT 2 AS v FROM 'a'", "s")})
	if n, err := b.Reload(); !errors.Is(err, errSick) || n != 1 {
		t.Errorf("reload: %d, %v", n, err)
	}
	b.inForce()
	sick = false
	if err := b.topicRules.Create("second", []byte(payload("SELECT 1 AS v FROM 'a'", "s"))); err != nil {
		t.Fatal(err)
	}
	b.inForce("filed SELECT 2 AS v FROM 'a'", "first SELECT * FROM 'a'", "second SELECT 1 AS v FROM 'a'")
	if err := b.registry.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"create": b.topicRules.Create("third", []byte(toObject)), "replace": b.topicRules.Replace("first", []byte(payload("SELECT 1 AS v FROM 'a'", "s"))),
		"delete": b.topicRules.Delete("first"), "disable": b.topicRules.SetDisabled("first", true),
	} {
		if err == nil {
			t.Errorf("%s: done without a registry", what)
		}
	}
	b.inForce("filed SELECT 2 AS v FROM 'a'", "first SELECT * FROM 'a'", "second SELECT 1 AS v FROM 'a'")
	if r, err := b.topicRules.Rule("first"); err != nil || r.Disabled {
		t.Errorf("first: %+v, %v", r, err)
	}
}

// Without its rules a bridge would pass over what the log holds for them.
func TestNoStartWithoutRules(t *testing.T) {
	b := idle(t, configure(t))
	b.update(func(tx *registry.Tx) error {
		_, err := tx.CreateRule(registry.Rule{Name: "made", Document: []byte(`{"sql":"SELECT * FROM 'a'","actions":[{"republish":{"topic":"b","roleArn":"r"}}]}`)})
		return err
	})
	b.rules = rules.New(b.store, rules.Options{Log: b.Server.log, Outbox: func(string) error { return errSick }})
	b.topicRules.opts.Engine = b.rules
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

func wrapped(name string, n int) string {
	return fmt.Sprintf(`{"ruleName":%q,"topicRulePayload":%s}`, name, payload(sql(n), "s"))
}

// Files of rules count as a whole, and the last good version of each stays.
func TestRuleFiles(t *testing.T) {
	cfg := configure(t)
	b := idle(t, cfg)
	if err := b.topicRules.Create("made", []byte(payload(sql(0), "s"))); err != nil {
		t.Fatal(err)
	}
	plain := func(n int) string { return payload(sql(n), "s") }
	const gone = "gone"
	for i, step := range []struct {
		files   map[string]string
		force   string // rule=version
		refused []string
	}{
		{map[string]string{"b": plain(1)}, "b=1 made=0", nil},
		{map[string]string{"many": "[" + wrapped("x", 1) + "," + wrapped("y", 1) + "]", "one": wrapped("z", 1)}, "b=1 made=0 x=1 y=1 z=1", nil},
		{map[string]string{"many": "[" + wrapped("x", 2) + "," + wrapped("y", 2) + `,{"ruleName":"q","topicRulePayload":{"sql":"SELECT"}}]`},
			"b=1 made=0 x=1 y=1 z=1", []string{"many.json: [2]: rule q: sql"}},
		{map[string]string{"many": "[" + wrapped("x", 3) + "," + wrapped("made", 3) + "]"},
			"b=1 made=0 x=1 y=1 z=1", []string{"many.json: rule made was made through the API"}},
		{map[string]string{"many": "[" + wrapped("x", 3) + "," + wrapped("x", 4) + "]"}, "b=1 made=0 x=1 y=1 z=1", []string{"many.json: [1]: rule x is in this file twice"}},
		{map[string]string{"many": "[" + plain(3) + "]"}, "b=1 made=0 x=1 y=1 z=1", []string{`many.json: [0]: want {"ruleName": …`}},
		{map[string]string{"many": "[" + wrapped("x", 3) + "] []"}, "b=1 made=0 x=1 y=1 z=1", []string{"many.json: want one JSON value"}},
		{map[string]string{"many": "[" + wrapped("x", 5) + "]"}, "b=1 made=0 x=5 z=1", nil},
		// The one that is in force stays, also against one that sorts before it.
		{map[string]string{"a": wrapped("b", 9)}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in " + filepath.Join(cfg.BridgeD.Dir, "rules/b.json")}},
		{map[string]string{"b": "{"}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in", "b.json: rule b"}},
		{map[string]string{"b": plain(8) + plain(9)}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in", "b.json: rule b: it is no JSON: line 1"}},
		{map[string]string{"b": " \n"}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in", "b.json: rule b: the document is empty"}},
		{map[string]string{"b": "{\n\"actions\":[]}"}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in", "b.json: rule b: sql: it is missing"}},
		{map[string]string{"b": "{\n\"sql\" 1}"}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in", "b.json: rule b: it is no JSON: line 2"}},
		{map[string]string{"b": gone}, "b=9 made=0 x=5 z=1", nil},
		// A rule moves from one file to the other.
		{map[string]string{"many": "[]", "one": "[" + wrapped("x", 6) + "," + wrapped("z", 6) + "]"}, "b=9 made=0 x=6 z=6", nil},
		{map[string]string{"a": "{", "many": wrapped("b", 7)}, "b=9 made=0 x=6 z=6", []string{"a.json", "many.json: rule b is in"}},
		{map[string]string{"a": gone, "many": gone, "one": gone, ".hidden": "{", ".#x": "{"}, "made=0", nil},
	} {
		for name, doc := range step.files {
			if path := filepath.Join(cfg.BridgeD.Dir, "rules", name+".json"); doc == gone {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				declare(t, cfg, map[string]string{"rules/" + name + ".json": doc})
			}
		}
		_, err := b.Reload()
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, want := range step.refused {
			if !strings.Contains(said, want) {
				t.Errorf("step %d: no %q in %s", i, want, said)
			}
		}
		if lines := strings.Count(said, cfg.BridgeD.Dir+"/rules/") - strings.Count(said, " is in "+cfg.BridgeD.Dir); lines != len(step.refused) {
			t.Errorf("step %d: %d files refused, want %d: %s", i, lines, len(step.refused), said)
		}
		if got := b.declared.NumRefused(); got != int64(len(step.refused)) {
			t.Errorf("step %d: the metric says %d", i, got)
		}
		var want []string
		for _, f := range strings.Fields(step.force) {
			name, n, _ := strings.Cut(f, "=")
			want = append(want, fmt.Sprintf("%s SELECT %s AS v FROM 'a'", name, n))
		}
		b.inForce(want...)
	}
}

// A rule whose file did not change stays the same one, with its counts and
// what is remembered of it.
func TestUnchangedRuleStays(t *testing.T) {
	cfg := configure(t)
	declare(t, cfg, map[string]string{"rules/a.json": payload(sql(1), "s"), "rules/b.json": payload(sql(1), "s")})
	b := idle(t, cfg)
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	first := b.rules.Rules()
	declare(t, cfg, map[string]string{"rules/b.json": payload(sql(2), "s")})
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	second := b.rules.Rules()
	if first[0] != second[0] || first[1] == second[1] || second[1].Payload.SQL != sql(2) {
		t.Errorf("%p %p, then %p %p", first[0], first[1], second[0], second[1])
	}
	info, err := os.Stat(second[0].File)
	if err != nil || !second[0].Created.Equal(info.ModTime()) {
		t.Errorf("created %v, the file %v, %v", second[0].Created, info, err)
	}
}

// Nothing in bridge.d makes a reload wait, or loses what is in force.
func TestOddFiles(t *testing.T) {
	cfg := configure(t)
	declare(t, cfg, map[string]string{"rules/a.json": payload(sql(1), "s"), "rules/link.json": payload(sql(1), "s")})
	b := idle(t, cfg)
	if _, err := b.Reload(); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(cfg.BridgeD.Dir, name) }
	if err := errors.Join(
		syscall.Mkfifo(at("rules/pipe.json"), 0o600), syscall.Mkfifo(at("streams/pipe.json"), 0o600),
		os.Symlink("/dev/zero", at("rules/zero.json")), os.Mkdir(at("rules/folder.json"), 0o700),
		os.WriteFile(at("rules/large.json"), nil, 0o600), os.Truncate(at("rules/large.json"), maxDeclaration+1),
		os.Remove(at("rules/link.json")), os.Symlink("nowhere", at("rules/link.json")),
	); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := b.Reload(); done <- err }()
	var err error
	select {
	case err = <-done:
	case <-time.After(patience):
		t.Fatal("the reload waits")
	}
	for _, want := range []string{"rules/pipe.json: p", "streams/pipe.json: p", "rules/zero.json: D", "rules/folder.json: d", "rules/large.json: 16777217 bytes", "rules/link.json: "} {
		if !strings.Contains(fmt.Sprint(err), at(want)) {
			t.Errorf("no %s in %v", want, err)
		}
	}
	b.inForce("a "+sql(1), "link "+sql(1))
	// A folder that cannot be read is not one that is empty.
	if err := errors.Join(os.Rename(at("rules"), at("away")), os.WriteFile(at("rules"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Reload(); err == nil || !strings.Contains(err.Error(), "rules") || n != 2 {
		t.Errorf("no folder: %d, %v", n, err)
	}
	b.inForce("a "+sql(1), "link "+sql(1))
	if err := os.Remove(at("rules")); err != nil {
		t.Fatal(err)
	}
	// Nor is one that is gone, perhaps since it is not mounted.
	if n, err := b.Reload(); err == nil || !strings.Contains(err.Error(), "make an empty one") || n != 2 {
		t.Errorf("no folder: %d, %v", n, err)
	}
	b.inForce("a "+sql(1), "link "+sql(1))
	if err := os.Mkdir(at("rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := b.Reload(); err == nil || n != 0 { // of streams/pipe.json
		t.Errorf("an empty folder: %d, %v", n, err)
	}
	b.inForce()
}

// At a start without a readable folder the rules of the API are in force.
func TestUnreadableFolderAtStart(t *testing.T) {
	cfg := configure(t)
	b := idle(t, cfg)
	if err := b.topicRules.Create("made", []byte(payload(sql(0), "s"))); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = idle(t, cfg)
	dir := cfg.RulesDir()
	if err := errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Reload(); err == nil {
		t.Error("no error")
	}
	b.inForce("made " + sql(0))
}

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
	if err := errors.Join(b.topicRules.Create("gone", []byte(object("a"))), b.topicRules.Create("less", []byte(object("b", "c")))); err != nil {
		t.Fatal(err)
	}
	b.connect(b.thing("dev", ""), "dev").publish("dt/dev/x", `{"n":1}`)
	b.eventually("it waits", func() bool {
		gone, _ := b.store.Size("$outbox/gone/0")
		less, _ := b.store.Size("$outbox/less/1")
		return gone.Records == 1 && less.Records == 1
	})
	if err := errors.Join(b.topicRules.Delete("gone"), b.topicRules.Replace("less", []byte(object("d")))); err != nil {
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
