// Package packet encodes and decodes MQTT control packets, versions 3.1.1 and 5.
//
// A Reader cuts a byte stream into packets and checks their size before it
// takes memory for them. Each packet is a struct with two methods: Decode reads
// what follows the fixed header, Append writes the whole packet. Decode refuses
// whatever the standard calls malformed, never panics, and never takes more
// memory than a small multiple of the bytes given. Byte slices in a decoded
// packet are parts of its input; strings are copies.
//
// Version 5 properties are kept as the bytes on the wire; Properties reads them.
package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A Version is the protocol level of a CONNECT.
type Version byte

// The versions that the codec knows.
const (
	V311 Version = 4
	V5   Version = 5
)

// A Type is a control packet type (MQTT 2.2.1).
type Type byte

// The control packet types.
const (
	CONNECT Type = iota + 1
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH // version 5
)

var names = [...]string{"0", "CONNECT", "CONNACK", "PUBLISH", "PUBACK", "PUBREC", "PUBREL", "PUBCOMP",
	"SUBSCRIBE", "SUBACK", "UNSUBSCRIBE", "UNSUBACK", "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH"}

// String returns the standard's name.
func (t Type) String() string {
	if int(t) < len(names) {
		return names[t]
	}
	return fmt.Sprintf("Type(%d)", byte(t))
}

// ErrMalformed is wrapped by all errors of Decode but ErrVersion and those that
// wrap ErrProtocol.
var ErrMalformed = errors.New("malformed packet")

// ErrTooLarge is returned by a Reader for a packet over its limit.
var ErrTooLarge = errors.New("packet: larger than allowed")

// ErrVersion is returned for a CONNECT of a protocol that is not known; a server
// answers it with return code 1 [MQTT-3.1.2-2].
var ErrVersion = errors.New("packet: unknown protocol name or level")

func malformed(t Type, what string) error { return fmt.Errorf("%s: %w: %s", t, ErrMalformed, what) }

// A Packet is any control packet.
type Packet interface {
	// Type is the control packet type.
	Type() Type
	// Decode sets the packet from its first byte and the bytes after the
	// fixed header.
	Decode(first byte, body []byte, v Version) error
	// Append writes the packet, fixed header included, after dst. It does not
	// check what the caller has set.
	Append(dst []byte, v Version) []byte
}

// newPacket returns an empty packet of type t, or nil if there is none.
func newPacket(t Type) Packet {
	switch t {
	case CONNECT:
		return new(Connect)
	case CONNACK:
		return new(Connack)
	case PUBLISH:
		return new(Publish)
	case PUBACK, PUBREC, PUBREL, PUBCOMP:
		return &Ack{Kind: t}
	case SUBSCRIBE:
		return new(Subscribe)
	case SUBACK:
		return new(Suback)
	case UNSUBSCRIBE:
		return new(Unsubscribe)
	case UNSUBACK:
		return new(Unsuback)
	case PINGREQ, PINGRESP:
		return &Ping{Kind: t}
	case DISCONNECT, AUTH:
		return &Disconnect{Kind: t}
	}
	return nil
}

// Decode decodes a packet of any type.
func Decode(first byte, body []byte, v Version) (Packet, error) {
	p := newPacket(Type(first >> 4))
	if p == nil || p.Type() == AUTH && v < V5 {
		return nil, fmt.Errorf("%w: type %d", ErrMalformed, first>>4)
	}
	if err := p.Decode(first, body, v); err != nil {
		return nil, err
	}
	return p, nil
}

// MaxRemaining is the largest remaining length MQTT can express.
const MaxRemaining = 1<<28 - 1

// AppendHeader writes a fixed header.
func AppendHeader(dst []byte, first byte, remaining int) []byte {
	return appendVarint(append(dst, first), remaining)
}

func appendVarint(dst []byte, n int) []byte {
	for n >= 0x80 {
		dst = append(dst, byte(n)|0x80)
		n >>= 7
	}
	return append(dst, byte(n))
}

func varintLen(n int) int {
	switch {
	case n < 1<<7:
		return 1
	case n < 1<<14:
		return 2
	case n < 1<<21:
		return 3
	}
	return 4
}

// varint reads a variable byte integer: n is 0 if b is too short, -1 if it is
// malformed, otherwise the bytes read.
func varint(b []byte) (v, n int) {
	for i := range 4 {
		if i == len(b) {
			return 0, 0
		}
		v |= int(b[i]&0x7f) << (7 * i)
		if b[i] < 0x80 {
			return v, i + 1
		}
	}
	return 0, -1
}

func appendString[S string | []byte](dst []byte, s S) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(s)))
	return append(dst, s...)
}

func appendProperties(dst, p []byte, v Version) []byte {
	if v < V5 {
		return dst
	}
	return append(appendVarint(dst, len(p)), p...)
}

func propertiesLen(p []byte, v Version) int {
	if v < V5 {
		return 0
	}
	return varintLen(len(p)) + len(p)
}

// A body reads fields off a packet; the first that is not there sets bad.
type body struct {
	b   []byte
	bad string
}

func (r *body) fail(what string) {
	if r.bad == "" {
		r.bad = what
	}
	r.b = nil
}

func (r *body) byte() byte {
	if len(r.b) < 1 {
		r.fail("too short")
		return 0
	}
	v := r.b[0]
	r.b = r.b[1:]
	return v
}

func (r *body) uint16() uint16 {
	if len(r.b) < 2 {
		r.fail("too short")
		return 0
	}
	v := binary.BigEndian.Uint16(r.b)
	r.b = r.b[2:]
	return v
}

// id reads a packet identifier, which is never 0 [MQTT-2.3.1-1].
func (r *body) id() uint16 {
	v := r.uint16()
	if v == 0 {
		r.fail("packet identifier 0")
	}
	return v
}

func (r *body) binary() []byte {
	n := int(r.uint16())
	if len(r.b) < n {
		r.fail("too short")
		return nil
	}
	v := r.b[:n:n]
	r.b = r.b[n:]
	return v
}

// text reads a string: well formed UTF-8 without NUL [MQTT-1.5.3-1, -2].
func (r *body) text() []byte {
	v := r.binary()
	if !validText(v) {
		r.fail("not UTF-8 text")
		return nil
	}
	return v
}

func validText(b []byte) bool {
	for i, c := range b {
		if c >= utf8.RuneSelf {
			return utf8.Valid(b[i:]) && !strings.Contains(string(b[i:]), "\x00")
		}
		if c == 0 {
			return false
		}
	}
	return true
}

func (r *body) properties(v Version) []byte {
	if v < V5 {
		return nil
	}
	l, n := varint(r.b)
	if n <= 0 || n > varintLen(l) || len(r.b)-n < l { // [MQTT-1.5.5-1] of version 5
		r.fail("properties")
		return nil
	}
	p := r.b[n : n+l : n+l]
	r.b = r.b[n+l:]
	if len(p) == 0 {
		return nil
	}
	return p
}

// end makes the error of the whole body.
func (r *body) end(t Type) error {
	if r.bad == "" && len(r.b) > 0 {
		r.bad = "bytes left over"
	}
	if r.bad != "" {
		return malformed(t, r.bad)
	}
	return nil
}
