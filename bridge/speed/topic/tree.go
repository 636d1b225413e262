package topic

import (
	"strings"
	"sync"
)

// A Tree holds values under topic filters and finds those whose filter matches
// a name, in time that depends on the levels of the name and not on the number
// of filters. The zero Tree is empty and ready for use.
//
// All methods may be called from several goroutines; matches run side by side,
// Add and Remove one at a time. A filter may hold several values, and the same
// value may stand under several filters, in which case a match reports it once
// for each.
type Tree[V any] struct {
	mu   sync.RWMutex // guards everything below
	root node[V]
	n    int
}

type node[V any] struct {
	kids map[string]*node[V] // by literal level
	plus *node[V]            // the level "+"
	here []V                 // filters that end at this level
	rest []V                 // filters that go on with "/#" and end
}

func (n *node[V]) empty() bool {
	return len(n.kids) == 0 && n.plus == nil && len(n.here) == 0 && len(n.rest) == 0
}

// Add puts v under filter, which must be well formed (see ValidFilter), beside
// the values that are there. The tree keeps a reference to parts of filter.
func (t *Tree[V]) Add(filter string, v V) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
	n := &t.root
	for more := true; more; {
		var level string
		level, filter, more = strings.Cut(filter, "/")
		switch level {
		case "#":
			n.rest = append(n.rest, v)
			return
		case "+":
			if n.plus == nil {
				n.plus = new(node[V])
			}
			n = n.plus
		default:
			next := n.kids[level]
			if next == nil {
				next = new(node[V])
				if n.kids == nil {
					n.kids = make(map[string]*node[V])
				}
				n.kids[strings.Clone(level)] = next
			}
			n = next
		}
	}
	n.here = append(n.here, v)
}

// Remove takes the values under exactly this filter for which which returns
// true out of the tree and returns how many they were. which must not call the
// tree.
func (t *Tree[V]) Remove(filter string, which func(V) bool) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.root.remove(filter, true, which)
	t.n -= n
	return n
}

// remove takes values below n; more is false when the filter ended at n. Nodes
// that became empty are unlinked on the way back.
func (n *node[V]) remove(filter string, more bool, which func(V) bool) (removed int) {
	if !more {
		n.here, removed = without(n.here, which)
		return removed
	}
	level, rest, more := strings.Cut(filter, "/")
	switch level {
	case "#":
		n.rest, removed = without(n.rest, which)
	case "+":
		if n.plus == nil {
			return 0
		}
		removed = n.plus.remove(rest, more, which)
		if n.plus.empty() {
			n.plus = nil
		}
	default:
		next := n.kids[level]
		if next == nil {
			return 0
		}
		removed = next.remove(rest, more, which)
		if next.empty() {
			delete(n.kids, level)
			if len(n.kids) == 0 {
				n.kids = nil // maps do not shrink
			}
		}
	}
	return removed
}

func without[V any](vs []V, which func(V) bool) (left []V, removed int) {
	left = vs[:0]
	for _, v := range vs {
		if !which(v) {
			left = append(left, v)
		}
	}
	removed = len(vs) - len(left)
	clear(vs[len(left):])
	if len(left) == 0 {
		left = nil
	}
	return left, removed
}

// Len returns the number of values in the tree.
func (t *Tree[V]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.n
}

// Match calls found for each value whose filter matches name, in MQTT's dialect
// and in no particular order. It does not allocate. found runs under the tree's
// read lock: it must be quick and must not call the tree.
func (t *Tree[V]) Match(name string, found func(V)) { t.match(name, true, found) }

// MatchRule is Match in AWS's dialect: "a/#" does not match "a".
func (t *Tree[V]) MatchRule(name string, found func(V)) { t.match(name, false, found) }

func (t *Tree[V]) match(name string, parent bool, found func(V)) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.n == 0 {
		return
	}
	if len(name) > 0 && name[0] == '$' {
		// Only literal first levels may match.
		level, rest, more := strings.Cut(name, "/")
		if n := t.root.kids[level]; n != nil {
			n.match(rest, more, parent, found)
		}
		return
	}
	t.root.match(name, true, parent, found)
}

// match reports the values below n; more is false when the name ended at n.
func (n *node[V]) match(name string, more, parent bool, found func(V)) {
	for {
		if more || parent {
			for _, v := range n.rest {
				found(v)
			}
		}
		if !more {
			for _, v := range n.here {
				found(v)
			}
			return
		}
		var level string
		level, name, more = strings.Cut(name, "/")
		next := n.kids[level]
		switch {
		case n.plus == nil && next == nil:
			return
		case n.plus == nil:
			n = next
		case next == nil:
			n = n.plus
		default:
			n.plus.match(name, more, parent, found)
			n = next
		}
	}
}
