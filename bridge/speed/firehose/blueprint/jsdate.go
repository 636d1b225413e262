package blueprint

import (
	"fmt"
	"strings"
	"time"
)

// What a date is in JavaScript is left to each engine where it is not in ISO 8601.
// This is V8's reading, which Node.js has, for the texts that apacheLine lets
// through: words, numbers, colons and blanks, then a sign with four digits. The
// time zone is UTC where none is given.

// isoTime returns the time that text is, as toISOString writes it.
func isoTime(text string) (string, bool) {
	at, ok := readDate(text)
	if !ok {
		return "", false
	}
	if y := at.Year(); y > 9999 {
		return fmt.Sprintf("+%06d%s", y, at.Format("-01-02T15:04:05.000Z")), true
	}
	return at.Format("2006-01-02T15:04:05.000Z"), true
}

// maxTime is the last time that a Date can be, 100,000,000 days after 1970.
const (
	maxTime = 8.64e15 // ms
	maxYear = 275760
)

// none is a part of a date that is not there.
const none = -1

// A dateReader gathers the parts of a date as its text is read.
type dateReader struct {
	text string // what is left

	days   []int // up to 3 numbers: day, month and year in some order
	month  int   // by its name
	times  []int // hour to millisecond
	offset int   // of the hour, by am or pm

	sign                 int // of the zone, 0: none
	zoneHour, zoneMinute int
	iso                  bool
}

// readDate reads a date.
func readDate(text string) (time.Time, bool) {
	d := &dateReader{text: text, month: none, offset: none, zoneHour: none, zoneMinute: none}
	if !d.begin() {
		return time.Time{}, false
	}
	numbered := len(d.days) > 0
	for d.text != "" {
		ok := true
		switch c := d.text[0]; {
		case digit(c):
			numbered = true
			ok = d.number()
		case c >= 'A':
			ok = d.word(numbered)
		case c == '+' || c == '-':
			d.text = d.text[1:]
			ok = !numbered || d.isUTC() || len(d.times) > 0
			if ok && (d.isUTC() || len(d.times) > 0) {
				numbered = true
				ok = d.zone(c)
			}
		default:
			d.text = d.text[1:]
		}
		if !ok {
			return time.Time{}, false
		}
	}
	return d.time()
}

func digit(c byte) bool { return c >= '0' && c <= '9' }

// begin reads a year in four digits, with which a date of ISO 8601 begins. A T
// after it would have to be followed by a time, whose first colon is never there.
func (d *dateReader) begin() bool {
	if n := d.digits(); n != 4 {
		return true
	}
	n, _ := d.take()
	d.days = append(d.days, n)
	d.iso = d.text == ""
	return !(len(d.text) > 0 && d.text[0]|0x20 == 't' && (len(d.text) == 1 || d.text[1] < 'A'))
}

// digits is how many digits come next.
func (d *dateReader) digits() int {
	n := 0
	for n < len(d.text) && digit(d.text[n]) {
		n++
	}
	return n
}

// take reads a number: its first 9 digits that count.
func (d *dateReader) take() (n, length int) {
	length = d.digits()
	text := strings.TrimLeft(d.text[:length], "0")
	for i := 0; i < min(9, len(text)); i++ {
		n = n*10 + int(text[i]-'0')
	}
	d.text = d.text[length:]
	return n, length
}

// skip reads c if it is next.
func (d *dateReader) skip(c byte) bool {
	if d.text == "" || d.text[0] != c {
		return false
	}
	d.text = d.text[1:]
	return true
}

// number reads one and decides what it is.
func (d *dateReader) number() bool {
	n, _ := d.take()
	switch {
	case d.skip(':'):
		if d.skip(':') {
			if len(d.times) > 0 {
				return false
			}
			d.times = append(d.times, n, 0)
			return true
		}
		return d.addTime(n)
	case d.zoneHour != none && d.zoneMinute == none && n < 60:
		d.zoneMinute = n
		return true
	case d.expects(n):
		d.times = append(d.times, n)
		for len(d.times) < 4 {
			d.times = append(d.times, 0)
		}
		return d.text == "" || d.text[0] == ' ' || d.text[0] == '+' || d.text[0] == '-' || d.zulu()
	}
	if len(d.days) == 3 {
		return false
	}
	d.days = append(d.days, n)
	d.skip('-')
	return true
}

