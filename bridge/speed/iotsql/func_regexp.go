package iotsql

// regexpFunc prepares a function whose second argument is a pattern: one that
// is a literal is compiled once, others are kept in a cache.
func regexpFunc(fn func(f *frame, p *pattern, args []value) value) func(*node, []eval) eval {
	return func(n *node, evs []eval) eval {
		var fixed *pattern
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
			p := fixed
			if p == nil {
				text, ok := f.text(args[1])
				if !ok || !f.work(1) {
					return value{}
				}
				if p = patterns.get(f, text); p == nil {
					return value{}
				}
			}
			return fn(f, p, args)
		}
	}
}

func regexpMatches(f *frame, p *pattern, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	is, ok := p.matches(f, s)
	if !ok {
		return value{}
	}
	return boolValue(is)
}

// regexpSubstr is the first match; without one Undefined, our reading.
func regexpSubstr(f *frame, p *pattern, args []value) value {
	s, ok := f.text(args[0])
	if !ok {
		return value{}
	}
	v := value{}
	if !p.find(f, s, false, func(groups []int) bool {
		v = textValue(s[groups[0]:groups[1]])
		return false
	}) {
		return value{}
	}
	return v
}

// regexpReplace replaces all matches, with Java's rules for the replacement.
func regexpReplace(f *frame, p *pattern, args []value) value {
	s, ok1 := f.text(args[0])
	with, ok2 := f.text(args[2])
	if !ok1 || !ok2 {
		return value{}
	}
	var out []byte
	last, ok := 0, true
	if !p.find(f, s, true, func(groups []int) bool {
		out = append(out, s[last:groups[0]]...)
		out, ok = p.expand(out, with, s, groups)
		last = groups[1]
		return ok && f.fits(len(out)+len(s)-last) && f.work((last-groups[0])/32)
	}) || !ok || f.err != nil {
		return value{}
	}
	return textValue(append(out, s[last:]...))
}

// expand appends the replacement for one match, as Java's Matcher has it: $n
// and ${name} stand for a group, a backslash makes the next character plain. A
// digit belongs to the group's number as long as such a group exists. ok is
// false for a group that doesn't exist, for a $ before anything else and a
// backslash before nothing.
func (p *pattern) expand(dst, with, s []byte, groups []int) (_ []byte, ok bool) {
	for i := 0; i < len(with); i++ {
		c := with[i]
		if c != '\\' && c != '$' {
			dst = append(dst, c)
			continue
		}
		if i++; i == len(with) {
			return dst, false
		}
		n := 0
		switch {
		case c == '\\':
			dst = append(dst, with[i])
			continue
		case with[i] == '{':
			from := i + 1
			for i++; i < len(with) && isGroupName(with[i], i > from); i++ {
			}
			if n, ok = p.names[string(with[from:i])]; !ok || i == len(with) || with[i] != '}' {
				return dst, false
			}
		case isDigit(with[i]):
			if n = int(with[i] - '0'); n > p.groups {
				return dst, false
			}
			for i+1 < len(with) && isDigit(with[i+1]) && n*10+int(with[i+1]-'0') <= p.groups {
				i++
				n = n*10 + int(with[i]-'0')
			}
		default:
			return dst, false
		}
		if groups[2*n] >= 0 {
			dst = append(dst, s[groups[2*n]:groups[2*n+1]]...)
		}
	}
	return dst, true
}

// isGroupName tells the bytes of the name of a group.
func isGroupName(c byte, digits bool) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || digits && isDigit(c)
}
