package shape

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A ValidationError is about values that break their members' constraints, in
// AWS's words.
type ValidationError string

func (e ValidationError) Error() string { return string(e) }

// maxFound is how many broken constraints are told.
const maxFound = 10

// Check returns a ValidationError unless v, a pointer from Decode, keeps to the
// constraints of its type.
func (t *Type) Check(v any) error {
	var c checker
	c.structure(t.root, reflect.ValueOf(v).Elem(), "")
	switch len(c.found) {
	case 0:
		return nil
	case 1:
		return ValidationError("1 validation error detected: " + c.found[0])
	}
	return ValidationError(fmt.Sprintf("%d validation errors detected: %s", len(c.found), strings.Join(c.found, "; ")))
}

type checker struct{ found []string }

// broken notes a constraint that v, of the type n, breaks. The path is made
// only then.
func (c *checker) broken(n *node, v reflect.Value, path, want string) {
	if len(c.found) < maxFound {
		c.found = append(c.found, fmt.Sprintf("Value %s at '%s' failed to satisfy constraint: %s", n.said(v), path,
			want))
	}
}

func (c *checker) structure(n *node, v reflect.Value, path string) {
	for _, i := range n.order {
		f := &n.fields[i]
		if f.node.checked {
			c.value(f.node, v.FieldByIndex(f.index), join(path, f.lower))
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// value checks what AWS calls the member at path.
func (c *checker) value(n *node, v reflect.Value, path string) {
	r := n.rules
	if missing(n, v) {
		if r != nil && r.required {
			c.broken(n, v, path, "Member must not be null")
		}
		return
	}
	if n.pointer {
		v = v.Elem()
	}
	if r != nil {
		r.check(n, v, func(want string) { c.broken(n, v, path, want) })
	}
	switch n.kind {
	case list:
		if n.each != nil && !every(v, n, n.each) {
			c.broken(n, v, path, "Member must satisfy constraint: "+n.each.said())
		}
		if n.elem.kind == structure {
			for i := 0; i < v.Len() && len(c.found) < maxFound; i++ {
				c.member(n.elem, v.Index(i), path, i)
			}
		}
	case dict:
		for _, side := range []struct {
			of   *rules
			what string
			all  []reflect.Value
		}{{n.key, "Map keys", v.MapKeys()}, {n.each, "Map value", values(v)}} {
			if side.of != nil && slices.ContainsFunc(side.all, func(x reflect.Value) bool {
				return !side.of.holds(n.elem, x)
			}) {
				c.broken(n, v, path, side.what+" must satisfy constraint: "+side.of.said())
			}
		}
	case structure:
		c.structure(n, v, path)
	}
}

// member checks an element of a list. The path is made only if it is needed.
func (c *checker) member(n *node, v reflect.Value, path string, i int) {
	was := len(c.found)
	c.structure(n, v, "")
	if len(c.found) > was {
		c.found = c.found[:was]
		c.structure(n, v, path+"."+strconv.Itoa(i+1)+".member")
	}
}

func values(m reflect.Value) (all []reflect.Value) {
	for _, k := range m.MapKeys() {
		all = append(all, m.MapIndex(k))
	}
	return all
}

func every(v reflect.Value, n *node, r *rules) bool {
	for i := range v.Len() {
		if !r.holds(n.elem, v.Index(i)) {
			return false
		}
	}
	return true
}

func missing(n *node, v reflect.Value) bool {
	return (n.pointer || n.kind == blob || n.kind == list || n.kind == dict) && v.IsNil()
}

func (r *rules) holds(n *node, v reflect.Value) bool {
	ok := true
	r.check(n, v, func(string) { ok = false })
	return ok
}

// check calls broken with each constraint that v breaks, in AWS's order.
func (r *rules) check(n *node, v reflect.Value, broken func(want string)) {
	if n.kind == text && r.match != nil && !r.match.MatchString(v.String()) {
		broken("Member must satisfy regular expression pattern: " + r.pattern)
	}
	if r.min >= 0 || r.max >= 0 {
		what, size := "length", int64(0)
		switch n.kind {
		case integer, long:
			what, size = "value", v.Int()
		case text:
			size = units(v.String(), r.max)
		case blob, list, dict:
			size = int64(v.Len())
		}
		if r.min >= 0 && size < r.min {
			broken(fmt.Sprintf("Member must have %s greater than or equal to %d", what, r.min))
		}
		if r.max >= 0 && size > r.max {
			broken(fmt.Sprintf("Member must have %s less than or equal to %d", what, r.max))
		}
	}
	if r.enum != nil && !slices.Contains(r.enum, v.String()) {
		broken("Member must satisfy enum value set: [" + strings.Join(r.enum, ", ") + "]")
	}
}

// units counts s in UTF-16, as AWS does, if it is not within most anyway.
func units(s string, most int64) (n int64) {
	if int64(len(s)) <= most && s != "" {
		return int64(utf8.RuneCountInString(s)) // exact where a min of more than 1 counts, and that is nowhere
	}
	for _, r := range s {
		n += int64(utf16.RuneLen(r))
	}
	return n
}

// said is the rules of elements as messages have them.
func (r *rules) said() string {
	if r.enum != nil {
		return "[Member must satisfy enum value set: [" + strings.Join(r.enum, ", ") + "]]"
	}
	return fmt.Sprintf("[Member must have length less than or equal to %d, "+
		"Member must have length greater than or equal to %d]", r.max, max(r.min, 0))
}

// said is a value as messages have it.
func (n *node) said(v reflect.Value) string {
	if n.pointer && v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return "null"
		}
		v = v.Elem()
	}
	if missing(&node{kind: n.kind}, v) {
		return "null"
	}
	return "'" + string(short([]byte(n.plain(v)))) + "'"
}

func (n *node) plain(v reflect.Value) string {
	switch n.kind {
	case blob:
		return fmt.Sprintf("java.nio.HeapByteBuffer[pos=0 lim=%d cap=%d]", v.Len(), v.Len())
	case list:
		var all []string
		for i := 0; i < v.Len() && i < maxSaid; i++ {
			all = append(all, n.elem.plain(v.Index(i)))
		}
		return "[" + strings.Join(all, ", ") + "]"
	case dict:
		var all []string
		for _, k := range v.MapKeys() {
			all = append(all, k.String()+"="+n.elem.plain(v.MapIndex(k)))
		}
		slices.Sort(all)
		return "{" + strings.Join(all, ", ") + "}"
	case structure:
		return n.goType.Name()
	}
	return fmt.Sprint(v.Interface())
}

// inOrder returns the places of fields in the order in which AWS tells of them:
// that of a Java 7 HashMap of 16 buckets by the members' names, which is what
// was seen for all but the newest operations.
func inOrder(fields []field) []int {
	bucket := func(name string) uint32 {
		var h uint32
		for _, c := range utf16.Encode([]rune(name)) {
			h = 31*h + uint32(c)
		}
		h ^= h>>20 ^ h>>12
		return (h ^ h>>7 ^ h>>4) & 15
	}
	order := make([]int, len(fields))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		return cmp.Compare(bucket(fields[a].lower), bucket(fields[b].lower))
	})
	return order
}

// demands says whether Check has to look at n.
func (n *node) demands() bool {
	return n.rules != nil || n.each != nil || n.key != nil || n.elem != nil && n.elem.demands() ||
		slices.ContainsFunc(n.fields, func(f field) bool { return f.node.checked })
}
