package fleet

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
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

// ParseQuery parses a query. Its error is an ErrQuery and says where.
//
// Operators bind as is usual: NOT and - first, then AND, which may be left out,
// then OR. Words are compared without regard to case. Numbers are compared by
// value where the document has a number; text that looks like one, as all
// attributes are, equals a number only if it is written the same ("1.10" is not
// "1.1", since it may be a version), while ranges take it by value.
func ParseQuery(text string) (*Query, error) {
	if len(text) > maxQuery {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrQuery, len(text), maxQuery)
	}
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%w: not UTF-8", ErrQuery)
	}
	p := &parser{text: text}
	root, err := p.or("", 0)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.at < len(text) {
		return nil, p.fail("unexpected %q", text[p.at])
	}
	return &Query{root}, nil
}

// String writes the query so that it parses to the same.
func (q *Query) String() string {
	var b strings.Builder
	q.root.write(&b, loose)
	return b.String()
}

type parser struct {
	text  string
	at    int
	terms int
	scans int
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("%w: at byte %d: %s", ErrQuery, p.at, fmt.Sprintf(format, args...))
}

// skip passes over white space.
func (p *parser) skip() {
	for p.at < len(p.text) {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		if !unicode.IsSpace(r) {
			return
		}
		p.at += n
	}
}

// peek returns the next byte, 0 at the end.
func (p *parser) peek() byte {
	if p.at < len(p.text) {
		return p.text[p.at]
	}
	return 0
}

// keyword passes over an operator that stands alone.
func (p *parser) keyword(k string) bool {
	p.skip()
	rest, ok := strings.CutPrefix(p.text[p.at:], k)
	if !ok {
		return false
	}
	if r, _ := utf8.DecodeRuneInString(rest); rest != "" && !unicode.IsSpace(r) && r != '(' && r != ')' && r != '"' {
		return false
	}
	p.at += len(k)
	return true
}

