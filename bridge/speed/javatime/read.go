package javatime

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
	fields, err := split(pattern, true, javaTakes)
	if err != nil {
		return time.Time{}, false
	}
	r := reader{s: text, ok: true, month: -1, day: -1, yearDay: -1, pm: -1, weekday: -1, week: -1, monthWeek: -1, loc: time.UTC}
	r.fields(fields)
	return r.time()
}

// fields reads fields. An optional part that the text does not have leaves no trace.
func (r *reader) fields(fields []field) {
	for i := 0; i < len(fields) && r.ok; i++ {
		switch fields[i].letter {
		case '[':
			n := section(fields[i+1:])
			part := *r
			if part.fields(fields[i+1 : i+1+n]); part.ok {
				*r = part
			}
			i += n
		case ']':
		default:
			r.field(fields[i], reserved(fields[i+1:]))
		}
	}
}

// section returns how many fields the optional part has that they begin with.
func section(fields []field) int {
	depth := 1
	for i, fd := range fields {
		switch fd.letter {
		case '[':
			depth++
		case ']':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return len(fields)
}

// reserved counts the digits that the fields which follow at once take for
// certain: java.time leaves those to them.
func reserved(fields []field) (digits int) {
	for _, fd := range fields {
		switch fd.letter {
		case 'S':
		case 'd', 'D', 'K', 'h', 'H', 'k', 'm', 's', 'M', 'L':
			if fd.count < 2 || fd.letter == 'D' && fd.count != 3 || fd.count > 2 && fd.letter != 'D' {
				return digits
			}
		case 'W':
		case 'w', 'e', 'c':
			if fd.count > 2 || fd.letter == 'w' && fd.count != 2 {
				return digits
			}
		case 'u', 'y', 'Y':
			if fd.count != 2 {
				return digits
			}
		default:
			return digits
		}
		digits += fd.count
	}
	return digits
}

// A reader reads a time field by field.
type reader struct {
	s                         string // what is left
	ok                        bool
	hasYear, hasHalf          bool
	hasWeekYear               bool
	weekYear, week, monthWeek int // -1: not given
	year, month, day, yearDay int // -1: not given
	hour, minute, second, ns  int
	pm                        int // -1: no half of the day
	weekday                   int // -1: not given
	loc                       *time.Location
}

// number reads digits: at least lo and at most hi, but for the last keep.
func (r *reader) number(lo, hi, keep int) int {
	n := 0
	for n < len(r.s) && n < hi+keep && isDigit(r.s[n]) {
		n++
	}
	n = min(hi, max(n-keep, min(n, lo)))
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

// field reads one field and leaves the last keep digits to those after it.
func (r *reader) field(fd field, keep int) {
	if fd.count == 5 && narrow(fd.letter) {
		r.ok = false // J is January, June and July
		return
	}
	short := 3
	if fd.count >= 4 {
		short = 0
	}
	most := fd.count
	if most == 1 {
		most = 19 // java.time's bound
	}
	two := func() int {
		return r.number(fd.count, most, keep)
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
			r.year = 2000 + r.number(2, 2, 0)
		case fd.count > 3: // more digits want a sign, which is refused
			before := len(r.s)
			r.year = r.number(fd.count, 19, keep)
			r.ok = r.ok && before-len(r.s) == fd.count
		default:
			r.year = r.number(fd.count, 9, keep)
		}
	case 'Y':
		y, has := r.year, r.hasYear
		r.field(field{letter: 'y', count: fd.count}, keep)
		r.weekYear, r.hasWeekYear = r.year, true
		r.year, r.hasYear = y, has
	case 'w':
		r.week = r.number(fd.count, 2, keep)
		r.ok = r.ok && r.week >= 1 && r.week <= 53
	case 'W':
		r.monthWeek = r.number(1, 1, 0)
		r.ok = r.ok && r.monthWeek <= 6
	case 'e', 'c':
		if fd.count > 2 {
			r.field(field{letter: 'E', count: fd.count}, keep)
			return
		}
		n := r.number(fd.count, fd.count, 0)
		r.weekday, r.ok = n-1, r.ok && n >= 1 && n <= 7
	case 'M', 'L':
		if fd.count >= 3 {
			r.month = 1 + r.name(func(i int) string { return time.Month(i + 1).String() }, 12, short)
		} else {
			r.month = two()
		}
	case 'd':
		r.day = two()
	case 'D':
		r.yearDay = r.number(fd.count, max(3, most), keep)
	case 'E':
		r.weekday = r.name(func(i int) string { return time.Weekday(i).String() }, 7, short)
	case 'a':
		if r.pm = r.name(func(i int) string { return []string{"AM", "PM", "am", "pm"}[i] }, 4, 0) % 2; !r.ok {
			return
		}
	case 'H', 'k':
		r.hour = two()
		if fd.letter == 'k' {
			if r.hour == 24 {
				r.hour = 0
			}
		}
	case 'h', 'K':
		r.hasHalf = true
		r.hour = two()
		if fd.letter == 'h' {
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
		r.ns = r.number(fd.count, fd.count, 0)
		for range 9 - fd.count {
			r.ns *= 10
		}
	case 'n':
		r.ns = r.number(1, 9, keep)
	case 'V', 'z':
		r.zone(fd)
	default:
		r.offset(fd)
	}
}

// offset reads X, x, Z and O in the very form that Append writes.
func (r *reader) offset(fd field) {
	gmt := fd.letter == 'O' || fd.letter == 'Z' && fd.count == 4
	if gmt {
		rest, ok := strings.CutPrefix(r.s, "GMT")
		r.s, r.ok = rest, r.ok && ok
		if rest == "" || rest[0] != '+' && rest[0] != '-' {
			return
		}
	} else if rest, ok := strings.CutPrefix(r.s, "Z"); ok && (fd.letter == 'X' || fd.letter == 'Z' && fd.count == 5) {
		r.s = rest
		return
	}
	if r.s == "" || r.s[0] != '+' && r.s[0] != '-' {
		r.ok = false
		return
	}
	minus := r.s[0] == '-'
	r.s = r.s[1:]
	colon := gmt || (fd.letter != 'Z' && fd.count == 3) || fd.count == 5
	hours := 2
	if fd.letter == 'O' && fd.count == 1 {
		hours = 1
	}
	secs := r.number(hours, 2, 0) * 3600
	more := func(unit int, must bool) {
		s := r.s
		if colon {
			var ok bool
			if s, ok = strings.CutPrefix(s, ":"); !ok {
				r.ok = r.ok && !must
				return
			}
		}
		if must || len(s) > 0 && isDigit(s[0]) {
			r.s = s
			v := r.number(2, 2, 0)
			r.ok = r.ok && v < 60
			secs += v * unit
		}
	}
	more(60, hours == 2 && fd.count > 1 || fd.letter == 'Z')
	if fd.count > 3 || fd.letter == 'O' {
		more(1, false)
	}
	if r.ok = r.ok && secs <= 18*3600; minus {
		secs = -secs
	}
	r.loc = time.FixedZone("", secs)
}

// zone reads V and z, names.
func (r *reader) zone(fd field) {
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
	// 24:00 is the end of the day.
	midnight := r.hour == 24 && !r.hasHalf && r.minute == 0 && r.second == 0 && r.ns == 0
	if !r.ok || r.s != "" || r.hour > 23 && !midnight || r.minute > 59 || r.second > 59 {
		return time.Time{}, false
	}
	switch {
	case r.hasWeekYear && r.week > 0 && r.weekday >= 0:
		first := time.Date(r.weekYear, 1, 1, 0, 0, 0, 0, time.UTC)
		weeks := r.week - 1
		if last := time.Date(r.weekYear, 12, 31, 0, 0, 0, 0, time.UTC); weeks > 0 {
			weeks = min(weeks, (last.YearDay()+int(first.Weekday()))/7-1)
		}
		return r.at(first.AddDate(0, 0, 7*weeks+r.weekday-int(first.Weekday())))
	case !r.hasYear:
		return time.Time{}, false
	case r.month >= 1 && r.month <= 12 && r.day == -1 && r.monthWeek >= 0 && r.weekday >= 0:
		first := time.Date(r.year, time.Month(r.month), 1, 0, 0, 0, 0, time.UTC)
		return r.at(first.AddDate(0, 0, 7*(r.monthWeek-1)+r.weekday-int(first.Weekday())))
	case r.month >= 1 && r.month <= 12 && r.day >= 1 && r.day <= 31:
		r.day = min(r.day, time.Date(r.year, time.Month(r.month)+1, 0, 0, 0, 0, 0, time.UTC).Day())
	case r.month == -1 && r.day == -1 && r.yearDay >= 1 && r.yearDay <= 366:
		r.month, r.day = 1, r.yearDay
	default:
		return time.Time{}, false
	}
	return r.at(time.Date(r.year, time.Month(r.month), r.day, 0, 0, 0, 0, time.UTC))
}

// at is the time of the day read, on a date that must fit the day of the week read.
func (r *reader) at(date time.Time) (time.Time, bool) {
	y, m, d := date.Date()
	return time.Date(y, m, d, r.hour, r.minute, r.second, r.ns, r.loc), r.weekday < 0 || r.weekday == int(date.Weekday())
}
