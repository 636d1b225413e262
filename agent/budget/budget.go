// Package budget counts what a device sends and receives against what it may in a
// month, and says when to be sparing. Bytes are those of TCP connections, TLS and MQTT
// included; headers of TCP and IP, some 52 for each packet each way, come on top.
package budget

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
)

// A Level says how sparing the device is.
type Level string

// The levels.
const (
	Plenty Level = "plenty"
	Sparse Level = "sparse" // what is left does not suffice at an even pace
	Used   Level = "used"   // nothing is left
)

// The levels go by how much of the budget is left, as a share of what would be left at an
// even pace: 1 is right on it. Between the two thresholds a level stays.
const (
	sparseBelow = 0.90
	plentyFrom  = 0.95
)

const (
	lookEvery = time.Minute
	// A write is some 16 KB of flash. A power cut forgets what was counted since the last.
	saveEvery   = time.Hour
	saveShare   = 100 // of the budget is more than may be forgotten at once: 1 %
	fileVersion = 1
	maxFile     = 4 << 10
	farthest    = 1 << 60 // bytes, so that sums stay numbers
)

// Options of a Meter.
type Options struct {
	Path    string // of the file; "": nothing is kept
	Monthly int64  // bytes of a period; 0: they are only counted
	Day     int    // of the month on which a period begins, in UTC: 1 to 28
	// Now is the time, and whether it is known: what is counted before belongs to the
	// period that is kept.
	Now func() (now time.Time, known bool)
	Log *slog.Logger // nil: nothing is logged
}

// A Meter is safe for use by several goroutines.
type Meter struct {
	o        Options
	up, down atomic.Int64 // since the start
	saving   sync.Mutex   // held while the file is written

	mu      sync.Mutex // guards the rest
	rec     record
	taken   int64 // of up and down, that rec has
	saved   int64 // rec.Used as written last
	savedAt time.Time
	level   Level
	changed chan struct{} // closed and replaced when level changes
}

// A record is what the file holds.
type record struct {
	Version int       `json:"version"`
	Period  time.Time `json:"period"` // when it began; zero: not known yet
	Since   time.Time `json:"since"`  // when counting began in it
	Used    int64     `json:"used"`
}

// Status is what is used and left.
type Status struct {
	Up, Down int64 // bytes since the start
	Used     int64 // of the period
	Left     int64
	// Forecast is what the period will have taken if it goes on as it did; 0 while
	// less than an hour of it was counted or the time is not known.
	Forecast int64
	Ends     time.Time // of the period; zero while the time is not known
	Level    Level
}

// Open reads what is kept. A file that cannot be read is told and left out.
func Open(o Options) *Meter {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Meter{o: o, rec: record{Version: fileVersion}, savedAt: time.Now(), level: Plenty,
		changed: make(chan struct{})}
	if o.Path == "" || o.Monthly == 0 {
		return m
	}
	rec, err := load(o.Path)
	if err == nil {
		m.rec, m.saved = rec, rec.Used
	} else if !errors.Is(err, fs.ErrNotExist) {
		o.Log.Error("what was used of the budget cannot be read, and is counted anew", "err", err)
	}
	return m
}

func load(path string) (rec record, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return rec, err
	}
	if info.Size() > maxFile {
		return rec, fmt.Errorf("budget: %s has %d bytes, more than %d", path, info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return rec, err
	}
	return parse(text)
}

func parse(text []byte) (rec record, err error) {
	if err := json.Unmarshal(text, &rec); err != nil {
		return record{}, fmt.Errorf("budget: %w", err)
	}
	if rec.Version != fileVersion || rec.Used < 0 || rec.Used > farthest {
		return record{}, fmt.Errorf("budget: version %d, %d bytes used, want version %d and 0 to %d", rec.Version,
			rec.Used, fileVersion, int64(farthest))
	}
	return rec, nil
}

