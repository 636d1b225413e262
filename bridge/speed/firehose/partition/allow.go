package partition

import (
	"errors"
	"fmt"
	"strings"

	"github.com/itchyny/gojq"
)

// An argument is what a function takes.
type argument int

const (
	filter  argument = iota // any query
	fixed                   // a text as it stands: of at most maxFixed bytes
	regular                 // a regular expression as it stands, without {n}
)

// maxFixed bounds texts that are used many times over.
const maxFixed = 100

// functions are what a query may call, by name, each with its forms. What costs
// more than in proportion to what it is given is not here (contains of two
// lists, indices), nor what grows without end (range, repeat, recurse with a
// filter, setpath), nor what depends on the time or the machine (now,
// localtime, env, input).
var functions = map[string][][]argument{
	"empty": {{}}, "not": {{}}, "length": {{}}, "utf8bytelength": {{}}, "keys": {{}}, "type": {{}}, "add": {{}},
	"tonumber": {{}}, "tostring": {{}}, "toboolean": {{}}, "abs": {{}}, "floor": {{}}, "ceil": {{}}, "round": {{}},
	"trunc": {{}}, "fabs": {{}}, "sqrt": {{}}, "infinite": {{}}, "nan": {{}}, "isnan": {{}}, "isinfinite": {{}},
	"isfinite": {{}}, "isnormal": {{}}, "reverse": {{}}, "explode": {{}}, "implode": {{}}, "trim": {{}},
	"ltrim": {{}}, "rtrim": {{}}, "ascii_downcase": {{}}, "ascii_upcase": {{}}, "tojson": {{}}, "fromjson": {{}},
	"min": {{}}, "max": {{}}, "sort": {{}}, "unique": {{}}, "flatten": {{}}, "to_entries": {{}}, "from_entries": {{}},
	"arrays": {{}}, "objects": {{}}, "iterables": {{}}, "booleans": {{}}, "numbers": {{}}, "strings": {{}},
	"nulls": {{}}, "values": {{}}, "scalars": {{}}, "first": {{}, {filter}}, "last": {{}}, "any": {{}, {filter}},
	"all": {{}, {filter}}, "gmtime": {{}}, "mktime": {{}}, "todate": {{}}, "fromdate": {{}}, "fromdateiso8601": {{}},
	"todateiso8601": {{}}, "error": {{}, {fixed}},

	"map": {{filter}}, "select": {{filter}}, "with_entries": {{filter}}, "min_by": {{filter}}, "max_by": {{filter}},
	"sort_by": {{filter}}, "group_by": {{filter}}, "unique_by": {{filter}}, "isempty": {{filter}},
	"has": {{fixed}}, "startswith": {{fixed}}, "endswith": {{fixed}}, "ltrimstr": {{fixed}}, "rtrimstr": {{fixed}},
	"split": {{fixed}}, "join": {{fixed}}, "contains": {{fixed}}, "index": {{fixed}}, "rindex": {{fixed}},
	"strftime": {{fixed}}, "strptime": {{fixed}}, "date": {{}},
	"test": {{regular}, {regular, fixed}}, "capture": {{regular}, {regular, fixed}},
	"match": {{regular}, {regular, fixed}},
	"sub":   {{regular, fixed}, {regular, fixed, fixed}}, "gsub": {{regular, fixed}, {regular, fixed, fixed}},
	"scan": {{regular}},
}

// A guard rewrites a query so that what it makes is counted, and finds what it
// must not have. After the first error it does nothing of use.
type guard struct {
	err   error
	depth int
}

func (g *guard) bad(format string, args ...any) {
	if g.err == nil {
		g.err = fmt.Errorf(format, args...)
	}
}

// maxDepth bounds how deep a query nests.
const maxDepth = 100

func call(name string) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeFunc, Func: &gojq.Func{Name: name}}}
}

func pipe(left, right *gojq.Query) *gojq.Query {
	return &gojq.Query{Op: gojq.OpPipe, Left: left, Right: right}
}

// group makes one term of a query.
func group(q *gojq.Query) *gojq.Query {
	return &gojq.Query{Term: &gojq.Term{Type: gojq.TermTypeQuery, Query: q}}
}

