package shadow

import "strings"

// An Op is what a request asks for.
type Op string

// The operations.
const (
	OpGet    Op = "get"
	OpUpdate Op = "update"
	OpDelete Op = "delete"
)

// A Kind is what a message on a shadow topic is.
type Kind string

// The kinds. Differences and Documents are of OpUpdate only.
const (
	Request     Kind = ""
	Accepted    Kind = "accepted"
	Rejected    Kind = "rejected"
	Differences Kind = "delta"
	Documents   Kind = "documents"
)

// A Topic is a reserved topic of a shadow, such as
// $aws/things/pump-7/shadow/name/config/update/accepted.
type Topic struct {
	Thing string
	Name  string // of the shadow, "" for the classic one
	Op    Op
	Kind  Kind
}

const prefix = "$aws/things/"

// ParseTopic reports false for all that is no shadow topic. It takes any
// names that are not empty; ValidThing and ValidName judge them.
func ParseTopic(s string) (Topic, bool) {
	var t Topic
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok {
		return t, false
	}
	t.Thing, rest, ok = strings.Cut(rest, "/")
	if !ok || t.Thing == "" {
		return t, false
	}
	if rest, ok = strings.CutPrefix(rest, "shadow/"); !ok {
		return t, false
	}
	if named, ok := strings.CutPrefix(rest, "name/"); ok {
		if t.Name, rest, ok = strings.Cut(named, "/"); !ok || t.Name == "" {
			return t, false
		}
	}
	op, kind, more := strings.Cut(rest, "/")
	if more && kind == "" {
		return t, false
	}
	t.Op, t.Kind = Op(op), Kind(kind)
	switch t.Op {
	case OpGet, OpUpdate, OpDelete:
	default:
		return t, false
	}
	switch t.Kind {
	case Request, Accepted, Rejected:
		return t, true
	case Differences, Documents:
		return t, t.Op == OpUpdate
	}
	return t, false
}

// String returns the topic's text.
func (t Topic) String() string {
	s := prefix + t.Thing + "/shadow/"
	if t.Name != "" {
		s += "name/" + t.Name + "/"
	}
	s += string(t.Op)
	if t.Kind != Request {
		s += "/" + string(t.Kind)
	}
	return s
}

// As returns t with another kind.
func (t Topic) As(k Kind) Topic { t.Kind = k; return t }

// ValidThing tells whether s may name a thing: 1 to 128 of [A-Za-z0-9:_-].
func ValidThing(s string) bool { return validName(s, 128) }

// ValidName tells whether s may name a shadow: 1 to 64 of [A-Za-z0-9:_-].
func ValidName(s string) bool { return validName(s, 64) }

func validName(s string, most int) bool {
	if s == "" || len(s) > most {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == ':' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
