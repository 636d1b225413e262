package sensor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// An OptionError says what is wrong with one option.
type OptionError struct {
	Key     string
	Problem string // "7, want 0x76 or 0x77"
}

func (e *OptionError) Error() string { return e.Key + ": " + e.Problem }

// options reads what a configuration file says of one sensor, remembers each
// key that was asked for and gathers all errors. Values have the types that
// TOML decoding gives; int is taken too, for callers in Go.
type options struct {
	values map[string]any
	asked  map[string]bool
	errs   []error

	certTime func() time.Time // see OpenBy
}

func newOptions(values map[string]any) *options {
	return &options{values: values, asked: map[string]bool{}}
}

func (o *options) fail(key, format string, args ...any) {
	o.errs = append(o.errs, &OptionError{Key: key, Problem: fmt.Sprintf(format, args...)})
}

func (o *options) get(key string) (any, bool) {
	o.asked[key] = true
	v, ok := o.values[key]
	return v, ok
}

// text returns a string, def if there is none. It must not be empty and must
// not hold control characters.
func (o *options) text(key, def string) string {
	v, ok := o.get(key)
	if !ok {
		return def
	}
	s, ok := v.(string)
	if !ok {
		o.fail(key, "%s, want a string", show(v))
		return def
	}
	if unclean(s) {
		o.fail(key, "%q, want text without control characters", s)
		return def
	}
	return s
}

// required is text that must be there.
func (o *options) required(key string) string {
	if _, ok := o.get(key); !ok {
		o.fail(key, "missing")
		return ""
	}
	return o.text(key, "")
}

// choice returns one of the words, the first if there is none.
func (o *options) choice(key string, words ...string) string {
	s := o.text(key, words[0])
	if !slices.Contains(words, s) {
		o.fail(key, "%q, want one of %s", s, strings.Join(words, ", "))
		return words[0]
	}
	return s
}

// whole returns an integer.
func (o *options) whole(key string, def int64) int64 {
	v, ok := o.get(key)
	if !ok {
		return def
	}
	switch n := v.(type) {
	case int64:
		return n
	case int:
		return int64(n)
	}
	o.fail(key, "%s, want an integer", show(v))
	return def
}

// between is a whole within [least, most].
func (o *options) between(key string, def, least, most int64) int64 {
	n := o.whole(key, def)
	if n < least || n > most {
		o.fail(key, "%d, want %d to %d", n, least, most)
		return def
	}
	return n
}

// number returns a float within [least, most]. Whole numbers are taken too.
func (o *options) number(key string, def, least, most float64) float64 {
	v, ok := o.get(key)
	if !ok {
		return def
	}
	var f float64
	switch n := v.(type) {
	case float64:
		f = n
	case int64:
		f = float64(n)
	case int:
		f = float64(n)
	default:
		o.fail(key, "%s, want a number", show(v))
		return def
	}
	if !(f >= least && f <= most) {
		o.fail(key, "%g, want %g to %g", f, least, most)
		return def
	}
	return f
}

// flag returns a bool, and whether it is there.
func (o *options) flag(key string) (value, ok bool) {
	v, ok := o.get(key)
	if !ok {
		return false, false
	}
	b, ok := v.(bool)
	if !ok {
		o.fail(key, "%s, want true or false", show(v))
	}
	return b, ok
}

// duration returns 0 if there is none, else a text such as "5ms" within [least,
// most]; "0s" is always allowed.
func (o *options) duration(key string, least, most time.Duration) time.Duration {
	v, ok := o.get(key)
	if !ok {
		return 0
	}
	s, ok := v.(string)
	if !ok {
		o.fail(key, `%s, want a duration such as "5ms"`, show(v))
		return 0
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		o.fail(key, `%q, want a duration such as "5ms"`, s)
		return 0
	}
	if d != 0 && (d < least || d > most) {
		o.fail(key, "%s, want %v to %v", s, least, most)
		return 0
	}
	return d
}

// done returns all errors in order of their keys, those of keys that nobody
// asked for among them.
func (o *options) done() []error {
	for _, key := range slices.Sorted(maps.Keys(o.values)) {
		if !o.asked[key] {
			o.fail(key, "unknown option")
		}
	}
	slices.SortStableFunc(o.errs, func(a, b error) int {
		var x, y *OptionError
		errors.As(a, &x)
		errors.As(b, &y)
		return strings.Compare(x.Key, y.Key)
	})
	return o.errs
}

// show is a value as an error message has it, cut to a line.
func show(v any) string {
	s := fmt.Sprintf("%v", v)
	if q, ok := v.(string); ok {
		s = fmt.Sprintf("%q", q)
	}
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return s
}
