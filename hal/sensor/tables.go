package sensor

import (
	"slices"
	"strings"
)

// texts returns a list of strings, nil if there is none. It is not empty, and its
// strings are as those of text.
func (o *options) texts(key string) []string {
	v, ok := o.get(key)
	if !ok {
		return nil
	}
	var out []string
	switch list := v.(type) {
	case []string:
		out = slices.Clone(list)
	case []any:
		for _, e := range list {
			s, ok := e.(string)
			if !ok {
				o.fail(key, "%s, want a list of strings", show(v))
				return nil
			}
			out = append(out, s)
		}
	}
	if len(out) == 0 || slices.ContainsFunc(out, unclean) {
		o.fail(key, "%s, want a list of strings without control characters", show(v))
		return nil
	}
	return out
}

// unclean says that s is empty or has a control character, or is no UTF-8.
func unclean(s string) bool {
	return s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
}
