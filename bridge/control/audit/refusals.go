package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// refusalWindow is the time in which so many refusals are written.
	refusalWindow = time.Minute
	// mostOfAll are written in a window, of all kinds: at some 300 bytes each 26 MB a
	// day, so that the 1 GiB of audit.max_bytes holds 41 days of an attack that never
	// ends. Our choice.
	mostOfAll = 60
	// maxRefusals bounds the kinds that are remembered, about 1 KiB each. What is
	// beyond is of one kind.
	maxRefusals = 1024
)

// Refusals writes records of what strangers can cause as often as they like: of each
// kind the first few of a minute, and of the rest the last with how many were left
// away. Its methods may be called from several goroutines.
type Refusals struct {
	to  Writer
	log *slog.Logger

	mu      sync.Mutex // guards what follows
	kinds   map[string]*refusalKind
	rest    refusalKind // of kinds for which there was no room
	began   time.Time   // of the window
	written int         // in the window
}

// A refusalKind is what is the same, such as an address and a reason.
type refusalKind struct {
	written int // in the window
	left    uint64
	last    Record // of those left away
}

// NewRefusals returns Refusals that write to a Writer, which should not wait for a
// disk.
func NewRefusals(to Writer, log *slog.Logger) *Refusals {
	return &Refusals{to: to, log: log, kinds: map[string]*refusalKind{}}
}

// Refused writes r, unless most were written of its kind in this minute. r.Error says
// why it was refused.
func (x *Refusals) Refused(kind string, most int, r Record) {
	if x.takes(kind, most, r) {
		x.write([]Record{r})
	}
}

// takes says whether r is to be written; otherwise it was counted.
func (x *Refusals) takes(kind string, most int, r Record) bool {
	r = r.bounded()
	x.mu.Lock()
	now := time.Now()
	due := x.turn(now)
	k := x.kinds[kind]
	if k == nil && len(x.kinds) >= maxRefusals {
		k, most = &x.rest, 1
	}
	if k == nil {
		k = &refusalKind{}
		x.kinds[kind] = k
	}
	write := k.written < most && x.written < mostOfAll
	if write {
		k.written++
		x.written++
	} else {
		k.left++
		k.last = r
	}
	x.mu.Unlock()
	x.write(due)
	return write
}

// turn begins a window if one is over, and returns what the last one left away, one
// record of each kind. mu is held.
func (x *Refusals) turn(now time.Time) []Record {
	if now.Sub(x.began) < refusalWindow {
		return nil
	}
	x.began, x.written = now, 0
	return x.summaries()
}

// summaries takes what was left away: a record of each of mostOfAll/2 kinds, and one of
// all others. mu is held.
func (x *Refusals) summaries() (all []Record) {
	var others uint64
	var last Record
	add := func(k *refusalKind) {
		switch {
		case k.left == 0:
		case len(all) < mostOfAll/2:
			k.last.Left = k.left - 1
			all = append(all, k.last)
		default:
			others, last = others+k.left, k.last
		}
		*k = refusalKind{}
	}
	for name, k := range x.kinds {
		add(k)
		delete(x.kinds, name)
	}
	add(&x.rest)
	if others > 0 {
		last.Left = others - 1
		all = append(all, last)
	}
	x.written += len(all)
	return all
}

func (x *Refusals) write(all []Record) {
	for _, r := range all {
		if err := x.to.Write(context.Background(), r); err != nil {
			x.log.Error("the audit log could not keep a refusal", "action", r.Action, "err", err)
		}
	}
}

// Run writes once a minute what was left away, until ctx ends, and then the rest.
func (x *Refusals) Run(ctx context.Context) error {
	tick := time.NewTicker(refusalWindow)
	defer tick.Stop()
	for {
		x.mu.Lock()
		due := x.turn(time.Now())
		if ctx.Err() != nil {
			due = append(due, x.summaries()...)
		}
		x.mu.Unlock()
		x.write(due)
		if ctx.Err() != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}
