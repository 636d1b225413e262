package rules

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// A Why says step by step what a rule made of a message, or would make.
type Why struct {
	Rule    string `json:"rule"`
	SQL     string `json:"sql"`
	Found   string `json:"found"` // where the message is from: "kept", "log" or "sample"
	Message Seen   `json:"message"`

	// The statement is evaluated anew, on the message as the log has it and
	// with the rule as it was then, if that is kept. An iotsql.Step is marked
	// where that may differ from what it was.
	Matched  bool          `json:"matched"`
	Fired    bool          `json:"fired"`
	Error    string        `json:"error,omitempty"`
	Steps    []iotsql.Step `json:"steps,omitempty"`
	Document *Data         `json:"document,omitempty"` // when Fired
	Actions  []ActionWhy   `json:"actions,omitempty"`

	Today *Why     `json:"today,omitempty"` // of the rule in force, if that was replaced and differs now
	Notes []string `json:"notes,omitempty"` // what a reader has to know besides
}

// Seen is a message as a Why shows it.
type Seen struct {
	ID       string    `json:"id,omitempty"`       // its trace id
	Position string    `json:"position,omitempty"` // SHARD/OFFSET in the ingest log
	Time     time.Time `json:"time,omitzero"`      // arrival
	Topic    string    `json:"topic,omitempty"`
	ClientID string    `json:"client_id,omitempty"`
	Payload  *Data     `json:"payload,omitempty"` // nil: retention has dropped it
}

// Data is a payload or a document: JSON (see message.IsJSON), or else bytes.
type Data struct {
	JSON  json.RawMessage `json:"json,omitempty"`
	Bytes []byte          `json:"bytes,omitempty"`
}

func newData(b []byte) *Data {
	if message.IsJSON(b) {
		return &Data{JSON: b}
	}
	return &Data{Bytes: b}
}

// An ActionWhy is one action of a Why.
type ActionWhy struct {
	Slot       string             `json:"slot"` // "0", "1", … or "error"
	Kind       string             `json:"kind"`
	Parameters []action.Parameter `json:"parameters,omitempty"`
	Error      string             `json:"error,omitempty"`   // why it cannot be had, as things are now
	Outcome    *Outcome           `json:"outcome,omitempty"` // nil: not kept, or it did not run
}

// An Outcome is what came of an action.
type Outcome struct {
	State    string    `json:"state"` // see the states below
	Stream   string    `json:"stream,omitempty"`
	Shard    int       `json:"shard,omitempty"`
	Offset   uint64    `json:"offset,omitempty"`
	Attempts int       `json:"attempts,omitempty"` // of an outbox
	Time     time.Time `json:"time,omitzero"`      // of the last attempt, or of the commit
	Error    string    `json:"error,omitempty"`    // of the last attempt
}

// States of an Outcome.
const (
	StateNotRun    = "not run"
	StateRefused   = "refused"   // it could not be had
	StateCommitted = "committed" // to a stream of the log
	StateWaiting   = "waiting"   // in its outbox, perhaps after attempts
	StateDelivered = "delivered"
	StateGivenUp   = "given up"
	StateEnded     = "ended" // it is in its outbox no more; how it ended is not kept
)

var actStates = [...]string{StateNotRun, StateRefused, StateCommitted, StateWaiting, StateDelivered, StateGivenUp}

// askLimit bounds what one explanation may ask outside.
const askLimit = 10 * time.Second

// Try says what r would make of a message, without any effect. Only its Topic,
// Payload and ClientID need be given.
func (e *Engine) Try(ctx context.Context, r *Rule, m *message.Message) *Why {
	if m.Time == 0 {
		m.Time = time.Now().UnixMilli()
	}
	if m.Protocol == "" {
		m.Protocol = "mqtt"
	}
	w := e.explain(ctx, r, m)
	w.Found = "sample"
	w.Message.ID = ""
	return w
}

