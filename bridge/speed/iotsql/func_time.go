package iotsql

import (
	"time"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// parseTime is parse_time(pattern, ms [, zone]): it writes a time by a
// pattern of Joda's DateTimeFormat, English names. A zone or pattern that
// doesn't exist, and a time outside the years 0 to 9999, give Undefined.
func parseTime(f *frame, args []value) value {
	text, ok1 := f.text(args[0])
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
		if loc, ok = javatime.Zone(string(name)); !ok {
			return value{}
		}
	}
	pattern, err := javatime.Joda(string(text))
	if err != nil || n.c < -62167219200000+86400000 || n.c > 253402300799999 {
		return value{}
	}
	t := time.UnixMilli(n.c).In(loc)
	if t.Year() > 9999 {
		return value{}
	}
	from := len(f.arena)
	f.arena = pattern.Append(f.arena, t)
	return f.built(kindText, from)
}

// timeToEpoch is time_to_epoch(text, pattern): it reads a date and maybe a
// time by a pattern of java.time's DateTimeFormatter, English names, in UTC
// unless the text has a zone. What can't be read gives Undefined.
func timeToEpoch(f *frame, args []value) value {
	s, ok1 := f.text(args[0])
	pattern, ok2 := f.text(args[1])
	if !ok1 || !ok2 {
		return value{}
	}
	t, ok := javatime.Read(string(s), string(pattern))
	if !ok {
		return value{}
	}
	return intValue(t.UnixMilli())
}
