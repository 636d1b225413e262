// Package topic knows MQTT topic names and filters: what is well formed, which
// filter matches which name, and how to find all filters that match a name at
// once.
//
// Names and filters are paths of levels separated by '/'. A level may be
// empty. In a filter, "+" stands for exactly one level and a final "#" for the
// rest. Filters that begin with a wildcard never match a name that begins with
// '$' [MQTT-4.7.2-1].
//
// There are two dialects, which differ in one point. In MQTT "a/#" also
// matches its parent "a" (MQTT 3.1.1, 4.7.1.2); AWS IoT Core's does not,
// neither in a subscription nor in the FROM clause of a rule (developer guide,
// "Topic filters"). Functions and methods named ...Rule follow AWS.
package topic

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// maxBytes is the longest name or filter MQTT can carry: its strings have a
// length of 16 bits.
const maxBytes = 65535

// The reasons for which ValidName and ValidFilter refuse.
var (
	errEmpty    = errors.New("topic: empty")
	errTooLong  = errors.New("topic: longer than 65535 bytes")
	errEncoding = errors.New("topic: not UTF-8 text, or with a NUL")
	errWildcard = errors.New("topic: wildcard in a topic name")
	errPlus     = errors.New("topic: '+' must be a whole level")
	errHash     = errors.New("topic: '#' must be the whole last level")
)

// ValidName says whether t may be published to: 1 to maxBytes bytes of UTF-8
// without NUL and without wildcards. It returns nil or one of the errors above.
func ValidName(t string) error {
	if err := validText(t); err != nil {
		return err
	}
	if strings.ContainsAny(t, "+#") {
		return errWildcard
	}
	return nil
}

// ValidFilter says whether f may be subscribed to: like a name, but "+" may be
// a whole level and "#" the whole last one. It returns nil or one of the errors
// above. "$share/group/filter" is judged as the text it is.
func ValidFilter(f string) error {
	if err := validText(f); err != nil {
		return err
	}
	for i := 0; i < len(f); i++ {
		switch f[i] {
		case '+':
			if i > 0 && f[i-1] != '/' || i+1 < len(f) && f[i+1] != '/' {
				return errPlus
			}
		case '#':
			if i > 0 && f[i-1] != '/' || i+1 < len(f) {
				return errHash
			}
		}
	}
	return nil
}

func validText(s string) error {
	switch {
	case s == "":
		return errEmpty
	case len(s) > maxBytes:
		return errTooLong
	case !utf8.ValidString(s) || strings.IndexByte(s, 0) >= 0:
		return errEncoding
	}
	return nil
}

// Match reports whether the well formed filter matches the well formed name t,
// in MQTT's dialect: "a/#" matches "a". It does not allocate.
func Match(filter, t string) bool { return match(filter, t, true) }

// MatchRule is Match in AWS's dialect: "a/#" does not match "a".
func MatchRule(filter, t string) bool { return match(filter, t, false) }

func match(filter, t string, parent bool) bool {
	if len(t) > 0 && t[0] == '$' && len(filter) > 0 && (filter[0] == '+' || filter[0] == '#') {
		return false
	}
	for {
		f, restF, moreF := strings.Cut(filter, "/")
		if f == "#" {
			return true
		}
		n, restT, moreT := strings.Cut(t, "/")
		if f != "+" && f != n {
			return false
		}
		if !moreT {
			return !moreF || parent && restF == "#"
		}
		if !moreF {
			return false
		}
		filter, t = restF, restT
	}
}

// Levels returns the number of levels of a name or filter: one more than its
// slashes.
func Levels(t string) int { return strings.Count(t, "/") + 1 }
