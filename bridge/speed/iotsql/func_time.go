package iotsql

import (
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // zones must not depend on what the machine has installed
	"unicode/utf8"
)

// A timeField is a run of one pattern letter, or literal text.
type timeField struct {
	letter byte // 0: literal
	count  int
	text   string
}

// maxTimePattern is the longest pattern taken; our choice.
const maxTimePattern = 256

// timeFields splits a Joda or java.time pattern: letters stand for fields,
// text in single quotes for itself, two quotes for one. ok is false for a
// letter not in known.
func timeFields(pattern, known string) (fields []timeField, ok bool) {
	if len(pattern) > maxTimePattern {
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
			fields = append(fields, timeField{text: lit.String()})
		case 'a' <= c|0x20 && c|0x20 <= 'z':
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			if strings.IndexByte(known, c) < 0 {
				return nil, false
			}
			fields = append(fields, timeField{letter: c, count: n})
			i += n
		default:
			fields = append(fields, timeField{text: pattern[i : i+1]})
			i++
		}
	}
	return fields, true
}

var zones sync.Map // name -> *time.Location, only names that exist

// zone finds a time zone: UTC, an offset such as +02:00, or a name of the
// IANA database.
func zone(name string) (*time.Location, bool) {
	switch name {
	case "UTC", "GMT", "Z", "UT":
		return time.UTC, true
	case "", "Local":
		return nil, false
	}
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), true
	}
	if n, secs := readOffset(name); n == len(name) {
		return time.FixedZone(name, secs), true
	}
	loc, err := time.LoadLocation(name)
	if err != nil {
		return nil, false
	}
	zones.Store(name, loc)
	return loc, true
}

// readOffset reads ±hh[[:]mm[[:]ss]] at the begin of s and returns its length, 0 if there is none.
func readOffset(s string) (n, secs int) {
	if len(s) < 3 || s[0] != '+' && s[0] != '-' {
		return 0, 0
	}
	i := 1
	for k, unit := range []int{3600, 60, 1} {
		j := i
		if k > 0 && j < len(s) && s[j] == ':' {
			j++
		}
		if j+2 > len(s) || !isDigit(s[j]) || !isDigit(s[j+1]) {
			break
		}
		v, _ := strconv.Atoi(s[j : j+2])
		if k == 0 && v > 18 || v > 59 {
			return 0, 0
		}
		secs += v * unit
		i = j + 2
	}
	if i == 1 {
		return 0, 0
	}
	if s[0] == '-' {
		secs = -secs
	}
	return i, secs
}

// parseTime is parse_time(pattern, ms [, zone]): it writes a time by a
// pattern of Joda's DateTimeFormat, English names. A zone or pattern that
// doesn't exist, and a time outside the years 0 to 9999, give Undefined.
func parseTime(f *frame, args []value) value {
	pattern, ok1 := f.text(args[0])
	n, ok2 := f.numeric(args[1])
	if !ok1 || !ok2 {
		return value{}
	}
	n = floor(f, n)
	if n.kind != kindNumber || n.d != nil || n.e != 0 {
		return value{}
	}
	loc := time.UTC
	if len(args) == 3 {
		name, ok := f.text(args[2])
		if !ok {
			return value{}
		}
		if loc, ok = zone(string(name)); !ok {
			return value{}
		}
	}
	fields, ok := timeFields(string(pattern), "GCYxweEyDMdaKhHkmsSzZ")
	t := time.UnixMilli(n.c).In(loc)
	if !ok || n.c < -62167219200000+86400000 || n.c > 253402300799999 {
		return value{}
	}
	from := len(f.arena)
	for _, fd := range fields {
		f.arena = appendTime(f.arena, t, fd)
	}
	return f.built(kindText, from)
}

func appendTime(dst []byte, t time.Time, fd timeField) []byte {
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
	case 'y', 'Y':
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
	case 'M':
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

// timeToEpoch is time_to_epoch(text, pattern): it reads a date and maybe a
// time by a pattern of java.time's DateTimeFormatter, English names, in UTC
// unless the text has a zone. What can't be read gives Undefined.
func timeToEpoch(f *frame, args []value) value {
	s, ok1 := f.text(args[0])
	pattern, ok2 := f.text(args[1])
	if !ok1 || !ok2 || len(s) > 4*maxTimePattern {
		return value{}
	}
	fields, ok := timeFields(string(pattern), "GuyMLdDEaKhHkmsSnVzOXxZ")
	if !ok {
		return value{}
	}
	r := timeReader{s: string(s), ok: true, month: -1, day: -1, yearDay: -1, pm: -1, loc: time.UTC}
	for i, fd := range fields {
		next := i+1 < len(fields) && strings.IndexByte("uyMLdDKhHkmsSn", fields[i+1].letter) >= 0 && fields[i+1].letter != 0
		r.field(fd, next)
	}
	t, ok := r.time()
	if !ok {
		return value{}
	}
	return intValue(t.UnixMilli())
}

// A timeReader reads a time field by field.
type timeReader struct {
	s                         string // what is left
	ok                        bool
	hasYear, hasHalf          bool
	year, month, day, yearDay int // -1: not given
	hour, minute, second, ns  int
	pm                        int // -1: no half of the day
	loc                       *time.Location
}

// number reads digits: at least lo and at most hi.
func (r *timeReader) number(lo, hi int) int {
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

func (r *timeReader) name(names func(i int) string, count, short int) int {
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
func (r *timeReader) field(fd timeField, adjacent bool) {
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
		r.name(func(int) string { return "AD" }, 1, 0)
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
func (r *timeReader) zone(fd timeField) {
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
		if nameLen(string(c)) == 0 && !strings.ContainsRune("/+-:0123456789", c) {
			break
		}
		n += size
	}
	name := r.s[:n]
	r.s = r.s[n:]
	if iana, ok := abbreviations[name]; ok && fd.letter == 'z' {
		name = iana
	}
	loc, ok := zone(name)
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
func (r *timeReader) time() (time.Time, bool) {
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
