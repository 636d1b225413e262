// Package javaregexp matches regular expressions of Java's dialect
// (java.util.regex, Java 17) within bounds of time and memory, whoever wrote
// the pattern and the text. testdata/java.jsonl is what OpenJDK makes of some
// 270 patterns.
//
// A Pattern is compiled for two engines. Package regexp takes time linear in the
// text, and most patterns mean the same to it once they are spelled its way.
// Patterns with lookaround, backreferences, possessive quantifiers and atomic
// groups are for a backtracking engine (github.com/dlclark/regexp2), and so are
// the few texts over which a pattern means something else to package regexp.
// The backtracking engine takes texts of up to 32 KiB and 50 ms a search.
//
// Where Java and Go differ silently, Java wins:
//   - \d, \w, \s and the POSIX classes are ASCII, \s has the vertical tab; (?i)
//     folds ASCII, (?iu) all.
//   - $ and \Z match before a line terminator at the end, too; line terminators
//     are \n, \r\n, \r, U+0085, U+2028 and U+2029, and the dot is none of them.
//   - \b looks for letters and digits of all scripts.
//   - Where a match ends another of nothing may begin: x* replaced by - makes
//     --a-b- of xab.
//
// (?U), \X, \N{...}, \b{g}, blocks (\p{In...}) and \p{java...} are refused like
// malformed patterns. \G by itself, and what the group of (a*)* holds, differ
// from Java.
package javaregexp

import (
	"regexp"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// A Budget is what the caller lets searches cost.
type Budget interface {
	// Work takes n units of about 200 ns. It returns false when nothing is
	// left, which ends the search.
	Work(n int) bool
	// Fits says whether a result of n bytes may be made.
	Fits(n int) bool
}

// Limits of regular expressions, our choice.
const (
	// maxPattern is the longest pattern, in bytes; longer ones are malformed.
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
	// backtrackTime bounds one search of the backtracking engine.
	backtrackTime = 50 * time.Millisecond
	// maxLate is how often in a row a search may take longer than that.
	maxLate = 3
	// workTime is what a unit of work takes, about; see Budget.
	workTime = 200 * time.Nanosecond
)

func init() {
	// The engine looks at a clock that ticks this often; it is the error of
	// backtrackTime. The clock runs while such searches are made and for a
	// second after, in a goroutine of its own.
	regexp2.SetTimeoutCheckPeriod(10 * time.Millisecond)
}

// A Pattern is a compiled regular expression. Several goroutines may use it.
type Pattern struct {
	translation
	re        *regexp.Regexp // nil: for the backtracking engine only
	backtrack func() *regexp2.Regexp
}

// Compile returns nil for a pattern that is malformed, longer than maxPattern,
// or uses what neither engine has.
func Compile(text string) *Pattern {
	if t, ok := translate(text); ok {
		return t.compile()
	}
	return nil
}

func (t translation) compile() *Pattern {
	p := &Pattern{translation: t}
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
func (p *Pattern) fits(s []byte) bool {
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

// Find calls fn with the groups of the first match in s, or of all, as
// regexp's FindAllSubmatchIndex has them, until fn returns false. fn may not
// keep them. ok is false if the search was given up: it takes more than b has,
// or more time than a search may.
//
// As in Java, and other than in package regexp, a match of nothing may follow
// a match right away.
func (p *Pattern) Find(b Budget, s []byte, all bool, fn func(groups []int) bool) (ok bool) {
	if !p.fits(s) || all && (p.empty || p.groups > maxFastGroups) {
		return p.backtracking(b, s, fn)
	}
	if !b.Work(1 + len(s)*p.size/64) {
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

func (p *Pattern) backtracking(b Budget, s []byte, fn func(groups []int) bool) (ok bool) {
	re := p.backtrack()
	if re == nil || len(s) > maxBacktrackText {
		return false
	}
	if !b.Work(1 + len(s)/16) {
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
		if !b.Work(1+int(took/workTime)) || late == maxLate {
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

// Match reports whether p matches somewhere in s. ok is false as in Find.
func (p *Pattern) Match(b Budget, s []byte) (is, ok bool) {
	if p.fits(s) {
		ok = b.Work(1 + len(s)*p.size/64)
		return ok && p.re.Match(s), ok
	}
	ok = p.backtracking(b, s, func([]int) bool { is = true; return false })
	return is, ok
}
