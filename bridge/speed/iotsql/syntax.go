package iotsql

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A SyntaxError says what is wrong with a statement or template, and where.
type SyntaxError struct {
	Text     string // the whole statement or template
	Offset   int    // byte offset into Text, 0..len(Text)
	Line     int    // from 1
	Column   int    // from 1, in characters
	Msg      string // what is wrong: `unexpected ")"`
	Expected string // what could stand there instead; may be empty
}

func newSyntaxError(text string, offset int, msg, expected string) *SyntaxError {
	offset = min(max(offset, 0), len(text))
	before := text[:offset]
	start := strings.LastIndexByte(before, '\n') + 1
	return &SyntaxError{
		Text: text, Offset: offset,
		Line:   strings.Count(before, "\n") + 1,
		Column: utf8.RuneCountInString(before[start:]) + 1,
		Msg:    msg, Expected: expected,
	}
}

// Error returns the message, then the line it is about and a caret below the
// place:
//
//	line 1, column 12: unexpected "FROM"; expected an expression
//	    SELECT temp, FROM 'dt/#'
//	                 ^
func (e *SyntaxError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "line %d, column %d: %s", e.Line, e.Column, e.Msg)
	if e.Expected != "" {
		b.WriteString("; expected ")
		b.WriteString(e.Expected)
	}
	b.WriteString("\n")
	b.WriteString(e.picture())
	return b.String()
}

// picture is the line around the error with a caret under it. Of a line
// longer than a terminal's, only the part around the caret is shown.
func (e *SyntaxError) picture() string {
	const side = 60 // characters shown on either side
	off := min(max(e.Offset, 0), len(e.Text))
	start := strings.LastIndexByte(e.Text[:off], '\n') + 1
	end := len(e.Text)
	if n := strings.IndexByte(e.Text[off:], '\n'); n >= 0 {
		end = off + n
	}
	before, after := []rune(printable(e.Text[start:off])), []rune(printable(e.Text[off:end]))
	lead, tail := "", ""
	if len(before) > side {
		before, lead = before[len(before)-side:], "…"
	}
	if len(after) > side {
		after, tail = after[:side], "…"
	}
	pad := strings.Repeat(" ", len(before)+utf8.RuneCountInString(lead))
	return "    " + lead + string(before) + string(after) + tail + "\n    " + pad + "^"
}

// printable keeps the caret under its character: each one that isn't
// printable takes one column.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ':
			return ' '
		case r == utf8.RuneError || r == 0x7f:
			return '?'
		}
		return r
	}, s)
}
