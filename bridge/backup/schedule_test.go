package backup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// brokenLog fails at each cut, and counts them.
type brokenLog struct{ at []time.Time }

func (l *brokenLog) BeforeCheckpoint() error {
	l.at = append(l.at, time.Now())
	return errors.New("no log")
}

func (l *brokenLog) Checkpoint(string) (streams.Position, error) { panic("BeforeCheckpoint failed") }

const anyone = "age1lggyhqrw2nlhcxprm67z43rta597azn8gknawjehu9d9dl0jq3yqqvfafg"

func scheduled(t *testing.T, every time.Duration) (*Service, *brokenLog) {
	l := &brokenLog{}
	x, err := NewService(Source{Dir: t.TempDir(), Directory: "ab", Log: l, Slog: slog.New(slog.DiscardHandler)},
		Settings{Target: filepath.Join(t.TempDir(), "to"), Recipients: []string{anyone}, Every: every})
	if err != nil {
		t.Fatal(err)
	}
	return x, l
}

// A failed backup is tried again after a quarter of the interval, and is counted.
func TestScheduleRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x, l := scheduled(t, 20*time.Minute)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- x.Run(ctx) }()
		time.Sleep(30 * time.Minute)
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		// The first within 2 minutes, and then one each 5 to 7.
		if n := len(l.at); n < 4 || n > 7 || x.Counters().Failed != uint64(n) || x.Status().Problem == "" {
			t.Errorf("%d tries, %+v, %+v", n, x.Counters(), x.Status())
		}
		for i := 1; i < len(l.at); i++ {
			if gap := l.at[i].Sub(l.at[i-1]); gap < 5*time.Minute || gap > 7*time.Minute {
				t.Errorf("try %d came after %s", i, gap)
			}
		}
	})
}

// When the next is due is counted from the instant of the last, over a restart too; one
// that was missed is made soon.
func TestPlan(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	for _, c := range []struct {
		name        string
		last        time.Duration // ago; 0: there is none
		problem     string
		least, most time.Duration
	}{
		{"the first", 0, "", 0, 6 * time.Minute},
		{"not yet due", 20 * time.Minute, "", 40 * time.Minute, 46 * time.Minute},
		{"missed", 100 * time.Hour, "", 0, 6 * time.Minute},
		{"failed", time.Hour, "it is full", 15 * time.Minute, 21 * time.Minute},
		{"the clock was ahead", -time.Hour, "", 0, 6 * time.Minute},
	} {
		x, _ := scheduled(t, time.Hour)
		if c.last != 0 {
			x.last = Last{ID: "one", Time: now.Add(-c.last)}
		}
		x.problem = c.problem
		if got := x.plan(now); got < c.least || got > c.most {
			t.Errorf("%s: in %s, want %s to %s", c.name, got, c.least, c.most)
		}
	}
}

// What is asked for wrongly is no backup, and one at a time is made.
func TestRequests(t *testing.T) {
	x, _ := scheduled(t, 0)
	for name, r := range map[string]Request{
		"in the data directory": {Target: filepath.Join(x.source.Dir, "to")},
		"relative":              {Target: "to"},
		"a private key":         {Recipients: []string{"AGE-SECRET-KEY-1X"}},
		"no key":                {Recipients: []string{"age1x"}},
		"no file":               {Recipients: []string{filepath.Join(t.TempDir(), "none")}},
		"too slow":              {MaxBandwidth: vault.MinBandwidth - 1},
	} {
		if _, err := x.Take(t.Context(), r, nil); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := x.begin(); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Take(t.Context(), Request{}, nil); !errors.Is(err, ErrBusy) {
		t.Errorf("a second one: %v", err)
	}
}

// A backup with a target of its own says nothing of those that the schedule makes, and one
// that is complete and not what was sent is no good one.
func TestWhatCounts(t *testing.T) {
	x, _ := scheduled(t, time.Hour)
	if err := os.Mkdir(filepath.Join(x.source.Dir, folder), 0o700); err != nil { // as a cut does
		t.Fatal(err)
	}
	elsewhere := Request{Target: "/mnt/stick"}
	at := func(minute int) *Taken {
		cut := time.Unix(1_800_000_000, 0).Add(time.Duration(minute) * time.Minute)
		return &Taken{vault.Info{ID: fmt.Sprint(minute)}, &About{Cut: cut}}
	}
	torn := errors.New("torn")
	for i, c := range []struct {
		name          string
		of            Request
		taken         *Taken
		err           error
		last, problem string
		done, failed  uint64
	}{
		{"the first", Request{}, at(0), nil, "0", "", 1, 0},
		{"elsewhere", elsewhere, at(1), nil, "0", "", 2, 0},
		{"fails", Request{}, nil, torn, "0", "torn", 2, 1},
		{"elsewhere meanwhile", elsewhere, at(3), nil, "0", "torn", 3, 1},
		{"fails elsewhere", elsewhere, nil, errors.New("away"), "0", "torn", 3, 2},
		{"again", Request{}, at(5), nil, "5", "", 4, 2},
		{"is not what was sent", Request{Verify: true}, at(6), torn, "5", "torn", 4, 3},
	} {
		x.finish(t.Context(), c.of, "to", c.taken, c.err)
		st, n := x.Status(), x.Counters()
		if st.Last.ID != c.last || st.Problem != c.problem || n.Done != c.done || n.Failed != c.failed {
			t.Errorf("%s: last %s, problem %q, %d done, %d failed", c.name, st.Last.ID, st.Problem, n.Done, n.Failed)
		}
		if again, err := NewService(x.source, x.settings); err != nil || again.Status().Last.ID != c.last {
			t.Errorf("%d, after a restart: %+v, %v", i, again.Status().Last, err)
		}
		if c.taken != nil && c.err == nil && !x.LastCut().Equal(c.taken.About.Cut) {
			t.Errorf("%s: the last cut is of %s", c.name, x.LastCut())
		}
	}
}
