package store

import (
	"archive/zip"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
)

const role = "arn:aws:iam::000000000000:role/any"

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(Options{Dir: dir, Account: "000000000000", Region: "eu-local-1"})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// An entry of a zip is a file, or by its mode something else.
type entry struct {
	name, text string
	mode       fs.FileMode
}

func pack(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, e := range entries {
		h := &zip.FileHeader{Name: e.name, Method: zip.Deflate}
		h.SetMode(e.mode)
		f, err := w.CreateHeader(h)
		if err == nil && !strings.HasSuffix(e.name, "/") {
			_, err = f.Write([]byte(e.text))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func python() Configuration {
	runtime, handler, role := "python3.12", "app.handler", role
	return Configuration{Runtime: &runtime, Handler: &handler, Role: &role}
}

func app(text string) entry { return entry{"app.py", text, 0o644} }

func create(t testing.TB, s *Store, name, text string) *Version {
	t.Helper()
	v, err := s.Create(name, python(), Code{Zip: pack(t, app(text))}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A function, its versions and aliases are there after a restart, with the code of
// each.
func TestFunctions(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	v := create(t, s, "f", "one")
	if v.Version != Latest || v.Timeout != 3 || v.Memory != 128 || len(v.CodeSHA256()) != 44 {
		t.Errorf("%+v", v)
	}
	if _, err := s.Create("f", python(), Code{Zip: pack(t, app(""))}, false, nil); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	one, err := s.Publish("f", "first", "", "")
	if err != nil || one.Version != "1" {
		t.Fatal(one, err)
	}
	if again, err := s.Publish("f", "", "", ""); err != nil || again.Version != "1" {
		t.Errorf("nothing changed: %+v, %v", again, err)
	}
	if _, err := s.PutAlias("f", "live", "1", nil, "", false); err != nil {
		t.Fatal(err)
	}
	v, err = s.UpdateCode("f", Code{Zip: pack(t, app("two"))}, "", false, false)
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.UpdateCode("f", Code{Zip: pack(t, app("x"))}, one.Revision, false, false)
	if !errors.Is(err, ErrRevision) {
		t.Error(err)
	}
	if _, err := s.UpdateCode("f", Code{Zip: pack(t, app("x"))}, "", false, true); err != nil {
		t.Error(err)
	}
	memory := 256
	if _, err := s.UpdateConfiguration("f", Configuration{Memory: &memory}, v.Revision); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	for qualifier, want := range map[string]string{"": "two", Latest: "two", "1": "one", "live": "one"} {
		f, err := s.Function("f", qualifier)
		if err != nil {
			t.Fatal(qualifier, err)
		}
		at, release, err := f.Open()
		if err != nil {
			t.Fatal(qualifier, err)
		}
		text, err := os.ReadFile(filepath.Join(at, "app.py"))
		if string(text) != want || err != nil || f.Memory != map[string]int{"one": 128, "two": 256}[want] {
			t.Errorf("%q: %q, %v, %d MB", qualifier, text, err, f.Memory)
		}
		release()
	}
	if err := s.Delete("f", "1"); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	if err := errors.Join(s.DeleteAlias("f", "live"), s.Delete("f", "1")); err != nil {
		t.Error(err)
	}
	if zips, _ := filepath.Glob(filepath.Join(dir, "code", "*")); len(zips) != 2 {
		t.Errorf("packages: %v", zips) // of the version that was dropped until the next sweep
	}
	if err := s.Delete("f", ""); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "[cft]*", "*")); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	if _, err := s.Function("f", ""); !errors.Is(err, lambda.ErrNotFound) {
		t.Error(err)
	}
}

// A process keeps the code that it runs.
func TestDeleteWhileItRuns(t *testing.T) {
	s := open(t, t.TempDir())
	create(t, s, "f", "one")
	f, err := s.Function("f", "")
	if err != nil {
		t.Fatal(err)
	}
	at, release, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Delete("f", ""); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(at, "app.py")); err != nil {
		t.Error(err)
	}
	release()
	if _, err := os.Stat(at); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it stays for nobody:", err)
	}
}

func TestPackages(t *testing.T) {
	zeros := strings.Repeat("\x00", maxUnpacked/5)
	bomb := make([]entry, 6)
	for i := range bomb {
		bomb[i] = entry{fmt.Sprint("zeros", i), zeros, 0o644}
	}
	many := make([]entry, maxFiles/40) // each in 48 folders
	for i := range many {
		many[i] = entry{fmt.Sprint(i) + strings.Repeat("/a", 48), "", 0o644}
	}
	for name, c := range map[string]struct {
		zip  []byte
		says string // "": it is taken
	}{
		"plain":            {pack(t, app("x"), entry{"lib/", "", 0o755 | fs.ModeDir}, entry{"lib/a.py", "y", 0o644}), ""},
		"a link within":    {pack(t, entry{"a/x", "1", 0o644}, entry{"b/y", "../a/x", 0o777 | fs.ModeSymlink}), ""},
		"up":               {pack(t, entry{"../x", "1", 0o644}), "leads out"},
		"up inside":        {pack(t, entry{"a/../../x", "1", 0o644}), "leads out"},
		"absolute":         {pack(t, entry{"/etc/x", "1", 0o644}), "leads out"},
		"backslash":        {pack(t, entry{`..\x`, "1", 0o644}), "leads out"},
		"empty name":       {pack(t, entry{"", "1", 0o644}), "leads out"},
		"a link out":       {pack(t, entry{"l", "../x", 0o777 | fs.ModeSymlink}), "not in the package"},
		"an absolute link": {pack(t, entry{"l", "/etc/passwd", 0o777 | fs.ModeSymlink}), "not in the package"},
		"through a link": {pack(t, entry{"a/b/", "", 0o755 | fs.ModeDir}, entry{"l", "a", 0o777 | fs.ModeSymlink},
			entry{"l/../../x", "1", 0o644}), "leads out"},
		"a device":     {pack(t, entry{"d", "", 0o644 | fs.ModeDevice}), "neither"},
		"twice":        {pack(t, app("x"), app("y")), "exists"},
		"file/folder":  {pack(t, entry{"a", "x", 0o644}, entry{"a/b", "y", 0o644}), "exists"},
		"bomb":         {pack(t, bomb...), "Unzipped size"},
		"no zip":       {[]byte("PK"), "Could not unzip"},
		"cut off":      {pack(t, app("x"))[:40], "Could not unzip"},
		"damaged":      {damaged(t), "app.py"},
		"many folders": {pack(t, many...), "files and folders"},
		"too large":    {make([]byte, MaxZip+1), "want at most"},
		"deep":         {pack(t, entry{strings.Repeat("a/", maxDepth-1) + "x", "1", 0o644}), ""},
		"too deep":     {pack(t, entry{strings.Repeat("a/", maxDepth) + "x", "1", 0o644}), "deep"},
		"a folder too deep": {pack(t, entry{strings.Repeat("a/", maxDepth+1), "", 0o755 | fs.ModeDir}),
			"deep"},
		"long":        {pack(t, entry{strings.Repeat(strings.Repeat("é", 127)+"/", 4) + "ab", "1", 0o644}), ""},
		"a long name": {pack(t, entry{strings.Repeat("a", maxSegment+1), "1", 0o644}), "bytes"},
		"a long path": {pack(t, entry{strings.Repeat(strings.Repeat("a", 200)+"/", 5) + strings.Repeat("b", 20), "1",
			0o644}), "bytes"},
	} {
		s := open(t, t.TempDir())
		_, err := s.Create("f", python(), Code{Zip: c.zip}, false, nil)
		taken := err == nil
		if taken != (c.says == "") ||
			!taken && (!errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
		if left, _ := filepath.Glob(s.Path("trees", "*")); c.says != "" && len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

// damaged is a package whose file is not what its checksum says.
func damaged(t *testing.T) []byte {
	b := pack(t, app(strings.Repeat("abcdefg", 100)))
	b[40] ^= 0xff
	return b
}

func TestModes(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	s := open(t, t.TempDir())
	code := Code{Zip: pack(t, app("x"), entry{"bin/bootstrap", "x", 0o700})}
	if _, err := s.Create("f", python(), code, false, nil); err != nil {
		t.Fatal(err)
	}
	f, _ := s.Function("f", "")
	at, release, err := f.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	for name, want := range map[string]fs.FileMode{"app.py": 0o444, "bin/bootstrap": 0o555, ".": 0o755, "bin": 0o755} {
		info, err := os.Stat(filepath.Join(at, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
}

func TestDirectories(t *testing.T) {
	allowed, other := t.TempDir(), t.TempDir()
	s, err := Open(Options{Dir: t.TempDir(), Directories: []string{allowed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(allowed, "app"), 0o755),
		os.Symlink(other, filepath.Join(allowed, "out"))); err != nil {
		t.Fatal(err)
	}
	for path, ok := range map[string]bool{filepath.Join(allowed, "app"): true, other: false,
		filepath.Join(allowed, "out"): false, "none": false,
		filepath.Join(allowed, "..", filepath.Base(other)): false} {
		_, err := s.Create("f", python(), Code{Dir: path}, false, nil)
		if (err == nil) != ok {
			t.Errorf("%s: %v", path, err)
		}
		_ = s.Delete("f", "")
	}
}

func TestInvalid(t *testing.T) {
	s := open(t, t.TempDir())
	zip := pack(t, app("x"))
	for name, change := range map[string]func(*Configuration){
		"runtime": func(c *Configuration) { c.Runtime = ptr("java21") },
		"handler": func(c *Configuration) { c.Handler = ptr("a b") },
		"role":    func(c *Configuration) { c.Role = ptr("me") },
		"timeout": func(c *Configuration) { c.Timeout = ptr(901) },
		"memory":  func(c *Configuration) { c.Memory = ptr(64) },
		"environment": func(c *Configuration) {
			c.Environment = ptr(map[string]string{"AWS_REGION": "x"})
		},
	} {
		c := python()
		change(&c)
		if _, err := s.Create("f", c, Code{Zip: zip}, false, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, name := range []string{"", "a.b", "../f", strings.Repeat("x", 65)} {
		if _, err := s.Create(name, python(), Code{Zip: zip}, false, nil); !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func TestParse(t *testing.T) {
	s := open(t, t.TempDir())
	for text, want := range map[string]string{
		"f": "f ", "f:live": "f live", "000000000000:function:f": "f ", "000000000000:function:f:1": "f 1",
		"arn:aws:lambda:eu-local-1:000000000000:function:f": "f ", "f:$LATEST": "f $LATEST",
		"arn:aws:lambda:eu-local-1:000000000000:function:f:$LATEST": "f $LATEST",
		"arn:aws:lambda:eu-west-1:000000000000:function:f":          "",
		"arn:aws:sqs:eu-local-1:000000000000:f":                     "", "f:": "f ", "": "", "a/b": "", "f:a:b": "",
	} {
		name, qualifier, err := s.Parse(text)
		if got := name + " " + qualifier; (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestSettings(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	create(t, s, "f", "x")
	create(t, s, "g", "x")
	if err := errors.Join(s.SetConcurrency("f", ptr(3), 10), s.SetConcurrency("g", ptr(6), 10),
		s.SetAsync("f", "", &Async{Retries: 1, MaxAge: 60, Modified: time.Now()})); err != nil {
		t.Error(err)
	}
	if err := s.SetConcurrency("f", ptr(4), 10); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	s = open(t, dir)
	f, err := s.Function("f", "")
	if err != nil || f.Reserved != 3 || s.Reserved() != 9 {
		t.Error(f, err)
	}
	if a, set, err := s.Async("f", ""); !set || a.Retries != 1 || err != nil {
		t.Error(a, set, err)
	}
	if a, set, err := s.Async("g", ""); set || a != DefaultAsync || err != nil {
		t.Error(a, set, err)
	}
	for _, a := range []*Async{{Retries: 3, MaxAge: 60}, {MaxAge: 59}, {MaxAge: 60, OnFailure: "x"},
		{MaxAge: 60, OnSuccess: "x"}} {
		if err := s.SetAsync("f", "", a); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", a, err)
		}
	}
	if err := s.SetAsync("g", "", nil); !errors.Is(err, lambda.ErrNotFound) {
		t.Error(err)
	}
}

// A function whose file is damaged is told of, and the others are served.
func TestDamaged(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	create(t, s, "f", "x")
	create(t, s, "g", "y")
	for _, text := range []string{"{", `{"format":2}`, "{}"} {
		if err := os.WriteFile(s.Path("functions", "f.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		if err := s.Damaged()["f"]; err == nil {
			t.Error(text, "is taken")
		}
		if _, err := s.Create("f", python(), Code{Zip: pack(t, app("z"))}, false, nil); !errors.Is(err, ErrExists) {
			t.Error(err)
		}
		if zips, _ := filepath.Glob(s.Path("code", "*.zip")); len(zips) != 2 {
			t.Errorf("its package goes: %v", zips)
		}
		if _, err := s.Function("g", ""); err != nil {
			t.Error(err)
		}
	}
}

// TestKill kills a program that makes and changes functions. What it said was made
// is there, and what is there is whole.
func TestKill(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_DIR"); dir != "" {
		s := open(t, dir)
		for n := 0; ; n++ {
			name := fmt.Sprintf("f%d", n)
			create(t, s, name, strings.Repeat(name, 1000))
			fmt.Println("made", name)
			if n >= 3 {
				if err := s.Delete(fmt.Sprintf("f%d", n-3), ""); err != nil {
					t.Fatal(err)
				}
				fmt.Println("gone", fmt.Sprintf("f%d", n-3))
			}
		}
	}
	for round := range 5 {
		dir := t.TempDir()
		cmd := exec.Command(os.Args[0], "-test.run=^TestKill$")
		cmd.Env = append(os.Environ(), "STORE_TEST_DIR="+dir)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(100+77*round) * time.Millisecond) // the instant of the kill is any
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s := open(t, dir)
		there := map[string]bool{}
		for _, v := range s.List() {
			there[v.Function] = true
			f, err := s.Function(v.Function, "")
			if err != nil {
				t.Fatal(err)
			}
			at, release, err := f.Open()
			if err != nil {
				t.Fatal(err)
			}
			text, _ := os.ReadFile(filepath.Join(at, "app.py"))
			if string(text) != strings.Repeat(v.Function, 1000) {
				t.Errorf("%s is not whole", v.Function)
			}
			release()
		}
		said := map[string]string{}
		for line := range strings.Lines(out.String()) {
			what, name, ok := strings.Cut(strings.TrimSpace(line), " ")
			if ok {
				said[name] = what
			}
		}
		last := 0
		for name := range said {
			n := 0
			_, _ = fmt.Sscanf(name, "f%d", &n)
			last = max(last, n)
		}
		for name, what := range said {
			n := 0
			_, _ = fmt.Sscanf(name, "f%d", &n)
			if what == "made" && !there[name] && n > last-3 || what == "gone" && there[name] {
				t.Errorf("round %d: %s was %s", round, name, what)
			}
		}
		if len(s.Damaged()) != 0 {
			t.Error(s.Damaged())
		}
	}
}

// Whatever a function's file holds, reading it ends, and what is read is written
// back as a file that reads the same.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"format":1,"name":"f","latest":{"version":"$LATEST","hash":"` + hashZip(nil) + `"},"next":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parse("f", text)
		if err != nil {
			return
		}
		again, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parse("f", again); err != nil {
			t.Fatalf("%s: %v", again, err)
		}
	})
}

// Whatever a package holds, nothing is written outside its folder, nor more than
// there may be.
func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, app("x"), entry{"a/b", "y", 0o755}, entry{"l", "a/b", 0o777 | fs.ModeSymlink}))
	f.Add(pack(f, entry{"../x", "1", 0o644}))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := contents(data)
		if err != nil {
			return
		}
		top := t.TempDir()
		in := filepath.Join(top, "in")
		if err := os.Mkdir(in, 0o755); err != nil {
			t.Fatal(err)
		}
		_ = unpack(r, in)
		if all, _ := os.ReadDir(top); len(all) != 1 {
			t.Fatalf("written outside: %v", all)
		}
	})
}
