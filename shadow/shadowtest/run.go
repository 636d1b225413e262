package shadowtest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/shadow"
)

// Run runs every scenario as a subtest on a System of its own from fresh, and
// logs passed and total per category.
func Run(t *testing.T, scenarios []Scenario, fresh func(*testing.T) System) {
	type count struct{ passed, total int }
	var order []string
	counts := make(map[string]*count)
	for _, sc := range scenarios {
		c := counts[sc.Category]
		if c == nil {
			c = new(count)
			counts[sc.Category] = c
			order = append(order, sc.Category)
		}
		c.total++
		if t.Run(sc.ID, func(t *testing.T) { sc.run(t, fresh(t)) }) {
			c.passed++
		}
	}
	var all count
	for _, name := range order {
		c := counts[name]
		t.Logf("%-10s %d/%d", name, c.passed, c.total)
		all.passed += c.passed
		all.total += c.total
	}
	t.Logf("%-10s %d/%d", "all", all.passed, all.total)
}

func (sc *Scenario) run(t *testing.T, sys System) {
	m := &matcher{times: make([]*big.Int, len(sc.Steps))}
	for i := range sc.Steps {
		step := &sc.Steps[i]
		if step.Advance > 0 {
			sys.Advance(time.Duration(step.Advance) * time.Second)
		}
		thing := sc.Thing
		if step.Thing != "" {
			thing = step.Thing
		}
		if err := step.run(t, sys, thing, m, i); err != nil {
			t.Fatalf("%s (%s), step %d, %s: %v", sc.ID, sc.Title, i, step.Op, err)
		}
	}
}

func (s *Step) run(t *testing.T, sys System, thing string, m *matcher, i int) error {
	m.step = i
	if s.Op == "list" {
		got, err := sys.List(thing)
		if err != nil {
			return err
		}
		return m.document("list", s.Expect.Accepted, got, true)
	}
	messages, err := sys.Request(thing, s.Shadow, s.Op, s.payload(t))
	if err != nil {
		return err
	}
	got := make(map[shadow.Kind][]byte)
	for _, msg := range messages {
		topic, ok := shadow.ParseTopic(msg.Topic)
		if !ok || topic.Thing != thing || topic.Name != s.Shadow || string(topic.Op) != s.Op {
			return fmt.Errorf("stray message on %s: %s", msg.Topic, msg.Payload)
		}
		if _, twice := got[topic.Kind]; twice {
			return fmt.Errorf("two messages on %s", msg.Topic)
		}
		got[topic.Kind] = msg.Payload
	}
	answer, other, exact := s.Expect.Accepted, shadow.Rejected, true
	if answer == nil {
		answer, other, exact = s.Expect.Rejected, shadow.Accepted, false
	}
	if p, ok := got[other]; ok {
		return fmt.Errorf("unexpected %s: %s", other, p)
	}
	kind := shadow.Accepted
	if !exact {
		kind = shadow.Rejected
	}
	if err := m.document(string(kind), answer, got[kind], exact); err != nil {
		return err
	}
	for kind, want := range map[shadow.Kind]json.RawMessage{shadow.Differences: s.Expect.Delta,
		shadow.Documents: s.Expect.Documents} {
		p, ok := got[kind]
		switch {
		case want == nil:
		case string(want) == "null":
			if ok {
				return fmt.Errorf("unexpected %s: %s", kind, p)
			}
		default:
			if err := m.document(string(kind), want, p, true); err != nil {
				return err
			}
		}
	}
	return nil
}

// A matcher compares a scenario's messages with what is expected of them.
type matcher struct {
	step  int
	times []*big.Int // of each step's answer
}

func (m *matcher) document(kind string, want, got []byte, exact bool) error {
	if got == nil {
		return fmt.Errorf("no %s message", kind)
	}
	w, err := shadow.ParseObject(expand(want))
	if err != nil {
		return fmt.Errorf("vector: %w", err)
	}
	g, err := shadow.ParseObject(got)
	if err != nil {
		return fmt.Errorf("%s: %w: %s", kind, err, got)
	}
	if n, ok := g["timestamp"].(json.Number); ok && m.times[m.step] == nil {
		m.times[m.step], _ = new(big.Int).SetString(string(n), 10)
	}
	if !exact {
		for k, v := range w {
			if err := m.match(k, v, g[k]); err != nil {
				return fmt.Errorf("%s: %w in %s", kind, err, got)
			}
		}
		return nil
	}
	if results, ok := w["results"].([]any); ok { // in any order
		sortTexts(results)
		if have, ok := g["results"].([]any); ok {
			sortTexts(have)
		}
	}
	if err := m.match("", w, g); err != nil {
		return fmt.Errorf("%s: %w\n got %s\nwant %s", kind, err, got, want)
	}
	return nil
}

func sortTexts(list []any) {
	slices.SortFunc(list, func(a, b any) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
}

// match compares a value at path; want may have placeholders.
func (m *matcher) match(path string, want, got any) error {
	differ := fmt.Errorf("%s differs", path)
	switch want := want.(type) {
	case string:
		return m.text(path, want, got)
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(want) {
			return differ
		}
		for i := range want {
			if err := m.match(path+"["+strconv.Itoa(i)+"]", want[i], g[i]); err != nil {
				return err
			}
		}
		return nil
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			return differ
		}
		for k, v := range want {
			name, optional := strings.CutSuffix(k, "?")
			if _, literal := g[k]; literal {
				name, optional = k, false
			}
			have, ok := g[name]
			if !ok && !optional {
				return fmt.Errorf("%s.%s is missing", path, k)
			}
			if ok {
				if err := m.match(path+"."+name, v, have); err != nil {
					return err
				}
			}
		}
		for k := range g {
			_, a := want[k]
			_, b := want[k+"?"]
			if !a && !b {
				return fmt.Errorf("%s.%s is too many", path, k)
			}
		}
		return nil
	case json.Number:
		g, ok := got.(json.Number)
		a, okA := new(big.Rat).SetString(string(want))
		b, okB := new(big.Rat).SetString(string(g))
		if !ok || !okA || !okB || a.Cmp(b) != 0 {
			return differ
		}
		return nil
	}
	if want != got {
		return differ
	}
	return nil
}

// text compares with a text that may be a placeholder.
func (m *matcher) text(path, want string, got any) error {
	name, arg, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(want, "<"), ">"), ":")
	if !strings.HasPrefix(want, "<") || !strings.HasSuffix(want, ">") {
		name = ""
	}
	num, _ := got.(json.Number)
	n, isWhole := new(big.Int).SetString(string(num), 10)
	ok := want == got
	switch {
	case name == "any":
		ok = true
	case name == "ts":
		ok = isWhole && n.Sign() > 0
	case name == "gt":
		least, _ := new(big.Int).SetString(arg, 10)
		ok = isWhole && n.Cmp(least) > 0
	case name == "prefix":
		s, isText := got.(string)
		ok = isText && strings.HasPrefix(s, arg)
	case strings.HasPrefix(name, "ts@"):
		k, _ := strconv.Atoi(name[3:])
		ok = isWhole && m.times[k] != nil && n.Cmp(m.times[k]) == 0
	}
	if !ok {
		return fmt.Errorf("%s differs: want %s", path, want)
	}
	return nil
}
