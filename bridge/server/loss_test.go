package server

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/service"
)

// used returns the configuration of a bridge that was used and stopped; as far
// as its note tells killed, if kill is set.
func used(t *testing.T, kill bool) *config.Config {
	t.Helper()
	cfg := configure(t)
	use(t, cfg, "pump-1", kill)
	return cfg
}

// use is used for a data directory that may be there.
func use(t *testing.T, cfg *config.Config, thing string, kill bool) {
	t.Helper()
	b := start(t, cfg)
	d := b.connect(b.thing(thing, all("", "")), thing)
	for range 20 {
		d.publish("dt/x", strings.Repeat("21.5 ", 20))
	}
	b.eventually("the note", func() bool { n, _ := b.dir.Note(); return n.Log == b.store.Position() })
	note, err := os.ReadFile(filepath.Join(cfg.DataDir, "note"))
	if err != nil {
		t.Fatal(err)
	}
	stop(t, b)
	if kill {
		if err := os.WriteFile(filepath.Join(cfg.DataDir, "note"), note, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// reopen opens a bridge without running it, and says what it logged.
func reopen(t *testing.T, cfg *config.Config) (*bridge, error) {
	t.Helper()
	b := &bridge{t: t, log: &lines{}}
	log := slog.New(slog.NewJSONHandler(b.log, nil))
	var err error
	b.Server, err = open(Options{Config: cfg, Version: "test", Log: log}, pebble.Options{Log: log},
		service.Options{Log: log})
	return b, err
}

// copied returns the configuration of a copy of a data directory.
func copied(t *testing.T, was *config.Config) *config.Config {
	t.Helper()
	cfg := configure(t)
	err := filepath.WalkDir(was.DataDir, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := cfg.DataDir + strings.TrimPrefix(path, was.DataDir)
		if e.IsDir() {
			return os.Mkdir(to, 0o700)
		}
		if !e.Type().IsRegular() {
			return nil
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, raw, 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// tree lists the files below dir; there are none if it is not there.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		all = append(all, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// tearNewest damages the newer meta page of a bbolt file.
func tearNewest(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	txid := func(page int) uint64 { return binary.NativeEndian.Uint64(raw[page*os.Getpagesize()+64:]) }
	newest := 0
	if txid(1) > txid(0) {
		newest = 1
	}
	copy(raw[newest*os.Getpagesize()+40:], "damaged!")
	return os.WriteFile(path, raw, 0o600)
}

// checked returns what Check says is lost, and that Check wrote nothing.
func checked(t *testing.T, cfg *config.Config) string {
	t.Helper()
	before := tree(t, cfg.DataDir)
	var lost []string
	err := datadir.Check(cfg.DataDir, cfg.Objects.Dir, cfg.BridgeD.Dir, datadir.Report{
		Part: func(string) {}, Read: func(int) {}, Lost: func(err error) { lost = append(lost, err.Error()) }})
	if err != nil {
		lost = append(lost, err.Error())
	}
	if after := tree(t, cfg.DataDir); !slices.Equal(before, after) {
		t.Errorf("check made of %q %q", before, after)
	}
	return strings.Join(lost, "\n")
}

// A part of the data directory that is lost is not replaced: the start is
// refused with its name and the way to go on, and nothing is made meanwhile. Who
// accepts it gets a new one, and the log says what was lost.
func TestLostParts(t *testing.T) {
	remove := func(names ...string) func(string) error {
		return func(dir string) error {
			var errs []error
			for _, n := range names {
				errs = append(errs, os.RemoveAll(filepath.Join(dir, n)))
			}
			return errors.Join(errs...)
		}
	}
	empty := func(name string) func(string) error {
		return func(dir string) error { return os.Truncate(filepath.Join(dir, name), 0) }
	}
	walBy := func(change func(path string) error) func(string) error {
		return func(dir string) error {
			logs, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
			if err != nil || len(logs) == 0 {
				return errors.Join(err, errors.New("no WAL"))
			}
			slices.Sort(logs)
			for _, l := range logs {
				if err := change(l); err != nil {
					return err
				}
			}
			return nil
		}
	}
	was := used(t, true)
	for _, tc := range []struct {
		name string
		lose func(dir string) error
		want string // in the error: which part
	}{
		{"log", remove("log"), "/log is missing"},
		{"log emptied", func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "log")), os.Mkdir(filepath.Join(dir, "log"), 0o700))
		}, "/log is missing or empty"},
		{"registry", remove("registry.db"), "/registry.db is missing"},
		{"registry emptied", empty("registry.db"), "/registry.db is missing or empty"},
		{"shadows", remove("shadow.db"), "/shadow.db is missing"},
		{"pki", remove("pki"), "/pki is missing"},
		{"CA certificate", remove("pki/ca.pem"), "/pki/ca.pem is missing"},
		{"access keys", empty("pki/access-keys"), "/pki/access-keys is missing or empty"},
		{"objects", remove("objects"), "/objects is missing"},
		{"log and its mark", remove("identity", "log"), "/log is missing"},
		{"all but the registry", remove("identity", "note", "log", "pki", "objects", "shadow.db"), "/pki is missing"},
		{"last commit of the registry", func(dir string) error { return tearNewest(filepath.Join(dir, "registry.db")) },
			"/registry.db has one good meta page of two"},
		{"last commit of the shadows", func(dir string) error { return tearNewest(filepath.Join(dir, "shadow.db")) },
			"/shadow.db has one good meta page of two"},
		{"mark of the pki", remove("pki/.identity"), "/pki is not the one that was there"},
		{"WAL gone", walBy(os.Remove), "/log ends early"},
		{"WAL cut off", walBy(func(path string) error { return os.Truncate(path, 2000) }), "/log ends early"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := copied(t, was)
			if err := tc.lose(cfg.DataDir); err != nil {
				t.Fatal(err)
			}
			if lost := checked(t, cfg); !strings.Contains(lost, tc.want) {
				t.Errorf("check says %q, want %q", lost, tc.want)
			}
			before := tree(t, filepath.Join(cfg.DataDir, "pki"))
			for range 2 { // the first refusal must not mend it
				_, err := reopen(t, cfg)
				if err == nil || !strings.Contains(err.Error(), tc.want) ||
					!strings.Contains(err.Error(), "-accept-loss") {
					t.Fatalf("started: %v; want %q", err, tc.want)
				}
			}
			if after := tree(t, filepath.Join(cfg.DataDir, "pki")); !slices.Equal(before, after) {
				t.Errorf("made meanwhile: %q, was %q", after, before)
			}
			cfg.AcceptLoss = true
			b, err := reopen(t, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if text := b.log.String(); !strings.Contains(text, `"level":"ERROR"`) ||
				!strings.Contains(text, "as accepted") {
				t.Errorf("not told:\n%s", text)
			}
			cfg.AcceptLoss = false
			if b, err = reopen(t, cfg); err != nil {
				t.Fatal(err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if lost := checked(t, cfg); lost != "" {
				t.Errorf("accepted, and check says %q", lost)
			}
		})
	}
}

// What a start goes on without, check tells all the same: the note, and a folder of
// bridge.d with what was declared in it.
func TestCheckTellsMore(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"delivery-streams/a.json": aDelivery})
	b, err := reopen(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.Reload()
	if err = errors.Join(err, b.Close()); err != nil {
		t.Fatal(err)
	}
	if lost := checked(t, cfg); lost != "" {
		t.Fatalf("sound, and check says %q", lost)
	}
	if err := errors.Join(os.RemoveAll(cfg.BridgeD.Dir),
		os.Truncate(filepath.Join(cfg.DataDir, "note"), 0)); err != nil {
		t.Fatal(err)
	}
	lost := checked(t, cfg)
	for _, want := range []string{"bridge.d/delivery-streams is gone", "note is missing, empty or damaged"} {
		if !strings.Contains(lost, want) {
			t.Errorf("check says %q, want %q", lost, want)
		}
	}
}

// What is accepted is what that start found missing: one that is refused for
// something else accepts nothing, and leaves all as it was.
func TestRefusedStartAcceptsNothing(t *testing.T) {
	was := used(t, true)
	for name, damage := range map[string]func(dir string) error{
		"damage that Check sees": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "log")),
				os.WriteFile(filepath.Join(dir, "shadow.db"), make([]byte, 8<<10), 0o600))
		},
		"damage that comes later": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "pki", "ca.pem"), []byte("no PEM"), 0o600)
		},
	} {
		cfg := copied(t, was)
		if err := damage(cfg.DataDir); err != nil {
			t.Fatal(err)
		}
		cfg.AcceptLoss = true
		before := tree(t, cfg.DataDir)
		if _, err := reopen(t, cfg); err == nil || strings.Contains(err.Error(), "-accept-loss") {
			t.Fatalf("%s: %v", name, err)
		}
		if after := tree(t, cfg.DataDir); !slices.Equal(before, after) {
			t.Errorf("%s: made meanwhile: %q, was %q", name, after, before)
		}
		cfg.AcceptLoss = false
		for _, part := range []string{"shadow.db", "pki/ca.pem"} { // they are put back
			raw, err := os.ReadFile(filepath.Join(was.DataDir, part))
			if err := errors.Join(err, os.WriteFile(filepath.Join(cfg.DataDir, part), raw, 0o600)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.RemoveAll(filepath.Join(cfg.DataDir, "log")); err != nil {
			t.Fatal(err)
		}
		if _, err := reopen(t, cfg); err == nil || !strings.Contains(err.Error(), "/log is missing") {
			t.Errorf("%s: started without a log that nobody accepted to lose: %v", name, err)
		}
	}
}

// The client id at a broker, which keeps a session for it, is missed like any
// other part, once there was one.
func TestLostBrokerState(t *testing.T) {
	cfg := joining(t, "tcp://127.0.0.1:1")
	path := filepath.Join(cfg.DataDir, "broker.json")
	opened := func() string {
		t.Helper()
		b, err := reopen(t, cfg)
		if err == nil {
			err = b.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	first := opened()
	for what, lose := range map[string]func() error{
		"is missing or empty": func() error { return os.Remove(path) },
		"is damaged":          func() error { return os.Truncate(path, int64(len(first)/2)) },
	} {
		if err := lose(); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := reopen(t, cfg); err == nil || !strings.Contains(err.Error(), path+" "+what) ||
				!strings.Contains(err.Error(), "-accept-loss") {
				t.Fatalf("%s: started: %v", what, err)
			}
		}
		cfg.AcceptLoss = true
		if again := opened(); again == first {
			t.Errorf("%s: the same id: %s", what, again)
		}
		cfg.AcceptLoss = false
		first = opened()
	}
	cfg.Broker.URL = ""
	opened() // it stays a part, for a broker that is joined again
}

// Parts of two data directories do not make one.
func TestForeignPart(t *testing.T) {
	cfg := used(t, false)
	other := used(t, false)
	for _, part := range []string{"shadow.db", "pki"} {
		at := filepath.Join(cfg.DataDir, part)
		if err := errors.Join(os.Rename(at, at+".mine"),
			os.Rename(filepath.Join(other.DataDir, part), at)); err != nil {
			t.Fatal(err)
		}
		_, err := reopen(t, cfg)
		if err == nil || !strings.Contains(err.Error(), at+" belongs to another data directory") {
			t.Fatalf("started: %v", err)
		}
		if lost := checked(t, cfg); !strings.Contains(lost, at+" belongs to another data directory") {
			t.Errorf("check says %q", lost)
		}
		if err := errors.Join(os.RemoveAll(at), os.Rename(at+".mine", at)); err != nil {
			t.Fatal(err)
		}
	}
	b, err := reopen(t, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// A data directory of an earlier version gets its identity, and from then on
// misses its parts.
func TestIdentityOfOldDirectory(t *testing.T) {
	cfg := used(t, false)
	forget(t, cfg)
	for _, lose := range []bool{false, true} {
		if lose {
			if err := os.RemoveAll(filepath.Join(cfg.DataDir, "log")); err != nil {
				t.Fatal(err)
			}
		}
		b, err := reopen(t, cfg)
		if (err != nil) != lose {
			t.Fatal(err)
		}
		if err == nil {
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A first start that was killed half way goes on at the next.
func TestFirstStartKilled(t *testing.T) {
	for _, there := range [][]string{{}, {"pki"}, {"pki", "registry.db"}, {"pki", "registry.db", "log"}} {
		cfg := configure(t)
		b, err := reopen(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		entries, err := os.ReadDir(cfg.DataDir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !slices.Contains(there, e.Name()) && e.Name() != "identity" {
				if err := os.RemoveAll(filepath.Join(cfg.DataDir, e.Name())); err != nil {
					t.Fatal(err)
				}
			}
		}
		raw, err := os.ReadFile(filepath.Join(cfg.DataDir, "identity"))
		if err != nil {
			t.Fatal(err)
		}
		// Parts that come late are noted after they are written.
		raw = []byte(strings.NewReplacer(`"complete"`, `"making"`, `,"late":["seal.json"]`, "").Replace(string(raw)))
		if strings.Contains(string(raw), "late") {
			t.Fatalf("%s", raw)
		}
		if err := os.WriteFile(filepath.Join(cfg.DataDir, "identity"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		if b, err = reopen(t, cfg); err != nil {
			t.Fatalf("with %q: %v", there, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// An identity that is damaged or gone is named as what it is, and made anew of
// what a part carries. Where none does, the directory is not taken for a new one.
func TestLostIdentity(t *testing.T) {
	was := used(t, false)
	id := func(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "identity") }
	good, err := os.ReadFile(id(was))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		is   string
		lose func(path string) error
	}{
		{"missing", os.Remove},
		{"damaged", func(path string) error { return os.Truncate(path, int64(len(good)/2)) }},
		{"damaged", func(path string) error { return os.Truncate(path, 0) }},
		{"damaged", func(path string) error { return os.WriteFile(path, make([]byte, len(good)), 0o600) }},
	} {
		cfg := copied(t, was)
		if err := tc.lose(id(cfg)); err != nil {
			t.Fatal(err)
		}
		if lost := checked(t, cfg); !strings.Contains(lost, id(cfg)+" is "+tc.is) ||
			!strings.Contains(lost, "a start writes it anew, as pki carries it") {
			t.Errorf("%s: check says %q", tc.is, lost)
		}
		b, err := reopen(t, cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if text := b.log.String(); !strings.Contains(text, "identity was "+tc.is) || !strings.Contains(text, id(cfg)) {
			t.Errorf("%s: not told:\n%s", tc.is, text)
		}
		now, err := os.ReadFile(id(cfg))
		if err != nil || string(now[:40]) != string(good[:40]) { // the id and no time
			t.Errorf("%s, %v; was %s", now, err, good)
		}
		if lost := checked(t, cfg); lost != "" {
			t.Errorf("check says %q", lost)
		}
		for _, part := range []string{"pki", "registry.db", "log", "shadow.db", "objects"} {
			if err := os.RemoveAll(filepath.Join(cfg.DataDir, part)); err != nil {
				t.Fatal(err)
			}
		}
		if tc.is == "missing" {
			continue // as before the first start
		}
		if err := tc.lose(id(cfg)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if _, err := reopen(t, cfg); err == nil || !strings.Contains(err.Error(), id(cfg)+" is damaged") ||
				!strings.Contains(err.Error(), "-accept-loss") {
				t.Fatalf("started: %v", err)
			}
		}
		cfg.AcceptLoss = true
		if b, err = reopen(t, cfg); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// What salvage makes of a directory without its identity starts as well.
func TestSalvageWithoutIdentity(t *testing.T) {
	cfg := used(t, false)
	if err := errors.Join(os.Truncate(filepath.Join(cfg.DataDir, "identity"), 7),
		os.RemoveAll(filepath.Join(cfg.DataDir, "objects"))); err != nil {
		t.Fatal(err)
	}
	b, _ := salvaged(t, cfg)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// salvaged opens a bridge over what Salvage makes of a data directory, and
// returns what was lost.
func salvaged(t *testing.T, was *config.Config) (b *bridge, lost string) {
	t.Helper()
	cfg := configure(t)
	var all []string
	err := datadir.Salvage(was.DataDir, was.Objects.Dir, was.BridgeD.Dir, cfg.DataDir, datadir.Report{
		Part: func(string) {}, Read: func(int) {}, Lost: func(err error) { all = append(all, err.Error()) }})
	if err != nil {
		t.Fatal(err)
	}
	lost = strings.Join(all, "\n")
	if b, err = reopen(t, cfg); err != nil {
		t.Fatalf("the copy does not start: %v; lost was\n%s", err, lost)
	}
	return b, lost
}

// A log that lost its end, a piece of its middle or a table is salvaged to a
// directory that starts; what was lost is said, and the start says it again.
func TestSalvageLostLog(t *testing.T) {
	was := used(t, false)
	use(t, was, "pump-2", true) // after a start that made tables of the first WAL
	files := func(cfg *config.Config, kind string) []string {
		all, err := filepath.Glob(filepath.Join(cfg.DataDir, "log", kind))
		if err != nil || len(all) == 0 {
			t.Fatalf("no %s: %v", kind, err)
		}
		slices.Sort(all)
		return all
	}
	last := func(all []string) string { return all[len(all)-1] }
	zero := func(path string, from int64) error {
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		info, err := f.Stat()
		if err != nil {
			return err
		}
		at := min(from, info.Size())
		_, err = f.WriteAt(make([]byte, min(4096, info.Size()-at)), at)
		return errors.Join(err, f.Close())
	}
	for name, lose := range map[string]func(*config.Config) error{
		"WAL truncated":      func(cfg *config.Config) error { return os.Truncate(last(files(cfg, "*.log")), 2000) },
		"WAL emptied":        func(cfg *config.Config) error { return os.Truncate(last(files(cfg, "*.log")), 0) },
		"WAL gone":           func(cfg *config.Config) error { return os.Remove(last(files(cfg, "*.log"))) },
		"WAL's middle zero":  func(cfg *config.Config) error { return zero(last(files(cfg, "*.log")), 1000) },
		"last table gone":    func(cfg *config.Config) error { return os.Remove(last(files(cfg, "*.sst"))) },
		"last table emptied": func(cfg *config.Config) error { return os.Truncate(last(files(cfg, "*.sst")), 0) },
		"all tables gone": func(cfg *config.Config) error {
			var errs []error
			for _, path := range files(cfg, "*.sst") {
				errs = append(errs, os.Remove(path))
			}
			return errors.Join(errs...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := copied(t, was)
			if err := lose(cfg); err != nil {
				t.Fatal(err)
			}
			b, lost := salvaged(t, cfg)
			defer b.Close()
			t.Log(lost)
			if !strings.Contains(lost, filepath.Join(cfg.DataDir, "log")) {
				t.Errorf("lost: %q", lost)
			}
			if text := b.log.String(); !strings.Contains(text, `"level":"ERROR"`) ||
				!strings.Contains(text, "as accepted") {
				t.Errorf("the start says nothing:\n%s", text)
			}
			things := 0
			if err := b.registry.View(func(tx *registry.Tx) error {
				all, _, err := tx.Things("", 100, nil)
				things = len(all)
				return err
			}); err != nil || things != 2 {
				t.Errorf("%d things, %v", things, err)
			}
		})
	}
}

// spoil damages the first byte of each place of a file where text stands: its pages
// stay sound, since bbolt has no sums of them.
func spoil(text string) func(path string) error {
	return func(path string) error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !bytes.Contains(raw, []byte(text)) {
			return fmt.Errorf("%s does not have %s", path, text)
		}
		return os.WriteFile(path, bytes.ReplaceAll(raw, []byte(text), append([]byte{0x1d}, text[1:]...)), 0o600)
	}
}

// Of registry.db and shadow.db with damage all is taken back that can be read, and
// who may connect is asked of the operator again.
func TestSalvageDamagedBolt(t *testing.T) {
	was := used(t, false)
	page := int64(os.Getpagesize())
	status := func(b *bridge) (all []registry.Status) {
		t.Helper()
		if err := b.registry.View(func(tx *registry.Tx) error {
			page, _, err := tx.Certificates("", 100)
			for _, c := range page {
				all = append(all, c.Status)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	for _, tc := range []struct {
		name, file string
		damage     func(path string) error
		want       string          // in what is lost
		status     registry.Status // of the certificate; "": it is lost
	}{
		{"a value", "registry.db", spoil(`"status":"ACTIVE"`), "bucket certificates", ""},
		{"last commit", "registry.db", tearNewest, "what was written last may be undone", registry.Inactive},
		{"free list", "registry.db", func(path string) error {
			raw, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			newest := int64(0)
			if binary.NativeEndian.Uint64(raw[page+64:]) > binary.NativeEndian.Uint64(raw[64:]) {
				newest = page
			}
			free := int64(binary.NativeEndian.Uint64(raw[newest+48:])) * page
			clear(raw[free : free+page])
			return os.WriteFile(path, raw, 0o600)
		}, "are INACTIVE in the new file", registry.Inactive},
		{"shadows' last commit", "shadow.db", tearNewest, "shadow.db: what was written last may be undone",
			registry.Active},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cfg := copied(t, was)
			if err := tc.damage(filepath.Join(cfg.DataDir, tc.file)); err != nil {
				t.Fatal(err)
			}
			if tc.status == "" {
				if told := checked(t, cfg); !strings.Contains(told, tc.want) {
					t.Errorf("check: %s", told)
				}
			}
			b, lost := salvaged(t, cfg)
			defer b.Close()
			if !strings.Contains(lost, tc.want) {
				t.Errorf("lost: %s", lost)
			}
			want := []registry.Status{tc.status}
			if tc.status == "" {
				want = nil
			}
			if got := status(b); !slices.Equal(got, want) {
				t.Errorf("certificates are %v, want %v\n%s", got, want, lost)
			}
		})
	}
}
