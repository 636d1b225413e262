package iotsql

import (
	"regexp"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// Limits of regular expressions, our choice.
const (
	// maxPattern is the longest pattern, in bytes; longer ones yield Undefined
	// like malformed ones.
	maxPattern = 4096
	// maxProgram is how many states package regexp may make of a pattern,
	// about: the time that it takes grows with them times the text. Larger
	// ones are for the backtracking engine, which doesn't write repetitions out.
	maxProgram = 2000
	// maxFastGroups is how many groups a pattern may have for package regexp
	// to find all matches at once: it keeps the groups of all of them.
	maxFastGroups = 4
	// maxBacktrackText is the longest text the backtracking engine sees, in
	// bytes: its memory grows with the text, to some 100 bytes for each.
	maxBacktrackText = 32 << 10
	// backtrackTime bounds one search of the backtracking engine. All of an
	// evaluation's together are bounded by maxWork, see workTime.
	backtrackTime = 50 * time.Millisecond
	// maxLate is how often in a row a search may take longer than that.
	maxLate = 3
	// workTime is what a unit of work takes, about; searches are charged by it.
	workTime = 200 * time.Nanosecond
)

func init() {
	// The engine looks at a clock that ticks this often; it is the error of
	// backtrackTime. The clock runs while such searches are made and for a
	// second after, in a goroutine of its own.
	regexp2.SetTimeoutCheckPeriod(10 * time.Millisecond)
}

// A pattern is a compiled regular expression of Java's dialect. Several
// goroutines may use it.
//
// There are two engines. Package regexp takes time linear in the text, and most
// patterns mean the same to it once they are spelled its way. Patterns with
// lookaround, backreferences, possessive quantifiers and the like are for a
// backtracking engine, and so are the few texts over which a pattern means
// something else to package regexp: see translation.
type pattern struct {
	translation
	re        *regexp.Regexp // nil: for the backtracking engine only
	backtrack func() *regexp2.Regexp
}

// compilePattern returns nil for a pattern that is malformed, too long, or
// uses what neither engine has.
func compilePattern(text []byte) *pattern {
	if t, ok := translate(string(text)); ok {
		return t.compile()
	}
	return nil
}

func (t translation) compile() *pattern {
	p := &pattern{translation: t}
	p.backtrack = sync.OnceValue(func() *regexp2.Regexp {
		re, err := regexp2.Compile(t.exact, regexp2.None)
		if err != nil {
			return nil
		}
		re.MatchTimeout = backtrackTime
		return re
	})
	if !t.backtracks && t.size <= maxProgram {
		p.re, _ = regexp.Compile(t.fast)
	}
	if p.re == nil && p.backtrack() == nil {
		return nil
	}
	return p
}

// fits says whether package regexp finds what Java would find in s.
func (p *pattern) fits(s []byte) bool {
	return p.re != nil && !(p.endOfLine && endsLine(s)) && !(p.ascii && !isASCII(s))
}

// endsLine tells texts that end in one of Java's line terminators.
func endsLine(s []byte) bool {
	r, _ := utf8.DecodeLastRune(s)
	return r == '\n' || r == '\r' || r == 0x85 || r == 0x2028 || r == 0x2029
}

func isASCII(s []byte) bool {
	for _, c := range s {
		if c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// find calls fn with the groups of each match in s, as regexp's
// FindAllSubmatchIndex has them, until fn returns false. ok is false, and the
// evaluation fails, if that takes too much time.
//
// As in Java, and other than in package regexp, a match of nothing may follow
// a match right away.
func (p *pattern) find(f *frame, s []byte, all bool, fn func(groups []int) bool) (ok bool) {
	if !p.fits(s) || all && (p.empty || p.groups > maxFastGroups) {
		return p.findBacktracking(f, s, fn)
	}
	if !f.work(1 + len(s)*p.size/64) {
		return false
	}
	if !all {
		if groups := p.re.FindSubmatchIndex(s); groups != nil {
			fn(groups)
		}
		return true
	}
	for _, groups := range p.re.FindAllSubmatchIndex(s, -1) {
		if !fn(groups) {
			break
		}
	}
	return true
}

func (p *pattern) findBacktracking(f *frame, s []byte, fn func(groups []int) bool) (ok bool) {
	re := p.backtrack()
	if re == nil || len(s) > maxBacktrackText {
		f.fail(ErrTooMuchWork)
		return false
	}
	if !f.work(1 + len(s)/16) {
		return false
	}
	text, at := runes(s)
	groups := make([]int, 2*(p.groups+1))
	var last *regexp2.Match
	for late := 0; ; {
		began := time.Now()
		var m *regexp2.Match
		var err error
		if last == nil {
			m, err = re.FindRunesMatch(text)
		} else {
			m, err = re.FindNextMatch(last)
		}
		// A stall of the machine is not held against the search: no more time
		// counts than it may take, and one that was late is tried again.
		took := min(time.Since(began), backtrackTime)
		if err != nil {
			late++
		}
		if !f.work(1+int(took/workTime)) || late == maxLate {
			f.fail(ErrTooMuchWork)
			return false
		}
		if err != nil {
			continue
		}
		if m == nil {
			return true
		}
		for i := range p.groups + 1 {
			groups[2*i], groups[2*i+1] = -1, -1
			if g := m.GroupByNumber(i); g != nil && len(g.Captures) > 0 {
				groups[2*i], groups[2*i+1] = at[g.Index], at[g.Index+g.Length]
			}
		}
		if !fn(groups) {
			return true
		}
		last, late = m, 0
	}
}

// runes returns the characters of s and where each begins, and the end.
func runes(s []byte) (text []rune, at []int) {
	n := utf8.RuneCount(s)
	text, at = make([]rune, 0, n), make([]int, 0, n+1)
	for i, r := range string(s) {
		text, at = append(text, r), append(at, i)
	}
	return text, append(at, len(s))
}

// matches reports whether p matches somewhere in s.
func (p *pattern) matches(f *frame, s []byte) (is, ok bool) {
	if p.fits(s) {
		ok = f.work(1 + len(s)*p.size/64)
		return ok && p.re.Match(s), ok
	}
	ok = p.findBacktracking(f, s, func([]int) bool { is = true; return false })
	return is, ok
}

// A patternCache keeps patterns that came with payloads. A sender who varies
// them makes others compile theirs again, and no more: it holds at most
// twice patternCacheSize of them, those used last for certain.
type patternCache struct {
	mu       sync.Mutex
	new, old map[string]*pattern // nil: malformed
}

const patternCacheSize = 64

var patterns patternCache

// get returns nil for a pattern that is malformed.
func (c *patternCache) get(f *frame, text []byte) *pattern {
	if len(text) > maxPattern {
		return nil
	}
	c.mu.Lock()
	p, ok := c.new[string(text)]
	if !ok {
		if p, ok = c.old[string(text)]; ok {
			c.put(string(text), p)
		}
	}
	c.mu.Unlock()
	if ok {
		return p
	}
	// Compiling costs some 200 ns a byte and an end of a range 400 ns.
	t, ok := translate(string(text))
	if !f.work(len(text) + 2*t.cost) {
		return nil
	}
	if ok {
		p = t.compile()
	}
	c.mu.Lock()
	c.put(string(text), p)
	c.mu.Unlock()
	return p
}

// put wants c.mu held.
func (c *patternCache) put(text string, p *pattern) {
	if c.new == nil || len(c.new) == patternCacheSize {
		c.new, c.old = make(map[string]*pattern, patternCacheSize), c.new
	}
	c.new[text] = p
}
