package rules

import (
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// Tried takes account of an attempt at a delivery; see action.Options.
func (e *Engine) Tried(a action.Attempt) {
	r := e.rules.Load().byName[a.Rule]
	if r == nil {
		return
	}
	if i := slotIndex(r, a.Slot); i >= 0 && r.targets()[i].Kind() == a.Kind {
		switch n := r.slots[i]; {
		case !a.Final:
			n.retries.Add(1)
		case a.Err != nil:
			n.failure.Add(1)
		default:
			n.success.Add(1)
		}
	}
	if a.Err == nil && a.Time > 0 {
		ms := max(0, a.At.UnixMilli()-a.Time)
		r.count.delivered.add(1, ms)
		e.delivered.observe(ms)
	}
	if trace, ok := message.ParseTrace(a.TraceID); ok {
		t := attempt{trace: trace, slot: a.Slot, at: a.At, final: a.Final}
		if a.Err != nil {
			t.reason = e.short(a.Err)
		}
		r.count.history.tried(t)
	}
}

// An attempt is what a history knows of an action.Attempt.
type attempt struct {
	trace  message.Trace
	slot   string
	at     time.Time
	reason string // "": it is done
	final  bool
}

// An outbox may be done with a delivery before the commit that made it has
// come to an end here. So the first few attempts of the last moments wait for
// their message: the first, as those are of the messages that are kept.
const (
	mostEarly = 16
	earlyFor  = time.Second
)

// tried notes an attempt at a delivery. A message whose delivery is given up
// moves to the failed ones.
func (h *history) tried(t attempt) {
	h.mu.Lock()
	defer h.mu.Unlock()
	known := h.seek(func(e *entry) bool { return e.trace == t.trace }, func(r result, e *entry) {
		if e.tried(&t) && r == resultFired {
			failed := *e
			h.rings[r].remove(e)
			h.put(resultFailed, failed)
		}
	})
	if known {
		return
	}
	h.early = slices.DeleteFunc(h.early, func(x attempt) bool { return t.at.Sub(x.at) > earlyFor })
	if len(h.early) < mostEarly {
		h.early = append(h.early, t)
	}
}

// tried notes an attempt and says whether the delivery is given up.
func (e *entry) tried(t *attempt) (givenUp bool) {
	slot := slotIndex(e.rule, t.slot)
	if slot < 0 || slot >= len(e.acts) {
		return false
	}
	x := &e.acts[slot]
	x.tries++
	x.at, x.reason = t.at.UnixMilli(), t.reason
	switch {
	case t.reason == "":
		x.state = actDelivered
	case t.final:
		x.state = actGivenUp
		return true
	}
	return false
}

func slotName(r *Rule, i int) string {
	if i == len(r.actions) {
		return action.ErrorSlot
	}
	return strconv.Itoa(i)
}

// slotIndex is the inverse of slotName; -1 if r has no such slot.
func slotIndex(r *Rule, name string) int {
	if name == action.ErrorSlot && r.onError != nil {
		return len(r.actions)
	}
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(r.actions) {
		return i
	}
	return -1
}
