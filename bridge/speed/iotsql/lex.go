package iotsql

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEOF    tokenKind = iota
	tokName             // keyword, attribute or function; case as written
	tokVar              // @name, text without the @
	tokNumber           // text as written
	tokString           // text without quotes, doubled quotes undone
	tokPunct            // operator or bracket
)

type token struct {
	kind     tokenKind
	pos, end int
	text     string
}

// is reports whether the token is the keyword or punctuation given; keywords
// are upper case in kw and match in any case.
func (t token) is(kw string) bool {
	switch t.kind {
	case tokName:
		return strings.EqualFold(t.text, kw)
	case tokPunct:
		return t.text == kw
	}
	return false
}

// describe names the token for an error message.
func (t token) describe(text string) string {
	if t.kind == tokEOF {
		return "end of text"
	}
	s := text[t.pos:t.end]
	if r := []rune(s); len(r) > 40 {
		s = string(r[:40]) + "…"
	}
	if t.kind == tokString {
		return s // it has quotes
	}
	return strconv.Quote(s)
}

// A lexer cuts text into tokens from off on.
type lexer struct {
	text string
	off  int
}

// twoByte are the operators of two characters; all others have one.
var twoByte = []string{"<>", "<=", ">=", "!="}

// foreignTokens are what other dialects have and this one spells otherwise.
var foreignTokens = []struct{ text, msg, want string }{
	{"&&", `there is no operator "&&"`, "AND"},
	{"||", `there is no operator "||"`, "OR, or + to join Strings"},
	{"/*", "statements have no comments", ""},
	{"`", "names are not quoted", `a bare name, or get(object, "name")`},
	{";", `unexpected ";"`, "the end: a statement has no semicolon"},
	{"‘", "a typographic quote", "'"}, {"’", "a typographic quote", "'"},
	{"“", "a typographic quote", `"`}, {"”", "a typographic quote", `"`},
}

func (l *lexer) next() (token, *SyntaxError) {
	for l.off < len(l.text) && strings.IndexByte(" \t\r\n", l.text[l.off]) >= 0 {
		l.off++
	}
	pos := l.off
	if pos == len(l.text) {
		return token{kind: tokEOF, pos: pos, end: pos}, nil
	}
	for _, f := range foreignTokens {
		if strings.HasPrefix(l.text[pos:], f.text) {
			return token{}, newSyntaxError(l.text, pos, f.msg, f.want)
		}
	}
	switch c := l.text[pos]; {
	case c == '\'' || c == '"':
		return l.str(c)
	case isDigit(c):
		return l.number()
	case c == '@':
		n := nameLen(l.text[pos+1:])
		if n == 0 {
			return token{}, newSyntaxError(l.text, pos+1, "no name after @", "a variable's name")
		}
		l.off = pos + 1 + n
		return token{tokVar, pos, l.off, l.text[pos+1 : l.off]}, nil
	case strings.IndexByte("()[]{},.:=<>+-*/%!", c) >= 0:
		for _, two := range twoByte {
			if strings.HasPrefix(l.text[pos:], two) {
				l.off += 2
				return token{tokPunct, pos, l.off, two}, nil
			}
		}
		if c == '!' {
			return token{}, newSyntaxError(l.text, pos, `unexpected "!"`, `"<>" or NOT`)
		}
		l.off++
		return token{tokPunct, pos, l.off, l.text[pos:l.off]}, nil
	}
	if n := nameLen(l.text[pos:]); n > 0 {
		l.off += n
		return token{tokName, pos, l.off, l.text[pos:l.off]}, nil
	}
	r, size := utf8.DecodeRuneInString(l.text[pos:])
	if r == utf8.RuneError && size == 1 {
		return token{}, newSyntaxError(l.text, pos, "the text is not UTF-8 here", "")
	}
	return token{}, newSyntaxError(l.text, pos, "unexpected character "+strconv.QuoteRune(r), "")
}

// str reads a quoted string. The guide describes no escapes; a doubled quote
// stands for one, as in SQL (our reading), and a backslash for itself, so that regular
// expressions can be written as they are.
func (l *lexer) str(quote byte) (token, *SyntaxError) {
	pos := l.off
	var b strings.Builder
	for i := pos + 1; i < len(l.text); i++ {
		if l.text[i] != quote {
			b.WriteByte(l.text[i])
			continue
		}
		if i+1 < len(l.text) && l.text[i+1] == quote {
			b.WriteByte(quote)
			i++
			continue
		}
		if !utf8.ValidString(b.String()) {
			return token{}, newSyntaxError(l.text, pos, "the string is not UTF-8", "")
		}
		l.off = i + 1
		return token{tokString, pos, l.off, b.String()}, nil
	}
	return token{}, newSyntaxError(l.text, pos, "the string that begins here has no end", "a closing "+string(quote))
}

// number reads digits [. digits] [E [+-] digits].
func (l *lexer) number() (token, *SyntaxError) {
	pos, i := l.off, l.off
	digits := func() bool {
		from := i
		for i < len(l.text) && isDigit(l.text[i]) {
			i++
		}
		return i > from
	}
	digits()
	if i < len(l.text) && l.text[i] == '.' {
		i++
		if !digits() {
			return token{}, newSyntaxError(l.text, i, "the number ends in a point", "a digit")
		}
	}
	if i < len(l.text) && l.text[i]|0x20 == 'e' {
		i++
		if i < len(l.text) && (l.text[i] == '+' || l.text[i] == '-') {
			i++
		}
		if !digits() {
			return token{}, newSyntaxError(l.text, i, "the number's exponent is missing", "a digit")
		}
	}
	if nameLen(l.text[i:]) > 0 {
		return token{}, newSyntaxError(l.text, i, "a name can't begin with a digit",
			`for such a member get(object, "name")`)
	}
	l.off = i
	return token{tokNumber, pos, i, l.text[pos:i]}, nil
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// nameLen returns the length in bytes of the name s begins with, 0 if none.
func nameLen(s string) int {
	for i, r := range s {
		if r == '_' || unicode.IsLetter(r) || i > 0 && unicode.IsDigit(r) {
			continue
		}
		return i
	}
	return len(s)
}
