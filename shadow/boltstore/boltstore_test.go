package boltstore

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltfile"
	"github.com/tidemill/tidemill/shadow/format"
)

func document(t testing.TB, before *shadow.Document, text string) *shadow.Document {
	t.Helper()
	u, err := shadow.ParseUpdate([]byte(text), shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := before.Update(u, time.Unix(1_700_000_000, 0), shadow.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func open1(t testing.TB) (*Store, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shadow.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, path
}

func TestDocumentsAndNames(t *testing.T) {
	s, path := open1(t)
	if d, err := s.Get("t", ""); d != nil || err != nil {
		t.Fatalf("%v, %v", d, err)
	}
	d := document(t, nil, `{"state":{"desired":{"n":9007199254740993,"l":[1.0,{"x":""}],"e":{}}}}`)
	for _, k := range [][2]string{{"t", ""}, {"t", "b"}, {"t", "a"}, {"t", "c"}, {"t-2", "z"}, {"t:", "y"},
		{"s", "x"}} {
		if err := s.Put(k[0], k[1], d); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put("t", "c", d.Delete(time.Unix(1, 0))); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Put("t", "", d); !errors.Is(err, ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	s, err := Open(path, Options{SetAside: true})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	got, err := s.Get("t", "")
	if err != nil || string(got.AppendRecord(nil)) != string(d.AppendRecord(nil)) {
		t.Errorf("%s, %v", got.AppendRecord(nil), err)
	}
	if got, err := s.Get("t", "c"); err != nil || got.Alive() || got.Version != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, c := range []struct {
		after string
		most  int
		want  []string
	}{{"", 10, []string{"a", "b"}}, {"", 1, []string{"a"}}, {"a", 10, []string{"b"}}, {"b", 10, nil}} {
		if got, err := s.Names("t", c.after, c.most); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("after %q: %v, %v; want %v", c.after, got, err, c.want)
		}
	}
}

func TestRecords(t *testing.T) {
	s, _ := open1(t)
	for _, set := range []map[string][]byte{{"a": []byte("1"), "b": []byte("2")}, {"b": nil, "c": {}}} {
		if err := s.Save("t", "", set); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Save("t", "n", map[string][]byte{"x": []byte("y")}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Load("t", "")
	if err != nil || len(got) != 2 || string(got["a"]) != "1" || got["c"] == nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := s.Load("other", ""); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBesideOtherBuckets(t *testing.T) {
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "bridge.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s, err := New(db)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Save("t", "", map[string][]byte{"a": []byte("1")}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(*bbolt.Tx) error { return nil }); err != nil {
		t.Errorf("Close closed a file it did not open: %v", err)
	}
}

func TestSetAside(t *testing.T) {
	for name, spoil := range map[string]func(string) error{
		"no bbolt file": func(p string) error {
			return os.WriteFile(p, []byte(strings.Repeat("no database ", 4096)), 0o600)
		},
		"torn page": func(p string) error {
			f, err := os.OpenFile(p, os.O_RDWR, 0)
			if err != nil {
				return err
			}
			defer f.Close()
			info, err := f.Stat()
			if err != nil {
				return err
			}
			for at := int64(2 * os.Getpagesize()); at < info.Size(); at += int64(os.Getpagesize()) {
				if _, err := f.WriteAt([]byte(strings.Repeat("\xa5", 64)), at); err != nil {
					return err
				}
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, path := open1(t)
			if err := s.Save("t", "", map[string][]byte{"a": []byte("1")}); err != nil {
				t.Fatal(err)
			}
			s.Close()
			if err := spoil(path); err != nil {
				t.Fatal(err)
			}
			s, err := Open(path, Options{SetAside: true})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if got, err := s.Load("t", ""); err != nil || len(got) != 0 {
				t.Errorf("%q, %v", got, err)
			}
			if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) != 1 {
				t.Errorf("set aside: %v", aside)
			}
		})
	}
}

// One bad writer must not spoil the commit of others.
func TestGroupOfOneFailing(t *testing.T) {
	s, _ := open1(t)
	bad := errors.New("bad")
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if i%5 == 0 {
				if err := s.writes.commit(s.db, func(*bbolt.Tx) error { return bad }); !errors.Is(err, bad) {
					t.Errorf("%d: %v", i, err)
				}
				return
			}
			if err := s.Save("t", fmt.Sprint("n", i), map[string][]byte{"x": []byte("y")}); err != nil {
				t.Errorf("%d: %v", i, err)
			}
		})
	}
	wg.Wait()
	for i := range 40 {
		if got, err := s.Load("t", fmt.Sprint("n", i)); err != nil || (len(got) == 1) != (i%5 != 0) {
			t.Errorf("%d: %q, %v", i, got, err)
		}
	}
}

// TestCrash kills a writing child with SIGKILL at some moment; all it has
// acknowledged must be there.
func TestCrash(t *testing.T) {
	if path := os.Getenv("BOLTSTORE_CRASH_CHILD"); path != "" {
		child(path)
	}
	path := filepath.Join(t.TempDir(), "shadow.db")
	acked := make(map[string]uint64)
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestCrash$")
		cmd.Env = append(os.Environ(), "BOLTSTORE_CRASH_CHILD="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			var thing string
			var version uint64
			if _, err := fmt.Sscanf(lines.Text(), "ack %s %d.", &thing, &version); err != nil {
				continue // torn by the kill
			}
			acked[thing] = max(acked[thing], version)
			if n == 50+37*round {
				cmd.Process.Kill()
			}
		}
		cmd.Wait()
		if err := verify(path, slog.New(slog.DiscardHandler)); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for thing, version := range acked {
			d, err := s.Get(thing, "")
			if err != nil || d == nil || d.Version < version {
				t.Errorf("round %d: %s has %+v (%v), version %d was acknowledged", round, thing, d, err, version)
			}
			r, err := s.Load(thing, "")
			if v := string(r["v"]); err != nil || v == "" {
				t.Errorf("round %d: %s has no record (%v)", round, thing, err)
			}
		}
		s.Close()
	}
	t.Logf("%d things, versions %v", len(acked), acked)
}

func child(path string) {
	s, err := Open(path, Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	var out sync.Mutex
	for i := range 8 {
		go func() {
			thing := fmt.Sprint("thing-", i)
			for {
				d, err := s.Get(thing, "")
				next := new(shadow.Document)
				if err == nil {
					u := &shadow.Update{Reported: shadow.Section{Set: true,
						Patch: map[string]any{"x": strings.Repeat("y", 500)}}}
					next, err = d.Update(u, time.Now(), shadow.Limits{})
				}
				if err == nil {
					err = s.Save(thing, "", map[string][]byte{"v": fmt.Append(nil, next.Version)})
				}
				if err == nil {
					err = s.Put(thing, "", next)
				}
				if err != nil {
					fmt.Fprintln(os.Stderr, err)
					os.Exit(1)
				}
				out.Lock()
				fmt.Printf("ack %s %d.\n", thing, next.Version)
				out.Unlock()
			}
		}()
	}
	select {}
}

// BenchmarkPut is durable updates of different things; "writers" at a time.
func BenchmarkPut(b *testing.B) {
	for _, writers := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s, _ := open1(b)
			d := document(b, nil, `{"state":{"reported":{"sensors":{"t1":{"every":5,"value":21.53}},"uptime":123456}}}`)
			var next atomic.Int64
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for range writers {
				wg.Go(func() {
					for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
						if err := s.Put(fmt.Sprint("thing-", i%1000), "", d); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}

// A device that falls back to the commit before its last says so.
func TestLastCommitLost(t *testing.T) {
	s, path := open1(t)
	s.Close()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	newest, size := 0, os.Getpagesize()
	if binary.NativeEndian.Uint64(raw[size+64:]) > binary.NativeEndian.Uint64(raw[64:]) {
		newest = size
	}
	copy(raw[newest+40:], "damaged!")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{true, false} { // the first Open makes the page anew
		var log bytes.Buffer
		s, err := Open(path, Options{SetAside: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		if got := strings.Contains(log.String(), "one of two meta pages is damaged"); got != want {
			t.Errorf("told %v, want %v: %s", got, want, &log)
		}
	}
}

// A file somebody else has open is not damaged.
func TestLocked(t *testing.T) {
	_, path := open1(t)
	if s, err := Open(path, Options{SetAside: true, LockWait: time.Millisecond}); err == nil {
		s.Close()
		t.Error("opened twice")
	}
	if aside, _ := filepath.Glob(path + ".corrupt-*"); len(aside) != 0 {
		t.Errorf("set aside: %v", aside)
	}
}

// However a device's file is damaged, Open gives a store and no panic.
func TestDamaged(t *testing.T) {
	s, path := open1(t)
	d := document(t, nil, `{"state":{"reported":{"x":"`+strings.Repeat("y", 3000)+`"}}}`)
	for i := range 30 {
		if err := s.Put("t", fmt.Sprint("n", i), d); err != nil {
			t.Fatal(err)
		}
		if err := s.Save("t", fmt.Sprint("n", i%3), map[string][]byte{"local": d.AppendRecord(nil)}); err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	if err := verify(path, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	aside := 0
	for i := range 60 {
		path := filepath.Join(t.TempDir(), "shadow.db")
		spoilt := slices.Clone(sound)
		if i%4 == 0 {
			spoilt = spoilt[:r.IntN(len(spoilt))]
		}
		page := 0
		if len(spoilt) > 0 {
			page = r.IntN(len(spoilt)) &^ (os.Getpagesize() - 1)
		}
		for range 1 + r.IntN(20) {
			if at := page + r.IntN(256); at < len(spoilt) {
				spoilt[at] = byte(r.Uint32())
			}
		}
		if err := os.WriteFile(path, spoilt, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := Open(path, Options{SetAside: true, LockWait: time.Second})
		if err != nil {
			t.Fatalf("seed %d, file %d: %v", seed, i, err)
		}
		if _, err := s.Load("t", "n1"); err != nil {
			t.Fatalf("seed %d, file %d: %v", seed, i, err)
		}
		s.Close()
		if left, _ := filepath.Glob(path + ".corrupt-*"); len(left) == 1 {
			aside++
		}
	}
	t.Logf("seed %d: %d of 60 damaged files set aside, the others were sound where it counts", seed, aside)
}

// A file of a newer version is refused, also by a device, which must not take it
// for damaged.
func TestNewerFormat(t *testing.T) {
	s, path := open1(t)
	err := s.db.Update(func(tx *bbolt.Tx) error {
		if got := tx.Bucket(meta).Get(keyFormat); string(got) != "1" {
			t.Errorf("format %q", got)
		}
		return tx.Bucket(meta).Put(keyFormat, []byte("2"))
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, aside := range []bool{false, true} {
		again, err := Open(path, Options{SetAside: aside})
		if !errors.Is(err, format.ErrNewer) || !strings.Contains(err.Error(), "format 2, this program knows up to 1") {
			t.Errorf("set aside %v: %v", aside, err)
		}
		if err == nil {
			again.Close()
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(after, before) {
		t.Errorf("the file has changed: %v", err)
	}
}

// A shadow whose bytes are damaged in a sound page is told by its name.
func TestVerify(t *testing.T) {
	path := filepath.Join(t.TempDir(), "shadow.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		b := tx.Bucket(documents)
		return errors.Join(b.Put([]byte("good"), []byte(`{}`)), b.Put([]byte("bad"), []byte("{\x1d}")))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	var lost []error
	if err := Verify(path, func(err error) { lost = append(lost, err) }); err != nil {
		t.Fatal(err)
	}
	if len(lost) != 1 || !errors.Is(lost[0], boltfile.ErrDamaged) || !strings.Contains(lost[0].Error(), `"bad"`) {
		t.Errorf("%v, want the one that is bad", lost)
	}
}
