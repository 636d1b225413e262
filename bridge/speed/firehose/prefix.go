package firehose

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/javatime"
)

// A Prefix is the evaluated-later beginning of object keys.
type Prefix struct {
	parts []func(t time.Time) string
	zone  *time.Location
	timed bool // there is a time expression
}

// defaultTime is what a Prefix without a time expression is followed by.
const defaultTime = "yyyy/MM/dd/HH/"

// ParsePrefix compiles text with expressions !{timestamp:PATTERN} (letters of
// Java's DateTimeFormatter, evaluated in zone) and !{firehose:random-string}.
// Without a time expression yyyy/MM/dd/HH/ follows the text as it stands, with
// no slash put between.
func ParsePrefix(text string, zone *time.Location) (Prefix, error) {
	return parsePrefix(text, zone, "")
}

// parsePrefix is ParsePrefix with the type that !{firehose:error-output-type}
// stands for, "" where that may not be.
func parsePrefix(text string, zone *time.Location, failed string) (Prefix, error) {
	p := Prefix{zone: zone}
	rest := text
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
			p.timed = true
		case space == "firehose" && value == "random-string":
			p.parts = append(p.parts, func(time.Time) string { return rand.Text()[:11] })
		case failed != "" && space == "firehose" && value == "error-output-type":
			p.parts = append(p.parts, func(time.Time) string { return failed })
		default:
			return p, fmt.Errorf("!{%s}: want !{timestamp:…} or !{firehose:random-string}", body)
		}
	}
	if !p.timed {
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

// timeFormat compiles a pattern of java.time's DateTimeFormatter.
func timeFormat(pattern string) (func(time.Time) string, error) {
	if pattern == "" {
		return nil, errors.New("timestamp: empty pattern")
	}
	p, err := javatime.Java(pattern)
	if err != nil {
		return nil, fmt.Errorf("timestamp: %w", err)
	}
	return func(t time.Time) string { return string(p.Append(nil, t)) }, nil
}
