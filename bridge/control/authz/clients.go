package authz

import (
	"slices"
	"strings"
)

// A ClientPattern is a set of client ids that a policy may let connect.
type ClientPattern struct {
	Text    string // with the wildcards * and ?
	Example string // one of them
}

// exampleText stands for a wildcard in examples: no policy names it by chance.
const exampleText = "any-7f3a9c"

// ClientPatterns returns the client ids that the documents name in statements
// that allow iot:Connect, as far as that can be told without a client id:
// among them is the pattern * if one has such a variable or takes nearly all.
// Whether one of them may connect is for Decide, since conditions and
// statements that deny are not looked at here.
func ClientPatterns(docs []*Document, ctx Context) (out []ClientPattern) {
	ctx.ClientID, ctx.Thing = "", nil
	e := Evaluator{ctx: ctx}
	for _, d := range docs {
		for i := range d.statements {
			s := &d.statements[i]
			if s.deny || s.mask&(1<<bitConnect) == 0 {
				continue
			}
			r, _ := e.compile(s, kindClient)
			for _, g := range r.globs {
				if s.notResource {
					break
				}
				out = append(out, g.clients())
			}
			if s.notResource || s.hasVariable() {
				out = append(out, ClientPattern{"*", exampleText})
			}
		}
	}
	slices.SortFunc(out, func(a, b ClientPattern) int { return strings.Compare(a.Text, b.Text) })
	return slices.Compact(out)
}

func (g *glob) clients() ClientPattern {
	text := g.text
	if g.form == globPrefix {
		text += string([]byte{star})
	}
	if g.form == globExact {
		return ClientPattern{text, text}
	}
	show := strings.NewReplacer(string([]byte{star}), "*", string([]byte{one}), "?")
	example := strings.NewReplacer(string([]byte{star}), exampleText, string([]byte{one}), "x")
	return ClientPattern{show.Replace(text), example.Replace(text)}
}

func (s *statement) hasVariable() bool { return s.shared == nil }

// NamesClient says whether a resource or condition of d depends on the client
// id itself, so that one client id may do what others may not.
func (d *Document) NamesClient() bool {
	for i := range d.statements {
		s := &d.statements[i]
		for _, r := range s.resources {
			if slices.ContainsFunc(r.parts, template.namesClient) {
				return true
			}
		}
		for _, c := range s.conditions {
			if c.key == "iot:clientid" || slices.ContainsFunc(c.values, func(v conditionValue) bool {
				return v.text.namesClient() || slices.ContainsFunc(v.arn, template.namesClient)
			}) {
				return true
			}
		}
	}
	return false
}

func (t template) namesClient() bool {
	return slices.ContainsFunc(t, func(p part) bool { return p.variable == "iot:clientid" })
}
