package javaregexp

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A translation is a pattern of Java's dialect (java.util.regex, Java 17) in
// the spelling of two engines. It leaves nothing to what the engines make of
// flags, classes and anchors: those are spelled out.
type translation struct {
	fast       string         // for package regexp, unless backtracks
	exact      string         // for regexp2
	backtracks bool           // there is no fast form
	endOfLine  bool           // fast is wrong for texts that end in a line terminator: it has a $
	ascii      bool           // fast is wrong for texts beyond ASCII: it has a \b
	empty      bool           // it may match nothing, between two characters
	groups     int            // that capture
	names      map[string]int // of groups
	size       int            // states of fast, about
	cost       int            // ends of ranges that its classes took
}

// translate returns false for a pattern that Java refuses, and for what it has
// and we don't: \X, \N{name}, \b{g}, blocks, (?U), and \p of other properties
// than those of property.
func translate(text string) (t translation, ok bool) {
	if len(text) > maxPattern || !utf8.ValidString(text) {
		return t, false
	}
	tr := &translator{text: []rune(unquote(text)), known: maxPattern}
	body, ok := tr.all()
	if ok && tr.refs > tr.groups {
		// Now that it is known how many groups there are, references to others
		// become what never matches.
		tr = &translator{text: tr.text, known: tr.groups}
		body, ok = tr.all()
	}
	t = tr.translation
	t.fast, t.exact, t.empty, t.size = body.fast, body.exact, body.empty, body.size
	return t, ok
}

// unquote writes what stands between \Q and \E with backslashes, as Java does first of all.
func unquote(s string) string {
	var b strings.Builder
	for {
		i := 0
		for i < len(s) && !strings.HasPrefix(s[i:], `\Q`) {
			if s[i] == '\\' && i+1 < len(s) {
				i++
			}
			i++
		}
		b.WriteString(s[:i])
		if i == len(s) {
			return b.String()
		}
		quoted, rest, _ := strings.Cut(s[i+2:], `\E`)
		for _, r := range quoted {
			if r < unicode.MaxASCII && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
				b.WriteByte('\\')
			}
			b.WriteRune(r)
		}
		s = rest
	}
}

// Java's inline flags.
const (
	flagFold    = 1 << iota // i
	flagUnix                // d: \n alone ends a line
	flagLines               // m
	flagDotAll              // s
	flagUnicode             // u: fold beyond ASCII
	flagSpace               // x: space and comments
)

var inlineFlags = map[rune]int{'i': flagFold, 'd': flagUnix, 'm': flagLines, 's': flagDotAll, 'u': flagUnicode,
	'x': flagSpace}

// Limits of what a translator takes.
const (
	// maxNesting bounds its recursion.
	maxNesting = 200
	// maxClasses bounds the ends of ranges in classes such as \p{L}, which has
	// some 1300.
	maxClasses = 1 << 15
	// maxSpins is how often a part that may match nothing may have to be
	// repeated: the backtracking engine notes each time.
	maxSpins = 20000
)

// A translator reads a pattern. What is wrong sets bad, and reading goes on to no effect.
type translator struct {
	translation
	text  []rune
	off   int
	flags int
	depth int
	refs  int // the highest group referred to
	known int // groups there are in the end
	bad   bool
}

// A part is a translated piece of a pattern.
type part struct {
	fast, exact string
	atom        bool // takes a quantifier without a group around it
	one         bool // it is one character
	empty       bool // may match nothing
	endless     bool // may match any length
	size        int
}

func character(s string) part { return part{fast: s, exact: s, atom: true, one: true, size: 1} }

func (t *translator) all() (part, bool) {
	p := t.alternatives()
	return p, !t.bad && t.off == len(t.text)
}

const eof = -1

func (t *translator) peekAt(n int) rune {
	if t.off+n >= len(t.text) {
		return eof
	}
	return t.text[t.off+n]
}

func (t *translator) peek() rune { return t.peekAt(0) }

func (t *translator) next() rune {
	r := t.peek()
	if r == eof {
		t.bad = true
		return r
	}
	t.off++
	return r
}

