// Package shape reads the requests of AWS's JSON 1.1 protocol, which are JSON or
// CBOR, into Go structs, checks them as AWS does, and writes answers.
//
// A struct's fields are the shape's members, by their names. *string, *bool,
// *int32, *int64 and *time.Time may be absent, and so may slices and maps; []byte is a
// blob. An embedded struct's fields count as the outer one's. Tags say what is
// demanded of requests: aws of the member, each of a list's elements or a
// map's values, key of a map's keys:
//
//	required          must be there; in an answer: a list is written though empty
//	min=1,max=128     of a number's value, or of a length: characters of a string,
//	                  bytes of a blob, elements of a list or map
//	pattern=name      a string matches the pattern of that name as a whole
//	enum=A|B          a string is one of them; comes last
//
// A Type is made once of a struct and may be used by several goroutines.
package shape

import (
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A Codec is how a body is written.
type Codec int

// The two of the protocol.
const (
	JSON Codec = iota
	CBOR
)

// kinds of members.
type kind int

const (
	boolean kind = iota
	integer      // 32 bits
	long
	text
	blob
	stamp
	list
	dict
	structure
	written // a type that writes itself as text, in answers
)

// A Type is a struct as the protocol sees it.
type Type struct{ root *node }

// A node is the type of one value.
type node struct {
	kind    kind
	goType  reflect.Type // without the pointer
	pointer bool
	elem    *node   // of a list or dict
	fields  []field // of a structure
	byName  map[string]*field
	rules   *rules
	each    *rules
	key     *rules
	order   []int // of fields, as Check goes
	checked bool  // whether Check has to look
}

// A field is a member of a structure.
type field struct {
	name  string
	lower string // the name in messages
	index []int
	node  *node
}

// rules are what a tag demands. Bounds that are not given are -1.
type rules struct {
	required bool
	min, max int64
	pattern  string
	match    *regexp.Regexp
	enum     []string
}

// absent is a type that says by itself when there is no value.
type absent interface {
	IsZero() bool
	encoding.TextAppender
}

var (
	stampType   = reflect.TypeFor[time.Time]()
	writtenType = reflect.TypeFor[absent]()
	bytesType   = reflect.TypeFor[[]byte]()
)

// Of compiles the struct T. It panics on what it does not know: types are part
// of the program.
func Of[T any](patterns map[string]string) *Type {
	return &Type{compile(reflect.TypeFor[T](), "", patterns)}
}

func compile(t reflect.Type, tag reflect.StructTag, patterns map[string]string) *node {
	n := &node{goType: t}
	if t.Kind() == reflect.Pointer {
		n.pointer, n.goType = true, t.Elem()
		t = n.goType
	}
	n.rules = parseRules(tag.Get("aws"), patterns)
	n.each, n.key = parseRules(tag.Get("each"), patterns), parseRules(tag.Get("key"), patterns)
	switch {
	case t == stampType:
		n.kind = stamp
	case t == bytesType:
		n.kind = blob
	case t.Implements(writtenType):
		n.kind = written
	case t.Kind() == reflect.Bool:
		n.kind = boolean
	case t.Kind() == reflect.Int32:
		n.kind = integer
	case t.Kind() == reflect.Int64:
		n.kind = long
	case t.Kind() == reflect.String:
		n.kind = text
	case t.Kind() == reflect.Slice:
		n.kind, n.elem = list, compile(t.Elem(), "", patterns)
	case t.Kind() == reflect.Map && t.Key().Kind() == reflect.String:
		n.kind, n.elem = dict, compile(t.Elem(), "", patterns)
	case t.Kind() == reflect.Struct:
		n.kind, n.byName = structure, map[string]*field{}
		for _, f := range reflect.VisibleFields(t) {
			if f.Anonymous {
				continue
			}
			lower := strings.ToLower(f.Name[:1]) + f.Name[1:]
			n.fields = append(n.fields, field{f.Name, lower, f.Index, compile(f.Type, f.Tag, patterns)})
		}
		for i := range n.fields {
			n.byName[n.fields[i].name] = &n.fields[i]
		}
		n.order = inOrder(n.fields)
	default:
		panic(fmt.Sprintf("shape: %v is not known", t))
	}
	n.checked = n.demands()
	return n
}

func parseRules(tag string, patterns map[string]string) *rules {
	if tag == "" {
		return nil
	}
	r := &rules{min: -1, max: -1}
	tag, enum, ok := strings.Cut(tag, "enum=")
	if ok {
		r.enum = strings.Split(enum, "|")
	}
	for part := range strings.SplitSeq(strings.TrimSuffix(tag, ","), ",") {
		name, value, _ := strings.Cut(part, "=")
		n, err := strconv.ParseInt(value, 10, 64)
		switch {
		case name == "":
		case name == "required":
			r.required = true
		case name == "min" && err == nil:
			r.min = n
		case name == "max" && err == nil:
			r.max = n
		case name == "pattern" && patterns[value] != "":
			r.pattern = patterns[value]
			r.match = regexp.MustCompile(`^(?:` + r.pattern + `)$`)
		default:
			panic(fmt.Sprintf("shape: tag %q is not known", part))
		}
	}
	return r
}