// zulu says whether the word Z is next.
func (d *dateReader) zulu() bool {
	return d.text[0]|0x20 == 'z' && (len(d.text) == 1 || d.text[1] < 'A')
}

func (d *dateReader) addTime(n int) bool {
	if len(d.times) == 4 {
		return false
	}
	d.times = append(d.times, n)
	return true
}

// expects says whether n can be the next part of a time that has begun.
func (d *dateReader) expects(n int) bool {
	switch len(d.times) {
	case 1, 2:
		return n < 60
	case 3:
		return n < 1000
	}
	return false
}

// Words that have a meaning, by their first three letters. Those of months may go
// on.
var (
	monthWords = map[string]int{"jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8,
		"sep": 9, "oct": 10, "nov": 11, "dec": 12}
	halfWords = map[string]int{"am": 0, "pm": 12}
	zoneWords = map[string]int{"ut": 0, "utc": 0, "z": 0, "gmt": 0, "cdt": -5, "cst": -6, "edt": -4, "est": -5,
		"mdt": -6, "mst": -7, "pdt": -7, "pst": -8}
)

// word reads letters, and whatever else comes after Z in ASCII.
func (d *dateReader) word(numbered bool) bool {
	n := 0
	for n < len(d.text) && d.text[n] >= 'A' {
		n++
	}
	word := strings.ToLower(d.text[:n])
	d.text = d.text[n:]
	half, isHalf := halfWords[word]
	zone, isZone := zoneWords[word]
	switch month := monthWords[word[:min(3, len(word))]]; {
	case isHalf && len(d.times) > 0:
		d.offset = half
	case month > 0:
		d.month = month
		d.skip('-')
	case isZone && numbered:
		d.sign, d.zoneHour, d.zoneMinute = 1, zone, 0
		if zone < 0 {
			d.sign, d.zoneHour = -1, -zone
		}
	default: // noise, which may only stand before the first number, and apart from it
		return !numbered && (d.text == "" || !digit(d.text[0]))
	}
	return true
}

func (d *dateReader) isUTC() bool { return d.zoneHour == 0 && d.zoneMinute == 0 }

// zone reads what follows a sign.
func (d *dateReader) zone(sign byte) bool {
	d.sign = 1
	if sign == '-' {
		d.sign = -1
	}
	n, length := d.take()
	switch {
	case d.text != "" && d.text[0] == ':':
		d.zoneHour, d.zoneMinute = n, none
	case length == 1 || length == 2:
		d.zoneHour, d.zoneMinute = n, 0
	case length == 3 || length == 4:
		d.zoneHour, d.zoneMinute = n/100, n%100
	default:
		return false
	}
	return true
}

// time puts the parts together.
func (d *dateReader) time() (time.Time, bool) {
	if len(d.days) == 0 {
		return time.Time{}, false
	}
	for len(d.days) < 3 {
		d.days = append(d.days, 1)
	}
	year, month, day := d.date()
	if !d.iso && year < 50 {
		year += 2000
	} else if !d.iso && year < 100 {
		year += 1900
	}
	for len(d.times) < 4 {
		d.times = append(d.times, 0)
	}
	hour, minute, second, ms := d.times[0], d.times[1], d.times[2], d.times[3]
	if d.offset != none {
		if hour > 12 {
			return time.Time{}, false
		}
		hour = hour%12 + d.offset
	}
	inDay := hour < 24 && minute < 60 && second < 60 && ms < 1000
	if month < 1 || month > 12 || !isDay(day) || !inDay && (hour != 24 || minute+second+ms > 0) {
		return time.Time{}, false
	}
	at := time.Date(year, time.Month(month), day, hour, minute, second, ms*1e6, time.UTC)
	if d.sign != 0 {
		hours, minutes := max(0, d.zoneHour), max(0, d.zoneMinute)
		at = at.Add(-time.Duration(d.sign) * (time.Duration(hours)*time.Hour + time.Duration(minutes)*time.Minute))
	}
	return at, year <= maxYear && at.UnixMilli() <= maxTime // in this order: the latter overflows
}

func isDay(n int) bool { return n >= 1 && n <= 31 }

// date decides which number is the year, and which the day.
func (d *dateReader) date() (year, month, day int) {
	a, b, c := d.days[0], d.days[1], d.days[2]
	switch {
	case d.month == none && (d.iso || !isDay(a)):
		return a, b, c
	case d.month == none:
		return c, a, b
	case !isDay(a):
		return a, d.month, b
	}
	return b, d.month, a
}
