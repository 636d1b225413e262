package iotsql

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
)

// The naive evaluator's values: nil is Null, bool a Boolean, the others are
// below. Whatever comes from a document keeps its spelling in raw.
type (
	nothing  struct{} // Undefined
	naiveNum struct {
		d     *apd.Decimal
		whole bool // an Int
		raw   string
	}
	naiveText   struct{ s, raw string }
	naiveList   []any
	naiveMember struct {
		name, raw string // raw is the name as spelled, quotes included
		value     any
	}
	naiveObject []naiveMember
)

var errNaiveDeep = errors.New("nested too deeply")

// naiveDecode reads a JSON text with encoding/json. ok is false for what
// isn't JSON in UTF-8.
func naiveDecode(doc []byte, modern bool) (v any, ok bool) {
	if !utf8.Valid(doc) || !json.Valid(doc) {
		return nothing{}, false
	}
	return naiveRead(doc, modern), true
}

func naiveRead(raw []byte, modern bool) any {
	raw = bytes.TrimSpace(raw)
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	first, _ := dec.Token()
	switch t := first.(type) {
	case json.Number:
		return naiveWire(string(t), modern)
	case string:
		return naiveText{t, string(raw)}
	case json.Delim:
		if t == '[' {
			list := naiveList{}
			for dec.More() {
				var e json.RawMessage
				must(dec.Decode(&e))
				list = append(list, naiveRead(e, modern))
			}
			return list
		}
		obj := naiveObject{}
		for dec.More() {
			from := dec.InputOffset()
			name, err := dec.Token()
			must(err)
			spelled := raw[from:dec.InputOffset()]
			spelled = spelled[bytes.IndexByte(spelled, '"'):]
			var e json.RawMessage
			must(dec.Decode(&e))
			obj = append(obj, naiveMember{name.(string), string(spelled), naiveRead(e, modern)})
		}
		return obj
	}
	return first
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// naiveDepth is how deep arrays and objects of a JSON text are nested.
func naiveDepth(doc []byte) int {
	dec := json.NewDecoder(bytes.NewReader(doc))
	depth, deepest := 0, 0
	for {
		t, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch t {
		case json.Delim('['), json.Delim('{'):
			depth++
			deepest = max(deepest, depth)
		case json.Delim(']'), json.Delim('}'):
			depth--
		}
	}
}

// naiveWire is a number as a document or statement spells it. One that is out
// of range has no d: it can be copied and no more.
func naiveWire(raw string, modern bool) naiveNum {
	n, _ := naiveNumber(raw, modern)
	n.raw = raw
	return n
}

func naiveNumber(s string, modern bool) (naiveNum, bool) {
	d, _, err := apd.NewFromString(s)
	if err != nil {
		return naiveNum{}, false
	}
	long := d.NumDigits() > 34
	if d = naiveRound(d); d == nil {
		return naiveNum{}, false
	}
	n := naiveNum{d: d, whole: !long && !strings.ContainsAny(s, ".eE")}
	return n.settled(modern), true
}

// naiveRound rounds to 34 digits; nil is out of range.
func naiveRound(d *apd.Decimal) *apd.Decimal {
	if d.IsZero() {
		return apd.New(0, max(min(d.Exponent, 0), -34))
	}
	wide := apd.Context{Precision: 34, MaxExponent: apd.MaxExponent, MinExponent: apd.MinExponent,
		Rounding: apd.RoundHalfEven}
	var r apd.Decimal
	if _, err := wide.Round(&r, d); err != nil {
		return nil
	}
	if a := int64(r.Exponent) + r.NumDigits() - 1; a > 999 || a < -999 {
		return nil
	}
	return &r
}

// naiveBig is d × 10^places cut to a whole number.
func naiveBig(d *apd.Decimal, places int) *big.Int {
	i, ok := new(big.Int).SetString(d.Coeff.String(), 10)
	if !ok {
		panic(d)
	}
	if e := int64(d.Exponent) + int64(places); e >= 0 {
		i.Mul(i, new(big.Int).Exp(big.NewInt(10), big.NewInt(e), nil))
	} else {
		i.Quo(i, new(big.Int).Exp(big.NewInt(10), big.NewInt(-e), nil))
	}
	if d.Negative {
		i.Neg(i)
	}
	return i
}

func naiveWhole(i *big.Int) *apd.Decimal {
	d, _, err := apd.NewFromString(i.String())
	must(err)
	return d
}

// settled makes an Int of a whole Decimal where the version asks for it.
func (n naiveNum) settled(modern bool) naiveNum {
	if n.whole || !modern || int64(n.d.Exponent)+n.d.NumDigits() > 34 && !n.d.IsZero() {
		return n
	}
	i := naiveBig(n.d, 0)
	if w := naiveWhole(i); w.Cmp(n.d) == 0 {
		return naiveNum{d: w, whole: true}
	}
	return n
}

var naiveNumeric = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?([eE]-?[0-9]+)?$`)

// naiveItem is a value by itself: a whole Decimal that became an Int is spelled as
// one, while inside of a copied document it keeps its spelling.
func naiveItem(v any) any {
	if n, ok := v.(naiveNum); ok && n.d != nil && n.whole && strings.ContainsAny(n.raw, ".eE") {
		n.raw = ""
		return n
	}
	return v
}

// digits is the string form of a number.
func (n naiveNum) digits() string {
	if n.raw != "" {
		return n.raw
	}
	c, e := n.d.Coeff.String(), int(n.d.Exponent)
	sign := ""
	if n.d.Negative {
		sign = "-"
	}
	if point := len(c) + e; point > 34 || point <= -6 {
		if e == 0 || n.d.IsZero() && e > 0 {
			return sign + c
		}
		if len(c) > 1 {
			c = c[:1] + "." + c[1:]
		}
		return sign + c + "E" + strconv.Itoa(point-1)
	}
	return n.d.Text('f')
}

// naiveString is the string form; Null and Undefined have none.
func naiveString(v any) (string, bool) {
	switch v := v.(type) {
	case nothing, nil:
		return "", false
	case bool:
		return strconv.FormatBool(v), true
	case naiveNum:
		return naiveItem(v).(naiveNum).digits(), true
	case naiveText:
		return v.s, true
	}
	return naiveJSON(unspelled(v)), true
}

// unspelled forgets how a document was spelled.
func unspelled(v any) any {
	switch v := v.(type) {
	case naiveText:
		return naiveText{s: v.s}
	case naiveNum:
		return naiveItem(v)
	case naiveList:
		out := naiveList{}
		for _, e := range v {
			out = append(out, unspelled(e))
		}
		return out
	case naiveObject:
		out := naiveObject{}
		for _, m := range v {
			out = append(out, naiveMember{name: m.name, value: unspelled(m.value)})
		}
		return out
	}
	return v
}

// naiveJSON is compact JSON.
func naiveJSON(v any) string {
	switch v := v.(type) {
	case nothing:
		return ""
	case nil:
		return "null"
	case naiveText:
		if v.raw != "" {
			return v.raw
		}
		return naiveQuote(v.s)
	case naiveList:
		parts := make([]string, len(v))
		for i, e := range v {
			parts[i] = naiveInner(e)
		}
		return "[" + strings.Join(parts, ",") + "]"
	case naiveObject:
		parts := make([]string, len(v))
		for i, m := range v {
			name := m.raw
			if name == "" {
				name = naiveQuote(m.name)
			}
			parts[i] = name + ":" + naiveInner(m.value)
		}
		return "{" + strings.Join(parts, ",") + "}"
	}
	s, _ := naiveString(v)
	return s
}

// naiveInner is the JSON of what is part of a document.
func naiveInner(v any) string {
	if n, ok := v.(naiveNum); ok {
		return n.digits()
	}
	return naiveJSON(v)
}

func naiveQuote(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\b':
			b.WriteString(`\b`)
		case r == '\f':
			b.WriteString(`\f`)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return `"` + b.String() + `"`
}

// member is the last member with the name.
func (o naiveObject) member(name string) any {
	for i := len(o) - 1; i >= 0; i-- {
		if o[i].name == name {
			return o[i].value
		}
	}
	return nothing{}
}

// naiveEqual is =, of two values that are not Undefined.
func naiveEqual(a, b any) bool {
	switch a := a.(type) {
	case naiveNum:
		b, ok := b.(naiveNum)
		return ok && a.d != nil && b.d != nil && a.d.Cmp(b.d) == 0
	case naiveText:
		b, ok := b.(naiveText)
		return ok && a.s == b.s
	case naiveList:
		b, ok := b.(naiveList)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !naiveEqual(a[i], b[i]) {
				return false
			}
		}
		return true
	case naiveObject:
		b, ok := b.(naiveObject)
		if !ok {
			return false
		}
		for _, m := range b {
			if a.member(m.name) == any(nothing{}) {
				return false
			}
		}
		for _, m := range a {
			y := b.member(m.name)
			if y == any(nothing{}) || !naiveEqual(a.member(m.name), y) {
				return false
			}
		}
		return true
	}
	switch b.(type) {
	case naiveList, naiveObject:
		return false
	}
	return a == b
}
