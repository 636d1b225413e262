// Package timepattern writes and reads times by pattern letters, as Joda's
// DateTimeFormat and java.time's DateTimeFormatter do, since AWS's rules and
// delivery streams are configured in these. Names are English.
package timepattern

import (
	"strconv"
	"strings"
	"time"
)

// letters that each dialect knows here.
const (
	jodaWrites = "GCYxweEyDMdaKhHkmsSzZ"
	javaWrites = "GuyMLdDEaKhHkmsSzZXx"
	javaReads  = "GuyMLdDEaKhHkmsSnVzOXxZ"
)

// offset stands for java.time's letter x.
const offset = 'o'

// A Pattern writes times. It may be used by several goroutines.
type Pattern struct{ fields []field }

// Joda compiles a pattern of Joda's DateTimeFormat. ok is false for one that
// is too long, has a letter that is not known, or an open quote.
func Joda(pattern string) (p Pattern, ok bool) {
	p.fields, ok = split(pattern, jodaWrites)
	return p, ok
}

// Java compiles a pattern of java.time's DateTimeFormatter; see Joda.
func Java(pattern string) (p Pattern, ok bool) {
	p.fields, ok = split(pattern, javaWrites)
	for i := range p.fields {
		switch f := &p.fields[i]; f.letter {
		case 'x': // Joda's x is the year of the week
			f.letter = offset
		case 'Z': // up to ZZZ it is +0000, where Joda's ZZ has a colon
			f.count = 1 + min(f.count/4, 1)
		}
	}
	return p, ok
}

// Append writes t, in its own location, after dst.
func (p Pattern) Append(dst []byte, t time.Time) []byte {
	for _, f := range p.fields {
		dst = f.append(dst, t)
	}
	return dst
}

// A field is a run of one pattern letter, or literal text.
type field struct {
	letter byte // 0: literal
	count  int
	text   string
}

// MaxPattern is the longest pattern taken, in bytes; our choice.
const MaxPattern = 256

// split splits a Joda or java.time pattern: letters stand for fields,
// text in single quotes for itself, two quotes for one. ok is false for a
// letter not in known.
func split(pattern, known string) (fields []field, ok bool) {
	if len(pattern) > MaxPattern {
		return nil, false
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
				return nil, false
			}
			i++
			if lit.Len() == 0 {
				lit.WriteByte('\'')
			}
			fields = append(fields, field{text: lit.String()})
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			if strings.IndexByte(known, c) < 0 {
				return nil, false
			}
			fields = append(fields, field{letter: c, count: n})
			i += n
		default:
			fields = append(fields, field{text: pattern[i : i+1]})
			i++
		}
	}
	return fields, true
}

func (fd field) append(dst []byte, t time.Time) []byte {
	num := func(n int) []byte {
		s := strconv.Itoa(n)
		for i := len(s); i < fd.count; i++ {
			dst = append(dst, '0')
		}
		return append(dst, s...)
	}
	year := func(y int) []byte {
		if fd.count == 2 {
			y %= 100
		}
		return num(y)
	}
	switch fd.letter {
	case 0:
		return append(dst, fd.text...)
	case 'G':
		return append(dst, "AD"...)
	case 'C':
		return num(t.Year() / 100)
	case 'u', 'y', 'Y':
		return year(t.Year())
	case 'x':
		y, _ := t.ISOWeek()
		return year(y)
	case 'w':
		_, w := t.ISOWeek()
		return num(w)
	case 'e':
		return num((int(t.Weekday())+6)%7 + 1)
	case 'E':
		return append(dst, named(t.Weekday().String(), fd.count)...)
	case 'D':
		return num(t.YearDay())
	case 'M', 'L':
		if fd.count >= 3 {
			return append(dst, named(t.Month().String(), fd.count)...)
		}
		return num(int(t.Month()))
	case 'd':
		return num(t.Day())
	case 'a':
		return append(dst, t.Format("PM")...)
	case 'K':
		return num(t.Hour() % 12)
	case 'h':
		return num((t.Hour()+11)%12 + 1)
	case 'H':
		return num(t.Hour())
	case 'k':
		return num((t.Hour()+23)%24 + 1)
	case 'm':
		return num(t.Minute())
	case 's':
		return num(t.Second())
	case 'S': // the fraction's first digits
		digits := strconv.Itoa(1000 + t.Nanosecond()/1e6)[1:]
		for i := range fd.count {
			if i < len(digits) {
				dst = append(dst, digits[i])
			} else {
				dst = append(dst, '0')
			}
		}
		return dst
	case 'z':
		return t.AppendFormat(dst, "MST")
	case 'X', offset:
		if _, secs := t.Zone(); secs == 0 && fd.letter == 'X' {
			return append(dst, 'Z')
		}
		return t.AppendFormat(dst, [...]string{"-07", "-07", "-0700", "-07:00"}[min(fd.count, 3)])
	}
	switch fd.count { // Z
	case 1:
		return t.AppendFormat(dst, "-0700")
	case 2:
		return t.AppendFormat(dst, "-07:00")
	}
	return append(dst, t.Location().String()...)
}

// named shortens a day's or month's English name to three letters below four pattern letters.
func named(name string, count int) string {
	if count < 4 {
		return name[:3]
	}
	return name
}
