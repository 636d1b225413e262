package rules

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Options of an Engine.
type Options struct {
	Account string // accountid()
	Outbox  func(stream string) error
	// Redact takes secrets out of what is logged, kept and told of errors; nil: there
	// are none.
	Redact func(text string) string
	// Room is nil while there is room for what rules make, else it says why there is
	// none: then they wait, and go on soon after there is some. nil: there is always
	// room.
	Room func() error
	Log  *slog.Logger
}

// A Log is what rules need of the bridge's log: they read the ingest log, and write
// streams together with their position in it.
type Log interface {
	streams.Reader
	streams.Writer
	Describe(name string) (streams.Info, error)
	Get(key []byte) ([]byte, error)
}

// An Engine evaluates rules over the ingest log. Set may be called at any
// time.
type Engine struct {
	store Log
	opts  Options
	rules atomic.Pointer[table]
	setMu sync.Mutex // one Set at a time

	made time.Time // from when gather counts

	perTurn int // keepPerTurn

	skipped, notFound  atomic.Int64
	loggedAt, unlogged atomic.Int64 // as of a rule's counters, for messages that are not found
	durable, delivered histogram
}

// A table is one immutable set of rules.
type table struct {
	byTopic topic.Tree[*Rule]
	byName  map[string]*Rule
	keep    int // entries of each rule's history
}

// New returns an engine without rules. It starts nothing.
func New(store Log, o Options) *Engine {
	if o.Redact == nil {
		o.Redact = func(text string) string { return text }
	}
	e := &Engine{store: store, opts: o, made: time.Now(), perTurn: keepPerTurn}
	e.rules.Store(&table{byName: map[string]*Rule{}})
	return e
}

// Set replaces the rules in force. Messages that workers have under way are
// finished with the rules they began with.
func (e *Engine) Set(all []*Rule) error {
	e.setMu.Lock()
	defer e.setMu.Unlock()
	old := e.rules.Load()
	t := &table{
		byName: make(map[string]*Rule, len(all)),
		keep:   max(keepAtLeast, min(keepPerRule, keepInAll/max(1, len(all)))),
	}
	for _, r := range all {
		if o := old.byName[r.Name]; o != r { // else it is being counted in, and has its outboxes
			if err := e.outboxes(r); err != nil {
				return err
			}
			r.count.history.limit(t.keep)
			if o != nil {
				r.inherit(o)
			}
		}
		t.byName[r.Name] = r
		if f := r.statement.Filter(); f != "" && !r.Disabled {
			t.byTopic.Add(f, r)
		}
	}
	if t.keep != old.keep {
		for _, r := range all {
			r.count.history.limit(t.keep)
		}
	}
	e.rules.Store(t)
	return nil
}

// outboxes asks for those that r's actions write to.
func (e *Engine) outboxes(r *Rule) error {
	for _, a := range r.targets() {
		if a.Outbox() == "" {
			continue
		}
		if err := e.opts.Outbox(a.Outbox()); err != nil {
			return fmt.Errorf("rule %s: %w", r.Name, err)
		}
	}
	return nil
}

// UsesOutbox says whether a rule in force writes to an outbox.
func (e *Engine) UsesOutbox(stream string) bool {
	for _, r := range e.rules.Load().byName {
		for _, a := range r.targets() {
			if a.Outbox() == stream {
				return true
			}
		}
	}
	return false
}

// Skipped counts messages that left the ingest log before a worker read them.
func (e *Engine) Skipped() int64 { return e.skipped.Load() }

// Rules returns the rules in force, by name.
func (e *Engine) Rules() []*Rule {
	t := e.rules.Load()
	all := make([]*Rule, 0, len(t.byName))
	for _, name := range slices.Sorted(maps.Keys(t.byName)) {
		all = append(all, t.byName[name])
	}
	return all
}

// Rule returns the rule in force of that name, or nil.
func (e *Engine) Rule(name string) *Rule { return e.rules.Load().byName[name] }

// NotFound counts messages by Basic Ingest for a rule that is not there or is
// disabled, AWS's metric RuleNotFound.
func (e *Engine) NotFound() int64 { return e.notFound.Load() }

// Run evaluates until ctx ends and returns when every worker has stopped.
func (e *Engine) Run(ctx context.Context) error {
	info, err := e.store.Describe(ingest.Stream)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	for shard := range info.Config.Shards {
		wg.Go(func() { e.work(ctx, info.ID, shard) })
	}
	wg.Wait()
	return nil
}
