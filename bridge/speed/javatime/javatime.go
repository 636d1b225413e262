// Package javatime writes and reads times by pattern letters, as Joda's
// DateTimeFormat and java.time's DateTimeFormatter do, since rule statements
// and object prefixes are written in these. Names are English.
//
// Joda and Java compile a pattern for writing, Read reads a text by a pattern of
// java.time that CheckRead takes, Zone finds a time zone. The two dialects agree
// on most letters and differ in x, in weeks, in Z and in what they make of many
// letters in a row. java.time's weeks (Y, w, W, e, c) depend on a country: here
// they are those of its Locale.US, like the names, and begin on Sunday. Refused,
// though java.time knows them: Q, q, A, N, B, g, v, p, and zzzz for writing.
package javatime

import (
	"fmt"
	"strings"
	"time"
)

// A Pattern writes times. Several goroutines may use it.
type Pattern struct {
	fields []field
	java   bool
}

// Joda compiles a pattern of Joda's DateTimeFormat. The error names the first
// thing that cannot be used.
func Joda(pattern string) (Pattern, error) {
	fields, err := split(pattern, false, func(c byte, _ int) bool {
		return !letter(c) || strings.IndexByte("GCYxweEyDMdaKhHkmsSzZ", c) >= 0
	})
	for i := range fields {
		if fields[i].letter == 'G' {
			fields[i].count = 1 // however many, Joda's is AD
		}
	}
	return Pattern{fields: fields}, err
}

// Java compiles a pattern of java.time's DateTimeFormatter; see Joda.
func Java(pattern string) (Pattern, error) {
	fields, err := split(pattern, true, func(c byte, count int) bool {
		return javaTakes(c, count) && (c != 'z' || count < 4)
	})
	return Pattern{fields, true}, err
}

// CheckRead says what Read cannot use in a pattern of java.time's
// DateTimeFormatter; nil: nothing.
func CheckRead(pattern string) error {
	_, err := split(pattern, true, javaTakes)
	return err
}

// javaMost says how many of a letter java.time takes in a row (17.0.15, run).
var javaMost = map[byte]int{
	'G': 5, 'u': 19, 'y': 19, 'M': 5, 'L': 5, 'd': 2, 'D': 3, 'E': 5,
	'a': 1, 'K': 2, 'h': 2, 'H': 2, 'k': 2, 'm': 2, 's': 2, 'S': 9, 'n': 19,
	'V': 2, 'z': 4, 'O': 4, 'X': 5, 'x': 5, 'Z': 5,
	'Y': 19, 'w': 2, 'W': 1, 'e': 5, 'c': 5,
}

func javaTakes(c byte, count int) bool {
	switch {
	case !letter(c):
		return strings.IndexByte("{}#", c) < 0
	case c == 'V':
		return count == 2
	case c == 'c' && count == 2:
		return false
	case c == 'O':
		return count == 1 || count == 4
	}
	return count <= javaMost[c]
}

// narrow says that five of c are a name's first letter.
func narrow(c byte) bool { return strings.IndexByte("GMLEec", c) >= 0 }

func letter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// Append writes t, in its own location, after dst.
func (p Pattern) Append(dst []byte, t time.Time) []byte {
	for _, f := range p.fields {
		switch {
		case f.letter == '[' || f.letter == ']': // a time has what any part needs
		case p.java && strings.IndexByte("YwWec", f.letter) >= 0 && f.count < 5 && f.letter != 0:
			dst = f.appendWeek(dst, t)
		case p.java && strings.IndexByte("XxZO", f.letter) >= 0 && f.letter != 0:
			dst = f.appendOffset(dst, t)
		case p.java && f.count == 5 && narrow(f.letter):
			letter := f.letter
			if letter == 'e' || letter == 'c' {
				letter = 'E'
			}
			dst = append(dst, field{letter: letter, count: 4}.append(nil, t)[0])
		default:
			dst = f.append(dst, t)
		}
	}
	return dst
}

// A field is a run of one pattern letter, or literal text.
type field struct {
	letter byte // 0: literal; [ and ] are around an optional part
	count  int
	text   string
}

// maxPattern is the longest pattern taken, in bytes; our choice.
const maxPattern = 256

// split splits a Joda or java.time pattern: letters stand for fields, text in
// single quotes for itself, two quotes for one. take says whether a field, or
// a character that is no letter, may stand in the pattern. Where there are
// optional parts, brackets are around them; java.time closes those still open at
// the end.
func split(pattern string, optional bool, take func(letter byte, count int) bool) (fields []field, err error) {
	depth := 0
	if len(pattern) > maxPattern {
		return nil, fmt.Errorf("pattern of %d bytes, want at most %d", len(pattern), maxPattern)
	}
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			var lit strings.Builder
			closed := false
			for i++; i < len(pattern); i++ {
				if pattern[i] == '\'' {
					if i+1 >= len(pattern) || pattern[i+1] != '\'' {
						closed = true
						break
					}
					i++
				}
				lit.WriteByte(pattern[i])
			}
			if !closed {
				return nil, fmt.Errorf("quote without end in %q", pattern)
			}
			i++
			if lit.Len() == 0 {
				lit.WriteByte('\'')
			}
			fields = append(fields, field{text: lit.String()})
		case letter(c):
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			if !take(c, n) {
				return nil, fmt.Errorf("field %q is not known", pattern[i:i+n])
			}
			fields = append(fields, field{letter: c, count: n})
			i += n
		case optional && (c == '[' || c == ']'):
			if depth += 1 - int(c-'[')&2; depth < 0 {
				return nil, fmt.Errorf("\"]\" without \"[\" in %q", pattern)
			}
			fields = append(fields, field{letter: c})
			i++
		default:
			if !take(c, 1) {
				return nil, fmt.Errorf("%q is reserved, want it in quotes", c)
			}
			fields = append(fields, field{text: pattern[i : i+1]})
			i++
		}
	}
	return fields, nil
}
