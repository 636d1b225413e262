package warehouse

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A Text says how lines of fields are read, in the terms of Redshift's COPY, where they
// are not as PostgreSQL reads CSV. Fields that are empty are NULL.
type Text struct {
	Quote        byte   // of CSV; 0: " for CSV, none else
	CSV          bool   // a quote within quotes stands twice
	Escape       bool   // a backslash takes its meaning from what follows it
	RemoveQuotes bool   // ' or " around a field go, and all between them stays
	Null         string // a field that is this is NULL, too
	Backslash    bool   // and one that is \N
	Blanks       bool   // and one of white space alone
	Trim         bool   // white space at a field's end goes
	Fill         bool   // columns that a line does not have are NULL
	SkipBlank    bool   // lines without anything are passed over
	Header       int    // lines that are passed over at the beginning of each object
	Invalid      byte   // in the place of each byte that is no UTF-8, or zero; 0: the load fails
}

// A texts reads lines of fields and gives lines of CSV with commas.
type texts struct {
	Text
	from      io.ReadCloser
	in        *bufio.Reader
	delimiter byte
	columns   int // 0: not known

	line []byte // not read yet
	n    int    // lines read
	err  error
}

func newTexts(from io.ReadCloser, t Text, delimiter byte, columns int) *texts {
	if t.CSV && t.Quote == 0 {
		t.Quote = '"'
	}
	return &texts{Text: t, from: from, in: bufio.NewReader(from), delimiter: delimiter, columns: columns}
}

func (t *texts) Close() error { return t.from.Close() }

func (t *texts) Read(p []byte) (n int, err error) {
	for n < len(p) && t.err == nil {
		if len(t.line) == 0 {
			t.err = t.next()
		}
		m := copy(p[n:], t.line)
		n, t.line = n+m, t.line[m:]
	}
	if n > 0 || len(p) == 0 {
		return n, nil
	}
	return 0, t.err
}

// next makes a line of the next one that is not passed over.
func (t *texts) next() error {
	for ; t.Header > 0; t.Header-- {
		if _, err := t.in.ReadSlice('\n'); err == io.EOF {
			return err
		} else if errors.Is(err, bufio.ErrBufferFull) {
			t.Header++ // the rest of it
		} else if err != nil {
			return err
		}
	}
	for {
		fields, err := t.fields()
		if err != nil {
			return err
		}
		t.n++
		if len(fields) == 1 && len(fields[0].text) == 0 && !fields[0].quoted && t.SkipBlank {
			continue
		}
		t.line = t.line[:0]
		for i, f := range fields {
			if i > 0 {
				t.line = append(t.line, ',')
			}
			t.line = t.field(t.line, f)
		}
		for i := len(fields); t.Fill && i < t.columns; i++ {
			t.line = append(t.line, ',')
		}
		t.line = append(t.line, '\n')
		return nil
	}
}

// A field is one of a line, as it is written there but for quotes and escapes.
type field struct {
	text   []byte
	quoted bool
	null   bool // \N, with Escape or by itself
}

// field writes one as CSV has it; NULL is nothing.
func (t *texts) field(line []byte, f field) []byte {
	text := f.text
	if t.Trim {
		text = bytes.TrimRight(text, " \t")
	}
	switch {
	case f.null && t.Backslash, len(text) == 0 && !f.quoted, t.Null != "" && string(f.text) == t.Null && !f.quoted,
		t.Blanks && len(bytes.TrimSpace(text)) == 0:
		return line
	}
	if t.Invalid != 0 {
		text = t.valid(text)
	}
	return quoteField(line, string(text))
}

// valid is text with Invalid for each byte that PostgreSQL does not take.
func (t *texts) valid(text []byte) []byte {
	if utf8.Valid(text) && bytes.IndexByte(text, 0) < 0 {
		return text
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n == 1 || r == 0 {
			out, text = append(out, t.Invalid), text[1:]
			continue
		}
		out, text = append(out, text[:n]...), text[n:]
	}
	return out
}

// fields reads those of one line; io.EOF behind the last.
func (t *texts) fields() (all []field, err error) {
	if _, err := t.in.Peek(1); err != nil {
		return nil, err
	}
	for {
		f, last, err := t.one()
		if err != nil {
			return nil, err
		}
		if all = append(all, f); last {
			return all, nil
		}
	}
}

// one reads a field and what ends it; last says that the line ends, too.
func (t *texts) one() (f field, last bool, err error) {
	var quote byte // that it is within
	for {
		c, err := t.in.ReadByte()
		switch {
		case err == io.EOF && quote != 0:
			return f, true, fmt.Errorf("%w: line %d: a quote is not closed", errContent, t.n+1)
		case err == io.EOF:
			return t.ended(f), true, nil
		case err != nil:
			return f, true, err
		case c == '\\' && t.Escape:
			if c, err = t.in.ReadByte(); err != nil {
				return f, true, fmt.Errorf("%w: line %d: nothing follows a backslash", errContent, t.n+1)
			}
			f.null = c == 'N' && len(f.text) == 0 && !f.quoted
			f.text = append(f.text, c)
			continue
		case quote != 0 && c == quote:
			if next, err := t.in.Peek(1); t.CSV && err == nil && next[0] == quote {
				_, _ = t.in.ReadByte()
				f.text = append(f.text, c)
				continue
			}
			quote = 0
			continue
		case quote != 0:
		case len(f.text) == 0 && !f.quoted && t.quotes(c):
			quote, f.quoted = c, true
			continue
		case c == t.delimiter:
			return t.ended(f), false, nil
		case c == '\n':
			return t.ended(f), true, nil
		}
		f.text = append(f.text, c)
		f.null = false
	}
}

// quotes says whether c begins a field in quotes.
func (t *texts) quotes(c byte) bool {
	return t.Quote != 0 && c == t.Quote || t.RemoveQuotes && (c == '"' || c == '\'')
}

// ended is a field at its end: a return before the line's end is no part of it, and \N
// by itself is NULL.
func (t *texts) ended(f field) field {
	if !f.quoted {
		f.text = bytes.TrimSuffix(f.text, []byte{'\r'})
		f.null = f.null || !t.Escape && string(f.text) == `\N`
	}
	return f
}

// CheckText says what of a text cannot be.
func CheckText(t Text, delimiter byte) error {
	for _, c := range []byte{t.Quote, delimiter} {
		if c >= utf8.RuneSelf || c == '\n' || c == '\r' || c == '\\' {
			return fmt.Errorf("%q: want one character of ASCII", c)
		}
	}
	if t.Quote == delimiter || strings.ContainsAny(t.Null, "\n\x00") {
		return errors.New("a quote that is the delimiter, or NULL with a line's end")
	}
	return nil
}