// explain evaluates r on m.
func (e *Engine) explain(ctx context.Context, r *Rule, m *message.Message) *Why {
	ctx, cancel := context.WithTimeout(iotsql.WithoutEffects(ctx), askLimit)
	defer cancel()
	of := &iotsql.Input{Message: *m, Account: e.opts.Account, Rule: r.Name}
	x := r.statement.Explain(ctx, of)
	w := &Why{Rule: r.Name, SQL: r.Payload.SQL, Matched: x.Matched, Fired: x.Fired, Steps: x.Steps,
		Message: Seen{ID: m.Trace.String(), Time: time.UnixMilli(m.Time), Topic: m.Topic, ClientID: m.ClientID,
			Payload: newData(m.Payload)}}
	if x.Err != nil {
		w.Error = x.Err.Error()
	}
	if slices.Contains(r.statement.Asks(), "aws_lambda") {
		w.note("aws_lambda may have effects, and is not called to explain a message: it is Undefined here")
	}
	if slices.Contains(r.statement.Asks(), "get_secret") {
		w.note("get_secret is not shown: it is %q here, for each member of a secret that is a JSON object",
			iotsql.Redacted)
	}
	in := &action.Input{Input: of, Doc: x.Output}
	failed := x.Err != nil
	if x.Fired {
		w.Document = newData(x.Output)
	}
	for i, a := range r.targets() {
		aw := ActionWhy{Slot: slotName(r, i), Kind: a.Kind()}
		if aw.Slot == action.ErrorSlot {
			in.Doc = nil // the failures; no parameter sees them
		}
		if x.Fired && i < len(r.actions) || failed && i == len(r.actions) {
			var err error
			if aw.Parameters, err = a.Describe(ctx, in); err != nil {
				failed = true
				aw.Error = err.Error()
			}
		}
		w.Actions = append(w.Actions, aw)
	}
	return w
}

// Why says what r made of the message that id names: a trace id, or
// SHARD/OFFSET of the ingest log. A message that is not among those kept of
// the rule is looked for in the log, the newest first, back to since ago;
// progress is told how many records were looked at, of how many. r is the
// rule in force, or one that is not if no engine runs.
//
// Errors are ErrID, errNoMessage, ctx's and those of the log.
func (e *Engine) Why(ctx context.Context, r *Rule, id string, since time.Duration,
	progress func(searched, of uint64)) (*Why, error) {
	want, err := parseID(id)
	if err != nil {
		return nil, err
	}
	var kept *keptEntry
	r.count.history.find(want.is, func(res result, x *entry) { kept = &keptEntry{res, x.clone()} })
	if kept != nil {
		return e.whyKept(ctx, r, kept)
	}
	var shard int
	var offset uint64
	m := new(message.Message)
	if want.position {
		shard, offset = want.shard, want.offset
		m, err = e.at(shard, offset)
	} else {
		shard, offset, m, err = e.search(ctx, want.trace, since, progress)
	}
	if err != nil {
		return nil, err
	}
	w := e.explain(ctx, r, m)
	w.Found = "log"
	w.Message.Position = position(shard, offset)
	w.note("what came of the actions is not kept, since the message is not among the newest of the rule; " +
		"shown is what the rule makes of it now")
	if m.Time < r.Created.UnixMilli() {
		w.note("the rule is as of %s, which is after the message arrived", r.Created.UTC().Format(time.RFC3339))
	}
	e.whyNotKept(w, r, m, shard, offset)
	return w, nil
}

func (w *Why) note(format string, args ...any) {
	w.Notes = append(w.Notes, fmt.Sprintf(format, args...))
}

// between is how many messages of the log have offsets from from on and below to,
// about: those in flight may count or not.
func (e *Engine) between(shard int, from, to uint64) uint64 {
	all, err := e.store.Count(ingest.Stream, shard, from)
	later, failed := e.store.Count(ingest.Stream, shard, to)
	if err != nil || failed != nil || later > all {
		return 0
	}
	return all - later
}

// whyNotKept adds what the log tells of a message that is not kept: whether
// the rules have come to it, and which deliveries still wait.
func (e *Engine) whyNotKept(w *Why, r *Rule, m *message.Message, shard int, offset uint64) {
	next, err := e.position(shard)
	switch {
	case err != nil:
		w.note("how far the rules have come is not known: %v", err)
	case offset >= next:
		w.note("the rules have not come to the message yet: they are %d messages behind it",
			e.between(shard, next, offset+1))
		return
	}
	for i, a := range r.targets() {
		if a.Outbox() == "" || i >= len(w.Actions) {
			continue
		}
		if x, ok := e.waiting(a.Outbox(), m.Trace); ok {
			w.Actions[i].Outcome = x
		}
	}
}

