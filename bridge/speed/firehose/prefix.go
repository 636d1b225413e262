package firehose

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"
)

// A Prefix is the evaluated-later beginning of object keys.
type Prefix struct {
	parts []func(t time.Time) string
	zone  *time.Location
}

// defaultTime is what a Prefix without a time expression is followed by.
const defaultTime = "yyyy/MM/dd/HH/"

// ParsePrefix compiles text with expressions !{timestamp:PATTERN} (letters of
// Java's DateTimeFormatter, evaluated in zone) and !{firehose:random-string}.
// Without a time expression yyyy/MM/dd/HH/ follows the text as it stands, with
// no slash put between.
func ParsePrefix(text string, zone *time.Location) (Prefix, error) {
	p := Prefix{zone: zone}
	timed, rest := false, text
	for rest != "" {
		lit, expr, found := strings.Cut(rest, "!{")
		if lit != "" {
			p.parts = append(p.parts, func(time.Time) string { return lit })
		}
		if !found {
			break
		}
		body, after, closed := strings.Cut(expr, "}")
		if !closed {
			return p, fmt.Errorf("%q: !{ without }", text)
		}
		rest = after
		space, value, _ := strings.Cut(body, ":")
		switch {
		case space == "timestamp":
			f, err := timeFormat(value)
			if err != nil {
				return p, err
			}
			p.parts = append(p.parts, f)
			timed = true
		case space == "firehose" && value == "random-string":
			p.parts = append(p.parts, func(time.Time) string { return rand.Text()[:11] })
		default:
			return p, fmt.Errorf("!{%s}: want !{timestamp:…} or !{firehose:random-string}", body)
		}
	}
	if !timed {
		f, err := timeFormat(defaultTime)
		if err != nil {
			return p, err
		}
		p.parts = append(p.parts, f)
	}
	if n := len(p.Eval(time.Unix(0, 0))); n > 512 {
		return p, fmt.Errorf("%d characters when evaluated, want at most 512", n)
	}
	return p, nil
}

// Eval returns the prefix for an object whose oldest record came at t. A
// random-string differs from call to call.
func (p Prefix) Eval(t time.Time) string {
	var b strings.Builder
	for _, f := range p.parts {
		b.WriteString(f(t.In(p.zone)))
	}
	return b.String()
}

// javaGo maps the letters of Java's DateTimeFormatter that mean a number or a
// name here to what Go's time package calls the same.
var javaGo = map[string]string{
	"yyyy": "2006", "uuuu": "2006", "yy": "06",
	"MM": "01", "M": "1", "MMM": "Jan", "MMMM": "January",
	"dd": "02", "d": "2", "DDD": "002",
	"HH": "15", "hh": "03", "h": "3", "a": "PM",
	"mm": "04", "m": "4", "ss": "05", "s": "5",
	"EEE": "Mon", "EEEE": "Monday", "Z": "-0700", "XXX": "Z07:00", "z": "MST",
}

// timeFormat compiles a pattern; text in single quotes is literal, ” is one
// quote, and every other letter must be a known field.
func timeFormat(pattern string) (func(time.Time) string, error) {
	var parts []func(time.Time) string
	lit := func(s string) { parts = append(parts, func(time.Time) string { return s }) }
	if pattern == "" {
		return nil, fmt.Errorf("timestamp: empty pattern")
	}
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			end := strings.IndexByte(pattern[i+1:], '\'')
			if end < 0 {
				return nil, fmt.Errorf("timestamp: quote without end in %q", pattern)
			}
			if end == 0 {
				lit("'")
			} else {
				lit(pattern[i+1 : i+1+end])
			}
			i += end + 2
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			j := i
			for j < len(pattern) && pattern[j] == c {
				j++
			}
			field := pattern[i:j]
			i = j
			if field == "SSS" { // Go has fractions only behind a point
				parts = append(parts, func(t time.Time) string { return fmt.Sprintf("%03d", t.Nanosecond()/1e6) })
				continue
			}
			if field == "H" {
				parts = append(parts, func(t time.Time) string { return fmt.Sprint(t.Hour()) })
				continue
			}
			layout, ok := javaGo[field]
			if !ok {
				return nil, fmt.Errorf("timestamp: field %q is not known", field)
			}
			parts = append(parts, func(t time.Time) string { return t.Format(layout) })
		default:
			lit(string(c))
			i++
		}
	}
	return func(t time.Time) string {
		var b strings.Builder
		for _, f := range parts {
			b.WriteString(f(t))
		}
		return b.String()
	}, nil
}
