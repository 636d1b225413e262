package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// counters are a rule's metrics.
type counters struct{ matched, fired, errors, actions, actionErrors atomic.Int64 }

// Stats are a rule's counts since it was first loaded by this process.
type Stats struct {
	Matched      int64 // messages whose topic FROM matched
	Fired        int64 // of those, WHERE held and a document was made
	Errors       int64 // of those, evaluation failed
	Actions      int64 // action effects committed
	ActionErrors int64 // actions that could not be had; the error action ran if there is one
}

// Options of an Engine.
type Options struct {
	Account string // accountid()
	Outbox  func(stream string) error
	Log     *slog.Logger
}

// An Engine evaluates rules over the ingest log. Set may be called at any
// time.
type Engine struct {
	store *streams.Store
	opts  Options
	rules atomic.Pointer[table]
	setMu sync.Mutex // one Set at a time

	skipped atomic.Int64
}

// A table is one immutable set of rules.
type table struct {
	byTopic topic.Tree[*Rule]
	byName  map[string]*Rule
}

// New returns an engine without rules. It starts nothing.
func New(store *streams.Store, o Options) *Engine {
	e := &Engine{store: store, opts: o}
	e.rules.Store(&table{byName: map[string]*Rule{}})
	return e
}

// Set replaces the rules in force. Messages that workers have under way are
// finished with the rules they began with.
func (e *Engine) Set(all []*Rule) error {
	e.setMu.Lock()
	defer e.setMu.Unlock()
	old := e.rules.Load()
	t := &table{byName: map[string]*Rule{}}
	for _, r := range all {
		for _, a := range append(r.actions, r.onError) {
			if a == nil || a.Outbox() == "" {
				continue
			}
			if err := e.opts.Outbox(a.Outbox()); err != nil {
				return fmt.Errorf("rule %s: %w", r.Name, err)
			}
		}
		if o := old.byName[r.Name]; o != nil && o != r { // a rule that stays is being counted in
			r.count = o.count
		}
		t.byName[r.Name] = r
		if f := r.statement.Filter(); f != "" && !r.Disabled {
			t.byTopic.Add(f, r)
		}
	}
	e.rules.Store(t)
	return nil
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

// Stats returns the counters of each rule in force.
func (e *Engine) Stats() map[string]Stats {
	all := map[string]Stats{}
	for name, r := range e.rules.Load().byName {
		c := r.count
		all[name] = Stats{c.matched.Load(), c.fired.Load(), c.errors.Load(), c.actions.Load(), c.actionErrors.Load()}
	}
	return all
}

// Fail stages the error action of d's rule, if it has one, after an outbox
// gave d up.
func (e *Engine) Fail(b *streams.Batch, d *action.Delivery, err error) {
	r := e.rules.Load().byName[d.Rule]
	if r == nil {
		return
	}
	in := &action.Input{
		Rule: r.Name, Hops: d.Hops,
		Message: &iotsql.Message{Topic: d.Topic, Payload: d.Payload, ClientID: d.ClientID, TraceID: d.TraceID,
			Time: time.Now().UnixMilli(), AccountID: e.opts.Account, RuleName: r.Name},
	}
	e.fail(context.Background(), b, r, in, []failure{{d.Kind, strings.Trim(d.Bucket+"/"+d.Name, "/"), err.Error()}})
}

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

// A failure is one entry of the error action's document.
type failure struct {
	FailedAction   string `json:"failedAction"`
	FailedResource string `json:"failedResource"`
	ErrorMessage   string `json:"errorMessage"`
}

// fail stages r's error action with AWS's document; one for each rule and
// message, whatever number of actions failed.
func (e *Engine) fail(ctx context.Context, b *streams.Batch, r *Rule, in *action.Input, failures []failure) {
	e.opts.Log.Warn("rule failed", "rule", r.Name, "topic", in.Message.Topic, "failures", failures)
	if r.onError == nil {
		return
	}
	doc, err := json.Marshal(struct {
		RuleName string    `json:"ruleName"`
		Topic    string    `json:"topic"`
		TraceID  string    `json:"cloudwatchTraceId"`
		ClientID string    `json:"clientId"`
		Base64   []byte    `json:"base64OriginalPayload"`
		Failures []failure `json:"failures"`
	}{r.Name, in.Message.Topic, in.Message.TraceID, in.Message.ClientID, in.Message.Payload, failures})
	if err == nil {
		err = r.onError.Stage(ctx, b, &action.Input{Rule: r.Name, Message: in.Message, Hops: in.Hops, Doc: doc})
	}
	if err != nil {
		r.count.actionErrors.Add(1)
		e.opts.Log.Error("error action failed", "rule", r.Name, "action", r.onError.Kind(), "err", err)
	}
}