// or parses what OR joins; field is that of a group `field:(...)`.
func (p *parser) or(field string, depth int) (node, error) {
	var of []node
	for {
		n, err := p.and(field, depth)
		if err != nil {
			return nil, err
		}
		of = append(of, n)
		if !p.keyword("OR") {
			break
		}
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return or{of}, nil
}

func (p *parser) and(field string, depth int) (node, error) {
	var of []node
	for {
		n, err := p.unary(field, depth)
		if err != nil {
			return nil, err
		}
		of = append(of, n)
		if p.keyword("AND") {
			continue
		}
		if at := p.at; p.keyword("OR") {
			p.at = at
			break
		}
		if p.skip(); p.at == len(p.text) || p.peek() == ')' {
			break
		}
	}
	if len(of) == 1 {
		return of[0], nil
	}
	return and{of}, nil
}

func (p *parser) unary(field string, depth int) (node, error) {
	if depth > maxDepth {
		return nil, p.fail("more than %d levels", maxDepth)
	}
	if p.keyword("NOT") {
		n, err := p.unary(field, depth+1)
		return not{n}, err
	}
	for _, k := range []string{"AND", "OR"} {
		if at := p.at; p.keyword(k) {
			p.at = at
			return nil, p.fail("%s needs something on both sides", k)
		}
	}
	if p.skip(); p.at == len(p.text) {
		return nil, p.fail("something is missing at the end")
	}
	switch c := p.peek(); c {
	case '-', '+':
		if p.at+1 == len(p.text) || unicode.IsSpace(rune(p.text[p.at+1])) {
			return nil, p.fail("%q needs something right behind it", c)
		}
		p.at++
		n, err := p.unary(field, depth+1)
		if c == '-' && err == nil {
			n = not{n}
		}
		return n, err
	case '(':
		p.at++
		return p.group(field, depth)
	}
	return p.clause(field, depth)
}

// group parses what is behind "(", to the end of it.
func (p *parser) group(field string, depth int) (node, error) {
	n, err := p.or(field, depth+1)
	if err != nil {
		return nil, err
	}
	if p.skip(); p.peek() != ')' {
		return nil, p.fail("want )")
	}
	p.at++
	return n, nil
}

// clause parses a value, with its field if that is not given.
func (p *parser) clause(field string, depth int) (node, error) {
	if p.terms++; p.terms > maxTerms {
		return nil, p.fail("more than %d terms", maxTerms)
	}
	if field != "" {
		return p.value(field)
	}
	start := p.at
	if p.peek() != '"' {
		w := p.word(":<>")
		p.skip()
		switch c := p.peek(); {
		case c != ':' && c != '<' && c != '>':
			p.at = start
			return p.value("")
		case w.text == "":
			return nil, p.fail("%q without a field", c)
		case w.wild():
			return nil, p.fail("a field's name has no wildcards")
		case c == ':':
			p.at++
			if p.skip(); p.peek() == '(' {
				p.at++
				return p.group(string(w.runes), depth)
			}
		}
		field = string(w.runes)
	}
	return p.value(field)
}

// A written is a word of a query.
type written struct {
	text  string // as it is there
	runes []rune // without escapes; wildcards are anyRunes and oneRune
}

func (w *written) wild() bool {
	for _, r := range w.runes {
		if r < 0 {
			return true
		}
	}
	return false
}

// word reads up to white space, a parenthesis, a quote, or one of stop.
func (p *parser) word(stop string) (w written) {
	start := p.at
	for p.at < len(p.text) {
		r, n := utf8.DecodeRuneInString(p.text[p.at:])
		if unicode.IsSpace(r) || strings.ContainsRune(`()"`, r) || strings.ContainsRune(stop, r) {
			break
		}
		p.at += n
		switch r {
		case '*':
			r = anyRunes
		case '?':
			r = oneRune
		case '\\':
			if p.at < len(p.text) {
				r, n = utf8.DecodeRuneInString(p.text[p.at:])
				p.at += n
			}
		}
		w.runes = append(w.runes, r)
	}
	w.text = p.text[start:p.at]
	return w
}

// quoted reads what is between quotes.
func (p *parser) quoted() (string, error) {
	var b strings.Builder
	for p.at++; p.at < len(p.text); p.at++ {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return b.String(), nil
		case c == '\\' && p.at+1 < len(p.text):
			p.at++
			b.WriteByte(p.text[p.at])
		default:
			b.WriteByte(c)
		}
	}
	return "", p.fail("a quote is not closed")
}

// value parses what a field has to be.
func (p *parser) value(field string) (node, error) {
	switch c := p.peek(); c {
	case '"':
		text, err := p.quoted()
		if err != nil {
			return nil, err
		}
		return p.literal(field, text)
	case '[', '{':
		if field == "" {
			return nil, p.fail("a range without a field")
		}
		return p.between(field)
	case '<', '>':
		return p.compare(field)
	}
	w := p.word("")
	switch {
	case len(w.runes) == 0:
		return nil, p.fail("a value is missing")
	case len(w.runes) == 1 && w.runes[0] == anyRunes && field == "":
		return all{}, nil
	case len(w.runes) == 1 && w.runes[0] == anyRunes:
		return match{field, exists{}}, nil
	case w.wild():
		for i, r := range w.runes {
			if r >= 0 {
				w.runes[i] = unicode.ToLower(r)
			}
		}
		return p.scan(match{field, newGlob(w.runes)})
	case w.text == "&&" || w.text == "||":
		return nil, p.fail("%s is not known, write AND and OR", w.text)
	case unsupported(w.text):
		return nil, p.fail("%.40q: fuzzy, proximity and boosted searches are not known", w.text)
	}
	return p.literal(field, string(w.runes))
}

