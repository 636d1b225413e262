package javatime

import (
	"strconv"
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // zones must not depend on what the machine has installed
)

var zones sync.Map // name -> *time.Location, only names that exist

// Zone finds a time zone: UTC, an offset such as +02:00 or UTC+02:00, or a name
// of the IANA database.
func Zone(name string) (*time.Location, bool) {
	switch name {
	case "UTC", "GMT", "Z", "UT":
		return time.UTC, true
	case "", "Local":
		return nil, false
	}
	if loc, ok := zones.Load(name); ok {
		return loc.(*time.Location), true
	}
	offset := name
	for _, prefix := range []string{"UTC", "GMT", "UT"} {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			offset = rest
			break
		}
	}
	if n, secs := readOffset(offset); n > 0 && n == len(offset) {
		return time.FixedZone(offset, secs), true
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

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
