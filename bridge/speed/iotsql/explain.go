package iotsql

import (
	"context"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// An Explanation says step by step why a statement fires on a message or not.
type Explanation struct {
	Matched bool   // FROM, or the rule's Basic Ingest topic
	Fired   bool   // matched, and WHERE held
	Output  []byte // the action document when Fired
	Err     error  // evaluation failed at a limit
	Steps   []Step // in order of evaluation; an operand follows its operator

	Unmerged bool // see Result
}

// A Step is one clause, or one operand of a clause, with its value.
type Step struct {
	Clause string `json:"clause"`          // "FROM", "PAYLOAD", "SET", "WHERE" or "SELECT"
	Depth  int    `json:"depth,omitempty"` // 0 for the clause itself, deeper for its operands
	Text   string `json:"text,omitempty"`  // the source text
	Value  string `json:"value"`           // JSON, Undefined, or for FROM and PAYLOAD what was found
	// Anew marks a function that may have had another value when the message
	// was evaluated before: it is random, or asks outside.
	Anew bool `json:"anew,omitempty"`
	// Note says why a function that asks outside had no answer.
	Note string `json:"note,omitempty"`
}

// anew holds the functions of which Step.Anew tells.
var anew = map[string]bool{
	"rand": true, "newuuid": true,
	"get_thing_shadow": true, "get_registry_data": true, "get_dynamodb": true, "get_secret": true, "aws_lambda": true,
	"machinelearning_predict": true,
}

// maxSteps bounds an explanation, maxShown the length of one value in it.
const (
	maxSteps = 1000
	maxShown = 200
)

// A trace collects the steps of one clause.
type trace struct {
	text   string
	clause string
	depth  int
	steps  []Step
	note   string // the Note of the step that is left next: the innermost is
}

// enter reserves the step of an operator before those of its operands.
func (t *trace) enter() int {
	if t == nil {
		return -1 // a constant computed while compiling
	}
	t.depth++
	if len(t.steps) >= maxSteps {
		return -1
	}
	t.steps = append(t.steps, Step{Clause: t.clause, Depth: t.depth})
	return len(t.steps) - 1
}

func (t *trace) leave(at int, n *node, f *frame, v value) {
	if t == nil {
		return
	}
	t.depth--
	if at >= 0 {
		t.steps[at].Text = oneLine(t.text[n.pos:n.end])
		t.steps[at].Value = f.show(v)
		t.steps[at].Note = t.note
		t.steps[at].Anew = n.op == opCall && anew[strings.ToLower(n.text)]
	}
	t.note = ""
}

// setNote notes why the function under way has no answer.
func (t *trace) setNote(why string) {
	if t != nil {
		t.note = why
	}
}

// notBoolean notes why AND or OR is Undefined: rules are written that count on
// a short circuit, such as isUndefined(b) OR b > 1.
func (t *trace) notBoolean(op, side string) {
	if t != nil {
		t.note = "the " + side + " side is no Boolean, and " + op + " then is Undefined whatever the other side is"
	}
}

// show writes a value for people.
func (f *frame) show(v value) string {
	switch v.kind {
	case kindUndefined:
		return "Undefined"
	case kindArray, kindObject:
		v = value{kind: v.kind, b: appendCompact(nil, v.b)}
	}
	s := string(f.appendJSON(nil, v))
	if r := []rune(s); len(r) > maxShown {
		s = string(r[:maxShown]) + "…"
	}
	return s
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// Explain evaluates like Eval and keeps account of the steps. Other than Eval
// it looks at FROM first and stops there if the topic is not for the
// statement. It is for people trying a rule, not for the hot path.
func (s *Statement) Explain(ctx context.Context, m *Input) Explanation {
	var e Explanation
	from, matched := s.explainFrom(m)
	e.Matched, e.Steps = matched, append(e.Steps, from)
	if !e.Matched {
		return e
	}

	q := s.query
	f := newFrame(ctx, newCompiler(s.prog.version, s.services, true).statement(q), m)
	defer f.release()
	f.trace = &trace{text: s.text}
	if m.binary(s.prog) {
		e.Steps = append(e.Steps, Step{Clause: "PAYLOAD", Value: "not JSON: its attributes are Undefined"})
	}

	f.trace.clause = "SET"
	f.start()
	for i, set := range q.sets {
		// The steps of all variables follow each other, each one's first at depth 1.
		e.Steps = append(e.Steps, Step{Clause: "SET", Text: "@" + set.name, Value: f.show(f.vars[i])})
	}
	e.take(f.trace)

	f.trace.clause = "WHERE"
	cond := f.condition()
	e.Fired = f.holds(cond)
	if q.where != nil {
		for i := range f.trace.steps {
			f.trace.steps[i].Depth-- // the operator at the top is the clause
		}
		if len(f.trace.steps) == 0 {
			f.trace.steps = append(f.trace.steps,
				Step{Clause: "WHERE", Text: oneLine(s.text[q.where.pos:q.where.end]), Value: f.show(cond)})
		}
		e.take(f.trace)
	}
	if e.Fired && f.err == nil {
		f.trace.clause = "SELECT"
		e.Output = f.project(nil)
		if len(e.Output) > f.limit {
			f.fail(errTooLarge)
		}
		e.Steps = append(e.Steps, Step{Clause: "SELECT", Text: selectText(s.text, q),
			Value: fmt.Sprintf("%d bytes", len(e.Output))})
		e.take(f.trace)
		e.explainUnmerged(s, f)
	}
	if e.Err = f.err; e.Err != nil {
		e.Fired, e.Output, e.Unmerged = false, nil, false
	}
	return e
}

// explainFrom says whether a message's topic is one of the statement's, and why.
func (s *Statement) explainFrom(m *Input) (from Step, matched bool) {
	rule, rest, basic := topic.CutRule(m.Topic)
	from = Step{Clause: "FROM", Text: s.query.filter}
	switch {
	case basic && m.Rule != "" && rule == m.Rule:
		matched = true
		from.Value = fmt.Sprintf("reached by Basic Ingest, topic() is %q", rest)
	case s.Matches(m.Topic):
		matched = true
		from.Value = fmt.Sprintf("matches %q", m.Topic)
	case !s.query.hasFrom:
		from.Value = "no FROM: only Basic Ingest reaches the rule"
	default:
		from.Value = fmt.Sprintf("does not match %q", m.Topic)
	}
	return from, matched
}

// explainUnmerged adds the items of SELECT that are no JSON objects, and so are not
// in the document.
func (e *Explanation) explainUnmerged(s *Statement, f *frame) {
	for _, i := range f.unmerged {
		e.Unmerged = true
		step := Step{Clause: "SELECT", Depth: 1, Text: "*", Value: "Undefined", Note: "the payload"}
		if of := s.query.items[i].expr; of.op == opSpread {
			step.Text = oneLine(s.text[of.pos:of.end])
			step.Note = strings.TrimSuffix(step.Text, ".*")
		}
		step.Note += " is no JSON object, so the document has nothing of it; " +
			strings.TrimSuffix(step.Text, ".*") + " AS name would"
		e.Steps = append(e.Steps, step)
	}
}

// binary reports whether the payload is something else than JSON.
func (m *Input) binary(p *program) bool {
	f := newFrame(context.Background(), p, m)
	defer f.release()
	f.scan()
	return f.doc == docBinary && f.err == nil
}

// take moves a clause's steps into the explanation.
func (e *Explanation) take(t *trace) {
	e.Steps = append(e.Steps, t.steps...)
	t.steps = t.steps[:0]
}

// selectText is the list of a query.
func selectText(text string, q *query) string {
	s := oneLine(text[q.items[0].expr.pos:q.items[len(q.items)-1].end])
	if q.value {
		s = "VALUE " + s
	}
	return s
}

// String lays the steps out as text for a terminal, one a line, the clause
// first and operands indented under their operator.
func (e Explanation) String() string {
	var b strings.Builder
	for _, s := range e.Steps {
		head := s.Clause
		if s.Depth > 0 {
			head = ""
		}
		fmt.Fprintf(&b, "%-7s %s", head, strings.Repeat("  ", s.Depth))
		if s.Text != "" {
			b.WriteString(s.Text)
			b.WriteString(" → ")
		}
		b.WriteString(s.Value)
		if s.Note != "" {
			b.WriteString(": ")
			b.WriteString(s.Note)
		}
		if s.Anew {
			b.WriteString(" (may differ each time)")
		}
		b.WriteByte('\n')
	}
	switch {
	case e.Err != nil:
		fmt.Fprintf(&b, "failed: %v\n", e.Err)
	case e.Fired:
		fmt.Fprintf(&b, "fires with %s\n", e.Output)
	case !e.Matched:
		b.WriteString("does not fire: the topic does not reach the rule\n")
	default:
		b.WriteString("does not fire: WHERE is not true\n")
	}
	return b.String()
}