// Run looks at the sums each minute until ctx is done, and writes them then.
func (m *Meter) Run(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		m.Status()
		m.save(ctx.Err() != nil)
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// Level returns the level, and a channel that is closed when it changes.
func (m *Meter) Level() (Level, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.level, m.changed
}

// Status returns the sums as of now.
func (m *Meter) Status() Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	st := Status{Up: m.up.Load(), Down: m.down.Load()}
	if m.o.Monthly == 0 {
		return st
	}
	now, known := m.o.Now()
	fresh := st.Up + st.Down - m.taken
	m.taken += fresh
	start := begin(now, m.o.Day)
	switch {
	case known && !m.rec.Period.Equal(start):
		// What came since the last look is the new period's, also of a time in which
		// nobody knew which one it was. Where the clock is set back nothing is forgotten.
		used := fresh
		if m.rec.Period.IsZero() || start.Before(m.rec.Period) {
			used += m.rec.Used
		}
		m.rec = record{Version: fileVersion, Period: start, Since: now, Used: used}
		m.saved = -1
	default:
		m.rec.Used += fresh
	}
	st.Used, st.Left = m.rec.Used, max(0, m.o.Monthly-m.rec.Used)
	left := 0.0 // of the period's time
	if known {
		st.Ends = begin(start.AddDate(0, 0, 40), m.o.Day)
		rest := st.Ends.Sub(now)
		left = float64(rest) / float64(st.Ends.Sub(start))
		if counted := now.Sub(m.rec.Since); counted >= time.Hour {
			st.Forecast = st.Used + int64(float64(st.Used)*(float64(rest)/float64(counted)))
		}
	}
	m.set(levelOf(m.level, float64(st.Left)/float64(m.o.Monthly), left))
	st.Level = m.level
	return st
}

// begin is when the period began that t is in.
func begin(t time.Time, day int) time.Time {
	t = t.UTC()
	start := time.Date(t.Year(), t.Month(), day, 0, 0, 0, 0, time.UTC)
	if start.After(t) {
		start = time.Date(t.Year(), t.Month()-1, day, 0, 0, 0, 0, time.UTC)
	}
	return start
}

// levelOf is the level after old, of the shares of bytes and time that are left; no time
// left is one that is not known.
func levelOf(old Level, bytes, left float64) Level {
	switch {
	case bytes <= 0:
		return Used
	case bytes < sparseBelow*left, old != Plenty && bytes < plentyFrom*left:
		return Sparse
	}
	return Plenty
}

// set changes the level. mu is held.
func (m *Meter) set(l Level) {
	if l == m.level {
		return
	}
	m.o.Log.Warn("the data budget is at another level", "level", string(l), "was", string(m.level), "used", m.rec.Used,
		"monthly", m.o.Monthly)
	m.level = l
	close(m.changed)
	m.changed = make(chan struct{})
}

// save writes the sums if that is due, or at the end if anything is new.
func (m *Meter) save(end bool) {
	m.saving.Lock()
	defer m.saving.Unlock()
	m.mu.Lock()
	rec, more := m.rec, m.rec.Used-m.saved
	due := more != 0 && (end || m.saved < 0 || time.Since(m.savedAt) >= saveEvery || more*saveShare > m.o.Monthly)
	if due {
		m.savedAt = time.Now() // also of a try that fails: it is not made each minute
	}
	m.mu.Unlock()
	if !due || m.o.Path == "" || m.o.Monthly == 0 {
		return
	}
	text, err := json.Marshal(rec)
	if err == nil {
		err = durable.Write(m.o.Path, text, 0o600)
	}
	if err != nil {
		m.o.Log.Error("what is used of the budget cannot be written", "err", err)
		return
	}
	m.mu.Lock()
	m.saved = rec.Used
	m.mu.Unlock()
}

// Dial opens a connection.
type Dial func(ctx context.Context, network, addr string) (net.Conn, error)

// Count returns dial whose connections are counted.
func (m *Meter) Count(dial Dial) Dial {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &conn{c, m}, nil
	}
}

type conn struct {
	net.Conn
	m *Meter
}

func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.m.down.Add(int64(n))
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.m.up.Add(int64(n))
	return n, err
}
