package javatime

import (
	"fmt"
	"strconv"
	"time"
)

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
		return append(dst, era(fd.count)...)
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
		digits := strconv.Itoa(1e9 + t.Nanosecond())[1:]
		dst = append(dst, digits[:min(fd.count, len(digits))]...)
		for range fd.count - len(digits) {
			dst = append(dst, '0')
		}
		return dst
	case 'n':
		return num(t.Nanosecond())
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
	for range fd.count - len(strconv.Itoa(n)) {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(n), 10)
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
