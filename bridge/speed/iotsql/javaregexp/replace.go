package javaregexp

import "errors"

var (
	// ErrTooMuchWork says that a search was given up, as in Find.
	ErrTooMuchWork = errors.New("javaregexp: the search takes too long")
	// errReplacement says that a replacement is malformed or names a group that
	// does not exist.
	errReplacement = errors.New("javaregexp: malformed replacement")
	// errTooLarge says that the result does not fit the budget.
	errTooLarge = errors.New("javaregexp: the result is too large")
)

// ReplaceAll returns s with all matches replaced, with Java's rules for the
// replacement: $n and ${name} stand for groups, a backslash makes the next
// character plain. Without a match the replacement is not looked at, as in Java.
func (p *Pattern) ReplaceAll(b Budget, s, with []byte) ([]byte, error) {
	var out []byte
	var err error
	last := 0
	found := p.Find(b, s, true, func(groups []int) bool {
		out = append(out, s[last:groups[0]]...)
		var ok bool
		switch out, ok = p.expand(out, with, s, groups); {
		case !ok:
			err = errReplacement
		case !b.Fits(len(out) + len(s) - groups[1]):
			err = errTooLarge
		case !b.Work((groups[1] - groups[0]) / 32):
			err = ErrTooMuchWork
		}
		last = groups[1]
		return err == nil
	})
	if err == nil && !found {
		err = ErrTooMuchWork
	}
	if err != nil {
		return nil, err
	}
	return append(out, s[last:]...), nil
}

// expand appends the replacement for one match, as Java's Matcher has it: $n
// and ${name} stand for a group, a backslash makes the next character plain. A
// digit belongs to the group's number as long as such a group exists. ok is
// false for a group that doesn't exist, for a $ before anything else and a
// backslash before nothing.
func (p *Pattern) expand(dst, with, s []byte, groups []int) (_ []byte, ok bool) {
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

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
