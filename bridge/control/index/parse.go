package index

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

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
