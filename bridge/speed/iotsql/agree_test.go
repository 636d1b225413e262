package iotsql

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/deploy/conformance"
	"github.com/tidemill/tidemill/deploy/nightly"
)

// agreement generates a statement, a template and a message out of data, and
// compares what the compiled statement and the naive evaluator make of them.
func agreement(t testing.TB, data []byte) (fired bool) {
	c := &chooser{data[:min(len(data), 2000)]}
	version := pick(c, []string{Version2016, Version2016, Version2015, VersionBeta})
	m := &Input{Account: "1", Message: message.Message{
		Topic: "t/1", Payload: []byte(c.payload()), Time: 1481825251155, ClientID: "c", Principal: "p",
		Trace: message.Trace{1, 15: 9},
		Properties: properties{ContentType: "x", CorrelationData: []byte("id"),
			User: [][2]string{{"k", "1"}, {"s", "é"}, {"k", "\""}}}.wire(),
	}}
	g := &generator{chooser: c, modern: version != Version2015}
	tree := g.statement()
	p := &printer{chooser: c}
	p.query(tree)
	sql := strings.TrimSpace(p.String())

	s, err := Compile(sql, version)
	if err != nil {
		t.Fatalf("%v", err)
	}
	if !sameQuery(tree, s.query) {
		t.Fatalf("%s\nis parsed to another tree", sql)
	}
	return agree(t, s, m)
}

// agree compares a statement's outcome, by Eval and by Explain, with the
// naive evaluator's.
func agree(t testing.TB, s *Statement, m *Input) bool {
	out, fired, err := s.Eval(context.Background(), nil, m)
	e := s.Explain(context.Background(), m)
	if e.Fired != fired || !bytes.Equal(e.Output, out) || !errors.Is(e.Err, err) {
		t.Fatalf("%s\n%q\nEval %v %q %v, Explain %v %q %v", s, m.Payload, fired, out, err, e.Fired, e.Output, e.Err)
	}
	n, deep := newNaive(s.Version(), m)
	switch {
	case errors.Is(err, errTooDeep) && deep != nil:
		return false
	case errors.Is(err, errTooLarge):
		return false // the naive evaluator has no limits
	case err != nil:
		t.Fatalf("%s\n%q\n%v", s, m.Payload, err)
	case deep != nil:
		return false // nothing looked at the payload
	}
	want, fires := n.run(s.query)
	if fires != fired || fired && !sameDocument(out, []byte(want)) {
		t.Fatalf("%s\nversion %s over %q\nEval  %v %s\nnaive %v %s", s, s.Version(), m.Payload, fired, out, fires, want)
	}
	agreeTemplate(t, s, m, n)
	return fired
}

// agreeTemplate compares the text of each item of SELECT in a template.
func agreeTemplate(t testing.TB, s *Statement, m *Input, n *naive) {
	for _, it := range s.query.items {
		if it.expr.op == opStar {
			continue
		}
		text := "x${" + s.text[it.expr.pos:it.expr.end] + "}y"
		tm, err := s.Template(text)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		out, err := tm.Append(context.Background(), nil, m)
		if err != nil {
			continue // too large, and the naive evaluator has no limits
		}
		want, _ := naiveString(n.eval(it.expr))
		if want = "x" + want + "y"; string(out) != want {
			t.Fatalf("%s of %s\nversion %s over %q\nmakes %q, naive %q", text, s, s.Version(), m.Payload, out, want)
		}
	}
}

// sameDocument compares but for the space between tokens and the order of
// members; what is no JSON by its bytes.
func sameDocument(a, b []byte) bool {
	x, ok1 := naiveDecode(a, false)
	y, ok2 := naiveDecode(b, false)
	if ok1 && ok2 {
		return naiveJSON(naiveSorted(x)) == naiveJSON(naiveSorted(y))
	}
	return bytes.Equal(a, b)
}

func naiveSorted(v any) any {
	switch v := v.(type) {
	case naiveList:
		for i := range v {
			v[i] = naiveSorted(v[i])
		}
	case naiveObject:
		for i := range v {
			v[i].value = naiveSorted(v[i].value)
		}
		slices.SortStableFunc(v, func(x, y naiveMember) int { return strings.Compare(x.name, y.name) })
	}
	return v
}

func FuzzAgree(f *testing.F) {
	for seed := range uint64(64) {
		f.Add(randomBytes(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) { agreement(t, data) })
}

func randomBytes(seed uint64) []byte {
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	data := make([]byte, 600)
	r.Read(data)
	return data
}

// TestAgree is FuzzAgree over a fixed set.
func TestAgree(t *testing.T) {
	seeds, fired := nightly.Or(500, 6000), 0
	for seed := range uint64(seeds) {
		if agreement(t, randomBytes(seed)) {
			fired++
		}
	}
	if fired < seeds/3 {
		t.Errorf("%d of %d fire: too few to tell", fired, seeds)
	}
}

// TestNaive holds the naive evaluator to the vectors, so that agreement with
// it means something.
func TestNaive(t *testing.T) {
	ran := 0
	for _, v := range conformance.All[vector](t, "iotsql.jsonl") {
		s, err := Compile(v.SQL, v.Version)
		if err != nil || !knownAll(s.query) {
			continue // refused, or random, or asks services
		}
		m := v.message(t)
		rule, _, basic := topic.CutRule(m.Topic)
		if !s.Matches(m.Topic) && !(basic && rule == m.Rule) {
			continue
		}
		ran++
		n, err := newNaive(s.Version(), m)
		if err != nil {
			t.Fatal(err)
		}
		doc, fired := n.run(s.query)
		if fired && v.Template != nil {
			if doc = n.template(t, *v.Template); doc == "" {
				continue
			}
		}
		outcomes := v.OneOf
		if outcomes == nil {
			outcomes = []outcome{v.outcome}
		}
		err = errors.New("no outcome")
		for _, o := range outcomes {
			if o.Approx == 0 {
				o.Approx = v.Approx
			}
			if o.Match != nil && !fired || !o.Error && o.Match == nil && fired && o.check([]byte(doc)) == nil {
				err = nil
			}
		}
		if err != nil {
			t.Errorf("%s: %s over %s: %v, %v %s", v.ID, v.SQL, v.payload(), err, fired, doc)
		}
	}
	t.Logf("%d vectors", ran)
}

// template is the text of a template, "" if it has functions that aren't known.
func (n *naive) template(t testing.TB, text string) string {
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(text, "${")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		vars := map[string]bool{}
		for name := range n.vars {
			vars[name] = true
		}
		p := newParser(after, n.version, 0, vars)
		var x *node
		if err := p.parse(func() { x = p.expr() }); err != nil {
			t.Fatal(err)
		}
		if !knownAll(&query{where: x}) {
			return ""
		}
		s, _ := naiveString(n.eval(x))
		b.WriteString(s)
		text = after[p.tok.end:]
	}
}

// knownAll reports whether the naive evaluator has all functions of a query.
func knownAll(q *query) bool {
	known := true
	var walk func(n *node)
	var walkQuery func(q *query)
	walk = func(n *node) {
		if n == nil {
			return
		}
		if n.op == opCall && (!naiveKnows(n.text) || len(n.kids) == 6) {
			known = false
		}
		for _, k := range n.kids {
			walk(k)
		}
		if n.sub != nil {
			walkQuery(n.sub)
		}
	}
	walkQuery = func(q *query) {
		for _, s := range q.sets {
			walk(s.expr)
		}
		for _, it := range q.items {
			walk(it.expr)
		}
		walk(q.from)
		walk(q.where)
	}
	walkQuery(q)
	return known
}
