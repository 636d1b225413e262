package index

import (
	"errors"
	"strings"
	"unicode"
)

// ErrQuery is the error of a query that cannot be parsed; match with errors.Is.
var ErrQuery = errors.New("fleet: invalid query")

// Bounds of a query. AWS's are 12 terms, one of them with a leading wildcard,
// and 1,000 characters.
const (
	maxQuery = 4096 // bytes
	maxTerms = 50   // each takes 10 ms at most with 100,000 things
	maxDepth = 32   // parentheses and NOTs within each other
	maxScans = 4    // patterns and phrases of all fields, 40 ms each
)

// A Query is a parsed query of AWS IoT's fleet indexing, dialect 2017-09-30
// (developer guide, "Query syntax"). It doesn't change, and several goroutines
// may use it.
type Query struct{ root node }

// A node is a part of a query: one of what follows.
type node interface {
	// write writes it as an operand of what binds as tightly as level says.
	write(b *strings.Builder, level int)
}

// How tightly operators bind.
const (
	loose = iota // a whole query
	ofOr
	ofAnd
	ofNot
)

type (
	all   struct{}            // any document
	and   struct{ of []node } // two or more
	or    struct{ of []node }
	not   struct{ of node }
	match struct {
		field string // "" for all
		want  want
	}
)

// A want is what a term of a document has to be.
type want interface {
	// of says whether it is t.
	of(t *term) bool
	// number says whether it is a number that is not text.
	number(n float64) bool
	write(*strings.Builder)
}

type (
	exists struct{}                      // anything
	word   struct{ text, digits string } // in small letters; digits: as terms have the number that it is, "" for none
	phrase struct{ text string }         // two words or more, with one space between
	// glob is a pattern: anyRunes and oneRune among characters in small letters.
	// If there is no oneRune, parts are what is between those anyRunes, the first
	// and the last at the ends.
	glob struct {
		pattern []rune
		parts   []string
	}
	// between is a range of numbers if numeric, else of text. Where a bound is
	// open, it is left out.
	between struct {
		low, high         bound
		numeric           bool
		lowNum, highNum   float64
		lowText, highText string
	}
)

// Wildcards in a glob.
const (
	anyRunes rune = -1 // *
	oneRune  rune = -2 // ?
)

// A bound is that of a range.
type bound struct {
	text      string // as it was written
	quoted    bool
	open      bool // *
	inclusive bool
}

// String writes the query so that it parses to the same.
func (q *Query) String() string {
	var b strings.Builder
	q.root.write(&b, loose)
	return b.String()
}

func (all) write(b *strings.Builder, _ int) { b.WriteByte('*') }

func (n and) write(b *strings.Builder, level int) { writeAll(b, n.of, level, ofAnd, " AND ") }

func (n or) write(b *strings.Builder, level int) { writeAll(b, n.of, level, ofOr, " OR ") }

func writeAll(b *strings.Builder, of []node, level, own int, between string) {
	if level >= own {
		b.WriteByte('(')
		defer b.WriteByte(')')
	}
	for i, n := range of {
		if i > 0 {
			b.WriteString(between)
		}
		n.write(b, own)
	}
}

func (n not) write(b *strings.Builder, _ int) {
	b.WriteString("NOT ")
	n.of.write(b, ofNot)
}

func (m match) write(b *strings.Builder, _ int) {
	if m.field != "" {
		for _, r := range m.field {
			if unicode.IsSpace(r) || strings.ContainsRune(`\:<>()"*?-+`, r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		b.WriteByte(':')
	}
	m.want.write(b)
}

func (exists) write(b *strings.Builder) { b.WriteByte('*') }

func (w word) write(b *strings.Builder) { quote(b, w.text) }

func (w phrase) write(b *strings.Builder) { quote(b, w.text) }

func quote(b *strings.Builder, text string) {
	b.WriteByte('"')
	for _, r := range text {
		if r == '"' || r == '\\' {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	b.WriteByte('"')
}

func (g glob) write(b *strings.Builder) {
	for _, r := range g.pattern {
		switch r {
		case anyRunes:
			b.WriteByte('*')
		case oneRune:
			b.WriteByte('?')
		default:
			b.WriteByte('\\')
			b.WriteRune(r)
		}
	}
}

func (r between) write(b *strings.Builder) {
	side := func(inclusive bool, yes, no byte) {
		if inclusive {
			b.WriteByte(yes)
		} else {
			b.WriteByte(no)
		}
	}
	end := func(x bound) {
		switch {
		case x.open:
			b.WriteByte('*')
		case x.quoted || !r.numeric:
			quote(b, x.text)
		default:
			b.WriteString(x.text)
		}
	}
	side(r.low.inclusive, '[', '{')
	end(r.low)
	b.WriteString(" TO ")
	end(r.high)
	side(r.high.inclusive, ']', '}')
}
