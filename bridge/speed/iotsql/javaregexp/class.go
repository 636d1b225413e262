package javaregexp

import (
	"slices"
	"strings"
	"sync"
	"unicode"
)

// A runeSet holds characters as pairs of a first and a last one; normal sets
// are in order and pairs don't touch.
type runeSet []rune

// lineEnds are Java's line terminators.
var lineEnds = runeSet{'\n', '\n', '\r', '\r', 0x85, 0x85, 0x2028, 0x2029}

func (s runeSet) normal() runeSet {
	type pair struct{ lo, hi rune }
	pairs := make([]pair, 0, len(s)/2)
	for i := 0; i < len(s); i += 2 {
		pairs = append(pairs, pair{s[i], s[i+1]})
	}
	slices.SortFunc(pairs, func(a, b pair) int { return int(a.lo - b.lo) })
	out := make(runeSet, 0, len(s))
	for _, p := range pairs {
		if n := len(out); n > 0 && p.lo <= out[n-1]+1 {
			out[n-1] = max(out[n-1], p.hi)
		} else {
			out = append(out, p.lo, p.hi)
		}
	}
	return out
}

func (s runeSet) negated() runeSet {
	var out runeSet
	from := rune(0)
	s = s.normal()
	for i := 0; i < len(s); i += 2 {
		if s[i] > from {
			out = append(out, from, s[i]-1)
		}
		from = s[i+1] + 1
	}
	if from <= unicode.MaxRune {
		out = append(out, from, unicode.MaxRune)
	}
	return out
}

func (s runeSet) and(o runeSet) runeSet {
	return append(s.negated(), o.negated()...).negated()
}

func tableSet(tables ...*unicode.RangeTable) runeSet {
	var s runeSet
	add := func(lo, hi, stride rune) {
		if stride == 1 {
			s = append(s, lo, hi)
			return
		}
		for r := lo; r <= hi; r += stride {
			s = append(s, r, r)
		}
	}
	for _, t := range tables {
		for _, r := range t.R16 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
		for _, r := range t.R32 {
			add(rune(r.Lo), rune(r.Hi), rune(r.Stride))
		}
	}
	return s.normal()
}

// cases returns the characters with case, in order, and those that differ
// from each in case only.
var cases = sync.OnceValues(func() (rs []rune, orbits map[rune][]rune) {
	orbits = map[rune][]rune{}
	for r := rune(0); r <= 0x1efff; r++ {
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			orbits[r] = append(orbits[r], f)
		}
		if orbits[r] != nil {
			rs = append(rs, r)
		}
	}
	return rs, orbits
})

// folded adds the characters that differ in case only, under (?i) among
// ASCII, under (?iu) among all.
func (t *translator) folded(s runeSet) runeSet {
	if t.flags&flagFold == 0 {
		return s
	}
	out := slices.Clone(s)
	for i := 0; i < len(s); i += 2 {
		if t.flags&flagUnicode == 0 {
			for _, a := range []rune{'a', 'A'} { // what the range has of a-z, then of A-Z
				if lo, hi := max(s[i], a), min(s[i+1], a+25); lo <= hi {
					out = append(out, lo^0x20, hi^0x20)
				}
			}
			continue
		}
		cased, orbits := cases()
		from, _ := slices.BinarySearch(cased, s[i])
		for _, r := range cased[from:] {
			if r > s[i+1] {
				break
			}
			for _, f := range orbits[r] {
				out = append(out, f, f)
			}
		}
	}
	t.pay(len(out))
	return out
}

// pay counts what large classes cost.
func (t *translator) pay(n int) {
	if t.cost += n; t.cost > maxClasses {
		t.bad = true
	}
}