// unsupported says whether a word ends as one of Lucene's fuzzy, proximity or
// boosted ones.
func unsupported(text string) bool {
	i := strings.LastIndexAny(text, "~^")
	return i > 0 && text[i-1] != '\\' && strings.Trim(text[i+1:], "0123456789.") == ""
}

// literal is a match of a word or a phrase.
func (p *parser) literal(field, text string) (node, error) {
	words := strings.Fields(strings.ToLower(text))
	switch len(words) {
	case 0:
		return nil, p.fail("a value is empty")
	case 1:
		w := word{text: words[0]}
		if n, ok := numberOf(w.text); ok {
			w.digits = numberText(n)
		}
		return match{field, w}, nil
	}
	return p.scan(match{field, phrase{strings.Join(words, " ")}})
}

// scan counts a match that has to look at all terms of all fields.
func (p *parser) scan(m match) (node, error) {
	if m.field == "" {
		if p.scans++; p.scans > maxScans {
			return nil, p.fail("more than %d patterns and phrases without a field", maxScans)
		}
	}
	return m, nil
}

// compare parses <, <=, > or >= and its bound.
func (p *parser) compare(field string) (node, error) {
	if field == "" {
		return nil, p.fail("a comparison without a field")
	}
	less := p.peek() == '<'
	p.at++
	inclusive := p.peek() == '='
	if inclusive {
		p.at++
	}
	p.skip()
	b, err := p.bound("")
	if err != nil {
		return nil, err
	}
	if b.open {
		return nil, p.fail("a comparison with *")
	}
	b.inclusive = inclusive
	if less {
		return match{field, newBetween(bound{open: true}, b)}, nil
	}
	return match{field, newBetween(b, bound{open: true})}, nil
}

// between parses a range in brackets or braces.
func (p *parser) between(field string) (node, error) {
	inclusive := p.peek() == '['
	p.at++
	p.skip()
	low, err := p.bound("]}")
	if err != nil {
		return nil, err
	}
	low.inclusive = inclusive
	if !p.keyword("TO") {
		return nil, p.fail("want TO")
	}
	p.skip()
	high, err := p.bound("]}")
	if err != nil {
		return nil, err
	}
	p.skip()
	c := p.peek()
	if c != ']' && c != '}' {
		return nil, p.fail("want ] or }")
	}
	p.at++
	high.inclusive = c == ']'
	if low.open && high.open {
		return match{field, exists{}}, nil
	}
	return match{field, newBetween(low, high)}, nil
}

func (p *parser) bound(stop string) (b bound, err error) {
	if p.peek() == '"' {
		b.quoted = true
		b.text, err = p.quoted()
		return b, err
	}
	w := p.word(stop)
	switch {
	case len(w.runes) == 0:
		return b, p.fail("a bound is missing")
	case len(w.runes) == 1 && w.runes[0] == anyRunes:
		return bound{open: true}, nil
	case w.wild():
		return b, p.fail("a bound has no wildcards")
	}
	return bound{text: string(w.runes)}, nil
}

// newBetween makes a range: one of numbers if its bounds are some and stand
// without quotes.
func newBetween(low, high bound) between {
	r := between{low: low, high: high}
	number := func(b *bound, to *float64) bool {
		if b.open {
			b.inclusive = false
			return true
		}
		n, ok := numberOf(b.text)
		*to = n
		return ok && !b.quoted
	}
	okLow, okHigh := number(&r.low, &r.lowNum), number(&r.high, &r.highNum)
	r.numeric = okLow && okHigh
	r.lowText, r.highText = strings.ToLower(low.text), strings.ToLower(high.text)
	return r
}

func (exists) of(*term) bool { return true }

func (exists) number(float64) bool { return true }

func (w word) of(t *term) bool {
	if t.kind == number {
		return t.lower == w.digits
	}
	return t.lower == w.text
}

func (w word) number(n float64) bool { return w.digits != "" && w.digits == numberText(n) }