// whyKept explains a message that is kept.
func (e *Engine) whyKept(ctx context.Context, r *Rule, k *keptEntry) (*Why, error) {
	m, err := e.at(k.shard, k.offset)
	if err != nil && !gone(err) {
		return nil, err
	}
	w := &Why{Rule: r.Name, SQL: k.rule.Payload.SQL, Matched: true, Fired: k.fired(), Error: k.reason,
		Message: Seen{ID: k.trace.String(), Time: time.UnixMilli(k.time)}}
	if err == nil {
		w = e.explain(ctx, k.rule, m)
		if w.Error == "" {
			w.Error = k.reason
		}
		if w.Fired != k.fired() {
			w.note("evaluated now the rule comes to another end: then the result was %q", k.result)
		}
	} else {
		w.note("retention has dropped the message from the log: %v", err)
		for i, a := range k.rule.targets() {
			w.Actions = append(w.Actions, ActionWhy{Slot: slotName(k.rule, i), Kind: a.Kind()})
		}
	}
	w.Found = "kept"
	w.Message.Position = position(k.shard, k.offset)
	for i := range w.Actions {
		if i < len(k.acts) {
			w.Actions[i].Outcome = e.outcome(&k.acts[i])
		}
	}
	if k.rule != r && !samePayload(k.rule, r) {
		w.note("the rule was replaced since; it is shown as it was then")
		if m != nil && err == nil {
			if today := e.explain(ctx, r, m); today.Fired != w.Fired ||
				!slices.Equal(today.Document.bytes(), w.Document.bytes()) {
				w.Today = today
			} else {
				w.note("the rule in force now comes to the same document")
			}
		}
	}
	return w, nil
}

func (d *Data) bytes() []byte {
	if d == nil {
		return nil
	}
	return append(slices.Clip(d.JSON), d.Bytes...)
}

// fired says whether a document was made.
func (k *keptEntry) fired() bool {
	return k.result == resultFired || k.result == resultFailed && k.reason == ""
}

func samePayload(a, b *Rule) bool {
	x, errX := json.Marshal(a.Payload)
	y, errY := json.Marshal(b.Payload)
	return errX == nil && errY == nil && string(x) == string(y)
}

// outcome shows an act.
func (e *Engine) outcome(x *act) *Outcome {
	o := &Outcome{State: actStates[x.state], Attempts: int(x.tries), Error: x.reason, Stream: x.stream,
		Shard: int(x.shard), Offset: x.offset}
	if x.at > 0 {
		o.Time = time.UnixMilli(x.at)
	}
	if x.state == actWaiting && x.stream != "" {
		// An attempt may have been told of before the message was kept.
		if first, err := action.Waiting(e.store, x.stream); err == nil && first > x.offset {
			o.State = StateEnded
		}
	}
	return o
}

func position(shard int, offset uint64) string {
	return strconv.Itoa(shard) + "/" + strconv.FormatUint(offset, 10)
}

// A messageID is what names a message: one of the two.
type messageID struct {
	trace    message.Trace
	position bool
	shard    int
	offset   uint64
}

func (id *messageID) is(x *entry) bool {
	if id.position {
		return x.shard == id.shard && x.offset == id.offset
	}
	return x.trace == id.trace
}

func parseID(s string) (id messageID, err error) {
	if shard, offset, ok := strings.Cut(s, "/"); ok {
		n, errN := strconv.ParseUint(shard, 10, 16)
		at, errAt := strconv.ParseUint(offset, 10, 64)
		if errN == nil && errAt == nil {
			return messageID{position: true, shard: int(n), offset: at}, nil
		}
	} else if id.trace, ok = message.ParseTrace(s); ok {
		return id, nil
	}
	return id, fmt.Errorf("%w: %q", ErrID, s)
}
