// Package message is the one form that a published message has in the bridge,
// from the packet that brings it to the rules that read it, and its record on
// disk (FORMAT.md).
//
// Whoever takes a message in makes a Message: the gateway of a PUBLISH or a
// will, the data plane of a request, the broker's client of what the broker
// sends, a rule that republishes. The ingest log stores it, the gateway hands it
// to subscribers, and rules get it back from its record. Nobody on that way
// makes another of it, but for a batch of readings, of which each reading
// becomes a message of its own.
//
// # The way
//
//	gateway/publish.go      a PUBLISH becomes a Message; its bytes are copied out of the read buffer
//	route/router.go         the table of reserved topics (package topic) says which service is asked, too
//	ingest/entry.go         Begin: the record is in a batch; readings of a batch become Messages here
//	gateway/subscribers.go  Deliver, by the router: subscribers get the same Message
//	ingest/entry.go         Commit: when the batch is synced, Publish.Done sends PUBACK
//	rules/apply.go          the record is decoded into an iotsql.Input, which statements and actions read
//
// Nothing calls back. Up to the log that is three allocations: the Message, its
// bytes and Done (BenchmarkWalk of bridge/speed/route).
//
// # Memory
//
// Who makes a Message owns it, and what it points to, until it is handed on.
// From then on it belongs to nobody and nobody changes it: several sessions may
// hold it for as long as a client is away. So a Message holds on to nothing but
// its own texts and bytes, above all to no connection. Only a Decoder's Message
// is used again, and refers to the record it was read from.
package message

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math/rand/v2"
	"time"
	"unicode/utf8"
)

// A Message is one published message: a reading of a batch, or what a client, a
// service or a rule published as it is.
type Message struct {
	Topic   string // a topic name, without wildcards
	Payload []byte // JSON or anything else, up to the limit of who took it in
	QoS     byte   // 0, 1 or 2, as the publisher chose
	Retain  bool   // likewise

	// Properties are those of MQTT 5 that receivers get as they are, encoded as
	// on the wire without their length (packet.Properties.Forward; packet.Each
	// reads them). nil for none.
	Properties []byte
	// Expires is when the message is of no more use to anybody; zero: never. In
	// memory it has a monotonic reading, so that no jump of the clock makes it
	// earlier; in a record it is rounded down to a millisecond.
	Expires time.Time

	// ClientID is the publisher's; "" for a message that did not come by MQTT,
	// and for the bridge's own. What a rule republished has that of the message
	// that fired it, and Hops more than 0.
	ClientID string
	// Thing is the name of the thing that the publisher is, "" if it is none.
	Thing string
	// Principal is the id of its certificate, 64 hex digits, or another name.
	Principal string
	SourceIP  string // its address, without a port
	// Protocol is how it came: "mqtt", "wss", "http" …
	Protocol string
	Time     int64 // when the bridge took it, epoch ms
	Hops     uint8 // rules that republished it
	Trace    Trace // zero until it is to be stored

	// Owner is who the message counts for if it is retained, the publisher's
	// principal; "": nobody. It is not part of the record.
	Owner string
}

// Expired says whether the message is of no more use.
func (m *Message) Expired(now time.Time) bool { return !m.Expires.IsZero() && !m.Expires.After(now) }

// Key is what order is kept for: the thing, else the client, else the topic
// (the bridge's own messages have no client).
func (m *Message) Key() string {
	switch {
	case m.Thing != "":
		return m.Thing
	case m.ClientID != "":
		return m.ClientID
	}
	return m.Topic
}

// A Trace names one message among all. It is random.
type Trace [16]byte

// NewTrace returns a fresh one.
func NewTrace() (t Trace) {
	binary.LittleEndian.PutUint64(t[:], rand.Uint64())
	binary.LittleEndian.PutUint64(t[8:], rand.Uint64())
	return t
}

// traceParts are the groups of a Trace's text, as offsets of its bytes.
var traceParts = [...][2]int{{0, 4}, {4, 6}, {6, 8}, {8, 10}, {10, 16}}

// Append appends the Trace in the form of a UUID, 36 characters.
func (t Trace) Append(dst []byte) []byte {
	for i, p := range traceParts {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, t[p[0]:p[1]])
	}
	return dst
}

// String is the Trace in the form of a UUID, "" if it is zero.
func (t Trace) String() string {
	if t == (Trace{}) {
		return ""
	}
	var b [36]byte
	return string(t.Append(b[:0]))
}

// ParseTrace is the inverse of String.
func ParseTrace(s string) (t Trace, ok bool) {
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return t, false
	}
	_, err := hex.Decode(t[:], []byte(s[:8]+s[9:13]+s[14:18]+s[19:23]+s[24:]))
	return t, err == nil
}

// IsJSON says whether a payload is JSON as programs exchange it: in UTF-8 (RFC 8259,
// section 8.1). json.Valid alone takes any bytes inside strings.
func IsJSON(payload []byte) bool { return utf8.Valid(payload) && json.Valid(payload) }
