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
	r := reader{s: text, ok: true, month: -1, day: -1, yearDay: -1, pm: -1, weekday: -1, week: -1, monthWeek: -1,
		loc: time.UTC}
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

// readers read the field of a letter, the text between fields as letter 0. Zones
// and offsets are not in the table: see reader.field.
var readers = map[byte]func(r *reader, fd field, keep int){
	0:   (*reader).literal,
	'G': func(r *reader, fd field, _ int) { r.name(func(int) string { return era(fd.count) }, 1, 0) },
	'u': (*reader).yearOfEra,
	'y': (*reader).yearOfEra,
	'Y': (*reader).yearOfWeeks,
	'w': func(r *reader, fd field, keep int) { r.week = r.within(r.number(fd.count, 2, keep), 1, 53) },
	'W': func(r *reader, _ field, _ int) { r.monthWeek = r.within(r.number(1, 1, 0), 0, 6) },
	'e': (*reader).dayOfWeek,
	'c': (*reader).dayOfWeek,
	'E': (*reader).dayName,
	'M': (*reader).monthOfYear,
	'L': (*reader).monthOfYear,
	'd': func(r *reader, fd field, keep int) { r.day = r.digits(fd, keep) },
	'D': func(r *reader, fd field, keep int) { r.yearDay = r.number(fd.count, max(3, fd.most()), keep) },
	'a': (*reader).halfDay,
	'H': func(r *reader, fd field, keep int) { r.hour = r.digits(fd, keep) },
	'k': func(r *reader, fd field, keep int) { r.hour = from0(r.digits(fd, keep), 24) },
	'K': func(r *reader, fd field, keep int) { r.hasHalf, r.hour = true, r.within(r.digits(fd, keep), 0, 11) },
	'h': func(r *reader, fd field, keep int) {
		r.hasHalf, r.hour = true, r.within(from0(r.digits(fd, keep), 12), 0, 11)
	},
	'm': func(r *reader, fd field, keep int) { r.minute = r.digits(fd, keep) },
	's': func(r *reader, fd field, keep int) { r.second = r.digits(fd, keep) },
	'S': (*reader).fraction,
	'n': func(r *reader, _ field, keep int) { r.ns = r.number(1, 9, keep) },
}

// field reads one field and leaves the last keep digits to those after it.
func (r *reader) field(fd field, keep int) {
	switch read := readers[fd.letter]; {
	case fd.count == 5 && narrow(fd.letter):
		r.ok = false // J is January, June and July
	case read != nil:
		read(r, fd, keep)
	case fd.letter == 'V' || fd.letter == 'z':
		r.zone(fd)
	default:
		r.offset(fd)
	}
}

// most is how many digits a number has at most: as many as its letters, but of
// one letter any number, up to java.time's bound.
func (fd field) most() int {
	if fd.count == 1 {
		return 19
	}
	return fd.count
}

// short is how much of a name stands for it: three letters, or 0 for all.
func (fd field) short() int {
	if fd.count >= 4 {
		return 0
	}
	return 3
}

// digits reads a number as long as its field.
func (r *reader) digits(fd field, keep int) int { return r.number(fd.count, fd.most(), keep) }

// within ends the reading if n is not from lo to hi.
func (r *reader) within(n, lo, hi int) int {
	r.ok = r.ok && n >= lo && n <= hi
	return n
}

// from0 is an hour that is counted from 1 to last, counted from 0.
func from0(hour, last int) int {
	if hour == last {
		return 0
	}
	return hour
}

func (r *reader) literal(fd field, _ int) {
	rest, ok := strings.CutPrefix(r.s, fd.text)
	r.s, r.ok = rest, r.ok && ok
}

func (r *reader) yearOfEra(fd field, keep int) {
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
}

func (r *reader) yearOfWeeks(fd field, keep int) {
	y, has := r.year, r.hasYear
	r.yearOfEra(fd, keep)
	r.weekYear, r.hasWeekYear = r.year, true
	r.year, r.hasYear = y, has
}

func (r *reader) dayOfWeek(fd field, keep int) {
	if fd.count > 2 {
		r.dayName(fd, keep)
		return
	}
	r.weekday = r.within(r.number(fd.count, fd.count, 0), 1, 7) - 1
}

func (r *reader) dayName(fd field, _ int) {
	r.weekday = r.name(func(i int) string { return time.Weekday(i).String() }, 7, fd.short())
}

func (r *reader) monthOfYear(fd field, keep int) {
	if fd.count < 3 {
		r.month = r.digits(fd, keep)
		return
	}
	r.month = 1 + r.name(func(i int) string { return time.Month(i + 1).String() }, 12, fd.short())
}

func (r *reader) halfDay(field, int) {
	r.pm = r.name(func(i int) string { return []string{"AM", "PM", "am", "pm"}[i] }, 4, 0) % 2
}

func (r *reader) fraction(fd field, _ int) {
	if fd.count > 9 {
		r.ok = false
		return
	}
	r.ns = r.number(fd.count, fd.count, 0)
	for range 9 - fd.count {
		r.ns *= 10
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
	return time.Date(y, m, d, r.hour, r.minute, r.second, r.ns, r.loc), r.weekday < 0 ||
		r.weekday == int(date.Weekday())
}
