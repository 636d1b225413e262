package sensor

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/payload"
)

// validFilter says whether a broker may take a topic filter (MQTT 3.1.1, 4.7).
func validFilter(f string) bool {
	if len(f) > 65535 || !utf8.ValidString(f) {
		return false
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.ContainsAny(l, "+#") && len(l) > 1 || l == "#" && i < len(levels)-1 {
			return false
		}
	}
	return true
}

// said reads a payload: a JSON object, or a single value, whose path is the topic's
// last level, and the one before it too where that is a number: power of
// shellies/plug/relay/0/power, relay.0 of shellies/plug/relay/0.
func said(topic string, b []byte) ([]payload.Member, error) {
	text := strings.TrimSpace(string(b[:min(len(b), payload.MaxBytes+1)]))
	if strings.HasPrefix(text, "{") {
		return payload.JSON(b)
	}
	if text == "" || len(text) > payload.MaxText || !utf8.ValidString(text) || text[0] == '[' {
		return nil, fmt.Errorf("%w: %.40q", payload.ErrFormat, text)
	}
	levels := strings.Split(topic, "/")
	path := levels[len(levels)-1]
	if _, number := payload.Scalar(path).(float64); (number || path == "") && len(levels) > 1 {
		path = levels[len(levels)-2] + "." + path
	}
	return []payload.Member{{Path: path, Value: payload.Scalar(strings.Trim(text, `"`))}}, nil
}

// wildcards matches a topic with a filter and returns the levels that + and # took.
func wildcards(filter, topic string) (parts []string, ok bool) {
	levels := strings.Split(topic, "/")
	for i, f := range strings.Split(filter, "/") {
		switch {
		case f == "#":
			return append(parts, levels[min(i, len(levels)):]...), true
		case i >= len(levels) || f != "+" && f != levels[i]:
			return nil, false
		case f == "+":
			parts = append(parts, levels[i])
		}
		if i == strings.Count(filter, "/") && i < len(levels)-1 {
			return nil, false
		}
	}
	return parts, true
}

// withDevice puts the device's channel before the others; a member of that name gives
// way.
func withDevice(name string, chs []hal.Channel, vals []hal.Value) ([]hal.Channel, []hal.Value) {
	outChs, outVals := []hal.Channel{deviceChannel}, []hal.Value{hal.TextValue(name)}
	for i, c := range chs {
		if c.Name != deviceChannel.Name {
			outChs, outVals = append(outChs, c), append(outVals, vals[i])
		}
	}
	return outChs, outVals
}

// device returns what the wildcards of the filter that took a topic stand for.
func (m *mqttSensor) device(topic string) string {
	for _, f := range m.topics {
		if parts, ok := wildcards(f, topic); ok {
			return strings.ToValidUTF8(strings.Join(parts, "/"), "?")
		}
	}
	return topic
}
