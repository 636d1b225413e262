package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
)

// An Explanation says how a decision came about, statement by statement, in
// the order of the documents.
type Explanation struct {
	Action, Resource string
	ARN              string // the resource as policies see it
	Decision         Decision
	Steps            []Step
	Missing          []string // policy variables and condition keys without a value, sorted
}

// A Step is one statement's part in a decision.
type Step struct {
	Policy    string // Document.Name, or the document's number from 1
	Statement int    // from 1
	Sid       string
	Effect    string // Allow or Deny
	Applies   bool
	Reason    string // the resource that matched, or why the statement does not apply
}

// Explain decides as Decide does and keeps the reasons. It is for people: it
// takes its time and allocates.
func (e *Evaluator) Explain(action, resource string) Explanation {
	x := Explanation{Action: action, Resource: resource, Decision: e.Decide(action, resource)}
	bit := actionBit(action)
	if bit < 0 {
		return x
	}
	k := known[bit].kind
	x.ARN = arn.IoT(e.ctx.Region, e.ctx.Account, kindHead[k]+resource)
	if k == kindAny {
		x.ARN = "*"
	}
	for n, d := range e.docs {
		name := d.Name
		if name == "" {
			name = fmt.Sprintf("#%d", n+1)
		}
		for i := range d.statements {
			s := &d.statements[i]
			step := Step{Policy: name, Statement: i + 1, Sid: s.sid, Effect: "Allow"}
			if s.deny {
				step.Effect = "Deny"
			}
			step.Reason, step.Applies = e.reason(s, bit, resource, &x)
			x.Steps = append(x.Steps, step)
		}
	}
	slices.Sort(x.Missing)
	x.Missing = slices.Compact(x.Missing)
	return x
}

func (e *Evaluator) reason(s *statement, bit int, resource string, x *Explanation) (string, bool) {
	if s.mask&(1<<bit) == 0 {
		return "action not covered", false
	}
	connect := bit == bitConnect
	for i := range s.resources {
		if _, missing, ok := s.resources[i].expand(&e.ctx); !ok && missing != "" {
			x.Missing = append(x.Missing, missing)
		}
	}
	for i := range s.conditions {
		c := &s.conditions[i]
		if len(e.ctx.lookup(c.key, connect)) == 0 {
			x.Missing = append(x.Missing, c.key)
		}
	}
	r, ok := e.rule(s, known[bit].kind)
	bare := ""
	if known[bit].kind == kindFilter {
		bare = sharedFilter(resource)
	}
	if !ok || !r.covers(resource, bare) {
		return "resource not covered", false
	}
	for i := range s.conditions {
		if c := &s.conditions[i]; !c.holds(&e.ctx, connect, s.deny) {
			return "condition does not hold: " + c.text, false
		}
	}
	if s.notResource {
		return "no NotResource matches", true
	}
	for i := range s.resources {
		one := *s
		one.resources, one.shared = s.resources[i:i+1], nil
		if r, ok := e.rule(&one, known[bit].kind); ok && r.covers(resource, bare) {
			return s.resources[i].text, true
		}
	}
	return "", true
}

// Deciding returns the statements that made the decision: those that deny, or
// else those that allow. Empty: nothing applied.
func (x *Explanation) Deciding() []Step {
	want := "Allow"
	switch x.Decision {
	case ExplicitDeny:
		want = "Deny"
	case ImplicitDeny:
		return nil
	}
	var out []Step
	for _, s := range x.Steps {
		if s.Applies && s.Effect == want {
			out = append(out, s)
		}
	}
	return out
}

// String writes the explanation over several lines.
func (x Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s on %s\n", x.Decision, x.Action, x.ARN)
	if len(x.Steps) == 0 {
		b.WriteString("  no policy is attached\n")
	}
	for _, s := range x.Steps {
		verb := "does not apply"
		if s.Applies {
			verb = "applies"
		}
		fmt.Fprintf(&b, "  policy %s, statement %d", s.Policy, s.Statement)
		if s.Sid != "" {
			fmt.Fprintf(&b, " (%s)", s.Sid)
		}
		fmt.Fprintf(&b, ", %s: %s: %s\n", s.Effect, verb, s.Reason)
	}
	if len(x.Missing) > 0 {
		fmt.Fprintf(&b, "  without a value: %s\n", strings.Join(x.Missing, ", "))
	}
	return b.String()
}
