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
	w := worker{engine: e, shard: shard, posKey: []byte(fmt.Sprintf("rules/%d/%d", stream, shard)), log: log}
	for i := range w.groups {
		w.groups[i] = group{batch: e.store.NewBatch(), tally: map[*Rule]Stats{}}
	}
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
	durable time.Time // when a position was last made durable

	// Scratch, of one message.
	decoder ingest.Decoder
	record  ingest.Message
	message iotsql.Message
	input   action.Input
	matched []*Rule
	doc     []byte
}

// A group is what some messages of the log made, to be committed together.
type group struct {
	batch *streams.Batch
	next  uint64 // position after them
	tally map[*Rule]Stats
}

func (g *group) reset(store *streams.Store) {
	if g.batch.Bytes() > keepOutput {
		g.batch = store.NewBatch()
	}
	g.batch.Reset()
	clear(g.tally)
}

// count adds to the rules' counters once it has taken effect.
func (g *group) count() {
	for r, s := range g.tally {
		r.count.matched.Add(s.Matched)
		r.count.fired.Add(s.Fired)
		r.count.errors.Add(s.Errors)
		r.count.actions.Add(s.Actions)
		r.count.actionErrors.Add(s.ActionErrors)
	}
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
	filling.reset(e.store)

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
		flying.count()
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
			go func() { flight <- e.store.Commit(ctx, flying.batch) }()
			filling.reset(e.store)
		} else if flight == nil { // else it is counted with the group that is committed next
			filling.count()
			clear(filling.tally)
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
	if err := w.decoder.Decode(m, rec.Data); err != nil {
		w.log.Error("message skipped", "offset", rec.Offset, "err", err)
		return
	}
	w.matched = w.matched[:0]
	if name, _, ok := iotsql.BasicIngest(m.Topic); ok {
		if r := rules.byName[name]; r != nil && !r.Disabled {
			w.matched = append(w.matched, r)
		} else {
			w.log.Warn("basic ingest names no enabled rule", "rule", name)
		}
	} else {
		rules.byTopic.MatchRule(m.Topic, func(r *Rule) { w.matched = append(w.matched, r) })
	}
	if len(w.matched) == 0 {
		return
	}
	w.message = iotsql.Message{
		Topic: m.Topic, Payload: m.Payload, Time: m.Time, ClientID: m.ClientID, Principal: m.Principal,
		SourceIP: m.SourceIP, AccountID: w.engine.opts.Account, Protocol: m.Protocol,
	}
	for _, r := range w.matched {
		s := g.tally[r]
		s.Matched++
		w.apply(ctx, g.batch, r, &s)
		g.tally[r] = s
	}
}

// apply evaluates r for the message in w. A fault of ours in one rule must not
// end the bridge, which would meet the same message again when it starts.
func (w *worker) apply(ctx context.Context, b *streams.Batch, r *Rule, s *Stats) {
	defer func() {
		if fault := recover(); fault != nil {
			s.Errors++
			w.log.Error("evaluation of a rule broke off", "rule", r.Name, "topic", w.message.Topic, "fault", fault, "stack", string(debug.Stack()))
		}
	}()
	m := &w.message
	m.RuleName = r.Name
	if r.tracing && m.TraceID == "" {
		m.TraceID = traceID(w.record.Trace)
	}
	w.input = action.Input{Rule: r.Name, Message: m, Hops: w.record.Hops}
	in := &w.input
	doc, fired, err := r.statement.Eval(ctx, w.doc[:0], m)
	if err == nil && !fired {
		return
	}
	if m.TraceID == "" { // most messages need none
		m.TraceID = traceID(w.record.Trace)
	}
	if err != nil {
		s.Errors++
		w.engine.fail(ctx, b, r, in, []failure{{"", "", err.Error()}})
		return
	}
	s.Fired++
	w.doc = doc // actions copy it
	in.Doc = doc[:len(doc):len(doc)]
	var failures []failure
	for _, a := range r.actions {
		if err := a.Stage(ctx, b, in); err != nil {
			s.ActionErrors++
			failures = append(failures, failure{a.Kind(), a.Resource(), err.Error()})
			continue
		}
		s.Actions++
	}
	if failures != nil {
		w.engine.fail(ctx, b, r, in, failures)
	}
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
