package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Files as editors and Kubernetes write them come into force by themselves,
// and a wrong one is told of once.
func TestWatch(t *testing.T) {
	cfg := configure(t)
	b := start(t, cfg)
	dir := cfg.RulesDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	write := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	must := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	in := func(want string) {
		t.Helper()
		b.eventually("in force: "+want, func() bool {
			var got []string
			for _, r := range b.rules.Rules() {
				got = append(got, r.Name+
					strings.TrimSuffix(strings.TrimPrefix(r.Payload.SQL, "SELECT "), " AS v FROM 'a'"))
			}
			return strings.Join(got, " ") == want
		})
	}
	doc := func(n int) string { return payload(sql(n), "s") }

	write(at("a.json"), doc(1))
	in("a1")
	write(at(".a.json.new"), doc(2)) // an editor's write and rename
	must(os.Rename(at(".a.json.new"), at("a.json")))
	in("a2")

	f, err := os.Create(at("a.json")) // in two halves, slowly
	must(err)
	_, err = f.WriteString(doc(3)[:20])
	must(err)
	b.eventually("the half is refused", func() bool { return b.declared.NumRefused() == 1 })
	in("a2")
	_, err = f.WriteString(doc(3)[20:])
	must(err, f.Close())
	in("a3")
	b.eventually("nothing is refused", func() bool { return b.declared.NumRefused() == 0 })

	// A ConfigMap: names are links to ..data, which is a link that is swapped.
	must(os.Mkdir(at("..1"), 0o700), os.Mkdir(at("..2"), 0o700))
	write(at("..1/map.json"), doc(1))
	write(at("..2/map.json"), doc(2))
	must(os.Symlink("..1", at("..data")), os.Symlink("..data/map.json", at("map.json")))
	in("a3 map1")
	must(os.Symlink("..2", at("..data_tmp")), os.Rename(at("..data_tmp"), at("..data")), os.RemoveAll(at("..1")))
	in("a3 map2")

	write(at("bad.json"), "{")
	b.eventually("a bad one is refused", func() bool { return b.declared.NumRefused() == 1 })
	write(at("a.json"), doc(4))
	in("a4 map2")
	must(os.Remove(at("map.json")))
	in("a4")
	if n := strings.Count(b.log.String(), `bad.json"`); n != 1 {
		t.Errorf("bad.json is told of %d times:\n%s", n, b.log)
	}
	write(at("bad.json"), doc(5))
	in("a4 bad5")

	gone := func() {
		t.Helper()
		b.eventually("the folder is gone", func() bool { return b.declared.NumRefused() == 1 })
	}
	must(os.Rename(dir, dir+"-away"))
	gone() // and all stays
	in("a4 bad5")
	must(os.Rename(dir+"-away", dir))
	in("a4 bad5")
	root := cfg.BridgeD.Dir
	must(os.RemoveAll(root))
	gone()
	in("a4 bad5")
	must(os.MkdirAll(dir, 0o700))
	in("")
	write(at("late.json"), doc(1))
	in("late1")
	write(at("late.json"), doc(2))
	in("late2")

	// The whole folder is a link from now on, and is swapped.
	must(os.Rename(root, root+"-1"), os.Symlink(root+"-1", root))
	write(at("late.json"), doc(3))
	in("late3")
	must(os.MkdirAll(root+"-2/rules", 0o700))
	write(root+"-2/rules/late.json", doc(4))
	must(os.Symlink(root+"-2", root+".new"), os.Rename(root+".new", root))
	in("late4")
}
