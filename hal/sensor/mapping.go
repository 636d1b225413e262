package sensor

import (
	"math"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

// channelOptions are the members of a table of the option channels.
var channelOptions = []Option{
	{"name", "string", "", "required: of the channel, [a-z][a-z0-9_]*, at most 32 bytes"},
	{"from", "string", "", "path of the value in what is said, such as ENERGY.Power; name if left out"},
	{"unit", "string", "", "of the value after scale and offset"},
	{"kind", "string", "float", "float, int, bool or text"},
	{"scale", "number", "1", "value = what is said * scale + offset; of float alone"},
	{"offset", "number", "0", "see scale"},
	{"true_if", "string", "", "of bool: this text is true, any other false; else on, true, 1 and their opposites"},
}

const channelsHelp = "the values to take; all numbers and truth values, without units, if left out"

// A mapped says what a value of a payload becomes.
type mapped struct {
	hal.Channel
	from          string
	scale, offset float64
	trueIf        string
}

// A mapping makes readings of payloads. Without fields, numbers and truth values
// become channels by themselves.
type mapping struct {
	fields   []mapped
	channels []hal.Channel // of fields
}

var (
	hasKind = map[string]hal.Kind{"float": hal.Float, "int": hal.Int, "bool": hal.Bool, "text": hal.Text}
)

// mapping reads the option channels. taken are channels that the driver adds.
func (o *options) mapping(taken ...hal.Channel) *mapping {
	m := &mapping{}
	n := o.tables("channels", func(_ int, t *options) {
		f := mapped{Channel: hal.Channel{Name: t.channelName(append(slices.Clone(taken), m.channels...)),
			Unit: t.unit(), Kind: hasKind[t.choice("kind", "float", "int", "bool", "text")]}}
		f.from = t.text("from", f.Name)
		f.scale, f.offset = t.number("scale", 1, -1e12, 1e12), t.number("offset", 0, -1e12, 1e12)
		if f.Kind != hal.Float && (f.scale != 1 || f.offset != 0) {
			t.fail("scale", "want none, nor offset, of a channel that is no float")
		}
		if f.trueIf = t.text("true_if", ""); f.trueIf != "" && f.Kind != hal.Bool {
			t.fail("true_if", "%q, want none of a channel that is no bool", f.trueIf)
		}
		m.fields, m.channels = append(m.fields, f), append(m.channels, f.Channel)
	})
	if n > payload.MaxMembers {
		o.fail("channels", "%d, want at most %d", n, payload.MaxMembers)
	}
	return m
}

// auto says that channels come by themselves.
func (m *mapping) auto() bool { return len(m.fields) == 0 }

// apply makes a reading; ok is false if nothing of it is wanted.
func (m *mapping) apply(members []payload.Member) (chs []hal.Channel, vals []hal.Value, ok bool) {
	if m.auto() {
		chs, vals = automatic(members)
		return chs, vals, len(chs) > 0
	}
	vals = make([]hal.Value, len(m.fields))
	for i := range m.fields {
		f := &m.fields[i]
		j := slices.IndexFunc(members, func(e payload.Member) bool { return e.Path == f.from })
		if j >= 0 {
			vals[i] = f.value(members[j].Value)
		}
		ok = ok || vals[i].Kind() != hal.Absent
	}
	return m.channels, vals, ok
}

// value converts what was said, absent if it is nothing of the channel's kind.
func (f *mapped) value(v any) hal.Value {
	s, isText := v.(string)
	if isText && f.Kind != hal.Text && f.trueIf == "" {
		v = payload.Scalar(strings.TrimSpace(s)) // numbers in quotes are common
	}
	switch v := v.(type) {
	case float64:
		switch {
		case f.Kind == hal.Float && !math.IsInf(v*f.scale+f.offset, 0):
			return hal.FloatValue(v*f.scale + f.offset)
		case f.Kind == hal.Int && v == float64(int64(v)) && v > -1<<53 && v < 1<<53:
			return hal.IntValue(int64(v))
		case f.Kind == hal.Bool && f.trueIf == "" && (v == 0 || v == 1):
			return hal.BoolValue(v == 1)
		}
	case bool:
		switch {
		case f.Kind == hal.Bool && f.trueIf == "":
			return hal.BoolValue(v)
		case f.Kind == hal.Int && v:
			return hal.IntValue(1)
		case f.Kind == hal.Int:
			return hal.IntValue(0)
		}
	case string:
		switch {
		case f.Kind == hal.Text:
			return hal.TextValue(v)
		case f.Kind == hal.Bool && f.trueIf != "":
			return hal.BoolValue(v == f.trueIf)
		}
	}
	return hal.Value{}
}

// automatic makes channels of numbers and truth values, on and off among them, by
// the names of their paths. Of two paths with one name the first counts.
func automatic(members []payload.Member) (chs []hal.Channel, vals []hal.Value) {
	for _, e := range members {
		name := payload.Name(e.Path)
		if slices.ContainsFunc(chs, func(c hal.Channel) bool { return c.Name == name }) {
			continue
		}
		switch v := e.Value.(type) {
		case float64:
			chs, vals = append(chs, hal.Channel{Name: name, Kind: hal.Float}), append(vals, hal.FloatValue(v))
		case bool:
			chs, vals = append(chs, hal.Channel{Name: name, Kind: hal.Bool}), append(vals, hal.BoolValue(v))
		case string:
			if b, ok := payload.Truth(v); ok {
				chs, vals = append(chs, hal.Channel{Name: name, Kind: hal.Bool}), append(vals, hal.BoolValue(b))
			}
		}
	}
	return chs, vals
}
