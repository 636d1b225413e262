package rules

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Bounds of one group of messages: those share one commit. A worker holds two
// groups at most, one being committed and one being evaluated.
const (
	groupRecords = 2000
	groupBytes   = 2 << 20
	groupOutput  = 8 << 20 // a group that makes more ends with the message that did
	keepOutput   = 1 << 20 // a larger batch is not used again
)

// lazyCommit is how often a position without outputs is made durable. To read
// such messages again after a crash changes nothing.
const lazyCommit = 5 * time.Second

// pace is the least time between two groups that did not fill up. A message
// that comes alone is taken at once; those that follow are gathered, so that
// a worker that keeps up does not read and commit for each sync of the log.
const pace = 4 * time.Millisecond

func (e *Engine) work(ctx context.Context, stream uint32, shard int) {
	log := e.opts.Log.With("shard", shard)
	w := newWorker(e, shard, positionKey(stream, shard), log)
	retry := backoff.NewExponentialBackOff(backoff.WithMaxInterval(30*time.Second), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		err := w.run(ctx, retry.Reset)
		if ctx.Err() != nil {
			return
		}
		wait := retry.NextBackOff()
		log.Error("rule worker stopped, will retry", "err", err, "in", wait)
		sleep(ctx, wait)
	}
}

// sleep returns after d, or earlier when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// A worker reads one partition.
type worker struct {
	engine *Engine
	shard  int
	posKey []byte
	log    *slog.Logger

	groups  [2]group
	gate    gate
	durable time.Time // when a position was last made durable

	// Scratch, of one message.
	decoder ingest.Decoder
	record  ingest.Message
	message iotsql.Message
	input   action.Input
	matched []*Rule
	doc     []byte
	offset  uint64
	acts    []act
}

func newWorker(e *Engine, shard int, posKey []byte, log *slog.Logger) *worker {
	return &worker{engine: e, shard: shard, posKey: posKey, log: log, groups: [2]group{newGroup(e), newGroup(e)}}
}

// positionKey is the metadata key of a worker's position in the log.
func positionKey(stream uint32, shard int) []byte {
	return fmt.Appendf(nil, "rules/%d/%d", stream, shard)
}

// run reads and evaluates until something fails or ctx ends. While a group is
// being committed the next one is evaluated, and committed after it. When a
// commit fails the group behind it is forgotten, and the next run begins at
// the durable position.
func (w *worker) run(ctx context.Context, progress func()) error {
	e := w.engine
	raw, err := e.store.Get(w.posKey)
	if err != nil {
		return err
	}
	var pos uint64
	if len(raw) == 8 {
		pos = binary.BigEndian.Uint64(raw)
	}
	w.durable = time.Now()
	filling, flying := &w.groups[0], &w.groups[1]
	filling.reset()

	var flight chan error // the outcome of flying's commit; nil: there is none
	land := func() error {
		if flight == nil {
			return nil
		}
		err := <-flight
		flight = nil
		if err != nil {
			return err
		}
		w.durable = time.Now()
		progress()
		return nil
	}
	defer func() { _ = land() }()
	for ctx.Err() == nil {
		recs, err := e.store.Read(ingest.Stream, w.shard, pos, groupRecords, groupBytes)
		if err != nil {
			return err
		}
		if len(recs) == 0 {
			if err := land(); err != nil {
				return err
			}
			if err := e.store.Wait(ctx, ingest.Stream, w.shard, pos); err != nil {
				return err
			}
			continue
		}
		if gap := recs[0].Offset - pos; gap > 0 {
			// Retention was faster than the rules, or they were off for too long.
			e.skipped.Add(int64(gap))
			w.log.Error("messages left the log before rules saw them", "messages", gap)
		}
		began := time.Now()
		pos = w.evaluate(ctx, filling, recs)
		if filling.batch.Len() > 0 || time.Since(w.durable) > lazyCommit {
			if err := land(); err != nil {
				return err
			}
			filling.batch.Set(w.posKey, binary.BigEndian.AppendUint64(nil, filling.next))
			filling, flying = flying, filling
			flight = make(chan error, 1)
			go func() {
				err := e.store.Commit(ctx, flying.batch)
				if err == nil {
					flying.took() // at once, as outboxes begin to tell of what it holds
				}
				flight <- err
			}()
			filling.reset()
		} else if flight == nil { // else it is counted with the group that is committed next
			filling.took()
			filling.forget()
		}
		if len(recs) < groupRecords {
			if err := land(); err != nil {
				return err
			}
			sleep(ctx, pace-time.Since(began))
		}
	}
	return ctx.Err()
}

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
	m := &w.record
	w.offset = rec.Offset
	if err := w.decoder.Decode(m, rec.Data); err != nil {
		w.log.Error("message skipped", "offset", rec.Offset, "err", err)
		return
	}
	w.matched = w.matched[:0]
	if name, _, ok := iotsql.BasicIngest(m.Topic); ok {
		if r := rules.byName[name]; r != nil && !r.Disabled {
			w.matched = append(w.matched, r)
		} else {
			g.notFound++
			if n, ok := now(&w.engine.told, &w.engine.untold); ok {
				w.log.Warn("basic ingest names no enabled rule", "rule", name, "messages_since", n)
			}
		}
	} else {
		rules.byTopic.MatchRule(m.Topic, func(r *Rule) { w.matched = append(w.matched, r) })
	}
	if len(w.matched) == 0 {
		return
	}
	w.message = w.engine.message(m)
	for _, r := range w.matched {
		w.apply(ctx, g, r)
	}
}

