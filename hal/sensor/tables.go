package sensor

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
)

// texts returns a list of strings, nil if there is none. It is not empty, and its
// strings are as those of text.
func (o *options) texts(key string) []string { return o.list(key, unclean) }

// list is texts with other strings that are refused.
func (o *options) list(key string, refuse func(string) bool) []string {
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
	if len(out) == 0 || slices.ContainsFunc(out, refuse) {
		o.fail(key, "%s, want a list of strings without control characters", show(v))
		return nil
	}
	return out
}

// unclean says that s is empty or has a control character, or is no UTF-8.
func unclean(s string) bool {
	return s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\ufffd' })
}

// textMap returns a table of strings, nil if there is none.
func (o *options) textMap(key string) map[string]string {
	v, ok := o.get(key)
	if !ok {
		return nil
	}
	out := map[string]string{}
	switch m := v.(type) {
	case map[string]string:
		return maps.Clone(m)
	case map[string]any:
		for k, e := range m {
			s, ok := e.(string)
			if !ok || unclean(k) || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				o.fail(key, "%s = %s, want a string", show(k), show(e))
				return nil
			}
			out[k] = s
		}
		return out
	}
	o.fail(key, "%s, want a table of strings", show(v))
	return nil
}

// tables calls read for each table of a list and takes over its errors, with the
// key "key[0].member". It returns how many there are.
func (o *options) tables(key string, read func(i int, t *options)) int {
	v, ok := o.get(key)
	if !ok {
		return 0
	}
	var list []map[string]any
	switch l := v.(type) {
	case []map[string]any:
		list = l
	case []any:
		for _, e := range l {
			m, ok := e.(map[string]any)
			if !ok {
				list = nil
				break
			}
			list = append(list, m)
		}
	}
	if len(list) == 0 {
		o.fail(key, "%s, want a list of tables", show(v))
		return 0
	}
	for i, values := range list {
		t := newOptions(values)
		read(i, t)
		for _, err := range t.done() {
			var oe *OptionError
			errors.As(err, &oe)
			o.fail(fmt.Sprintf("%s[%d].%s", key, i, oe.Key), "%s", oe.Problem)
		}
	}
	return len(list)
}

// channelName returns the required option name, of which others lists those taken.
func (o *options) channelName(others []hal.Channel) string {
	name := o.required("name")
	switch {
	case name == "":
	case !form.Channel(name) || name == "ts":
		o.fail("name", "%q, want [a-z][a-z0-9_]*, at most 32 bytes, and not ts", name)
	case slices.ContainsFunc(others, func(c hal.Channel) bool { return c.Name == name }):
		o.fail("name", "%q, want a name that no other channel has", name)
	}
	return name
}

// unit returns the option of that name: printable, at most 16 bytes.
func (o *options) unit() string {
	unit := o.text("unit", "")
	if len(unit) > 16 || strings.ContainsFunc(unit, func(r rune) bool { return !unicode.IsPrint(r) }) {
		o.fail("unit", "%q, want at most 16 bytes that can be printed", unit)
		return ""
	}
	return unit
}