// query rewrites q.
func (g *guard) query(q *gojq.Query) *gojq.Query {
	if q == nil || g.err != nil {
		return q
	}
	if g.depth++; g.depth > maxDepth {
		g.bad("it nests deeper than %d", maxDepth)
		return q
	}
	defer func() { g.depth-- }()
	if q.Meta != nil || len(q.Imports) > 0 || len(q.FuncDefs) > 0 {
		g.bad("def, import, include and module are not served")
		return q
	}
	if q.Term != nil {
		return g.term(q.Term)
	}
	if q.Left == nil || q.Right == nil { // empty, or a comment alone
		g.bad("it has no filter")
		return q
	}
	left, right := g.query(q.Left), g.query(q.Right)
	out := &gojq.Query{Op: q.Op, Left: left, Right: right, Patterns: q.Patterns}
	g.patterns(q.Patterns)
	switch q.Op {
	case gojq.OpPipe, gojq.OpComma, gojq.OpAnd, gojq.OpOr, gojq.OpAlt:
		return out
	case gojq.OpSub, gojq.OpMul, gojq.OpDiv, gojq.OpMod:
		out.Left, out.Right = group(pipe(left, call(numberName))), group(pipe(right, call(numberName)))
	case gojq.OpAdd, gojq.OpEq, gojq.OpNe, gojq.OpGt, gojq.OpLt, gojq.OpGe, gojq.OpLe:
		out.Left, out.Right = group(pipe(left, call(checkName))), group(pipe(right, call(checkName)))
	default:
		g.bad("the operator %s is not served", q.Op)
	}
	return group(pipe(out, call(checkName)))
}

// patterns checks what stands after "as".
func (g *guard) patterns(all []*gojq.Pattern) {
	for _, p := range all {
		g.patterns(p.Array)
		for _, o := range p.Object {
			if o.KeyQuery != nil || o.KeyString != nil && o.KeyString.Queries != nil {
				g.bad("a pattern's names must be texts")
			}
			if o.Val != nil {
				g.patterns([]*gojq.Pattern{o.Val})
			}
		}
	}
}

// term rewrites a term; what makes a new value is checked.
func (g *guard) term(t *gojq.Term) *gojq.Query {
	n := *t
	n.SuffixList = nil
	made := true
	switch t.Type {
	case gojq.TermTypeIdentity, gojq.TermTypeNull, gojq.TermTypeTrue, gojq.TermTypeFalse, gojq.TermTypeNumber,
		gojq.TermTypeRecurse, gojq.TermTypeBreak:
		made = false
	case gojq.TermTypeIndex:
		made = false
		n.Index = g.index(t.Index)
	case gojq.TermTypeFunc:
		if strings.HasPrefix(t.Func.Name, "$") {
			made = false
			g.variable(t.Func.Name)
		} else {
			n.Func = g.function(t.Func)
		}
	case gojq.TermTypeFormat, gojq.TermTypeString:
		n.Str = g.text(t.Str)
	case gojq.TermTypeUnary:
		n.Unary = &gojq.Unary{Op: t.Unary.Op, Term: g.term(t.Unary.Term).Term}
	case gojq.TermTypeQuery:
		made = false
		n.Query = g.query(t.Query)
	default:
		g.control(t, &n)
	}
	out := &gojq.Query{Term: &n}
	if t.Type == gojq.TermTypeFunc && made { // what it reads costs, too
		guarded := checkName
		if forms := functions[t.Func.Name]; len(forms) > 0 && len(forms[0]) > 0 && forms[0][0] == regular {
			guarded = shortName
		}
		out = group(pipe(call(guarded), out))
	}
	if made {
		out = group(pipe(out, call(checkName)))
	}
	for _, s := range t.SuffixList {
		out.Term.SuffixList = append(out.Term.SuffixList,
			&gojq.Suffix{Index: g.index(s.Index), Iter: s.Iter, Optional: s.Optional})
	}
	return out
}

