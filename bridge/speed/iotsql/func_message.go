package iotsql

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// topic is the topic as the rule sees it, without a Basic Ingest prefix of its own.
func (m *Input) topic() string {
	if rule, rest, ok := topic.CutRule(m.Topic); ok && rule == m.Rule {
		return rest
	}
	return m.Topic
}

// string makes a String of s; broken UTF-8 becomes U+FFFD.
func (f *frame) string(s string) value {
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	from := len(f.arena)
	f.arena = append(f.arena, s...)
	f.checkArena()
	return value{kind: kindText, b: f.arena[from:len(f.arena):len(f.arena)]}
}

// given is string for what may be missing.
func (f *frame) given(s string) value {
	if s == "" {
		return value{}
	}
	return f.string(s)
}

// topicFunc is topic() or topic(n), the n-th level from 1.
func topicFunc(f *frame, args []value) value {
	t := f.m.topic()
	if len(args) == 0 {
		return f.string(t)
	}
	n, ok := f.index(args[0], floor)
	if !ok || n < 1 {
		return value{}
	}
	for ; n > 1; n-- {
		if _, t, ok = strings.Cut(t, "/"); !ok {
			return value{}
		}
	}
	t, _, _ = strings.Cut(t, "/")
	return f.string(t)
}

func (m *Input) overMQTT() bool { return m.Protocol == "" || strings.HasPrefix(m.Protocol, "mqtt") }

func clientID(f *frame, _ []value) value {
	if !f.m.overMQTT() || f.m.ClientID == "" {
		return f.string("n/a")
	}
	return f.string(f.m.ClientID)
}

func traceID(f *frame, _ []value) value {
	if !f.m.overMQTT() || f.m.Trace == (message.Trace{}) {
		return value{}
	}
	from := len(f.arena)
	f.arena = f.m.Trace.Append(f.arena)
	return f.built(kindText, from)
}

// random fills b, which is at most 32 bytes: at random, or with what the
// message's seed, the rule and the number of the draw determine.
func (f *frame) random(b []byte) {
	if f.m.Seed == [16]byte{} {
		rand.Read(b) // never fails
		return
	}
	f.draws++
	sum := sha256.Sum256(fmt.Appendf(f.m.Seed[:16:16], "%d/%s", f.draws, f.m.Rule))
	copy(b, sum[:])
}

// newUUID makes a random UUID, RFC 9562 version 4.
func newUUID(f *frame, _ []value) value {
	var u uuid.UUID
	f.random(u[:])
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	from := len(f.arena)
	f.arena = append(f.arena, u.String()...)
	return f.built(kindText, from)
}

func mqttProperty(f *frame, args []value) value {
	name, _ := f.text(args[0])
	want, ok := mqttProperties[string(name)]
	if !ok {
		return value{}
	}
	var found []byte
	packet.Each(f.m.Properties, func(id packet.Property, v, _ []byte) bool {
		if id == want {
			found = v
		}
		return found == nil
	})
	switch {
	case found == nil:
		return value{}
	case want == packet.CorrelationData:
		return f.base64(found)
	case want == packet.PayloadFormat:
		return f.string(formatIndicators[found[0]&1])
	}
	return f.given(string(found))
}

// mqttProperties are those that get_mqtt_property reads, by the name it gives
// them.
var mqttProperties = map[string]packet.Property{
	"content_type": packet.ContentType, "response_topic": packet.ResponseTopic,
	"format_indicator": packet.PayloadFormat, "correlation_data": packet.CorrelationData,
}

var formatIndicators = [...]string{"UNSPECIFIED_BYTES", "UTF8_DATA"}

// userProperties yields an Array of the values a key has; without a key all
// properties as objects of one member. Without any: Undefined.
func userProperties(f *frame, args []value) value {
	var key []byte
	if len(args) == 1 {
		var ok bool
		if key, ok = f.text(args[0]); !ok {
			return value{}
		}
	}
	var rows []value
	packet.Each(f.m.Properties, func(id packet.Property, name, val []byte) bool {
		switch {
		case id != packet.UserProperty:
		case len(args) == 0:
			k, v := f.string(string(name)), f.string(string(val))
			from := len(f.arena)
			f.arena = append(f.arena, '{')
			f.arena = append(appendQuoted(f.arena, k.b), ':')
			f.arena = append(appendQuoted(f.arena, v.b), '}')
			rows = append(rows, f.built(kindObject, from))
		case string(key) == string(name):
			rows = append(rows, f.string(string(val)))
		}
		return true
	})
	if rows == nil {
		return value{}
	}
	return f.array(rows)
}
