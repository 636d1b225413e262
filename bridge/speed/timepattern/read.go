package timepattern

import (
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Read reads a date and maybe a time by a pattern of java.time's
// DateTimeFormatter, in UTC unless the text has a zone. ok is false for what
// cannot be read.
func Read(text, pattern string) (t time.Time, ok bool) {
	if len(text) > 4*maxPattern {
		return time.Time{}, false
	}
	fields, err := split(pattern, javaTakes)
	if err != nil {
		return time.Time{}, false
	}
	r := reader{s: text, ok: true, month: -1, day: -1, yearDay: -1, pm: -1, loc: time.UTC}
	for i, fd := range fields {
		next := i+1 < len(fields) && strings.IndexByte("uyMLdDKhHkmsSn", fields[i+1].letter) >= 0 && fields[i+1].letter != 0
		r.field(fd, next)
	}
	return r.time()
}

// A reader reads a time field by field.
type reader struct {
	s                         string // what is left
	ok                        bool
	hasYear, hasHalf          bool
	year, month, day, yearDay int // -1: not given
	hour, minute, second, ns  int
	pm                        int // -1: no half of the day
	loc                       *time.Location
}

// number reads digits: at least lo and at most hi.
func (r *reader) number(lo, hi int) int {
	n := 0
	for n < len(r.s) && n < hi && isDigit(r.s[n]) {
		n++
	}
	v, err := strconv.Atoi(r.s[:n])
	if n < lo || err != nil {
		r.ok = false
		return 0
	}
	r.s = r.s[n:]
	return v
}

func (r *reader) name(names func(i int) string, count, short int) int {
	for i := range count {
		name := names(i)
		if short > 0 {
			name = name[:short]
		}
		if rest, ok := strings.CutPrefix(r.s, name); ok {
			r.s = rest
			return i
		}
	}
	r.ok = false
	return 0
}

// field reads one field. adjacent tells that digits of another follow at once.
func (r *reader) field(fd field, adjacent bool) {
	if fd.count == 5 && narrow(fd.letter) {
		r.ok = false // J is January, June and July
		return
	}
	short := 3
	if fd.count >= 4 {
		short = 0
	}
	two := func() int { // a number of up to two digits
		if fd.count == 1 && !adjacent {
			return r.number(1, 2)
		}
		return r.number(fd.count, fd.count)
	}
	switch fd.letter {
	case 0:
		rest, ok := strings.CutPrefix(r.s, fd.text)
		r.s, r.ok = rest, r.ok && ok
	case 'G':
		r.name(func(int) string { return era(fd.count) }, 1, 0)
	case 'u', 'y':
		r.hasYear = true
		switch {
		case fd.count == 2:
			r.year = 2000 + r.number(2, 2)
		case adjacent:
			r.year = r.number(fd.count, fd.count)
		default:
			r.year = r.number(fd.count, 9)
		}
	case 'M', 'L':
		if fd.count >= 3 {
			r.month = 1 + r.name(func(i int) string { return time.Month(i + 1).String() }, 12, short)
		} else {
			r.month = two()
		}
	case 'd':
		r.day = two()
	case 'D':
		r.yearDay = r.number(fd.count, 3)
	case 'E':
		r.name(func(i int) string { return time.Weekday(i).String() }, 7, short)
	case 'a':
		if r.pm = r.name(func(i int) string { return []string{"AM", "PM", "am", "pm"}[i] }, 4, 0) % 2; !r.ok {
			return
		}
	case 'H', 'k':
		r.hour = two()
		if fd.letter == 'k' {
			r.ok = r.ok && r.hour > 0
			if r.hour == 24 {
				r.hour = 0
			}
		}
	case 'h', 'K':
		r.hasHalf = true
		r.hour = two()
		if fd.letter == 'h' {
			r.ok = r.ok && r.hour > 0
			if r.hour == 12 {
				r.hour = 0
			}
		}
		r.ok = r.ok && r.hour < 12
	case 'm':
		r.minute = two()
	case 's':
		r.second = two()
	case 'S':
		if fd.count > 9 {
			r.ok = false
			return
		}
		r.ns = r.number(fd.count, fd.count)
		for range 9 - fd.count {
			r.ns *= 10
		}
	case 'n':
		r.ns = r.number(1, 9)
	default:
		r.zone(fd)
	}
}

// zone reads V and z (names), and O, X, x and Z (offsets).
func (r *reader) zone(fd field) {
	if strings.IndexByte("Vz", fd.letter) < 0 {
		s := strings.TrimPrefix(r.s, "GMT")
		if fd.letter == 'X' && strings.HasPrefix(s, "Z") {
			r.s = s[1:]
			return
		}
		n, secs := readOffset(s)
		if n == 0 {
			r.ok = r.ok && fd.letter == 'O' && len(s) < len(r.s)
			return
		}
		r.s, r.loc = s[n:], time.FixedZone("", secs)
		return
	}
	n := 0
	for n < len(r.s) {
		c, size := utf8.DecodeRuneInString(r.s[n:])
		if c != '_' && !unicode.IsLetter(c) && !strings.ContainsRune("/+-:0123456789", c) {
			break
		}
		n += size
	}
	name := r.s[:n]
	r.s = r.s[n:]
	if iana, ok := abbreviations[name]; ok && fd.letter == 'z' {
		name = iana
	}
	loc, ok := Zone(name)
	if !ok {
		r.ok = false
		return
	}
	r.loc = loc
}

// abbreviations are the short names that java.time reads as American zones.
var abbreviations = map[string]string{
	"EST": "America/New_York", "EDT": "America/New_York",
	"CST": "America/Chicago", "CDT": "America/Chicago",
	"MST": "America/Denver", "MDT": "America/Denver",
	"PST": "America/Los_Angeles", "PDT": "America/Los_Angeles",
}

// time puts the fields together, like java.time's SMART resolver: a day past
// the month's end, up to 31, becomes its last.
func (r *reader) time() (time.Time, bool) {
	if r.hasHalf && r.pm == 1 {
		r.hour += 12
	}
	if !r.ok || r.s != "" || !r.hasYear || r.hour > 23 || r.minute > 59 || r.second > 59 {
		return time.Time{}, false
	}
	switch {
	case r.month >= 1 && r.month <= 12 && r.day >= 1 && r.day <= 31:
		r.day = min(r.day, time.Date(r.year, time.Month(r.month)+1, 0, 0, 0, 0, 0, time.UTC).Day())
	case r.month == -1 && r.day == -1 && r.yearDay >= 1 && r.yearDay <= 366:
		r.month, r.day = 1, r.yearDay
	default:
		return time.Time{}, false
	}
	return time.Date(r.year, time.Month(r.month), r.day, r.hour, r.minute, r.second, r.ns, r.loc), true
}
