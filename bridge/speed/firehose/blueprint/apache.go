package blueprint

import (
	"regexp"
	"strings"
)

// A line of Apache's common log format, from its start: what follows the bytes is
// passed over. space and line are JavaScript's \s and line ends.
var (
	apacheHead = `^([0-9.]+) ([^` + space + `]+) ([^` + space + `]+) \[`
	apacheZone = `[` + space + `][+-][0-9]{4}`
	apacheTail = `\] "([^` + lineEnd + `]+?)" ([0-9]{3}) ([0-9]+)`

	apacheLine      = regexp.MustCompile(apacheHead + `([0-9A-Za-z_:/]+)(` + apacheZone + `)?` + apacheTail)
	apacheZonedLine = regexp.MustCompile(apacheHead + `([0-9A-Za-z_:/]+` + apacheZone + `)` + apacheTail)
)

// apacheToCSV writes the fields as they are, with nothing quoted.
func apacheToCSV(dst, record []byte) ([]byte, bool) {
	text := utf8Text(record)
	m := apacheZonedLine.FindSubmatchIndex(text)
	if m == nil {
		return nil, false
	}
	for i := 2; i < len(m); i += 2 {
		dst = append(append(dst, text[m[i]:m[i+1]]...), ',')
	}
	dst[len(dst)-1] = '\n'
	return dst, true
}

// apacheToJSON writes an object.
func apacheToJSON(dst, record []byte) ([]byte, bool) {
	text := utf8Text(record)
	m := apacheLine.FindSubmatchIndex(text)
	if m == nil {
		return nil, false
	}
	field := func(i int) string {
		if m[2*i] < 0 {
			return ""
		}
		return string(text[m[2*i]:m[2*i+1]])
	}
	host, ident, user, date, zone, request, status, bytes :=
		field(1), field(2), field(3), field(4), field(5), field(6), field(7), field(8)
	dst = appendString(append(dst, `{"host":`...), host)
	dst = appendString(append(dst, `,"ident":`...), ident)
	dst = appendString(append(dst, `,"authuser":`...), user)
	dst = appendString(append(dst, `,"request":`...), request)
	dst = appendNumber(append(dst, `,"response":`...), status)
	dst = appendNumber(append(dst, `,"bytes":`...), bytes)
	if verb, _, more := strings.Cut(request, " "); more {
		dst = appendString(append(dst, `,"verb":`...), verb)
	}
	clock := strings.Replace(strings.ReplaceAll(date, "/", " "), ":", " ", 1)
	at, ok := isoTime(clock)
	if !ok {
		at = date
	}
	dst = appendString(append(dst, `,"@timestamp":`...), at)
	if zone != "" {
		zone = zone[len(zone)-5:] // the sign and four digits
		dst = appendString(append(dst, `,"timezone":`...), zone)
		if utc, ok := isoTime(clock + " " + zone); ok {
			dst = appendString(append(dst, `,"@timestamp_utc":`...), utc)
		}
	}
	return append(dst, '}'), true
}
