package disk

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

const mib = 1 << 20

// A fake is a file system of 1000 MiB, and a part that takes some of it.
type fake struct {
	free, used atomic.Int64
	err        atomic.Pointer[error]
	log        safeBuffer
}

type safeBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *safeBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.String(), text)
}

func (f *fake) options(o Options) Options {
	o.Dir, o.Log = "data", slog.New(slog.NewTextHandler(&f.log, nil))
	o.Free = func(string) (int64, int64, error) {
		if err := f.err.Load(); err != nil {
			return 0, 0, *err
		}
		return f.free.Load(), 1000 * mib, nil
	}
	if o.Parts == nil {
		o.Parts = []Part{{Name: "log", Refuses: true}}
	}
	o.Measure = append(o.Measure, func(add func(Use)) error {
		add(Use{Name: "log", Used: f.used.Load()})
		return nil
	})
	return o
}

// run runs a Meter until the test ends.
func run(t *testing.T, m *Meter) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func state(m *Meter) string {
	switch {
	case m.Data() == nil && m.Growth() == nil:
		return "open"
	case m.Data() != nil && m.Growth() == nil:
		return "no data"
	case m.Data() != nil:
		return "no growth"
	}
	return "wrong"
}

// What is refused follows what is free, whoever uses it, and comes back by itself.
func TestRefusesByFree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fake
		f.free.Store(500 * mib)
		m := New(f.options(Options{Reserve: 160 * mib}))
		run(t, m)
		for _, x := range []struct {
			free int64
			want string
		}{{500, "open"}, {161, "open"}, {159, "no data"}, {161, "no data"}, {165, "no data"}, {171, "open"},
			{121, "no data"}, {119, "no growth"}, {121, "no growth"}, {128, "no data"}, {0, "no growth"},
			{900, "open"}} {
			f.free.Store(x.free * mib)
			time.Sleep(2 * lookEvery)
			synctest.Wait()
			if got := state(m); got != x.want {
				t.Errorf("%d MiB free: %s, want %s", x.free, got, x.want)
			}
		}
		if err := m.Data(); err != nil {
			t.Error(err)
		}
	})
}

// What the log stores between two looks counts.
func TestTookRefuses(t *testing.T) {
	var f fake
	f.free.Store(500 * mib)
	m := New(f.options(Options{Reserve: 100 * mib}))
	m.Took(199 * mib) // for which the disk takes twice as much
	if got := state(m); got != "open" {
		t.Fatal(got)
	}
	m.Took(2 * mib)
	if got := state(m); got != "no data" {
		t.Fatal(got)
	}
	if err := m.Data(); !errors.Is(err, ErrNoRoom) {
		t.Error(err)
	}
	m.look() // it was less than that
	if got := state(m); got != "open" {
		t.Error(got)
	}
}

// A budget and the limit of a part refuse as the file system does, and a Meter without
// a reserve refuses nothing for what is free.
func TestRefusesByLimit(t *testing.T) {
	for name, o := range map[string]Options{
		"budget": {Budget: 800 * mib},
		"part":   {Parts: []Part{{Name: "log", Limit: 800 * mib, Refuses: true}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f fake
				m := New(f.options(o))
				run(t, m)
				for _, x := range []struct {
					used int64
					want string
				}{{0, "open"}, {699, "open"}, {701, "no data"}, {699, "no data"}, {690, "open"}, {726, "no growth"},
					{800, "no growth"}, {0, "open"}} {
					f.used.Store(x.used * mib)
					time.Sleep(2 * measureEvery)
					synctest.Wait()
					if got := state(m); got != x.want {
						t.Errorf("%d MiB used: %s, want %s", x.used, got, x.want)
					}
				}
			})
		})
	}
}

