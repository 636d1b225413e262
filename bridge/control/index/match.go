package index

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// newBetween makes a range: one of numbers if its bounds are some and stand
// without quotes.
func newBetween(low, high bound) between {
	r := between{low: low, high: high}
	number := func(b *bound, to *float64) bool {
		if b.open {
			b.inclusive = false
			return true
		}
		n, ok := numberOf(b.text)
		*to = n
		return ok && !b.quoted
	}
	okLow, okHigh := number(&r.low, &r.lowNum), number(&r.high, &r.highNum)
	r.numeric = okLow && okHigh
	r.lowText, r.highText = strings.ToLower(low.text), strings.ToLower(high.text)
	return r
}

func (exists) of(*term) bool { return true }

func (exists) number(float64) bool { return true }

func (w word) of(t *term) bool {
	if t.kind == number {
		return t.lower == w.digits
	}
	return t.lower == w.text
}

func (w word) number(n float64) bool { return w.digits != "" && w.digits == numberText(n) }

func (w phrase) of(t *term) bool {
	if t.kind != text || len(t.lower) < len(w.text) {
		return false
	}
	// Both have one space between words.
	for rest, at := t.lower, 0; ; {
		i := strings.Index(rest[at:], w.text)
		if i < 0 {
			return false
		}
		i += at
		end := i + len(w.text)
		if (i == 0 || rest[i-1] == ' ') && (end == len(rest) || rest[end] == ' ') {
			return true
		}
		at = i + 1
	}
}

func (phrase) number(float64) bool { return false }

func newGlob(pattern []rune) glob {
	g := glob{pattern: pattern}
	if slices.Contains(pattern, oneRune) {
		return g
	}
	from := 0
	for i, r := range pattern {
		if r == anyRunes {
			g.parts = append(g.parts, string(pattern[from:i]))
			from = i + 1
		}
	}
	g.parts = append(g.parts, string(pattern[from:]))
	return g
}

func (g glob) of(t *term) bool { return !t.words && g.fits(t.lower) }

func (g glob) number(n float64) bool { return g.fits(numberText(n)) }

func (g glob) fits(s string) bool {
	if g.parts == nil {
		return g.walk(s)
	}
	last := len(g.parts) - 1 // at least 1
	s, ok := strings.CutPrefix(s, g.parts[0])
	if !ok {
		return false
	}
	if s, ok = strings.CutSuffix(s, g.parts[last]); !ok {
		return false
	}
	for _, p := range g.parts[1:last] {
		i := strings.Index(s, p)
		if i < 0 {
			return false
		}
		s = s[i+len(p):]
	}
	return true
}

// walk compares s to the pattern, going back to the last * where it must.
func (g glob) walk(s string) bool {
	p, at := 0, 0       // in the pattern, in s
	star, from := -1, 0 // the last *, and where what it takes ends
	for at < len(s) {
		r, n := utf8.DecodeRuneInString(s[at:])
		switch {
		case p < len(g.pattern) && g.pattern[p] == anyRunes:
			star, from = p, at
			p++
		case p < len(g.pattern) && (g.pattern[p] == r || g.pattern[p] == oneRune):
			p++
			at += n
		case star >= 0:
			_, n := utf8.DecodeRuneInString(s[from:])
			from += n
			p, at = star+1, from
		default:
			return false
		}
	}
	for p < len(g.pattern) && g.pattern[p] == anyRunes {
		p++
	}
	return p == len(g.pattern)
}

func (r between) of(t *term) bool {
	if !r.numeric {
		return (t.kind == text || t.kind == part) && !t.words && inside(&r, t.lower, r.lowText, r.highText)
	}
	return t.numeric() && r.number(t.num)
}

func (r between) number(n float64) bool { return r.numeric && inside(&r, n, r.lowNum, r.highNum) }

func inside[T cmp.Ordered](r *between, v, low, high T) bool {
	return (r.low.open || v > low || r.low.inclusive && v == low) &&
		(r.high.open || v < high || r.high.inclusive && v == high)
}

// numberOf reads text that is a JSON number, within what a float64 holds
// exactly if it is whole (developer guide, "Numeric values").
func numberOf(s string) (float64, bool) {
	digits := strings.TrimPrefix(s, "-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' || len(digits) > 1 && digits[0] == '0' && digits[1] >= '0' &&
		digits[1] <= '9' {
		return 0, false
	}
	whole := true
	for i, c := range []byte(digits) {
		switch {
		case c >= '0' && c <= '9':
		case c == '.':
			whole = false
			if i+1 == len(digits) || digits[i+1] < '0' || digits[i+1] > '9' {
				return 0, false
			}
		case c == 'e', c == 'E', (c == '+' || c == '-') && (digits[i-1] == 'e' || digits[i-1] == 'E'):
			whole = false
		default:
			return 0, false // hexadecimal, infinity, underscores
		}
	}
	if whole {
		n, err := strconv.ParseInt(s, 10, 64)
		return float64(n), err == nil && n >= -maxWhole && n < maxWhole
	}
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil
}

const maxWhole = 1 << 53

// numberText is how a term has a number.
func numberText(n float64) string {
	if n == float64(int64(n)) && n > -maxWhole && n < maxWhole {
		return strconv.FormatInt(int64(n), 10) // -0 too
	}
	return strconv.FormatFloat(n, 'g', -1, 64)
}
