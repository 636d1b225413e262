package sns

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/shadow"
)

// maxFilter is the most bytes of a filter policy (SNS developer guide, filter policy
// constraints).
const maxFilter = 256 << 10

// maxNesting bounds objects in each other in a policy.
const maxNesting = 32

// A Filter is a subscription's filter policy, of scope MessageBody: which messages, JSON
// objects, the subscriber gets. Several goroutines may use it.
type Filter struct{ all node }

// A node is what an object of a message must have: all of members, and of any of the
// alternatives one.
type node struct {
	members map[string]member
	any     []node // of $or; nil: nothing
}

// A member is what the value of a key must be: an object, or one of values that a
// condition takes.
type member struct {
	object     *node
	conditions []condition
}

// A condition takes values of a message: texts, json.Number, true, false, nil. absent is
// that of {"exists": false}.
type condition struct {
	takes  func(v any) bool
	absent bool
}

// ParseFilter reads a policy. What SNS knows and is not served (cidr) is refused.
func ParseFilter(doc []byte) (*Filter, error) {
	if len(doc) > maxFilter {
		return nil, fmt.Errorf("filter policy of %d bytes, want at most %d", len(doc), maxFilter)
	}
	o, err := shadow.ParseObject(doc)
	if err != nil {
		return nil, err
	}
	n, err := parseNode(o, "", 0)
	return &Filter{n}, err
}

// decode reads one JSON value, whose numbers keep their digits.
func parseNode(o map[string]any, at string, depth int) (n node, err error) {
	if len(o) == 0 || depth > maxNesting {
		return n, fmt.Errorf("%s: an object of no members, or %d in each other", at, depth)
	}
	n.members = map[string]member{}
	for _, key := range slices.Sorted(maps.Keys(o)) {
		path := strings.TrimPrefix(at+"."+key, ".")
		switch v := o[key].(type) {
		case map[string]any:
			sub, err := parseNode(v, path, depth+1)
			if err != nil {
				return n, err
			}
			n.members[key] = member{object: &sub}
		case []any:
			if key == "$or" && len(v) > 1 {
				if n.any, err = alternatives(v, path, depth+1); err != nil {
					return n, err
				}
				continue
			}
			m := member{}
			for _, x := range v {
				c, err := parseCondition(x)
				if err != nil {
					return n, fmt.Errorf("%s: %w", path, err)
				}
				m.conditions = append(m.conditions, c)
			}
			n.members[key] = m
		default:
			return n, fmt.Errorf("%s: want an array of conditions, or an object", path)
		}
	}
	return n, nil
}

func alternatives(all []any, at string, depth int) (nodes []node, err error) {
	for _, x := range all {
		o, ok := x.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: want objects", at)
		}
		n, err := parseNode(o, at, depth)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, n)
	}
	return nodes, nil
}

func parseCondition(x any) (condition, error) {
	o, ok := x.(map[string]any)
	if !ok {
		if _, array := x.([]any); array {
			return condition{}, errors.New("an array in an array")
		}
		return condition{takes: same(x)}, nil
	}
	if len(o) != 1 {
		return condition{}, fmt.Errorf("a condition has one member, this has %d", len(o))
	}
	for name, v := range o {
		parse, known := operators[name]
		if !known {
			return condition{}, fmt.Errorf("%q is not served; known are %s", name,
				strings.Join(slices.Sorted(maps.Keys(operators)), ", "))
		}
		c, err := parse(v)
		if err != nil {
			return condition{}, fmt.Errorf("%s: %w", name, err)
		}
		return c, nil
	}
	panic("unreachable")
}

// operators are the conditions that are objects (SNS developer guide, filter policies).
var operators map[string]func(v any) (condition, error)

func init() {
	operators = map[string]func(v any) (condition, error){
		"prefix":             ofText(strings.HasPrefix),
		"suffix":             ofText(strings.HasSuffix),
		"equals-ignore-case": ofText(strings.EqualFold),
		"anything-but":       anythingBut,
		"numeric":            numeric,
		"exists": func(v any) (condition, error) {
			want, ok := v.(bool)
			if !ok {
				return condition{}, errors.New("want true or false")
			}
			return condition{takes: func(any) bool { return want }, absent: !want}, nil
		},
	}
}

