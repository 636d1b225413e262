package shadow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Parse reads one JSON value and nothing after it. Of a member that is there
// twice the last one counts.
func Parse(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("text after the value")
	}
	return v, nil
}

// ParseObject is Parse for text that has to be an object.
func ParseObject(text []byte) (map[string]any, error) {
	v, err := Parse(text)
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("not an object")
	}
	return m, nil
}

// From turns any Go value that encoding/json can marshal into a JSON value.
func From(v any) (any, error) {
	switch v := v.(type) {
	case nil, bool, json.Number:
		if n, ok := v.(json.Number); ok && !json.Valid([]byte(n)) {
			return nil, fmt.Errorf("shadow: %q is not a number", string(n))
		}
		return v, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return Parse(text)
}

// Append writes v after dst as compact JSON, members sorted by name.
func Append(dst []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		return append(dst, v...)
	case string:
		return appendText(dst, v)
	case []any:
		dst = append(dst, '[')
		for i, e := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = Append(dst, e)
		}
		return append(dst, ']')
	case map[string]any:
		dst = append(dst, '{')
		for i, k := range names(v) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendText(dst, k)
			dst = append(dst, ':')
			dst = Append(dst, v[k])
		}
		return append(dst, '}')
	case Stamp:
		dst = append(dst, `{"timestamp":`...)
		dst = strconv.AppendInt(dst, int64(v), 10)
		return append(dst, '}')
	}
	panic(fmt.Sprintf("shadow: %T is not a JSON value", v))
}

// names returns the member names of m in order.
func names(m map[string]any) []string {
	ks := make([]string, 0, len(m))
	for k := range m {
		ks = append(ks, k)
	}
	slices.Sort(ks)
	return ks
}

const hex = "0123456789abcdef"

// appendText writes s with only the escapes JSON demands, as the size limit
// counts bytes and encoding/json writes six for each of <, > and &.
func appendText(dst []byte, s string) []byte {
	dst = append(dst, '"')
	from := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[from:i]...)
		from = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[from:]...)
	return append(dst, '"')
}

// Equal tells whether a and b are the same value: members in any order,
// numbers by value.
func Equal(a, b any) bool {
	switch a := a.(type) {
	case json.Number:
		b, ok := b.(json.Number)
		return ok && equalNumbers(string(a), string(b))
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, Equal)
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !Equal(v, w) {
				return false
			}
		}
		return true
	case nil, bool, string:
		return a == b
	}
	panic(fmt.Sprintf("shadow: %T is not a JSON value", a))
}

// equalNumbers compares exactly. It works on the digits, since the exponent
// of a foreign number may be a billion and expanding it would fill the memory.
func equalNumbers(a, b string) bool {
	if a == b {
		return true
	}
	x, okx := decimalOf(a)
	y, oky := decimalOf(b)
	return okx && oky && x == y
}

// A decimal is 0.digits × 10^exp with no zero at either end of digits; zero
// has no digits, exp 0 and no sign.
type decimal struct {
	neg    bool
	digits string
	exp    int64
}

// decimalOf reports false for an exponent beyond ±10^15: such numbers are
// equal only if written alike.
func decimalOf(s string) (decimal, bool) {
	var d decimal
	s, d.neg = strings.CutPrefix(s, "-")
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		e, err := strconv.ParseInt(s[i+1:], 10, 64)
		if err != nil || e > 1e15 || e < -1e15 {
			if strings.Trim(s[:i], "0.") == "" {
				return decimal{}, true
			}
			return d, false
		}
		d.exp, s = e, s[:i]
	}
	whole, frac, _ := strings.Cut(s, ".")
	d.exp += int64(len(whole))
	all := whole + frac
	trimmed := strings.TrimLeft(all, "0")
	d.exp -= int64(len(all) - len(trimmed))
	d.digits = strings.TrimRight(trimmed, "0")
	if d.digits == "" {
		return decimal{}, true
	}
	return d, true
}

// uintOf reads a JSON value that is a whole number from 0 to 2^64-1 written
// in digits only.
func uintOf(v any) (uint64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	u, err := strconv.ParseUint(string(n), 10, 64)
	return u, err == nil
}

// intOf reads a whole number of epoch seconds, 0 if v is none.
func intOf(v any) int64 {
	u, ok := uintOf(v)
	if !ok || u > math.MaxInt64 {
		return 0
	}
	return int64(u)
}

// numberOf is the JSON value of u.
func numberOf(u uint64) json.Number { return json.Number(strconv.FormatUint(u, 10)) }

// depth counts levels: a scalar 0, an object or array one more than its
// deepest member.
func depth(v any) int {
	deepest := 0
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	case []any:
		for _, e := range v {
			deepest = max(deepest, depth(e))
		}
	default:
		return 0
	}
	return deepest + 1
}

// nullInArray tells whether a null is anywhere below an array of v.
func nullInArray(v any, inside bool) bool {
	switch v := v.(type) {
	case nil:
		return inside
	case map[string]any:
		for _, e := range v {
			if nullInArray(e, inside) {
				return true
			}
		}
	case []any:
		for _, e := range v {
			if nullInArray(e, true) {
				return true
			}
		}
	}
	return false
}