// message is a message of the log as statements see it, but for RuleName and
// TraceID, which costs memory.
func (e *Engine) message(m *ingest.Message) iotsql.Message {
	return iotsql.Message{
		Topic: m.Topic, Payload: m.Payload, Time: m.Time, ClientID: m.ClientID, Principal: m.Principal,
		SourceIP: m.SourceIP, AccountID: e.opts.Account, Protocol: m.Protocol,
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
			w.log.Error("evaluation of a rule broke off", "rule", r.Name, "topic", w.message.Topic, "fault", fault, "stack", string(debug.Stack()))
		}
	}()
	m := &w.message
	m.RuleName = r.Name
	w.gate.rule = r
	if r.tracing && m.TraceID == "" {
		m.TraceID = traceID(w.record.Trace)
	}
	doc, fired, err := r.statement.Eval(ctx, w.doc[:0], m)
	if err == nil && !fired {
		t.unmet++
		t.keep(resultUnmet, w, "", nil)
		return
	}
	if m.TraceID == "" { // most messages need none
		m.TraceID = traceID(w.record.Trace)
	}
	w.input = action.Input{Rule: r.Name, Message: m, Hops: w.record.Hops}
	w.acts = w.acts[:0]
	if err != nil {
		t.errors++
		for range r.actions {
			w.acts = append(w.acts, act{})
		}
		w.failed(ctx, g, t, err.Error(), []failure{{"", "", err.Error()}})
		return
	}
	t.fired++
	w.doc = doc // actions copy it
	w.input.Doc = doc[:len(doc):len(doc)]
	before := g.batch.Len()
	var failures []failure
	for i, a := range r.actions {
		if err := w.stage(g, t, i, a, func() error { return a.Stage(ctx, g.batch, &w.input) }); err != nil {
			failures = append(failures, actionFailure(a.Kind(), a.Resource(), err))
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
		x = act{state: actRefused, at: w.record.Time, reason: short(err.Error())}
		t.slots[slot].refused++
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

func traceID(t [16]byte) string {
	var b [36]byte
	hex.Encode(b[:], t[:4])
	for i, at := range [...]int{9, 14, 19} {
		b[at-1] = '-'
		hex.Encode(b[at:], t[4+2*i:6+2*i])
	}
	b[23] = '-'
	hex.Encode(b[24:], t[10:])
	return string(b[:])
}

// parseTrace is the inverse of traceID.
func parseTrace(s string) (t [16]byte, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return t, false
	}
	_, err := hex.Decode(t[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
	return t, err == nil
}
