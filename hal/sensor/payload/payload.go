// Package payload reads what programs, serial devices and brokers' devices say of
// themselves: JSON objects, key=value pairs, "name value" and NMEA sentences. It
// makes a list of Members of it, each a number, a truth value or a text with the
// path where it stood.
package payload

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ErrFormat means that what was said cannot be read.
var ErrFormat = errors.New("payload: not understood")

// ErrChecksum means that an NMEA sentence was damaged on its way.
var ErrChecksum = errors.New("payload: wrong checksum")

// The bounds of one payload: what is beyond them is refused. Most devices say less
// than 2 KB.
const (
	MaxBytes   = 64 << 10
	MaxMembers = 200 // a record has at most 256 columns
	MaxText    = 1 << 10
	maxDepth   = 6
)

// A Member is one value.
type Member struct {
	Path  string // members joined by dots, indexes of lists among them: "ENERGY.Power.0"
	Value any    // float64 (finite), bool, or string of valid UTF-8, at most MaxText bytes
}

// JSON reads an object, or with anything else in place of one, a single value of
// the path "value". Members come in the order of their paths; null and text beyond
// MaxText are left out, and what lies deeper than six levels.
func JSON(b []byte) ([]Member, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(b), MaxBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: more follows after the JSON value", ErrFormat)
	}
	var out []Member
	out = flatten(out, "", v, 0)
	if len(out) > MaxMembers {
		return nil, fmt.Errorf("%w: more than %d values", ErrFormat, MaxMembers)
	}
	slices.SortStableFunc(out, func(a, b Member) int { return strings.Compare(a.Path, b.Path) })
	// A name with a dot in it can look like a path: the name that sorts first counts.
	return slices.CompactFunc(out, func(a, b Member) bool { return a.Path == b.Path }), nil
}

// flatten appends what v holds to out.
func flatten(out []Member, path string, v any, depth int) []Member {
	if depth > maxDepth || len(out) > MaxMembers {
		return out
	}
	at := func(name string) string {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			out = flatten(out, at(name), v[name], depth+1)
		}
	case []any:
		for i, m := range v {
			out = flatten(out, at(strconv.Itoa(i)), m, depth+1)
		}
	case json.Number:
		if f, err := v.Float64(); err == nil {
			out = append(out, Member{path, f})
		}
	case bool:
		out = append(out, Member{path, v})
	case string:
		if len(v) <= MaxText {
			out = append(out, Member{path, v})
		}
	}
	if n := len(out); depth == 0 && n > 0 && out[n-1].Path == "" {
		out[n-1].Path = "value"
	}
	return out
}

// Line reads one line of text, without its end:
//
//	{"temperature": 21.5, "open": true}     a JSON object
//	$IIMTW,18.5,C*1F                        an NMEA sentence: mtw.1 = 18.5, mtw.2 = "C"
//	temperature=21.5 open=true              pairs, parted by blanks, commas, semicolons or &
//	temperature 21.5                        a name and its value, also "temperature: 21.5"
//	21.5                                    a single number: value = 21.5
//
// An empty line, and one that begins with #, says nothing: no members, no error.
func Line(b []byte) ([]Member, error) {
	if len(b) > MaxBytes {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrFormat, len(b), MaxBytes)
	}
	s := strings.TrimSpace(string(b))
	switch {
	case s == "" || s[0] == '#':
		return nil, nil
	case s[0] == '{':
		return JSON([]byte(s))
	case !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' }):
		return nil, fmt.Errorf("%w: %.40q", ErrFormat, s)
	case s[0] == '$' || s[0] == '!':
		return sentence(s)
	case strings.Contains(s, "="):
		return pairs(s)
	}
	switch f := strings.Fields(s); len(f) {
	case 1:
		if v, ok := Scalar(s).(float64); ok {
			return []Member{{"value", v}}, nil
		}
	case 2:
		if name := strings.TrimSuffix(f[0], ":"); name != "" {
			return texts([]Member{{name, Scalar(f[1])}})
		}
	}
	return nil, fmt.Errorf("%w: %.40q", ErrFormat, s)
}

func pairs(s string) ([]Member, error) {
	var out []Member
	for _, f := range strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune(" \t,;&", r) }) {
		name, v, ok := strings.Cut(f, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%w: %.40q is no pair", ErrFormat, f)
		}
		if slices.ContainsFunc(out, func(m Member) bool { return m.Path == name }) {
			return nil, fmt.Errorf("%w: %.40q twice", ErrFormat, name)
		}
		if v = strings.Trim(v, `"`); v != "" {
			out = append(out, Member{name, Scalar(v)})
		}
	}
	return texts(out)
}

// texts refuses what is beyond the bounds.
func texts(out []Member) ([]Member, error) {
	if len(out) > MaxMembers {
		return nil, fmt.Errorf("%w: more than %d values", ErrFormat, MaxMembers)
	}
	for _, m := range out {
		if s, ok := m.Value.(string); ok && len(s) > MaxText {
			return nil, fmt.Errorf("%w: a text of %d bytes, at most %d", ErrFormat, len(s), MaxText)
		}
	}
	return out, nil
}

// sentence reads NMEA 0183: $, two letters of who talks, three of what follows, the
// values, and after * the XOR of all between as two hexadecimal digits. P begins what
// is a maker's own, which has no talker.
func sentence(s string) ([]Member, error) {
	body, sum, has := strings.Cut(s[1:], "*")
	if has {
		x := byte(0)
		for _, c := range []byte(body) {
			x ^= c
		}
		if want, err := strconv.ParseUint(sum, 16, 8); err != nil || len(sum) != 2 || byte(want) != x {
			return nil, fmt.Errorf("%w: %.40q", ErrChecksum, s)
		}
	}
	f := strings.Split(body, ",")
	id := f[0]
	if len(id) > 3 && id[0] != 'P' {
		id = id[2:]
	}
	if id == "" || len(f) < 2 {
		return nil, fmt.Errorf("%w: %.40q", ErrFormat, s)
	}
	var out []Member
	for i, v := range f[1:] {
		if v != "" {
			out = append(out, Member{strings.ToLower(id) + "." + strconv.Itoa(i+1), Scalar(v)})
		}
	}
	return texts(out)
}

// Scalar returns a decimal number as a float64, true, false, on and off as a bool, in
// any case, and all else as a string. What is no finite number is no number.
func Scalar(s string) any {
	if b, ok := Truth(s); ok {
		return b
	}
	digits := false
	for _, c := range []byte(s) {
		switch {
		case c >= '0' && c <= '9':
			digits = true
		case !strings.ContainsRune("+-.eE", rune(c)):
			return s
		}
	}
	if f, err := strconv.ParseFloat(s, 64); digits && err == nil && !math.IsInf(f, 0) {
		return f
	}
	return s
}

// Truth reads true, false, on and off, in any case.
func Truth(s string) (value, ok bool) {
	switch strings.ToLower(s) {
	case "true", "on":
		return true, true
	case "false", "off":
		return false, true
	}
	return false, false
}

// Name makes a channel's name of a path: lower case, what is no letter or digit an
// underscore, at most 32 bytes.
func Name(path string) string {
	var b []byte
	for _, c := range []byte(strings.ToLower(path)) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b = append(b, c)
		} else if n := len(b); n > 0 && b[n-1] != '_' {
			b = append(b, '_')
		}
	}
	b = bytes.TrimRight(b, "_")
	if len(b) == 0 || b[0] < 'a' || string(b) == "ts" { // ts is the record's own member
		b = append([]byte("v_"), b...)
	}
	return string(bytes.TrimRight(b[:min(len(b), 32)], "_"))
}
