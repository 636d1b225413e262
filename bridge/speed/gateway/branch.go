package gateway

import (
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// A branch is a level of the topics that have a retained message: a filter with
// wildcards visits those that it may match instead of all topics, of which a
// thousand clients that come back would each try a hundred thousand.
type branch struct {
	m    *message.Message // of the topic that ends here; nil if none does
	name string           // of the only child
	only *branch
	more map[string]*branch // children by level, if there are several
}

// deepest is where branches end: the levels below are one, whatever a client
// sends.
const deepest = 32

// cut splits the first level off a topic or filter; depth is that of its branch.
func cut(t string, depth int) (level, rest string, more bool) {
	if depth == deepest {
		return t, "", false
	}
	return strings.Cut(t, "/")
}

func (b *branch) child(level string) *branch {
	if b.only != nil && b.name == level {
		return b.only
	}
	return b.more[level]
}

// set puts m in place of what its topic had.
func (b *branch) set(m *message.Message) {
	rest, more := m.Topic, true
	for depth := 0; more; depth++ {
		var level string
		level, rest, more = cut(rest, depth)
		c := b.child(level)
		if c == nil {
			c = new(branch)
			switch {
			case b.more != nil:
				b.more[level] = c
			case b.only == nil:
				b.name, b.only = level, c
			default:
				b.more = map[string]*branch{b.name: b.only, level: c}
				b.name, b.only = "", nil
			}
		}
		b = c
	}
	b.m = m
}

// remove forgets the message of a topic.
func (b *branch) remove(t string, depth int) {
	level, rest, more := cut(t, depth)
	c := b.child(level)
	switch {
	case c == nil:
		return
	case more:
		c.remove(rest, depth+1)
	default:
		c.m = nil
	}
	if c.m != nil || c.only != nil || len(c.more) > 0 {
		return
	}
	if c == b.only {
		b.name, b.only = "", nil
		return
	}
	delete(b.more, level)
}

// match calls found for the messages that filter may match, and some that it
// does not, until found returns false, which it then does, too.
func (b *branch) match(filter string, depth int, found func(*message.Message) bool) bool {
	level, rest, more := cut(filter, depth)
	switch {
	case depth == deepest, level == "#":
		return b.each(found)
	case level != "+":
		c := b.child(level)
		return c == nil || c.follow(rest, more, depth, found)
	case b.only != nil:
		return b.only.follow(rest, more, depth, found)
	}
	for _, c := range b.more {
		if !c.follow(rest, more, depth, found) {
			return false
		}
	}
	return true
}

// follow is match for the child that the first level of a filter led to.
func (b *branch) follow(rest string, more bool, depth int, found func(*message.Message) bool) bool {
	if more {
		return b.match(rest, depth+1, found)
	}
	return b.m == nil || found(b.m)
}

// each calls found for the messages of b and below.
func (b *branch) each(found func(*message.Message) bool) bool {
	if b.m != nil && !found(b.m) || b.only != nil && !b.only.each(found) {
		return false
	}
	for _, c := range b.more {
		if !c.each(found) {
			return false
		}
	}
	return true
}