// set writes a class out.
func (t *translator) set(s runeSet) part {
	if len(s) == 2 && s[0] == s[1] { // one character, folded only now
		s = t.folded(s)
	}
	s = s.normal()
	switch {
	case t.bad:
		return part{}
	case len(s) == 0:
		return part{fast: `[^\x00-\x{10FFFF}]`, exact: "(?!)", atom: true, one: true, size: 1}
	case len(s) == 2 && s[0] == s[1]:
		return character(quoteRune(s[0]))
	}
	var b strings.Builder
	b.WriteByte('[')
	for i := 0; i < len(s); i += 2 {
		lo, hi := s[i], s[i+1]
		if lo >= 0xd800 && lo < 0xe000 { // no text has surrogates
			lo = 0xe000
		}
		if hi >= 0xd800 && hi < 0xe000 {
			hi = 0xd7ff
		}
		if lo > hi {
			continue
		}
		b.WriteString(quoteRune(lo))
		if hi > lo {
			b.WriteString("-" + quoteRune(hi))
		}
	}
	b.WriteByte(']')
	return character(b.String())
}

// quoteRune spells a character so that it is plain to both engines.
func quoteRune(r rune) string {
	if r == '-' { // regexp2 misreads the range \--\?
		return `\x2D`
	}
	if r < 0x80 && strings.ContainsRune(`\.+*?()|[]{}^$&#`, r) {
		return `\` + string(r)
	}
	return string(r)
}

// class reads a class after its bracket: a union, or an intersection of unions.
func (t *translator) class() runeSet {
	if t.depth++; t.depth > maxNesting {
		t.bad = true
		return nil
	}
	defer func() { t.depth-- }()
	negate := t.accept("^")
	var all, union runeSet
	var first, some = true, false // there is no && yet; there is something since
	meet := func() {
		switch {
		case !some: // Java takes && at the begin and the end
		case first:
			all, first = union, false
		default:
			all = all.and(union)
		}
		union, some = nil, false
	}
	for !t.bad {
		t.pad()
		switch {
		case t.peek() == ']' && (some || !first):
			t.off++
			meet()
			if negate {
				return all.negated()
			}
			return all.normal()
		case t.accept("["):
			union = append(union, t.class()...)
		case t.accept("&&"):
			for t.accept("&") {
			}
			meet()
			continue
		default:
			union = append(union, t.folded(t.span())...)
		}
		some = true
	}
	return nil
}

// span reads a character, a range, or a class that is written with a backslash.
func (t *translator) span() runeSet {
	lo, s := t.member()
	if s != nil {
		return s
	}
	if t.peek() != '-' {
		return runeSet{lo, lo}
	}
	switch t.peekAt(1) {
	case ']', '[', eof:
		return runeSet{lo, lo}
	}
	t.off++
	hi, s := t.member()
	if s != nil || hi < lo {
		t.bad = true
		return nil
	}
	return runeSet{lo, hi}
}

func (t *translator) member() (rune, runeSet) {
	r := t.next()
	if r != '\\' {
		return r, nil
	}
	if s, ok := t.classEscape(); ok {
		return 0, s
	}
	return t.character(), nil
}

// classEscapes are the classes of one letter; the upper case is the rest.
var classEscapes = map[rune]runeSet{
	'd': {'0', '9'},
	'w': {'0', '9', 'A', 'Z', '_', '_', 'a', 'z'},
	's': {'\t', '\r', ' ', ' '},
	'h': {'\t', '\t', ' ', ' ', 0xa0, 0xa0, 0x1680, 0x1680, 0x180e, 0x180e, 0x2000, 0x200a, 0x202f, 0x202f, 0x205f,
		0x205f, 0x3000, 0x3000},
	'v': {'\n', '\r', 0x85, 0x85, 0x2028, 0x2029},
}

// classEscape reads such a letter, or p or P and a property.
func (t *translator) classEscape() (runeSet, bool) {
	r := t.peek()
	if s, ok := classEscapes[r]; ok {
		t.off++
		return s, true
	}
	if s, ok := classEscapes[unicode.ToLower(r)]; ok {
		t.off++
		return s.negated(), true
	}
	if r != 'p' && r != 'P' {
		return nil, false
	}
	t.off++
	name := string(t.next())
	if name == "{" {
		from := t.off
		for t.peek() != '}' && !t.bad {
			t.next()
		}
		name = string(t.text[from:t.off])
		t.want('}')
	}
	s, ok := property(name)
	if t.flags&flagFold != 0 && casedProperties[name] {
		s, _ = property("LC")
	}
	t.pay(len(s))
	if s = t.folded(s); t.bad || !ok {
		t.bad = true
		return nil, true
	}
	if r == 'P' {
		s = s.negated()
	}
	return s, true
}

// asciiProperties are Java's POSIX classes, for ASCII only.
var asciiProperties = map[string]runeSet{
	"Lower": {'a', 'z'}, "Upper": {'A', 'Z'}, "ASCII": {0, 0x7f}, "Alpha": {'A', 'Z', 'a', 'z'}, "Digit": {'0', '9'},
	"Alnum": {'0', '9', 'A', 'Z', 'a', 'z'}, "Punct": {'!', '/', ':', '@', '[', '`', '{', '~'}, "Graph": {'!', '~'},
	"Print": {' ', '~'},
	"Blank": {'\t', '\t', ' ', ' '}, "Cntrl": {0, 0x1f, 0x7f, 0x7f}, "XDigit": {'0', '9', 'A', 'F', 'a', 'f'},
	"Space": {'\t', '\r', ' ', ' '},
	"L1":    {0, 0xff}, "all": {0, unicode.MaxRune},
}

// binaryProperties follow "Is".
var binaryProperties = map[string][]*unicode.RangeTable{
	"ALPHABETIC":  {unicode.L, unicode.Nl, unicode.Other_Alphabetic},
	"IDEOGRAPHIC": {unicode.Ideographic},
	"LETTER":      {unicode.L},
	"LOWERCASE":   {unicode.Ll, unicode.Other_Lowercase},
	"UPPERCASE":   {unicode.Lu, unicode.Other_Uppercase},
	"TITLECASE":   {unicode.Lt},
	"PUNCTUATION": {unicode.P},
	"CONTROL":     {unicode.Cc},
	"WHITE_SPACE": {unicode.White_Space},
	"WHITESPACE":  {unicode.White_Space},
	"DIGIT":       {unicode.Nd},
	"HEX_DIGIT":   {unicode.Hex_Digit},
	"HEXDIGIT":    {unicode.Hex_Digit},
}

// casedProperties are those that stand for either case under (?i).
var casedProperties = map[string]bool{
	"Lu": true, "Ll": true, "Lt": true, "IsLu": true, "IsLl": true, "IsLt": true,
	"IsUppercase": true, "IsLowercase": true, "IsTitlecase": true,
}

// property returns the characters of \p{name}: a POSIX class, a general
// category, a script (IsGreek, script=Greek) or one of binaryProperties.
func property(name string) (runeSet, bool) {
	if s, ok := asciiProperties[name]; ok {
		return s, true
	}
	if name == "LC" {
		return tableSet(unicode.Lu, unicode.Ll, unicode.Lt), true
	}
	if s, ok := categorySet(name); ok {
		return s, true
	}
	if key, val, ok := strings.Cut(name, "="); ok {
		switch strings.ToLower(key) {
		case "gc", "general_category":
			return categorySet(val)
		case "sc", "script":
			return scriptSet(val)
		}
		return nil, false
	}
	if name, ok := strings.CutPrefix(name, "Is"); ok {
		if tables := binaryProperties[strings.ToUpper(name)]; tables != nil {
			return tableSet(tables...), true
		}
		if s, ok := categorySet(name); ok {
			return s, true
		}
		return scriptSet(name)
	}
	return nil, false
}

func categorySet(name string) (runeSet, bool) {
	table := unicode.Categories[name]
	if table == nil {
		return nil, false
	}
	return tableSet(table), true
}

// scriptSet knows scripts by their full names, in any case.
func scriptSet(name string) (runeSet, bool) {
	for have, table := range unicode.Scripts {
		if strings.EqualFold(have, name) {
			return tableSet(table), true
		}
	}
	return nil, false
}
