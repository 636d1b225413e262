package blueprint

import (
	"regexp"
	"strings"
)

// months are their names, short or long.
var months = []string{"Jan(?:uary)?", "Feb(?:ruary)?", "Mar(?:ch)?", "Apr(?:il)?", "May", "June?", "July?",
	"Aug(?:ust)?", "Sep(?:tember)?", "Oct(?:ober)?", "Nov(?:ember)?", "Dec(?:ember)?"}

// A line of syslog as RFC 3164 has it, without a priority before it. The message
// goes to the line's end. space within ASCII is \t to \r and the blank.
var syslogLine = regexp.MustCompile(`^(\b(?:` + strings.Join(months, "|") + `)\b[\t-\r ]+` +
	`(?:0[1-9]|[12][0-9]|3[01]|[1-9])[\t-\r ]+` + // day
	`(?:2[0-3]|[01]?[0-9]):[0-5][0-9]:(?:[0-5]?[0-9]|60)(?:[:.,][0-9]+)?) ` +
	`(?:<[0-9]+[^\n\r][0-9]+> )?` + // facility and severity, as some write them here
	`([0-9A-Za-z._-]+) ([0-9A-Za-z_./%-]+)(?:\[([1-9][0-9]*)\])?: ([^\n\r]*)`)

// syslogFields are the time, host, program, process id and message; an empty
// process id is none.
func syslogFields(record []byte) (fields [5]string, ok bool) {
	text := asciiText(record)
	m := syslogLine.FindSubmatchIndex(text)
	if m == nil {
		return fields, false
	}
	for i := range fields {
		if at := m[2*i+2]; at >= 0 {
			fields[i] = string(text[at:m[2*i+3]])
		}
	}
	return fields, true
}

func syslogToJSON(dst, record []byte) ([]byte, bool) {
	fields, ok := syslogFields(record)
	if !ok {
		return nil, false
	}
	for i, name := range [...]string{`{"timestamp":`, `,"hostname":`, `,"program":`, `,"processid":`, `,"message":`} {
		if i != 3 || fields[i] != "" {
			dst = appendString(append(dst, name...), fields[i])
		}
	}
	return append(dst, '}'), true
}

// syslogToCSV has a sixth column that the published function takes from a part of
// its pattern that there is none of.
func syslogToCSV(dst, record []byte) ([]byte, bool) {
	fields, ok := syslogFields(record)
	if !ok {
		return nil, false
	}
	if fields[3] == "" {
		fields[3] = "undefined"
	}
	return append(append(dst, strings.Join(fields[:], ",")...), ",undefined\n"...), true
}

// syslogToCleanCSV is syslogToCSV without that column: an absent process id is
// empty, and a field with a comma or a quote is quoted (RFC 4180).
func syslogToCleanCSV(dst, record []byte) ([]byte, bool) {
	fields, ok := syslogFields(record)
	if !ok {
		return nil, false
	}
	for i, f := range fields {
		if i > 0 {
			dst = append(dst, ',')
		}
		if strings.ContainsAny(f, `",`) {
			f = `"` + strings.ReplaceAll(f, `"`, `""`) + `"`
		}
		dst = append(dst, f...)
	}
	return append(dst, '\n'), true
}
