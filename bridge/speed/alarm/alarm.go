// Package alarm keeps the states of alarms that rules set, and has an Alertmanager
// raise and resolve them. It is where the cloudwatchAlarm action goes unless CloudWatch
// is configured.
//
// A state is durable when Set returns. While an alarm is in ALARM it is sent again
// each minute, for an alert ends by itself. An alarm is one of its name, whichever rule
// set it.
package alarm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink/alertmanager"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// raised is the state in which an alarm is an alert; all others resolve it.
const raised = "ALARM"

const (
	every    = time.Minute      // an alert is sent again: a fifth of the time after which it ends
	limit    = 30 * time.Second // of one request
	together = 200              // alerts in a request
	prefix   = "alarm/"         // of keys; the name follows
)

// ErrFull means that all alarms that there may be are in ALARM.
var ErrFull = errors.New("too many alarms")

// ErrNotFound means that there is no alarm of that name.
var ErrNotFound = errors.New("no such alarm")

// An Alarm is one as it was last set. As JSON it is what is kept (FORMAT.md).
type Alarm struct {
	Name   string    `json:"name"`
	State  string    `json:"state"` // OK, ALARM or INSUFFICIENT_DATA
	Reason string    `json:"reason"`
	Rule   string    `json:"rule"`  // that set it
	Since  time.Time `json:"since"` // it is in State
}

// A Log is what alarms need of the bridge's log.
type Log interface {
	NewBatch() *streams.Batch
	Commit(ctx context.Context, b *streams.Batch) error
	Scan(prefix []byte, f func(key, value []byte) bool) error
}

// Options of a Service.
type Options struct {
	To     *alertmanager.Client // nil: states are kept, and nobody is told
	Labels map[string]string    // that every alert has besides alertname
	Most   int                  // alarms; what is not in ALARM makes room
	Log    *slog.Logger
}

// A Service has all alarms. Several goroutines may use it.
type Service struct {
	store Log
	opts  Options
	// turn is held over a request and the commit after it, so that what is sent again
	// never overtakes a change.
	turn chan struct{}

	failures atomic.Int64

	mu  sync.Mutex // guards all; who changes it also holds turn
	all map[string]Alarm
}

// Open reads the alarms of store.
func Open(store Log, o Options) (*Service, error) {
	s := &Service{store: store, opts: o, turn: make(chan struct{}, 1), all: map[string]Alarm{}}
	var damaged error
	err := store.Scan([]byte(prefix), func(key, value []byte) bool {
		var a Alarm
		if err := json.Unmarshal(value, &a); err != nil || prefix+a.Name != string(key) {
			damaged = errors.Join(damaged, fmt.Errorf("%q: %w", key, errors.Join(err, errors.New("no alarm"))))
			return true
		}
		s.all[a.Name] = a
		return true
	})
	if damaged != nil { // the others must not go unseen for it; a rule sets it anew
		o.Log.Error("alarms that cannot be read are left out", "err", damaged)
	}
	return s, err
}

// take takes the turn; give gives it back.
func (s *Service) take(ctx context.Context) error {
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (s *Service) give() { <-s.turn }

// Set puts an alarm into a state, at a.Since if it is another than before. Alertmanager
// is told first: nothing is kept that it has not taken. To set it again does no harm.
func (s *Service) Set(ctx context.Context, a Alarm) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	was, known := s.get(a.Name)
	if known && was.State == a.State {
		a.Since = was.Since
	}
	if known && was == a {
		return nil
	}
	evicted := ""
	if !known {
		var err error
		if evicted, err = s.room(); err != nil {
			return err
		}
	}
	// What is in ALARM already is sent again soon, with the new reason.
	if a.State == raised && was.State != raised || a.State != raised && (!known || was.State == raised) {
		begun := a.Since
		if was.State == raised {
			begun = was.Since
		}
		if err := s.post(ctx, []alertmanager.Alert{s.alert(a, begun)}); err != nil {
			return err
		}
	}
	value, err := json.Marshal(a)
	if err != nil {
		return err
	}
	b := s.store.NewBatch()
	b.Set([]byte(prefix+a.Name), value)
	if evicted != "" {
		b.Unset([]byte(prefix + evicted))
	}
	if err := s.store.Commit(ctx, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, evicted)
	s.all[a.Name] = a
	return nil
}

// Delete resolves an alarm and forgets it, such as one whose rule is gone.
func (s *Service) Delete(ctx context.Context, name string) error {
	if err := s.take(ctx); err != nil {
		return err
	}
	defer s.give()
	a, known := s.get(name)
	if !known {
		return fmt.Errorf("alarm %q: %w", name, ErrNotFound)
	}
	if a.State == raised {
		begun := a.Since
		a.State, a.Reason, a.Since = "OK", "deleted", time.Now()
		if err := s.post(ctx, []alertmanager.Alert{s.alert(a, begun)}); err != nil {
			return err
		}
	}
	b := s.store.NewBatch()
	b.Unset([]byte(prefix + name))
	if err := s.store.Commit(ctx, b); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
	return nil
}

func (s *Service) get(name string) (Alarm, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, known := s.all[name]
	return a, known
}

// room names the alarm that a new one takes the place of, "" if there is room: the one
// that is not in ALARM for the longest.
func (s *Service) room() (evicted string, err error) {
	all := s.List()
	if len(all) < s.opts.Most {
		return "", nil
	}
	all = slices.DeleteFunc(all, func(a Alarm) bool { return a.State == raised })
	if len(all) == 0 {
		return "", fmt.Errorf("%w: %d are in ALARM, alertmanager.max_alarms", ErrFull, s.opts.Most)
	}
	return slices.MinFunc(all, func(a, b Alarm) int { return a.Since.Compare(b.Since) }).Name, nil
}

// List returns the alarms by name.
func (s *Service) List() []Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.AppendSeq([]Alarm{}, maps.Values(s.all))
	slices.SortFunc(all, func(a, b Alarm) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Failures counts requests that Alertmanager did not take, since the start.
func (s *Service) Failures() int64 { return s.failures.Load() }