func (t *translator) accept(s string) bool {
	for i, r := range s {
		if t.peekAt(i) != r {
			return false
		}
	}
	t.off += len(s)
	return true
}

func (t *translator) want(r rune) {
	if t.next() != r {
		t.bad = true
	}
}

// pad skips space and comments under (?x).
func (t *translator) pad() {
	for t.flags&flagSpace != 0 {
		switch r := t.peek(); {
		case r == ' ' || r >= '\t' && r <= '\r':
			t.off++
		case r == '#':
			for r = t.peek(); r != eof && r != '\n' && r != '\r' && r != 0x85 && r != 0x2028 &&
				r != 0x2029; r = t.peek() {
				t.off++
			}
		default:
			return
		}
	}
}

func (t *translator) alternatives() part {
	if t.depth++; t.depth > maxNesting {
		t.bad = true
		return part{}
	}
	defer func() { t.depth-- }()
	p := t.sequence()
	for !t.bad && t.accept("|") {
		q := t.sequence()
		p = part{p.fast + "|" + q.fast, p.exact + "|" + q.exact, false, false, p.empty || q.empty, p.endless ||
			q.endless, p.size + q.size + 1}
	}
	return p
}

func (t *translator) sequence() part {
	var fast, exact strings.Builder
	s := part{empty: true}
	for !t.bad {
		t.pad()
		if r := t.peek(); r == eof || r == '|' || r == ')' {
			break
		}
		p, ok := t.element()
		if !ok {
			continue // flags only
		}
		p = t.quantified(p)
		fast.WriteString(p.fast)
		exact.WriteString(p.exact)
		s.empty, s.endless, s.size = s.empty && p.empty, s.endless || p.endless, s.size+p.size
	}
	s.fast, s.exact = fast.String(), exact.String()
	return s
}

// element reads what a quantifier may follow; ok is false for flags.
func (t *translator) element() (_ part, ok bool) {
	switch r := t.next(); r {
	case '(':
		return t.group()
	case '[':
		return t.set(t.class()), true
	case '.':
		switch {
		case t.flags&flagDotAll != 0:
			return t.set(runeSet{0, unicode.MaxRune}), true
		case t.flags&flagUnix != 0:
			return t.set(runeSet{'\n', '\n'}.negated()), true
		}
		return t.set(lineEnds.negated()), true
	case '^':
		if t.flags&flagLines == 0 {
			return anchor(`\A`), true
		}
		t.backtracks = true
		if t.flags&flagUnix != 0 {
			return anchor(`(?:(?!\z)(?:\A|(?<=\n)))`), true
		}
		return anchor(`(?:(?!\z)(?:\A|(?<=[\n` + "\u0085\u2028\u2029" + `])|(?<=\r)(?!\n)))`), true
	case '$':
		return t.end(t.flags&flagLines != 0), true
	case '\\':
		return t.escape(), true
	case '*', '+', '?':
		t.bad = true
	case '{': // a quantifier of nothing, which Java takes
		t.off--
		return part{empty: true}, true
	default:
		return t.set(runeSet{r, r}), true
	}
	return part{}, true
}

func anchor(s string) part { return part{fast: s, exact: s, atom: true, empty: true, size: 1} }

// end is $, and \Z. Java's $ matches before a line terminator at the end as well.
func (t *translator) end(lines bool) part {
	const other = "[\r\u0085\u2028\u2029]"
	p := anchor(`\z`)
	switch unix := t.flags&flagUnix != 0; {
	case lines && unix:
		p.exact = `(?=\n|\z)`
	case lines:
		p.exact = `(?:\z|(?=` + other + `)|(?<!\r)(?=\n))`
	case unix:
		p.exact = `(?=\n?\z)`
	default:
		p.exact = `(?:(?=(?:\r\n|` + other + `)?\z)|(?<!\r)(?=\n\z))`
	}
	t.backtracks = t.backtracks || lines
	t.endOfLine = true
	return p
}

