package convert

import (
	"errors"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// A scanner reads JSON (RFC 8259) from a record without copying it.
type scanner struct {
	b     []byte
	i     int
	depth int
}

// maxDepth is how deep a record's JSON nests.
const maxDepth = 500

var (
	errJSON  = errors.New("malformed JSON")
	errDepth = errors.New("JSON that nests too deep")
	errUTF8  = errors.New("text that is not UTF-8")
)

// next skips white space and returns the byte that follows, 0 at the end.
func (s *scanner) next() byte {
	for s.i < len(s.b) {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return c
		}
	}
	return 0
}

// take skips white space and c, if that follows.
func (s *scanner) take(c byte) bool {
	if s.next() != c {
		return false
	}
	s.i++
	return true
}

// word skips text, which is a literal.
func (s *scanner) word(text string) error {
	if len(s.b)-s.i < len(text) || string(s.b[s.i:s.i+len(text)]) != text {
		return errJSON
	}
	s.i += len(text)
	return nil
}

// text reads a string, whose quote is next, without its quotes. escaped says that
// there are backslashes in it.
func (s *scanner) text() (raw []byte, escaped bool, err error) {
	s.i++
	start, high := s.i, false
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			raw = s.b[start:s.i]
			s.i++
			if high && !utf8.Valid(raw) {
				return nil, false, errUTF8
			}
			return raw, escaped, nil
		case c == '\\':
			escaped = true
			s.i++
		case c < ' ':
			return nil, false, errJSON
		case c >= utf8.RuneSelf:
			high = true
		}
		s.i++
	}
	return nil, false, errJSON
}

// unescape appends a string's text to dst.
func unescape(dst, raw []byte) ([]byte, error) {
	for i := 0; i < len(raw); i++ {
		if raw[i] != '\\' {
			dst = append(dst, raw[i])
			continue
		}
		if i++; i >= len(raw) {
			return dst, errJSON
		}
		switch c := raw[i]; c {
		case '"', '\\', '/':
			dst = append(dst, c)
		case 'b':
			dst = append(dst, '\b')
		case 'f':
			dst = append(dst, '\f')
		case 'n':
			dst = append(dst, '\n')
		case 'r':
			dst = append(dst, '\r')
		case 't':
			dst = append(dst, '\t')
		case 'u':
			r, n, err := escapedRune(raw[i+1:])
			if err != nil {
				return dst, err
			}
			dst = utf8.AppendRune(dst, r)
			i += n
		default:
			return dst, errJSON
		}
	}
	return dst, nil
}

// escapedRune reads the digits after \u, and the second half of a pair. A half by
// itself becomes U+FFFD.
func escapedRune(b []byte) (r rune, n int, err error) {
	if r, err = hex4(b); err != nil {
		return 0, 0, err
	}
	if utf16.IsSurrogate(r) {
		if len(b) >= 10 && b[4] == '\\' && b[5] == 'u' {
			low, err := hex4(b[6:])
			if err != nil {
				return 0, 0, err
			}
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				return pair, 10, nil
			}
		}
		return utf8.RuneError, 4, nil
	}
	return r, 4, nil
}

func hex4(b []byte) (rune, error) {
	if len(b) < 4 {
		return 0, errJSON
	}
	n, err := strconv.ParseUint(string(b[:4]), 16, 16)
	if err != nil {
		return 0, errJSON
	}
	return rune(n), nil
}

// number reads a number's text.
func (s *scanner) number() ([]byte, error) {
	start := s.i
	if s.i < len(s.b) && s.b[s.i] == '-' {
		s.i++
	}
	whole := s.i
	n := s.digits()
	if n == 0 || n > 1 && s.b[whole] == '0' {
		return nil, errJSON
	}
	if s.i < len(s.b) && s.b[s.i] == '.' {
		s.i++
		if s.digits() == 0 {
			return nil, errJSON
		}
	}
	if s.i < len(s.b) && s.b[s.i]|0x20 == 'e' {
		s.i++
		if s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-') {
			s.i++
		}
		if s.digits() == 0 {
			return nil, errJSON
		}
	}
	return s.b[start:s.i], nil
}

func (s *scanner) digits() (n int) {
	for s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9' {
		s.i++
		n++
	}
	return n
}

// raw reads any value and returns its text as it stands.
func (s *scanner) raw() ([]byte, error) {
	c := s.next()
	start := s.i
	var err error
	switch c {
	case '"':
		var text []byte
		var escaped bool
		if text, escaped, err = s.text(); err == nil && escaped {
			_, err = unescape(nil, text)
		}
	case '{':
		err = s.object(func([]byte, bool) error {
			_, err := s.raw()
			return err
		})
	case '[':
		err = s.list(func(int) error {
			_, err := s.raw()
			return err
		})
	case 't':
		err = s.word("true")
	case 'f':
		err = s.word("false")
	case 'n':
		err = s.word("null")
	default:
		_, err = s.number()
	}
	return s.b[start:s.i], err
}

// object reads an object, whose brace is next, and calls member for each name,
// which reads the value.
func (s *scanner) object(member func(name []byte, escaped bool) error) error {
	if s.depth++; s.depth > maxDepth {
		return errDepth
	}
	defer func() { s.depth-- }()
	s.i++
	if s.take('}') {
		return nil
	}
	for {
		if s.next() != '"' {
			return errJSON
		}
		name, escaped, err := s.text()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return errJSON
		}
		if err := member(name, escaped); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take('}') {
			return nil
		}
		return errJSON
	}
}

// list reads a list, whose bracket is next, and calls element for each.
func (s *scanner) list(element func(i int) error) error {
	if s.depth++; s.depth > maxDepth {
		return errDepth
	}
	defer func() { s.depth-- }()
	s.i++
	if s.take(']') {
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		if s.take(',') {
			continue
		}
		if s.take(']') {
			return nil
		}
		return errJSON
	}
}
