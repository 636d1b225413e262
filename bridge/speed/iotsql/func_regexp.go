package iotsql

import (
	"errors"

	"github.com/tidemill/tidemill/bridge/speed/iotsql/javaregexp"
)

// patterns are those that came with payloads.
var patterns javaregexp.Cache

// regexpFunc prepares a function whose second argument is a pattern: one that
// is a literal is compiled once, others are kept in a cache.
func regexpFunc(fn func(f *frame, p *javaregexp.Pattern, args []value) value) func(*node, []eval) eval {
	return func(n *node, evs []eval) eval {
		var fixed *javaregexp.Pattern
		if n.kids[1].op == opLit && n.kids[1].val.kind == kindText {
			if fixed = javaregexp.Compile(n.kids[1].text); fixed == nil {
				return undefined
			}
		}
		return func(f *frame) value {
			base := len(f.stack)
			for _, ev := range evs {
				f.stack = append(f.stack, ev(f))
			}
			args := f.stack[base:]
			f.stack = f.stack[:base]
			p := fixed
			if p == nil {
				text, ok := f.text(args[1])
				if !ok || !f.work(1) {
					return value{}
				}
				if p = patterns.Get(f, text); p == nil {
					return value{}
				}
			}
			return fn(f, p, args)
		}
	}
}

func regexpMatches(f *frame, p *javaregexp.Pattern, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	is, ok := p.Match(f, s)
	if !ok {
		f.fail(errTooMuchWork)
		return value{}
	}
	return boolValue(is)
}

// regexpSubstr is the first match; without one Undefined, our reading.
func regexpSubstr(f *frame, p *javaregexp.Pattern, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	v := value{}
	if !p.Find(f, s, false, func(groups []int) bool {
		v = textValue(s[groups[0]:groups[1]])
		return false
	}) {
		f.fail(errTooMuchWork)
		return value{}
	}
	return v
}

// regexpReplace replaces all matches, with Java's rules for the replacement.
func regexpReplace(f *frame, p *javaregexp.Pattern, args []value) value {
	s, ok1 := f.text(args[0])
	with, ok2 := f.text(args[2])
	if !ok1 || !ok2 {
		return value{}
	}
	out, err := p.ReplaceAll(f, s, with)
	if errors.Is(err, javaregexp.ErrTooMuchWork) {
		f.fail(errTooMuchWork)
	}
	if err != nil || f.err != nil {
		return value{}
	}
	return textValue(out)
}

// Work and Fits make a frame the budget of searches.
func (f *frame) Work(n int) bool { return f.work(n) }
func (f *frame) Fits(n int) bool { return f.fits(n) }
