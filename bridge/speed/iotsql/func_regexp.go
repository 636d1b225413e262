package iotsql

import "regexp"

// maxPattern is the longest regular expression, in bytes; longer ones yield
// Undefined like malformed ones. Our choice.
const maxPattern = 4096

// regexpFunc prepares a function whose second argument is a pattern: one that
// is a literal is compiled once.
//
// Patterns are RE2, Go's package regexp, not Java's as in AWS: no
// backreferences, lookahead, lookbehind, possessive quantifiers or atomic
// groups, which make a pattern malformed here and so yield Undefined.
// Matching takes time linear in the text.
func regexpFunc(fn func(f *frame, re *regexp.Regexp, args []value) value) func(*node, []eval) eval {
	return func(n *node, evs []eval) eval {
		var fixed *regexp.Regexp
		if n.kids[1].op == opLit && n.kids[1].val.kind == kindText {
			if fixed = compilePattern([]byte(n.kids[1].text)); fixed == nil {
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
			re := fixed
			if re == nil {
				pattern, ok := f.text(args[1])
				if !ok {
					return value{}
				}
				// Compiling costs some 100 ns a byte.
				if !f.work(16 + len(pattern)) {
					return value{}
				}
				if re = compilePattern(pattern); re == nil {
					return value{}
				}
			}
			return fn(f, re, args)
		}
	}
}

func compilePattern(pattern []byte) *regexp.Regexp {
	if len(pattern) > maxPattern {
		return nil
	}
	re, err := regexp.Compile(string(pattern))
	if err != nil {
		return nil
	}
	return re
}

func regexpMatches(f *frame, re *regexp.Regexp, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	return boolValue(re.Match(s))
}

// regexpSubstr is the first match; without one Undefined, our reading.
func regexpSubstr(f *frame, re *regexp.Regexp, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	at := re.FindIndex(s)
	if at == nil {
		return value{}
	}
	return textValue(s[at[0]:at[1]])
}

// regexpReplace replaces all matches. In the replacement $n stands for a
// group and a backslash makes the next character plain, as in Java; a group
// that doesn't exist stands for nothing.
func regexpReplace(f *frame, re *regexp.Regexp, args []value) value {
	s, ok1 := f.text(args[0])
	with, ok2 := f.text(args[2])
	if !ok1 || !ok2 {
		return value{}
	}
	var out []byte
	last := 0
	for _, at := range re.FindAllSubmatchIndex(s, -1) {
		out = append(out, s[last:at[0]]...)
		out = expand(out, with, s, at)
		last = at[1]
		if !f.fits(len(out) + len(s) - last) {
			return value{}
		}
	}
	return textValue(append(out, s[last:]...))
}

// expand appends the replacement for one match. Like in Java, a digit belongs
// to the group's number as long as such a group exists.
func expand(dst, with, s []byte, groups []int) []byte {
	for i := 0; i < len(with); i++ {
		switch c := with[i]; {
		case c == '\\' && i+1 < len(with):
			i++
			dst = append(dst, with[i])
		case c == '$' && i+1 < len(with) && isDigit(with[i+1]):
			i++
			n := int(with[i] - '0')
			for i+1 < len(with) && isDigit(with[i+1]) && 2*(n*10+int(with[i+1]-'0')) < len(groups) {
				i++
				n = n*10 + int(with[i]-'0')
			}
			if 2*n < len(groups) && groups[2*n] >= 0 {
				dst = append(dst, s[groups[2*n]:groups[2*n+1]]...)
			}
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
