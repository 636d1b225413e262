package rules

import (
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A group is what some messages of the log made, to be committed together,
// and what is to be counted and kept once it is.
type group struct {
	engine   *Engine
	batch    *streams.Batch
	next     uint64 // position after them
	notFound int64  // messages by Basic Ingest for no rule

	tallies map[*Rule]*tally
	last    *tally
	spare   []*tally
	arrived []int64 // epoch ms, of each firing that made something
}

// A tally is what a group counted of one rule.
type tally struct {
	rule                                        *Rule
	matched, unmet, fired, errors, errorActions int64
	unmerged                                    int64
	made, arrived                               int64     // firings that made something, and the sum of their arrivals
	slots                                       []outcome // by slot
	kept                                        [results]int
	entries                                     []keptEntry
}

// An outcome counts what the batch holds of one action, to its own log or to
// its outbox, and what could not be had.
type outcome struct{ committed, refused int64 }

func newGroup(e *Engine) group {
	return group{engine: e, batch: e.store.NewBatch(), tallies: map[*Rule]*tally{}}
}

func (g *group) reset() {
	g.next = 0
	if g.batch.Bytes() > keepOutput {
		g.batch = g.engine.store.NewBatch()
	}
	g.batch.Reset()
	g.forget()
}

// forget drops what was to be counted.
func (g *group) forget() {
	for _, t := range g.tallies {
		clear(t.entries)
		clear(t.slots)
		*t = tally{slots: t.slots[:0], entries: t.entries[:0]}
		if len(g.spare) < maxSpare {
			g.spare = append(g.spare, t)
		}
	}
	clear(g.tallies)
	g.last, g.notFound, g.arrived = nil, 0, g.arrived[:0]
}

const maxSpare = 1024

// of returns the tally of r; messages come in runs for the same rule.
func (g *group) of(r *Rule) *tally {
	if g.last != nil && g.last.rule == r {
		return g.last
	}
	t := g.tallies[r]
	if t == nil {
		if n := len(g.spare); n > 0 {
			t, g.spare = g.spare[n-1], g.spare[:n-1]
		} else {
			t = &tally{}
		}
		t.rule = r
		for range r.slots {
			t.slots = append(t.slots, outcome{})
		}
		g.tallies[r] = t
	}
	g.last = t
	return t
}

// keep notes what became of the message at hand, unless the group has enough
// of that from this rule. acts are copied.
func (t *tally) keep(r result, w *worker, reason string, acts []act) {
	if t.kept[r] == w.engine.perTurn {
		return
	}
	t.kept[r]++
	e := entry{rule: t.rule, trace: w.message.Trace, shard: w.shard, offset: w.offset, time: w.message.Time,
		reason: short(reason)}
	if acts != nil {
		e.acts = append(make([]act, 0, len(acts)), acts...)
	}
	t.entries = append(t.entries, keptEntry{r, e})
}

// took says that the group has taken effect: it adds to the rules' counters
// and to what is kept of their messages.
func (g *group) took() {
	now := time.Now().UnixMilli()
	for _, at := range g.arrived {
		g.engine.durable.observe(max(0, now-at))
	}
	g.engine.notFound.Add(g.notFound)
	for r, t := range g.tallies {
		c := r.count
		for _, k := range t.entries {
			for i := range k.acts {
				if a := &k.acts[i]; a.record >= 0 && (a.state == actCommitted || a.state == actWaiting) {
					stream, shard := g.batch.Place(int(a.record))
					a.stream, a.shard, a.offset, a.at = stream, int32(shard), g.batch.Offset(int(a.record)), now
				}
			}
			c.history.add(k.result, k.entry)
		}
		c.matched.Add(t.matched)
		c.unmet.Add(t.unmet)
		if t.matched > t.unmet {
			c.fired.Add(t.fired)
			c.unmerged.Add(t.unmerged)
			c.errors.Add(t.errors)
			c.errorActions.Add(t.errorActions)
			c.durable.add(t.made, max(0, t.made*now-t.arrived))
			for i, n := range t.slots {
				r.slots[i].success.Add(n.committed)
				r.slots[i].failure.Add(n.refused)
			}
		}
	}
}
