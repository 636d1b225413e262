// Package hold keeps what waited in a backup from going out after a restore: the
// bridge that went on may have delivered it. A name that is held has a key in the log, so
// a restart changes nothing; Release removes it.
//
// Names are those of streams without their dollar, outbox/RULE/ACTION and
// firehose/NAME; and Functions, Connectors and Sessions. FORMAT.md has the keys.
package hold

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Names of what is one thing to hold.
const (
	Functions  = "functions"  // their calls that nobody waits for
	Connectors = "connectors" // all of them
	Sessions   = "sessions"   // messages that wait for clients
)

const (
	prefix        = "hold/"
	sessionPrefix = "held/"   // before the keys of messages that are held
	queuePrefix   = "gw/q/"   // of package gateway/sessions
	functionsLog  = "$lambda" // the stream of calls
)

// ErrNotHeld means that there is nothing of that name to release.
var ErrNotHeld = errors.New("it is not held")

// A Log is what holds are kept in.
type Log interface {
	streams.Writer
	streams.Keys
	List() []streams.Info
	Size(stream string) (streams.Size, error)
}

// A Held is a name that is held.
type Held struct {
	Name    string    `json:"name"`
	Waiting uint64    `json:"waiting"` // records or messages; at most, as some of a stream may be done
	Bytes   int64     `json:"bytes"`   // likewise; 0 where it is not known
	Since   time.Time `json:"since"`   // of the restore
	Backup  string    `json:"backup"`  // that was restored
}

// NameOf is the name by which a stream's deliveries are held; "" if it has none.
func NameOf(stream string) string {
	if stream == functionsLog {
		return Functions
	}
	for _, p := range []string{"$outbox/", "$firehose/"} {
		if strings.HasPrefix(stream, p) {
			return stream[1:]
		}
	}
	return ""
}

// streamOf is the stream of a name, "" for none.
func streamOf(name string) string {
	switch name {
	case Functions:
		return functionsLog
	case Connectors, Sessions:
		return ""
	}
	return "$" + name
}

// All has everything held that the log delivers from: at a restore, before anything
// runs but the log. Messages for sessions are put aside.
func All(ctx context.Context, log Log, backup string, now time.Time) error {
	raw, err := json.Marshal(Held{Since: now.UTC(), Backup: backup})
	if err != nil {
		return err
	}
	names := []string{Connectors, Sessions}
	for _, info := range log.List() {
		if n := NameOf(info.Name); n != "" {
			names = append(names, n)
		}
	}
	b := log.NewBatch()
	for _, n := range names {
		b.Set([]byte(prefix+n), raw)
	}
	if err := log.Commit(ctx, b); err != nil {
		return err
	}
	return move(ctx, log, queuePrefix, func(key []byte) []byte { return append([]byte(sessionPrefix), key...) })
}

// List lists what is held, by name, with what waits.
func List(log Log) (all []Held, err error) {
	var bad error
	err = log.Scan([]byte(prefix), func(key, value []byte) bool {
		var h Held
		if bad = json.Unmarshal(value, &h); bad != nil {
			bad = fmt.Errorf("hold: %q: %w", key, bad)
			return false
		}
		h.Name = string(key[len(prefix):])
		all = append(all, h)
		return true
	})
	if err = errors.Join(err, bad); err != nil {
		return nil, err
	}
	for i := range all {
		h := &all[i]
		if h.Name == Sessions {
			err := log.Scan([]byte(sessionPrefix), func(_, value []byte) bool {
				h.Waiting++
				h.Bytes += int64(len(value))
				return true
			})
			if err != nil {
				return nil, err
			}
		}
		if s := streamOf(h.Name); s != "" {
			size, err := log.Size(s)
			if err != nil && !errors.Is(err, streams.ErrNotFound) {
				return nil, err
			}
			h.Waiting, h.Bytes = size.Records, size.Bytes
		}
	}
	return all, nil
}

// Release lets a name go; ErrNotHeld if it is none. Sessions get their messages at the
// next start.
func Release(ctx context.Context, log Log, name string) error {
	key := []byte(prefix + name)
	if raw, err := log.Get(key); err != nil {
		return err
	} else if raw == nil {
		return fmt.Errorf("%s: %w", name, ErrNotHeld)
	}
	if name == Sessions {
		err := move(ctx, log, sessionPrefix, func(key []byte) []byte {
			// Behind what came since, whose numbers began anew.
			key = bytes.Clone(key[len(sessionPrefix):])
			key[len(key)-8] |= 0x80
			return key
		})
		if err != nil {
			return err
		}
	}
	b := log.NewBatch()
	b.Unset(key)
	return log.Commit(ctx, b)
}

// movedAtOnce bounds a commit that moves keys.
const movedAtOnce = 1000

// move gives the keys with a prefix the names that to makes of them.
func move(ctx context.Context, log Log, from string, to func(key []byte) []byte) error {
	for {
		type entry struct{ key, value []byte }
		var some []entry
		err := log.Scan([]byte(from), func(key, value []byte) bool {
			if len(key) >= len(from)+8 {
				some = append(some, entry{bytes.Clone(key), bytes.Clone(value)})
			}
			return len(some) < movedAtOnce
		})
		if err != nil || len(some) == 0 {
			return err
		}
		b := log.NewBatch()
		for _, e := range some {
			b.Set(to(e.key), e.value)
			b.Unset(e.key)
		}
		if err := log.Commit(ctx, b); err != nil {
			return err
		}
	}
}

// lookEvery is how often a held name is looked at.
const lookEvery = time.Second

// A Getter reads keys of the log.
type Getter interface {
	Get(key []byte) ([]byte, error)
}

// Is says whether a name is held.
func Is(log Getter, name string) (bool, error) {
	raw, err := log.Get([]byte(prefix + name))
	return raw != nil, err
}

// Wait returns nil when a name is not held, or not any more; else ctx's error, or that
// of the log. held, which may be nil, is called once if it has to wait.
func Wait(ctx context.Context, log Getter, name string, held func()) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for logged := false; ; logged = true {
		is, err := Is(log, name)
		if err != nil || !is {
			return err
		}
		if !logged && held != nil {
			held()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
