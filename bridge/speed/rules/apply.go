package rules

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// evaluate puts into g what recs make, or the first of them if that is much,
// and returns the position after those.
func (w *worker) evaluate(ctx context.Context, g *group, recs []streams.Record) (next uint64) {
	rules := w.engine.rules.Load()
	ctx = iotsql.WithGate(ctx, &w.gate)
	for i := range recs {
		w.one(ctx, g, rules, &recs[i])
		g.next = recs[i].Offset + 1
		if g.batch.Bytes() >= groupOutput {
			break
		}
	}
	return g.next
}

// one evaluates every rule that one record of the log concerns.
func (w *worker) one(ctx context.Context, g *group, rules *table, rec *streams.Record) {
	m := &w.message.Message
	w.offset = rec.Offset
	if err := w.decoder.Decode(m, rec.Data); err != nil {
		w.log.Error("message skipped", "offset", rec.Offset, "err", err)
		return
	}
	w.matched = w.matched[:0]
	if name, _, ok := topic.CutRule(m.Topic); ok {
		if r := rules.byName[name]; r != nil && !r.Disabled {
			w.matched = append(w.matched, r)
		} else {
			g.notFound++
			if n, ok := mayLog(&w.engine.loggedAt, &w.engine.unlogged); ok {
				w.log.Warn("basic ingest names no enabled rule", "rule", name, "messages_since", n)
			}
		}
	} else {
		rules.byTopic.MatchRule(m.Topic, func(r *Rule) { w.matched = append(w.matched, r) })
	}
	if len(w.matched) == 0 {
		return
	}
	for _, r := range w.matched {
		w.apply(ctx, g, r)
	}
}

// apply evaluates r for the message in w. A fault of ours in one rule must not
// end the bridge, which would meet the same message again when it starts.
func (w *worker) apply(ctx context.Context, g *group, r *Rule) {
	t := g.of(r)
	t.matched++
	defer func() {
		if fault := recover(); fault != nil {
			t.errors++
			t.keep(resultFailed, w, fmt.Sprint("evaluation broke off: ", fault), nil)
			w.log.Error("evaluation of a rule broke off", "rule", r.Name, "topic", w.message.Topic, "fault", fault,
				"stack", string(debug.Stack()))
		}
	}()
	m := &w.message
	m.Rule = r.Name
	w.gate.rule = r
	made, err := r.statement.Evaluate(ctx, w.doc[:0], m)
	if err == nil && !made.Fired {
		t.unmet++
		t.keep(resultUnmet, w, "", nil)
		return
	}
	w.input = action.Input{Input: m}
	w.acts = w.acts[:0]
	if err != nil {
		t.errors++
		for range r.actions {
			w.acts = append(w.acts, act{})
		}
		reason := w.engine.opts.Redact(err.Error())
		w.failed(ctx, g, t, reason, []failure{{"", "", reason}})
		return
	}
	t.fired++
	if made.Unmerged {
		t.unmerged++
	}
	w.doc = made.Doc // actions copy it
	w.input.Doc = slices.Clip(made.Doc)
	before := g.batch.Len()
	var failures []failure
	for i, a := range r.actions {
		if err := w.stage(g, t, i, a, func() error { return a.Stage(ctx, g.batch, &w.input) }); err != nil {
			failures = append(failures, w.engine.failure(a.Kind(), action.FailedResource(a, err), err))
		}
	}
	if g.batch.Len() > before {
		t.made++
		t.arrived += m.Time
		g.arrived = append(g.arrived, m.Time)
	}
	if failures != nil {
		w.failed(ctx, g, t, "", failures)
		return
	}
	if r.onError != nil {
		w.acts = append(w.acts, act{}) // it runs if an outbox gives up
	}
	t.keep(resultFired, w, "", w.acts)
}

// stage notes what comes of staging the action of a slot.
func (w *worker) stage(g *group, t *tally, slot int, a action.Target, stage func() error) error {
	x := act{state: actCommitted, record: int32(g.batch.Len())}
	err := stage()
	switch {
	case err != nil:
		x = act{state: actRefused, at: w.message.Time, reason: w.engine.short(err)}
		t.slots[slot].refused++
	case g.batch.Len() == int(x.record): // nothing to do, as for an empty array in batch mode
		x.record, x.at = -1, w.message.Time
		t.slots[slot].committed++
	case a.Outbox() != "":
		x.state = actWaiting
	default:
		t.slots[slot].committed++
	}
	w.acts = append(w.acts, x)
	return err
}

// failed runs the error action, if there is one, and keeps the message.
func (w *worker) failed(ctx context.Context, g *group, t *tally, reason string, failures []failure) {
	if r := t.rule; r.onError == nil {
		_, _ = w.engine.fail(ctx, g.batch, r, &w.input, failures)
	} else {
		t.errorActions++
		_ = w.stage(g, t, len(r.actions), r.onError, func() error { // which logs its error
			_, err := w.engine.fail(ctx, g.batch, r, &w.input, failures)
			return err
		})
	}
	t.keep(resultFailed, w, reason, w.acts)
}
