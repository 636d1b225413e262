package javatime

import (
	"fmt"
	"strconv"
	"time"
)

func (fd field) append(dst []byte, t time.Time) []byte {
	if n := numbers[fd.letter]; n != nil {
		return fd.appendNumber(dst, n(t))
	}
	switch fd.letter {
	case 0:
		return append(dst, fd.text...)
	case 'G':
		return append(dst, era(fd.count)...)
	case 'u', 'y', 'Y':
		return fd.appendYear(dst, t.Year())
	case 'x':
		y, _ := t.ISOWeek()
		return fd.appendYear(dst, y)
	case 'E':
		return append(dst, named(t.Weekday().String(), fd.count)...)
	case 'M', 'L':
		if fd.count >= 3 {
			return append(dst, named(t.Month().String(), fd.count)...)
		}
		return fd.appendNumber(dst, int(t.Month()))
	case 'a':
		return append(dst, t.Format("PM")...)
	case 'S': // the fraction's first digits
		digits := strconv.Itoa(1e9 + t.Nanosecond())[1:]
		dst = append(dst, digits[:min(fd.count, len(digits))]...)
		for range fd.count - len(digits) {
			dst = append(dst, '0')
		}
		return dst
	case 'V':
		return append(dst, t.Location().String()...)
	case 'z':
		return t.AppendFormat(dst, "MST")
	}
	switch fd.count { // Z, Joda's
	case 1:
		return t.AppendFormat(dst, "-0700")
	case 2:
		return t.AppendFormat(dst, "-07:00")
	}
	return append(dst, t.Location().String()...)
}

// numbers are the letters that stand for a number and nothing else.
var numbers = map[byte]func(time.Time) int{
	'C': func(t time.Time) int { return t.Year() / 100 },
	'w': func(t time.Time) int { _, w := t.ISOWeek(); return w },
	'e': func(t time.Time) int { return (int(t.Weekday())+6)%7 + 1 },
	'D': time.Time.YearDay,
	'd': time.Time.Day,
	'K': func(t time.Time) int { return t.Hour() % 12 },
	'h': func(t time.Time) int { return (t.Hour()+11)%12 + 1 },
	'H': time.Time.Hour,
	'k': func(t time.Time) int { return (t.Hour()+23)%24 + 1 },
	'm': time.Time.Minute,
	's': time.Time.Second,
	'n': time.Time.Nanosecond,
}

// appendNumber appends n with as many digits as the field has letters, or more.
func (fd field) appendNumber(dst []byte, n int) []byte {
	for range fd.count - len(strconv.Itoa(n)) {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(n), 10)
}

// appendYear appends a year, its last two digits where the field has two letters.
func (fd field) appendYear(dst []byte, y int) []byte {
	if fd.count == 2 {
		y %= 100
	}
	return fd.appendNumber(dst, y)
}

// appendWeek writes java.time's Y, w, W, e and c, of weeks that begin on Sunday
// and belong to the year, or the month, of their Saturday: Locale.US.
func (fd field) appendWeek(dst []byte, t time.Time) []byte {
	saturday := t.AddDate(0, 0, int(time.Saturday-t.Weekday()))
	n := 0
	switch fd.letter {
	case 'Y':
		fd.letter = 'y'
		return fd.append(dst, saturday)
	case 'w':
		n = (saturday.YearDay()-1)/7 + 1
	case 'W': // the first week of a month is that of its first day
		first := t.AddDate(0, 0, 1-t.Day())
		n = (t.Day()+int(first.Weekday())-1)/7 + 1
	default:
		if fd.count > 2 {
			return append(dst, named(t.Weekday().String(), fd.count)...)
		}
		n = int(t.Weekday()) + 1
	}
	return fd.appendNumber(dst, n)
}

// named shortens a day's or month's English name to three letters below four pattern letters.
func named(name string, count int) string {
	if count < 4 {
		return name[:3]
	}
	return name
}

func era(count int) string {
	if count == 4 {
		return "Anno Domini"
	}
	return "AD"
}

// appendOffset writes java.time's X, x, Z and O: +02, +0230 or +02:30, what
// zero is, and minutes and seconds only where there are any.
func (fd field) appendOffset(dst []byte, t time.Time) []byte {
	_, secs := t.Zone()
	n, hours := fd.count, "%02d"
	minutes, colon := true, ""
	switch {
	case fd.letter == 'O' || fd.letter == 'Z' && n == 4:
		dst = append(dst, "GMT"...)
		if secs == 0 {
			return dst
		}
		if colon = ":"; n == 1 {
			minutes, hours = false, "%d"
		}
		n = 5
	case secs == 0 && (fd.letter == 'X' || fd.letter == 'Z' && n == 5):
		return append(dst, 'Z')
	case fd.letter == 'Z':
		if n == 5 {
			colon = ":"
		}
	default:
		minutes = n > 1
		if n == 3 || n == 5 {
			colon = ":"
		}
	}
	sign := byte('+')
	if secs < 0 {
		sign, secs = '-', -secs
	}
	dst = fmt.Appendf(append(dst, sign), hours, secs/3600)
	if minutes || secs%3600 >= 60 {
		dst = fmt.Appendf(dst, "%s%02d", colon, secs/60%60)
		if n > 3 && secs%60 != 0 {
			dst = fmt.Appendf(dst, "%s%02d", colon, secs%60)
		}
	}
	return dst
}
