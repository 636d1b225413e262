// Package disk keeps the bridge's disk from filling up. A Meter measures what each
// part of the bridge takes and what is free of the file system, which others may use
// as well, warns at 80 % of a limit, and says before anything fails what is still
// taken:
//
//   - Less than Reserve is free: new data is refused (Data), what devices publish and
//     what clients of the APIs put.
//   - Less than three quarters of it: what rules make of data waits as well (Growth),
//     outboxes above all.
//   - The rest is for positions, trims, deletes, the audit log, changes of the registry
//     and a clean stop. Nobody asks for those.
//
// Who takes data asks Data before each message, which is a load of an atomic. The
// Meter looks at the file system five times in a second, so that data is taken again
// soon after there is room, whatever made it.
//
// The package knows no part of the bridge: each is measured by a function.
package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// ErrNoRoom is why something is refused; errors of Data and Growth wrap it.
var ErrNoRoom = errors.New("the disk has too little room")

const (
	// lookEvery is how often the file system is asked: a statfs of some microseconds.
	lookEvery = 200 * time.Millisecond
	// measureEvery is how often parts are measured. The log's is the dearest, some
	// tens of microseconds.
	measureEvery = 2 * time.Second
	// stale is after which Status measures by itself, as in a command without a bridge.
	stale = 3 * measureEvery
)

// written is how many bytes the disk takes at once for a byte that the log stores: its
// own and that of a table, before the first is given back (streams/pebble, TestCost:
// 1.9).
const written = 2

// A Part is something that takes room.
type Part struct {
	Name   string
	Within string // the Part that it is a part of and counted with; "": none
	Limit  int64  // bytes; 0: none of its own
	// Refuses says that new data is refused when the part comes near its limit.
	Refuses bool
}

// A Use is how much a Part takes.
type Use struct {
	Name  string `json:"name"`
	Of    string `json:"of,omitempty"` // Part.Within
	Used  int64  `json:"used"`         // bytes
	Limit int64  `json:"limit"`        // bytes; 0: none of its own
}

// A Measure says by add how much parts take now. One that is not among Options.Parts is
// told in Status alone.
type Measure func(add func(Use)) error

// Options of a Meter.
type Options struct {
	Dir     string // of the data, whose file system it is about
	Budget  int64  // bytes that all parts may take together; 0: the file system's
	Reserve int64  // bytes that stay free; 0: nothing is refused for what is free
	Parts   []Part
	Measure []Measure
	Free    func(dir string) (free, size int64, err error) // of a file system; nil: statfs(2)
	Log     *slog.Logger                                   // nil: nothing is logged
}

// A level is what is refused, each with what the one before it refuses.
type level int32

const (
	open level = iota
	noData
	noGrowth
)

// A Meter is one bridge's. Its methods may be called from several goroutines.
type Meter struct {
	o Options

	level   atomic.Int32 // a level
	slack   atomic.Int64 // bytes that may still come until new data is refused
	why     atomic.Pointer[error]
	refused [2]atomic.Uint64 // by Data and by Growth

	measuring sync.Mutex // held while parts are measured; taken before mu
	mu        sync.Mutex // guards the rest
	free      int64
	size      int64
	uses      map[string]int64 // of Options.Parts
	others    []Use
	measured  time.Time
	total     int64 // of the parts that are within no other
	running   bool  // Run was called: before that nothing is logged
	logged    level
	warned    map[string]bool   // limits of which 80 % are used
	failing   map[string]string // what cannot be measured, and why
}

// New returns a Meter that has looked at the file system once, so that a bridge that
// starts on a full disk takes nothing.
func New(o Options) *Meter {
	if o.Free == nil {
		o.Free = Free
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	m := &Meter{o: o, uses: map[string]int64{}, warned: map[string]bool{}, failing: map[string]string{}}
	err := error(ErrNoRoom)
	m.why.Store(&err)
	m.look()
	return m
}

// Data is nil while new data is taken, else it says why it is not.
func (m *Meter) Data() error {
	if level(m.level.Load()) < noData {
		return nil
	}
	m.refused[0].Add(1)
	return *m.why.Load()
}

// Growth is nil while what is stored already may grow by what is made of it, else it
// says why that has to wait.
func (m *Meter) Growth() error {
	if level(m.level.Load()) < noGrowth {
		return nil
	}
	m.refused[1].Add(1)
	return *m.why.Load()
}

// Refuses is Data that counts nothing: for who asks how the bridge is.
func (m *Meter) Refuses() error {
	if level(m.level.Load()) < noData {
		return nil
	}
	return *m.why.Load()
}

// Full says why a part may not grow: it was over its limit when it was measured last.
func (m *Meter) Full(part string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.o.Parts {
		if used := m.uses[part]; p.Name == part && p.Limit > 0 && used > p.Limit {
			return fmt.Errorf("%w: %s take %d bytes, disk.%s is %d", ErrNoRoom, part, used, part, p.Limit)
		}
	}
	return nil
}

// Took says that the log stores so many bytes. What comes between two looks at the
// file system is refused by what was free at the last.
func (m *Meter) Took(bytes int) {
	if m.slack.Add(-written*int64(bytes)) < 0 {
		m.level.CompareAndSwap(int32(open), int32(noData))
	}
}
