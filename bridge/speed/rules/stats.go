package rules

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
)

// counters are a rule's metrics, and what is kept of its newest messages.
// They outlive the Rule when another of its name takes its place.
type counters struct {
	matched, unmet, fired, unmerged, errors, errorActions atomic.Int64
	durable, delivered                                    latency

	loggedAt atomic.Int64 // unix ns when a failure was logged last
	unlogged atomic.Int64 // failures since
	history  history
}

// actionCounters are those of one action, as long as its slot keeps its kind.
type actionCounters struct{ success, failure, retries atomic.Int64 }

// A latency sums up how long something took, from a message's arrival on.
type latency struct{ count, ms atomic.Int64 }

func (l *latency) add(count, ms int64) {
	l.count.Add(count)
	l.ms.Add(ms)
}

func (l *latency) load() Latency {
	return Latency{l.count.Load(), time.Duration(l.ms.Load()) * time.Millisecond}
}

// Stats are a rule's counts since it was first loaded by this process. What
// is evaluated is counted once that is durable, so that a message that is met
// again after a failure counts once.
type Stats struct {
	Matched int64 // messages whose topic FROM matched, or that came by Basic Ingest
	Unmet   int64 // of those, WHERE did not hold
	Fired   int64 // of those, WHERE held and a document was made
	// of those that fired, * beside other items had no object to merge: nothing of the payload is in the document
	Unmerged     int64
	Errors       int64 // of those, evaluation failed
	Actions      int64 // actions that were done: committed to a stream, or delivered
	ActionErrors int64 // actions that could not be had or were given up, error actions included
	Retries      int64 // attempts of deliveries that failed and are repeated
	ErrorActions int64 // runs of the error action
}

// Metrics are all that is counted of one rule.
type Metrics struct {
	Rule string
	Stats
	Durable   Latency // of firings, until what they made was in the log
	Delivered Latency // of deliveries from outboxes, until they were done
	Slots     []SlotStats
}

// A Latency is a number of events and the time they took, from the arrival of
// their message on, to the millisecond.
type Latency struct {
	Count int64         `json:"count"`
	Sum   time.Duration `json:"sum_ns"`
}

// Mean is 0 without events.
func (l Latency) Mean() time.Duration { return l.Sum / time.Duration(max(1, l.Count)) }

// SlotStats count one action of a rule since its slot has had that kind.
type SlotStats struct {
	Slot    string // "0", "1", … or "error"
	Kind    string
	Outbox  bool  // it delivers from an outbox, and may retry
	Success int64 // committed to a stream, or delivered
	Failure int64 // could not be had, or given up
	Retries int64 // attempts that failed and are repeated
}

// inherit lets r go on where old, which it replaces, has counted to.
func (r *Rule) inherit(old *Rule) {
	r.count = old.count
	for i, a := range r.actions {
		if i < len(old.actions) && a != nil && old.actions[i] != nil && a.Kind() == old.actions[i].Kind() {
			r.slots[i] = old.slots[i]
		}
	}
	if r.onError != nil && old.onError != nil && r.onError.Kind() == old.onError.Kind() {
		r.slots[len(r.actions)] = old.slots[len(old.actions)]
	}
}

// targets returns r's actions by slot, the error action, if there is one, last.
func (r *Rule) targets() []action.Target {
	if r.onError == nil {
		return r.actions
	}
	return append(slices.Clip(r.actions), r.onError)
}

func (r *Rule) metrics() Metrics {
	c := r.count
	m := Metrics{Rule: r.Name, Durable: c.durable.load(), Delivered: c.delivered.load(),
		Stats: Stats{Matched: c.matched.Load(), Unmet: c.unmet.Load(), Fired: c.fired.Load(),
			Unmerged: c.unmerged.Load(), Errors: c.errors.Load(), ErrorActions: c.errorActions.Load()}}
	for i, a := range r.targets() {
		n := r.slots[i]
		s := SlotStats{slotName(r, i), a.Kind(), a.Outbox() != "", n.success.Load(), n.failure.Load(), n.retries.Load()}
		m.Slots = append(m.Slots, s)
		if i < len(r.actions) {
			m.Actions += s.Success
		}
		m.ActionErrors += s.Failure
		m.Retries += s.Retries
	}
	return m
}

// Metrics returns what is counted of each rule in force, by name.
func (e *Engine) Metrics() []Metrics {
	var all []Metrics
	for _, r := range e.Rules() {
		all = append(all, r.metrics())
	}
	return all
}

// Stats returns the counters of each rule in force.
func (e *Engine) Stats() map[string]Stats {
	all := map[string]Stats{}
	for name, r := range e.rules.Load().byName {
		all[name] = r.metrics().Stats
	}
	return all
}

// buckets are the upper bounds of a Histogram in ms, +Inf left out.
var buckets = [...]int64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 60_000, 600_000, 3_600_000}

// A histogram is one over all rules: one for each of 10,000 rules would be
// more than a Prometheus server likes to read.
type histogram struct {
	counts [len(buckets) + 1]atomic.Int64
	ms     atomic.Int64
}

func (h *histogram) observe(ms int64) {
	i, _ := slices.BinarySearch(buckets[:], ms)
	h.counts[i].Add(1)
	h.ms.Add(ms)
}

// A Histogram says how many events took how long.
type Histogram struct {
	Count   uint64
	Sum     time.Duration
	Buckets map[float64]uint64 // how many took at most so many seconds
}

func (h *histogram) load() Histogram {
	out := Histogram{Sum: time.Duration(h.ms.Load()) * time.Millisecond, Buckets: map[float64]uint64{}}
	for i := range h.counts {
		out.Count += uint64(h.counts[i].Load())
		if i < len(buckets) {
			out.Buckets[float64(buckets[i])/1000] = out.Count
		}
	}
	return out
}

// Latencies returns how long it took from a message's arrival until what a
// rule made of it was durable, and until it was delivered from an outbox.
func (e *Engine) Latencies() (durable, delivered Histogram) {
	return e.durable.load(), e.delivered.load()
}