// Each crossing of 80 % is one line, and so is each change of what is refused.
func TestWarnsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fake
		f.free.Store(900 * mib)
		m := New(f.options(Options{Reserve: 100 * mib, Parts: []Part{{Name: "log", Limit: 500 * mib}}}))
		run(t, m)
		const over, under = "80 % of a limit", "less than 75 %"
		for _, x := range []struct{ used, over, under int64 }{
			{399, 0, 0}, {401, 1, 0}, {390, 1, 0}, {410, 1, 0}, {370, 1, 1}, {499, 2, 1}, {600, 2, 1}} {
			f.used.Store(x.used * mib)
			time.Sleep(3 * measureEvery)
			synctest.Wait()
			if o, u := f.log.count(over), f.log.count(under); int64(o) != x.over || int64(u) != x.under {
				t.Errorf("%d MiB used: %d warnings and %d ends of such, want %d and %d", x.used, o, u, x.over, x.under)
			}
		}
		if s := m.Status(); len(s.Full) != 1 || s.Full[0] != "disk.log" || s.Parts[0].Used != 600*mib || s.Refused != "" {
			t.Errorf("%+v", s)
		}
		if err := m.Full("log"); !errors.Is(err, ErrNoRoom) {
			t.Errorf("a part over its limit: %v", err)
		}
		f.free.Store(50 * mib)
		time.Sleep(10 * lookEvery)
		synctest.Wait()
		if s := m.Status(); s.Refused != "data and growth" || !strings.Contains(s.Why, "50 MiB left") {
			t.Errorf("%+v", s)
		}
		if n := f.log.count("too little room: new data"); n != 1 {
			t.Errorf("%d lines of a refusal, want 1", n)
		}
	})
}

// A file system that cannot be asked changes nothing of what is refused, and is told of
// once.
func TestKeepsWhatItKnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fake
		f.free.Store(50 * mib)
		m := New(f.options(Options{Reserve: 100 * mib}))
		run(t, m)
		broken := errors.New("no answer")
		f.err.Store(&broken)
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := state(m); got != "no growth" {
			t.Error(got)
		}
		if n := f.log.count("no answer"); n != 1 {
			t.Errorf("%d lines, want 1", n)
		}
	})
}

// A part that cannot be measured takes what it took: its limit holds on.
func TestKeepsWhatPartsTook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f fake
		f.free.Store(900 * mib)
		var broken atomic.Bool
		parts := []Part{{Name: "log", Refuses: true}, {Name: "other", Refuses: true, Limit: 80 * mib}}
		m := New(f.options(Options{Parts: parts,
			Measure: []Measure{func(add func(Use)) error {
				if broken.Load() {
					return errors.New("no answer")
				}
				add(Use{Name: "other", Used: 100 * mib})
				return nil
			}}}))
		run(t, m)
		for _, now := range []bool{false, true} {
			broken.Store(now)
			time.Sleep(2 * measureEvery)
			synctest.Wait()
			if m.Refuses() == nil {
				t.Errorf("broken %v: data is taken over a limit", now)
			}
		}
	})
}

// Without Run, Status measures by itself.
func TestStatusWithoutRun(t *testing.T) {
	var f fake
	f.used.Store(7)
	m := New(f.options(Options{Measure: []Measure{func(add func(Use)) error {
		add(Use{Name: "photos", Of: "log", Used: 3})
		return nil
	}}}))
	s := m.Status()
	if s.Used != 7 || len(s.Parts) != 2 || s.Parts[1] != (Use{Name: "photos", Of: "log", Used: 3}) {
		t.Errorf("%+v", s)
	}
}

// Whatever comes and goes, what is taken after a look leaves the reserve, and with a
// tenth more than that free everything is taken.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	var f fake
	m := New(f.options(Options{Reserve: 100 * mib}))
	for range 10_000 {
		free := r.Int64N(300 * mib)
		f.free.Store(free)
		m.look()
		data, growth := m.Data() == nil, m.Growth() == nil
		if data && free < 100*mib || growth && free < 75*mib || !data && free > 110*mib || !growth && free > 83*mib ||
			data && !growth {
			t.Fatalf("seed %d: %d bytes free: data %t, growth %t", seed, free, data, growth)
		}
		for taken := int64(0); data; taken += 2 * mib {
			if free-taken < 98*mib {
				t.Fatalf("seed %d: %d bytes of %d were taken", seed, taken, free)
			}
			m.Took(mib)
			data = m.Data() == nil
		}
	}
}

// The check before each message is a load of an atomic, and has no allocations.
func BenchmarkData(b *testing.B) {
	for name, free := range map[string]int64{"taken": 500 * mib, "refused": 0} {
		b.Run(name, func(b *testing.B) {
			var f fake
			f.free.Store(free)
			m := New(f.options(Options{Reserve: 100 * mib}))
			b.ReportAllocs()
			for b.Loop() {
				_ = m.Data()
			}
		})
	}
}

// A statfs, five times in a second.
func BenchmarkLook(b *testing.B) {
	m := New(Options{Dir: b.TempDir(), Reserve: 1})
	b.ReportAllocs()
	for b.Loop() {
		m.look()
	}
}