func (w phrase) of(t *term) bool {
	if t.kind != text || len(t.lower) < len(w.text) {
		return false
	}
	// Both have one space between words.
	for rest, at := t.lower, 0; ; {
		i := strings.Index(rest[at:], w.text)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(w.text)
		if (i == 0 || rest[i-1] == ' ') && (end == len(rest) || rest[end] == ' ') {
			return true
		}
		at = i + 1
	}
}

func (phrase) number(float64) bool { return false }

func newGlob(pattern []rune) glob {
	g := glob{pattern: pattern}
	if slices.Contains(pattern, oneRune) {
		return g
	}
	from := 0
	for i, r := range pattern {
		if r == anyRunes {
			g.parts = append(g.parts, string(pattern[from:i]))
			from = i + 1
		}
	}
	g.parts = append(g.parts, string(pattern[from:]))
	return g
}

func (g glob) of(t *term) bool { return !t.words && g.fits(t.lower) }

func (g glob) number(n float64) bool { return g.fits(numberText(n)) }

func (g glob) fits(s string) bool {
	if g.parts == nil {
		return g.walk(s)
	}
	last := len(g.parts) - 1 // at least 1
	s, ok := strings.CutPrefix(s, g.parts[0])
	if !ok {
		return false
	}
	if s, ok = strings.CutSuffix(s, g.parts[last]); !ok {
		return false
	}
	for _, p := range g.parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

// walk compares s to the pattern, going back to the last * where it must.
func (g glob) walk(s string) bool {
	p, at := 0, 0       // in the pattern, in s
	star, from := -1, 0 // the last *, and where what it takes ends
	for at < len(s) {
		r, n := utf8.DecodeRuneInString(s[at:])
		switch {
		case p < len(g.pattern) && g.pattern[p] == anyRunes:
			star, from = p, at
			p++
		case p < len(g.pattern) && (g.pattern[p] == r || g.pattern[p] == oneRune):
			p++
			at += n
		case star >= 0:
			_, n := utf8.DecodeRuneInString(s[from:])
			from += n
			p, at = star+1, from
		default:
			return false
		}
	}
	for p < len(g.pattern) && g.pattern[p] == anyRunes {
		p++
	}
	return p == len(g.pattern)
}

func (r between) of(t *term) bool {
	if !r.numeric {
		return (t.kind == text || t.kind == part) && !t.words && inside(&r, t.lower, r.lowText, r.highText)
	}
	return t.numeric() && r.number(t.num)
}

func (r between) number(n float64) bool { return r.numeric && inside(&r, n, r.lowNum, r.highNum) }

func inside[T cmp.Ordered](r *between, v, low, high T) bool {
	return (r.low.open || v > low || r.low.inclusive && v == low) &&
		(r.high.open || v < high || r.high.inclusive && v == high)
}

// numberOf reads text that is a JSON number, within what a float64 holds
// exactly if it is whole (developer guide, "Numeric values").
func numberOf(s string) (float64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' && digits[1] <= '9' {
		return 0, false
	}
	whole := true
	for i, c := range []byte(digits) {
		switch {
		case c >= '0' && c <= '9':
		case c == '.':
			whole = false
			if i+1 == len(digits) || digits[i+1] < '0' || digits[i+1] > '9' {
				return 0, false
			}
		case c == 'e', c == 'E', (c == '+' || c == '-') && (digits[i-1] == 'e' || digits[i-1] == 'E'):
			whole = false
		default:
			return 0, false // hexadecimal, infinity, underscores
		}
	}
	if whole {
		n, err := strconv.ParseInt(s, 10, 64)
		return float64(n), err == nil && n >= -maxWhole && n < maxWhole
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

const maxWhole = 1 << 53

// numberText is how a term has a number.
func numberText(n float64) string {
	if n == float64(int64(n)) && n > -maxWhole && n < maxWhole {
		return strconv.FormatInt(int64(n), 10) // -0 too
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
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
