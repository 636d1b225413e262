package budget

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// bubble is when a bubble of testing/synctest starts.
var bubble = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func known() (time.Time, bool) { return time.Now(), true }

// A device that would take three times its budget becomes sparing before the first tenth
// of the month is over, uses it up, and has it anew in the next month. A restart forgets
// nothing, a power cut an hour at most.
func TestMonth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "budget.json")
		o := Options{Path: path, Monthly: 31 << 20, Day: 1, Now: known}
		run := func(m *Meter) (stop func()) {
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- m.Run(ctx) }()
			return func() {
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
		}
		m := Open(o)
		stop := run(m)
		level := func(want Level, day int) {
			t.Helper()
			if st := m.Status(); st.Level != want {
				t.Fatalf("day %d: %+v, want %s", day, st, want)
			}
		}
		for day := range 11 {
			for range 24 {
				m.up.Add(100 << 10)
				m.down.Add(28 << 10)
				time.Sleep(time.Hour)
			}
			switch {
			case day < 1:
				level(Plenty, day)
			case day > 2 && day < 10:
				level(Sparse, day)
			}
			if st := m.Status(); day == 4 && (st.Used != 15<<20 || st.Left != 16<<20 || st.Forecast != 93<<20 ||
				!st.Ends.Equal(bubble.AddDate(0, 1, 0))) {
				t.Fatalf("day %d: %+v", day, st)
			}
		}
		level(Used, 11)
		stop()
		m = Open(o)
		if st := m.Status(); st.Used != 33<<20 || st.Level != Used {
			t.Fatalf("after a restart: %+v", st)
		}
		stop = run(m)
		time.Sleep(time.Until(bubble.AddDate(0, 1, 0).Add(time.Minute)))
		synctest.Wait()
		level(Plenty, 32)
		m.up.Add(5 << 20)
		time.Sleep(2 * time.Minute) // more than 1 %
		synctest.Wait()
		if again := Open(o); again.Status().Used != 5<<20 { // the power was cut
			t.Errorf("after a power cut: %+v", again.Status())
		}
		stop()
	})
}

// While nobody knows the time, bytes are counted on; once it is known they belong to the
// month that it is then.
func TestUnknownTime(t *testing.T) {
	knows := false
	now := time.Date(2026, 12, 20, 12, 0, 0, 0, time.UTC)
	o := Options{Monthly: 1000, Day: 15, Now: func() (time.Time, bool) { return now, knows }}
	m := Open(o)
	m.up.Add(100)
	if st := m.Status(); st.Used != 100 || st.Level != Plenty || !st.Ends.IsZero() || st.Forecast != 0 {
		t.Errorf("%+v", st)
	}
	m.up.Add(50)
	knows = true
	if st := m.Status(); st.Used != 150 || !st.Ends.Equal(time.Date(2027, 1, 15, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", st)
	}
	now = now.AddDate(0, -1, 0) // the clock was wrong
	if st := m.Status(); st.Used != 150 || !st.Ends.Equal(time.Date(2026, 12, 15, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("%+v", st)
	}
	m.up.Add(900)
	if st := m.Status(); st.Level != Used || st.Left != 0 {
		t.Errorf("%+v", st)
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	m := Open(Options{})
	near, far := net.Pipe()
	c, err := m.Count(func(context.Context, string, string) (net.Conn, error) { return near, nil })(t.Context(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		var buf [8]byte
		n, _ := far.Read(buf[:])
		_, _ = far.Write(buf[:n-1])
	}()
	var buf [8]byte
	if _, err := c.Write([]byte("three")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(buf[:]); err != nil {
		t.Fatal(err)
	}
	if st := m.Status(); st.Up != 5 || st.Down != 4 {
		t.Errorf("%+v", st)
	}
}

func TestDamagedFile(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2}`, `{"version":1,"used":-1}`,
		string(make([]byte, maxFile+1))} {
		path := filepath.Join(t.TempDir(), "budget.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		m := Open(Options{Path: path, Monthly: 10, Day: 1, Now: known})
		if st := m.Status(); st.Used != 0 {
			t.Errorf("%q: %+v", text[:min(len(text), 30)], st)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"period":"2026-12-01T00:00:00Z","since":"2026-12-01T00:00:00Z","used":5}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if rec, err := parse(text); err == nil && (rec.Used < 0 || rec.Version != fileVersion) {
			t.Errorf("%+v", rec)
		}
	})
}