// ofText makes a condition on texts.
func ofText(f func(value, with string) bool) func(v any) (condition, error) {
	return func(v any) (condition, error) {
		with, ok := v.(string)
		if !ok {
			return condition{}, errors.New("want a text")
		}
		return condition{takes: func(v any) bool {
			s, ok := v.(string)
			return ok && f(s, with)
		}}, nil
	}
}

// same takes the value itself; numbers by their value.
func same(want any) func(v any) bool {
	n, isNumber := number(want)
	return func(v any) bool {
		if isNumber {
			got, ok := number(v)
			return ok && got == n
		}
		return v == want
	}
}

func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := strconv.ParseFloat(string(n), 64)
	return f, err == nil
}

func anythingBut(v any) (condition, error) {
	list, ok := v.([]any)
	if !ok {
		list = []any{v}
	}
	var but []condition
	for _, x := range list {
		if o, ok := x.(map[string]any); ok && (len(o) != 1 || o["prefix"] == nil && o["suffix"] == nil) {
			return condition{}, errors.New("want values, a prefix or a suffix")
		}
		c, err := parseCondition(x)
		if err != nil {
			return condition{}, err
		}
		but = append(but, c)
	}
	if len(but) == 0 {
		return condition{}, errors.New("want at least one value")
	}
	return condition{takes: func(v any) bool {
		return !slices.ContainsFunc(but, func(c condition) bool { return c.takes(v) })
	}}, nil
}

// numeric is one comparison, or two: ["=", 1], [">", 0, "<=", 5].
func numeric(v any) (condition, error) {
	all, ok := v.([]any)
	if !ok || len(all) != 2 && len(all) != 4 {
		return condition{}, errors.New(`want ["=", 1] or [">", 0, "<=", 5]`)
	}
	var tests []func(x float64) bool
	for i := 0; i < len(all); i += 2 {
		op, _ := all[i].(string)
		n, ok := number(all[i+1])
		compare, known := map[string]func(x float64) bool{
			"=": func(x float64) bool { return x == n }, "<": func(x float64) bool { return x < n },
			"<=": func(x float64) bool { return x <= n }, ">": func(x float64) bool { return x > n },
			">=": func(x float64) bool { return x >= n }}[op]
		if !ok || !known {
			return condition{}, fmt.Errorf("%.20q: want =, <, <=, > or >=, and a number", op)
		}
		tests = append(tests, compare)
	}
	return condition{takes: func(v any) bool {
		x, ok := number(v)
		return ok && !slices.ContainsFunc(tests, func(f func(float64) bool) bool { return !f(x) })
	}}, nil
}

// Match says whether a message is one that the subscriber gets. One that is no JSON
// object is none.
func (f *Filter) Match(message []byte) bool {
	o, err := shadow.ParseObject(message)
	return err == nil && f.all.match(o)
}

func (n *node) match(o map[string]any) bool {
	for key, m := range n.members {
		if !m.match(o, key) {
			return false
		}
	}
	return n.any == nil || slices.ContainsFunc(n.any, func(x node) bool { return x.match(o) })
}

// match says whether the value of a key is what it must be; of an array one element.
func (m *member) match(o map[string]any, key string) bool {
	v, there := o[key]
	values, array := v.([]any)
	if !array {
		values = []any{v}
	}
	if m.object != nil {
		return slices.ContainsFunc(values, func(v any) bool {
			sub, ok := v.(map[string]any)
			return ok && m.object.match(sub) || !ok && !there && m.object.match(nil)
		})
	}
	for _, c := range m.conditions {
		if !there {
			if c.absent {
				return true
			}
			continue
		}
		if slices.ContainsFunc(values, func(v any) bool { return isLeaf(v) && c.takes(v) }) {
			return true
		}
	}
	return false
}

// isLeaf says whether a value is none that conditions cannot be on.
func isLeaf(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}