// quantified reads the quantifier that may follow p.
func (t *translator) quantified(p part) part {
	t.pad()
	least, most, counted := 1, 1, t.peek() == '{'
	switch t.peek() {
	case '*':
		least, most = 0, -1
		t.off++
	case '+':
		most = -1
		t.off++
	case '?':
		least = 0
		t.off++
	case '{':
		t.off++
		least = t.number()
		if most = least; t.accept(",") {
			if most = -1; t.peek() != '}' {
				most = t.number()
			}
		}
		if t.want('}'); most >= 0 && most < least {
			t.bad = true
		}
	default:
		return p
	}
	if p.empty && least > 1 && least*min(p.size, maxProgram) > maxSpins {
		t.bad = true
	}
	if t.bad {
		return p
	}
	q := "{" + strconv.Itoa(least) + ","
	if most >= 0 {
		q += strconv.Itoa(most)
	}
	q += "}"
	p.empty = p.empty || least == 0
	if p.size = min(p.size, maxProgram+1) * max(least, most, 1); least > 1000 || most > 1000 {
		p.size = maxProgram + 1 // more than package regexp takes
	}
	p.fast, p.exact = wrap(p.fast, p.atom)+q, wrap(p.exact, p.atom)+q
	// Of repetitions without end Java's lookbehind takes x* and x+ of one
	// character.
	endless := most < 0 && !(p.one && !counted)
	switch {
	case t.accept("?"):
		p.fast, p.exact = p.fast+"?", p.exact+"?"
		endless = most < 0
	case t.accept("+"):
		t.backtracks = true
		p.exact = "(?>" + p.exact + ")"
		endless = most < 0
	}
	p.atom, p.one, p.endless = false, false, p.endless || endless
	return p
}

func wrap(s string, atom bool) string {
	if atom {
		return s
	}
	return "(?:" + s + ")"
}

// number reads decimal digits, at least one.
func (t *translator) number() int {
	from := t.off
	for r := t.peek(); r >= '0' && r <= '9'; r = t.peek() {
		t.off++
	}
	n, err := strconv.ParseInt(string(t.text[from:t.off]), 10, 32)
	t.bad = t.bad || err != nil
	return int(n)
}

// group reads a group after its parenthesis; ok is false for flags alone.
func (t *translator) group() (_ part, ok bool) {
	flags := t.flags
	opening := "("
	look := false
	switch {
	case !t.accept("?"):
		t.groups++
	case t.accept(":"):
		opening = "(?:"
	case t.accept(">"):
		opening, t.backtracks = "(?>", true
	case t.accept("="), t.accept("!"):
		opening, look = "(?"+string(t.text[t.off-1]), true
	case t.accept("<="), t.accept("<!"):
		opening, look = "(?<"+string(t.text[t.off-1]), true
	case t.accept("<"):
		t.groups++
		name := t.name('>')
		if _, twice := t.names[name]; twice {
			t.bad = true
		}
		if t.names == nil {
			t.names = map[string]int{}
		}
		t.names[name] = t.groups
	default:
		if t.inline(); t.accept(")") {
			return part{}, false
		}
		t.want(':')
		opening = "(?:"
	}
	p := t.alternatives()
	t.want(')')
	t.flags = flags
	p.fast, p.exact = opening+p.fast+")", opening+p.exact+")"
	p.atom, p.size = true, p.size+2
	if look {
		t.backtracks = true
		if p.endless && opening[2] == '<' {
			t.bad = true // Java wants to know how far to look
		}
		p.empty, p.endless, p.atom = true, false, false
	}
	return p, true
}

// inline reads flags up to ) or :.
func (t *translator) inline() {
	on := true
	for !t.bad && t.peek() != ')' && t.peek() != ':' {
		r := t.next()
		if r == '-' && on {
			on = false
			continue
		}
		flag := inlineFlags[r]
		if flag == 0 {
			t.bad = true
		}
		if t.flags |= flag; !on {
			t.flags &^= flag
		}
	}
}

// name reads a group's name up to its closing bracket.
func (t *translator) name(closing rune) string {
	from := t.off
	for r := t.peek(); r > 0 && r < 0x80 && isGroupName(byte(r), t.off > from); r = t.peek() {
		t.off++
	}
	name := string(t.text[from:t.off])
	t.bad = t.bad || name == ""
	t.want(closing)
	return name
}