// control rewrites what has queries within: objects, lists and the keywords.
func (g *guard) control(t, n *gojq.Term) {
	switch t.Type {
	case gojq.TermTypeObject:
		n.Object = g.object(t.Object)
	case gojq.TermTypeArray:
		n.Array = &gojq.Array{Query: g.query(t.Array.Query)}
	case gojq.TermTypeIf:
		f := &gojq.If{Cond: g.query(t.If.Cond), Then: g.query(t.If.Then), Else: g.query(t.If.Else)}
		for _, e := range t.If.Elif {
			f.Elif = append(f.Elif, &gojq.IfElif{Cond: g.query(e.Cond), Then: g.query(e.Then)})
		}
		n.If = f
	case gojq.TermTypeTry:
		n.Try = &gojq.Try{Body: g.query(t.Try.Body), Catch: g.query(t.Try.Catch)}
	case gojq.TermTypeReduce:
		r := t.Reduce
		g.patterns(r.Patterns)
		n.Reduce = &gojq.Reduce{Query: g.query(r.Query), Patterns: r.Patterns, Start: g.query(r.Start),
			Update: g.query(r.Update)}
	case gojq.TermTypeForeach:
		f := t.Foreach
		g.patterns(f.Patterns)
		n.Foreach = &gojq.Foreach{Query: g.query(f.Query), Patterns: f.Patterns, Start: g.query(f.Start),
			Update: g.query(f.Update), Extract: g.query(f.Extract)}
	default:
		g.bad("%.100s is not served", t.String())
	}
}

func (g *guard) object(o *gojq.Object) *gojq.Object {
	out := &gojq.Object{}
	for _, kv := range o.KeyVals {
		if strings.HasPrefix(kv.Key, "$") {
			g.variable(kv.Key)
		}
		out.KeyVals = append(out.KeyVals, &gojq.ObjectKeyVal{Key: kv.Key, KeyString: g.text(kv.KeyString),
			KeyQuery: g.query(kv.KeyQuery), Val: g.query(kv.Val)})
	}
	return out
}

func (g *guard) index(x *gojq.Index) *gojq.Index {
	if x == nil {
		return nil
	}
	return &gojq.Index{Name: x.Name, Str: g.text(x.Str), Start: g.query(x.Start), End: g.query(x.End),
		IsSlice: x.IsSlice}
}

// maxPieces is how many values one text is put together from.
const maxPieces = 64

func (g *guard) text(s *gojq.String) *gojq.String {
	if s == nil {
		return nil
	}
	if len(s.Queries) > maxPieces {
		g.bad("a text of %d pieces, want at most %d", len(s.Queries), maxPieces)
	}
	out := &gojq.String{Str: s.Str}
	for _, q := range s.Queries {
		if q.Term != nil && q.Term.Type == gojq.TermTypeString && q.Term.Str.Queries == nil {
			out.Queries = append(out.Queries, q) // gojq knows literal pieces by their form
		} else {
			out.Queries = append(out.Queries, g.query(q))
		}
	}
	return out
}

func (g *guard) variable(name string) {
	if name == "$ENV" || name == "$__loc__" || strings.Contains(name, "::") {
		g.bad("%.100s is not served", name)
	}
}

// function rewrites a call of one that is allowed.
func (g *guard) function(f *gojq.Func) *gojq.Func {
	for _, form := range functions[f.Name] {
		if len(form) != len(f.Args) {
			continue
		}
		out := &gojq.Func{Name: f.Name}
		for i, a := range f.Args {
			if form[i] == filter {
				a = g.query(a)
			} else if err := literalText(a, form[i]); err != nil {
				g.bad("%s: %w", f.Name, err)
			}
			out.Args = append(out.Args, a)
		}
		return out
	}
	g.bad("the function %.100s/%d is not served", f.Name, len(f.Args))
	return f
}

// literalText says whether q is a text as a function wants it.
func literalText(q *gojq.Query, want argument) error {
	t := q.Term
	if t == nil || t.Type != gojq.TermTypeString || t.Str.Queries != nil || len(t.SuffixList) > 0 ||
		len(t.Str.Str) > maxFixed {
		return fmt.Errorf("want a text as it stands, of at most %d bytes", maxFixed)
	}
	if want == regular && strings.Contains(t.Str.Str, "{") {
		return errors.New("a regular expression with { is not served")
	}
	return nil
}

// shownKeys are the names of the object that a query makes, if they stand in
// its text.
func shownKeys(q *gojq.Query) []string {
	for q != nil && q.Op == gojq.OpPipe {
		q = q.Right
	}
	if q == nil || q.Term == nil || q.Term.Type != gojq.TermTypeObject || len(q.Term.SuffixList) > 0 {
		return nil
	}
	keys := []string{}
	for _, kv := range q.Term.Object.KeyVals {
		switch {
		case kv.Key != "":
			keys = append(keys, strings.TrimPrefix(kv.Key, "$"))
		case kv.KeyString != nil && kv.KeyString.Queries == nil:
			keys = append(keys, kv.KeyString.Str)
		default:
			return nil
		}
	}
	return keys
}
