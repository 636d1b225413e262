package declare

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
)

func TestRulesRefuses(t *testing.T) {
	data := t.TempDir()
	write(t, data, map[string]string{"rules/filed.json": payload("SELECT * FROM 'a'", "s")})
	b := open(t, data)
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	good := payload("SELECT * FROM 'a'", "s")
	if err := b.rules.Create(t.Context(), "made", []byte(good)); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(b.path, "rules/filed.json")
	var syntax *iotsql.SyntaxError
	for _, c := range []struct {
		what string
		err  error
		is   error
		says string
	}{
		{"create again", b.rules.Create(t.Context(), "made", []byte(good)), registry.ErrExists, "made"},
		{"create one of a file", b.rules.Create(t.Context(), "filed", []byte(good)), registry.ErrExists, file},
		{"replace one of a file", b.rules.Replace(t.Context(), "filed", []byte(good)), registry.ErrConflict, file},
		{"delete one of a file", b.rules.Delete(t.Context(), "filed"), registry.ErrConflict, file},
		{"disable one of a file", b.rules.SetDisabled(t.Context(), "filed", true), registry.ErrConflict, file},
		{"replace none", b.rules.Replace(t.Context(), "none", []byte(good)), registry.ErrNotFound, "none"},
		{"delete none", b.rules.Delete(t.Context(), "none"), registry.ErrNotFound, "none"},
		{"enable none", b.rules.SetDisabled(t.Context(), "none", false), registry.ErrNotFound, "none"},
		{"no JSON", b.rules.Create(t.Context(), "x", []byte("{")), registry.ErrInvalid, "rule x"},
		{"bad name", b.rules.Create(t.Context(), "a-b", []byte(good)), registry.ErrInvalid, "a-b"},
		{"another's document", b.rules.Create(t.Context(), "x", []byte(`{"ruleName":"y","topicRulePayload":`+good+`}`)),
			registry.ErrInvalid, "of rule y"},
		{"no service", b.rules.Create(t.Context(), "x",
			[]byte(payload("SELECT aws_lambda('arn:aws:lambda:eu-local-1:000000000000:function:f', *) FROM 'a'", "s"))),
			registry.ErrInvalid, "aws_lambda"},
		{"bad SQL", b.rules.Replace(t.Context(), "made", []byte(payload("SELECT FROM FROM", "s"))), registry.ErrInvalid,
			"line 1, column 8"},
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

// A change is on the disk before it is in force, and what could not be put in
// force is at the next change.
func TestRulesOrder(t *testing.T) {
	data, sick := t.TempDir(), true
	var b *bridge
	b = openWith(t, data, func(string) error {
		err := b.registry.View(func(tx *registry.Tx) error { _, err := tx.Rule("first"); return err })
		if err == nil && sick {
			err = errSick
		}
		return err
	})
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	toObject := `{"sql":"SELECT * FROM 'a'","actions":[{"s3":{"bucketName":"bucket","key":"k","roleArn":"r"}}]}`
	if err := b.rules.Create(t.Context(), "first", []byte(toObject)); !errors.Is(err, errSick) {
		t.Errorf("create: %v", err)
	}
	b.inForce()
	write(t, data, map[string]string{"rules/filed.json": payload("SELECT 2 AS v FROM 'a'", "s")})
	if n, err := b.dir.Apply(true); !errors.Is(err, errSick) || n != 1 {
		t.Errorf("reload: %d, %v", n, err)
	}
	b.inForce()
	sick = false
	if err := b.rules.Create(t.Context(), "second", []byte(payload("SELECT 1 AS v FROM 'a'", "s"))); err != nil {
		t.Fatal(err)
	}
	b.inForce("filed SELECT 2 AS v FROM 'a'", "first SELECT * FROM 'a'", "second SELECT 1 AS v FROM 'a'")
	if err := b.registry.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"create":  b.rules.Create(t.Context(), "third", []byte(toObject)),
		"replace": b.rules.Replace(t.Context(), "first", []byte(payload("SELECT 1 AS v FROM 'a'", "s"))),
		"delete":  b.rules.Delete(t.Context(), "first"), "disable": b.rules.SetDisabled(t.Context(), "first", true),
	} {
		if err == nil {
			t.Errorf("%s: done without a registry", what)
		}
	}
	b.inForce("filed SELECT 2 AS v FROM 'a'", "first SELECT * FROM 'a'", "second SELECT 1 AS v FROM 'a'")
	if r, err := b.rules.Rule("first"); err != nil || r.Disabled {
		t.Errorf("first: %+v, %v", r, err)
	}
}

// Files of rules count as a whole, and the last good version of each stays.
func TestRuleFiles(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	if err := b.rules.Create(t.Context(), "made", []byte(payload(sql(0), "s"))); err != nil {
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
		{map[string]string{"many": "[" + wrapped("x", 1) + "," + wrapped("y", 1) + "]", "one": wrapped("z", 1)},
			"b=1 made=0 x=1 y=1 z=1", nil},
		{map[string]string{"many": "[" + wrapped("x", 2) + "," + wrapped("y", 2) +
			`,{"ruleName":"q","topicRulePayload":{"sql":"SELECT"}}]`},
			"b=1 made=0 x=1 y=1 z=1", []string{"many.json: [2]: rule q: sql"}},
		{map[string]string{"many": "[" + wrapped("x", 3) + "," + wrapped("made", 3) + "]"},
			"b=1 made=0 x=1 y=1 z=1", []string{"many.json: rule made was made through the API"}},
		{map[string]string{"many": "[" + wrapped("x", 3) + "," + wrapped("x", 4) + "]"}, "b=1 made=0 x=1 y=1 z=1",
			[]string{"many.json: [1]: rule x is in this file twice"}},
		{map[string]string{"many": "[" + plain(3) + "]"}, "b=1 made=0 x=1 y=1 z=1",
			[]string{`many.json: [0]: want {"ruleName": …`}},
		{map[string]string{"many": "[" + wrapped("x", 3) + "] []"}, "b=1 made=0 x=1 y=1 z=1",
			[]string{"many.json: line 1, column 167: want one JSON value and no more"}},
		{map[string]string{"many": "[" + wrapped("x", 5) + "]"}, "b=1 made=0 x=5 z=1", nil},
		// The one that is in force stays, also against one that sorts before it.
		{map[string]string{"a": wrapped("b", 9)}, "b=1 made=0 x=5 z=1",
			[]string{"a.json: rule b is in " + filepath.Join(b.path, "rules/b.json")}},
		{map[string]string{"b": "{"}, "b=1 made=0 x=5 z=1", []string{"a.json: rule b is in", "b.json: rule b"}},
		{map[string]string{"b": plain(8) + plain(9)}, "b=1 made=0 x=5 z=1",
			[]string{"a.json: rule b is in", "b.json: rule b: line 1, column 127: no JSON: unexpected '{'"}},
		{map[string]string{"b": " \n"}, "b=1 made=0 x=5 z=1",
			[]string{"a.json: rule b is in", "b.json: rule b: the document is empty"}},
		{map[string]string{"b": "{\n\"actions\":[]}"}, "b=1 made=0 x=5 z=1",
			[]string{"a.json: rule b is in", "b.json: rule b: sql: it is missing"}},
		{map[string]string{"b": "{\n\"sql\" 1}"}, "b=1 made=0 x=5 z=1",
			[]string{"a.json: rule b is in", "b.json: rule b: line 2, column 7: no JSON: unexpected '1'"}},
		{map[string]string{"b": gone}, "b=9 made=0 x=5 z=1", nil},
		// A rule moves from one file to the other.
		{map[string]string{"many": "[]", "one": "[" + wrapped("x", 6) + "," + wrapped("z", 6) + "]"},
			"b=9 made=0 x=6 z=6", nil},
		{map[string]string{"a": "{", "many": wrapped("b", 7)}, "b=9 made=0 x=6 z=6",
			[]string{"a.json", "many.json: rule b is in"}},
		{map[string]string{"a": gone, "many": gone, "one": gone, ".hidden": "{", ".#x": "{"}, "made=0", nil},
	} {
		for name, doc := range step.files {
			if path := filepath.Join(b.path, "rules", name+".json"); doc == gone {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			} else {
				write(t, data, map[string]string{"rules/" + name + ".json": doc})
			}
		}
		_, err := b.dir.Apply(true)
		said := ""
		if err != nil {
			said = err.Error()
		}
		for _, want := range step.refused {
			if !strings.Contains(said, want) {
				t.Errorf("step %d: no %q in %s", i, want, said)
			}
		}
		if lines := strings.Count(said, b.path+"/rules/") - strings.Count(said, " is in "+
			b.path); lines != len(step.refused) {
			t.Errorf("step %d: %d files refused, want %d: %s", i, lines, len(step.refused), said)
		}
		if got := b.dir.NumRefused(); got != int64(len(step.refused)) {
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
	data := t.TempDir()
	write(t, data, map[string]string{"rules/a.json": payload(sql(1), "s"), "rules/b.json": payload(sql(1), "s")})
	b := open(t, data)
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	first := b.engine.Rules()
	write(t, data, map[string]string{"rules/b.json": payload(sql(2), "s")})
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	second := b.engine.Rules()
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
	data := t.TempDir()
	write(t, data, map[string]string{"rules/a.json": payload(sql(1), "s"), "rules/link.json": payload(sql(1), "s")})
	b := open(t, data)
	if _, err := b.dir.Apply(true); err != nil {
		t.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(b.path, name) }
	if err := errors.Join(
		syscall.Mkfifo(at("rules/pipe.json"), 0o600), syscall.Mkfifo(at("streams/pipe.json"), 0o600),
		os.Symlink("/dev/zero", at("rules/zero.json")), os.Mkdir(at("rules/folder.json"), 0o700),
		os.WriteFile(at("rules/large.json"), nil, 0o600), os.Truncate(at("rules/large.json"), maxDeclaration+1),
		os.Remove(at("rules/link.json")), os.Symlink("nowhere", at("rules/link.json")),
	); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { _, err := b.dir.Apply(true); done <- err }()
	var err error
	select {
	case err = <-done:
	case <-time.After(patience):
		t.Fatal("the reload waits")
	}
	for _, want := range []string{"rules/pipe.json: p", "streams/pipe.json: p", "rules/zero.json: D",
		"rules/folder.json: d", "rules/large.json: 16777217 bytes", "rules/link.json: "} {
		if !strings.Contains(fmt.Sprint(err), at(want)) {
			t.Errorf("no %s in %v", want, err)
		}
	}
	b.inForce("a "+sql(1), "link "+sql(1))
	// A folder that cannot be read is not one that is empty.
	if err := errors.Join(os.Rename(at("rules"), at("away")), os.WriteFile(at("rules"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if n, err := b.dir.Apply(true); err == nil || !strings.Contains(err.Error(), "rules") || n != 2 {
		t.Errorf("no folder: %d, %v", n, err)
	}
	b.inForce("a "+sql(1), "link "+sql(1))
	if err := os.Remove(at("rules")); err != nil {
		t.Fatal(err)
	}
	// Nor is one that is gone, perhaps since it is not mounted.
	if n, err := b.dir.Apply(true); err == nil || !strings.Contains(err.Error(), "make an empty one") || n != 2 {
		t.Errorf("no folder: %d, %v", n, err)
	}
	b.inForce("a "+sql(1), "link "+sql(1))
	if err := os.Mkdir(at("rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	if n, err := b.dir.Apply(true); err == nil || n != 0 { // of streams/pipe.json
		t.Errorf("an empty folder: %d, %v", n, err)
	}
	b.inForce()
}

// At a start without a readable folder the rules of the API are in force.
func TestUnreadableFolderAtStart(t *testing.T) {
	data := t.TempDir()
	b := open(t, data)
	if err := b.rules.Create(t.Context(), "made", []byte(payload(sql(0), "s"))); err != nil {
		t.Fatal(err)
	}
	b.close()
	b = open(t, data)
	dir := filepath.Join(b.path, "rules")
	if err := errors.Join(os.Remove(dir), os.WriteFile(dir, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.dir.Apply(true); err == nil {
		t.Error("no error")
	}
	b.inForce("made " + sql(0))
}

// A file that may be meant as a declaration and is none by its name is told once.
func TestNotReadIsTold(t *testing.T) {
	b := open(t, t.TempDir())
	var log strings.Builder
	b.dir.opts.Log = slog.New(slog.NewTextHandler(&log, nil))
	for _, name := range []string{"rules/hot.yaml", "connectors/c.toml", "rules/.hidden.yaml", "rules/hot.json~"} {
		if err := os.WriteFile(filepath.Join(b.path, name), []byte("a: b"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if _, err := b.dir.Apply(false); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"hot.yaml", "c.toml"} {
		if n := strings.Count(log.String(), name); n != 1 {
			t.Errorf("%s is told %d times\n%s", name, n, &log)
		}
	}
	if n := strings.Count(log.String(), "not read"); n != 2 {
		t.Errorf("%d files are told\n%s", n, &log)
	}
}