// reference reads the rest of \n: a digit belongs to the number as long as so many groups have begun.
func (t *translator) reference(n int) part {
	for r := t.peek(); r >= '0' && r <= '9' && n*10+int(r-'0') <= t.groups; r = t.peek() {
		n = n*10 + int(r-'0')
		t.off++
	}
	return t.referTo(n)
}

func (t *translator) referTo(n int) part {
	t.backtracks = true
	t.refs = max(t.refs, n)
	p := part{atom: true, empty: true, endless: true, size: 1}
	switch {
	case n > t.known:
		p.exact = "(?!)"
	case t.flags&flagFold != 0:
		p.exact = `(?i:\` + strconv.Itoa(n) + ")"
	default:
		p.exact = `(?:\` + strconv.Itoa(n) + ")"
	}
	return p
}

// wordClass has the characters that \b of Java 17 looks for: letters and
// digits of all scripts, and marks on them.
const wordClass = `[\p{L}\p{Nd}\p{Mn}_]`

// escape reads what follows a backslash outside classes.
func (t *translator) escape() part {
	switch r := t.peek(); {
	case r >= '1' && r <= '9':
		t.off++
		return t.reference(int(r - '0'))
	case t.accept("A"):
		return anchor(`\A`)
	case t.accept("z"):
		return anchor(`\z`)
	case t.accept("Z"):
		return t.end(false)
	case t.accept("G"):
		t.backtracks = true
		return anchor(`\G`)
	case t.accept("b"):
		t.bad = t.bad || t.peek() == '{' // \b{g}
		t.ascii = true
		p := anchor(`\b`)
		p.exact = "(?:(?<=" + wordClass + ")(?!" + wordClass + ")|(?<!" + wordClass + ")(?=" + wordClass + "))"
		return p
	case t.accept("B"):
		t.ascii = true
		p := anchor(`\B`)
		p.exact = "(?:(?<=" + wordClass + ")(?=" + wordClass + ")|(?<!" + wordClass + ")(?!" + wordClass + "))"
		return p
	case t.accept("R"):
		const r = "(?:\r\n|[\n-\r\u0085\u2028\u2029])"
		return part{fast: r, exact: r, atom: true, size: 4}
	case t.accept("k"):
		t.want('<')
		n, ok := t.names[t.name('>')]
		t.bad = t.bad || !ok
		return t.referTo(n)
	}
	if s, ok := t.classEscape(); ok {
		return t.set(s)
	}
	r := t.character()
	return t.set(runeSet{r, r})
}

// character reads an escaped character after its backslash.
func (t *translator) character() rune {
	switch r := t.next(); r {
	case 't':
		return '\t'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 'f':
		return '\f'
	case 'a':
		return '\a'
	case 'e':
		return 0x1b
	case 'c':
		return t.next() ^ 64
	case '0':
		return t.octal()
	case 'x':
		if t.accept("{") {
			n := 1
			for t.peekAt(n) != '}' && n < 8 {
				n++
			}
			r := t.hex(n)
			t.want('}')
			return r
		}
		return t.hex(2)
	case 'u':
		r := t.hex(4)
		if r >= 0xd800 && r < 0xdc00 && t.accept(`\u`) {
			if low := t.hex(4); low >= 0xdc00 && low < 0xe000 {
				return 0x10000 + (r-0xd800)<<10 + low - 0xdc00
			}
			t.bad = true
		}
		return r
	default:
		if r < 0x80 && unicode.IsLetter(r) {
			t.bad = true // kept for later versions of Java
		}
		return r
	}
}

func (t *translator) octal() rune {
	n, digits := rune(0), 0
	for r := t.peek(); digits < 3 && r >= '0' && r <= '7' && n*8+r-'0' <= 0377; r = t.peek() {
		n = n*8 + r - '0'
		digits++
		t.off++
	}
	t.bad = t.bad || digits == 0
	return n
}

func (t *translator) hex(digits int) rune {
	if t.off+digits > len(t.text) {
		t.bad = true
		return 0
	}
	n, err := strconv.ParseUint(string(t.text[t.off:t.off+digits]), 16, 32)
	t.off += digits
	if err != nil || n > unicode.MaxRune {
		t.bad = true
		return 0
	}
	return rune(n)
}
