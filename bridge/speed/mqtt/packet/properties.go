package packet

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// A Property identifies one property of version 5 (MQTT 5, 2.2.2.2).
type Property byte

// The properties.
const (
	PayloadFormat        Property = 0x01
	MessageExpiry        Property = 0x02
	ContentType          Property = 0x03
	ResponseTopic        Property = 0x08
	CorrelationData      Property = 0x09
	SubscriptionID       Property = 0x0b
	SessionExpiry        Property = 0x11
	AssignedClientID     Property = 0x12
	ServerKeepAlive      Property = 0x13
	AuthMethod           Property = 0x15
	AuthData             Property = 0x16
	RequestProblemInfo   Property = 0x17
	WillDelay            Property = 0x18
	RequestResponseInfo  Property = 0x19
	ResponseInfo         Property = 0x1a
	ServerReference      Property = 0x1c
	ReasonString         Property = 0x1f
	ReceiveMaximum       Property = 0x21
	TopicAliasMaximum    Property = 0x22
	TopicAlias           Property = 0x23
	MaximumQoS           Property = 0x24
	RetainAvailable      Property = 0x25
	UserProperty         Property = 0x26
	MaximumPacketSize    Property = 0x27
	WildcardAvailable    Property = 0x28
	SubscriptionIDsAvail Property = 0x29
	SharedAvailable      Property = 0x2a
)

// Will stands for the properties of a will where those of a packet type are
// told apart.
const Will Type = 0

// ErrProtocol is wrapped by errors about what is well formed and yet not
// allowed: reason code 0x82 instead of 0x81.
var ErrProtocol = errors.New("protocol error")

func offence(t Type, what string) error { return fmt.Errorf("%s: %w: %s", t, ErrProtocol, what) }

// kinds of values.
const (
	oneByte = iota + 1
	twoBytes
	fourBytes
	varInt
	text
	binaryData
	textPair
)

func in(ts ...Type) (mask uint16) {
	for _, t := range ts {
		mask |= 1 << t
	}
	return mask
}

// rules say of each property what its value is and where it may be.
var rules = [...]struct {
	kind  byte
	where uint16
}{
	PayloadFormat:        {oneByte, in(PUBLISH, Will)},
	MessageExpiry:        {fourBytes, in(PUBLISH, Will)},
	ContentType:          {text, in(PUBLISH, Will)},
	ResponseTopic:        {text, in(PUBLISH, Will)},
	CorrelationData:      {binaryData, in(PUBLISH, Will)},
	SubscriptionID:       {varInt, in(PUBLISH, SUBSCRIBE)},
	SessionExpiry:        {fourBytes, in(CONNECT, CONNACK, DISCONNECT)},
	AssignedClientID:     {text, in(CONNACK)},
	ServerKeepAlive:      {twoBytes, in(CONNACK)},
	AuthMethod:           {text, in(CONNECT, CONNACK, AUTH)},
	AuthData:             {binaryData, in(CONNECT, CONNACK, AUTH)},
	RequestProblemInfo:   {oneByte, in(CONNECT)},
	WillDelay:            {fourBytes, in(Will)},
	RequestResponseInfo:  {oneByte, in(CONNECT)},
	ResponseInfo:         {text, in(CONNACK)},
	ServerReference:      {text, in(CONNACK, DISCONNECT)},
	ReasonString:         {text, in(CONNACK, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, DISCONNECT, AUTH)},
	ReceiveMaximum:       {twoBytes, in(CONNECT, CONNACK)},
	TopicAliasMaximum:    {twoBytes, in(CONNECT, CONNACK)},
	TopicAlias:           {twoBytes, in(PUBLISH)},
	MaximumQoS:           {oneByte, in(CONNACK)},
	RetainAvailable:      {oneByte, in(CONNACK)},
	UserProperty:         {textPair, 0xffff},
	MaximumPacketSize:    {fourBytes, in(CONNECT, CONNACK)},
	WildcardAvailable:    {oneByte, in(CONNACK)},
	SubscriptionIDsAvail: {oneByte, in(CONNACK)},
	SharedAvailable:      {oneByte, in(CONNACK)},
}

// Properties are those of one packet that a server acts on.
type Properties struct {
	set     uint64 // by Property
	numbers [SharedAvailable + 1]uint32

	// Text and data properties are parts of what was parsed.
	ResponseTopic, AuthMethod, AssignedClientID, ReasonString []byte

	// Forward holds those that go on to the receivers of a PUBLISH or will as
	// they are: payload format, content type, response topic, correlation data
	// and user properties, as on the wire. It may be part of what was parsed.
	Forward []byte
}

// Has says whether the property is there.
func (p *Properties) Has(id Property) bool { return p.set&(1<<id) != 0 }

// Number returns the value of a property that is one, or otherwise if it is not
// there.
func (p *Properties) Number(id Property, otherwise uint32) uint32 {
	if !p.Has(id) {
		return otherwise
	}
	return p.numbers[id]
}

// forwarded says whether a property of a PUBLISH goes on to its receivers as it
// is.
func forwarded(id Property) bool {
	switch id {
	case PayloadFormat, ContentType, ResponseTopic, CorrelationData, UserProperty:
		return true
	}
	return false
}

// Parse reads the properties b of a packet of type t; Will stands for those of a
// will. It takes memory only for Forward, and only if b holds others, too.
func (p *Properties) Parse(t Type, b []byte) error {
	*p = Properties{}
	whole, from, all := b, 0, true
	r := body{b: b}
	for len(r.b) > 0 {
		begin := len(whole) - len(r.b)
		id := Property(r.byte())
		if int(id) >= len(rules) || rules[id].kind == 0 || rules[id].where&(1<<t) == 0 { // [MQTT 5, 2.2.2.2]
			return malformed(t, fmt.Sprintf("property 0x%02x does not belong there", byte(id)))
		}
		again := p.Has(id)
		p.set |= 1 << id
		var data []byte
		switch rules[id].kind {
		case oneByte:
			p.numbers[id] = uint32(r.byte())
			if p.numbers[id] > 1 && id != MaximumQoS || p.numbers[id] > 2 {
				return offence(t, fmt.Sprintf("property 0x%02x is neither 0 nor 1", byte(id)))
			}
		case twoBytes:
			p.numbers[id] = uint32(r.uint16())
		case fourBytes:
			p.numbers[id] = r.uint32()
		case varInt:
			v, n := varint(r.b)
			if n <= 0 || n > varintLen(v) {
				r.fail("subscription identifier")
				break
			}
			p.numbers[id] = uint32(v)
			r.b = r.b[n:]
			again = again && t != PUBLISH
		case text:
			data = r.text()
		case binaryData:
			data = r.binary()
		case textPair:
			r.text()
			r.text()
			again = false
		}
		if r.bad != "" {
			return malformed(t, r.bad)
		}
		switch {
		case again:
			return offence(t, fmt.Sprintf("property 0x%02x comes twice", byte(id)))
		case p.numbers[id] == 0 && (id == ReceiveMaximum || id == MaximumPacketSize || id == SubscriptionID):
			return offence(t, fmt.Sprintf("property 0x%02x is 0", byte(id)))
		}
		switch id {
		case ResponseTopic:
			p.ResponseTopic = data
		case AuthMethod:
			p.AuthMethod = data
		case AssignedClientID:
			p.AssignedClientID = data
		case ReasonString:
			p.ReasonString = data
		}
		end := len(whole) - len(r.b)
		if t != PUBLISH && t != Will {
			continue
		}
		switch {
		case !forwarded(id) && all:
			p.Forward, all = append([]byte(nil), whole[:begin]...), false
		case forwarded(id) && !all:
			p.Forward = append(p.Forward, whole[begin:end]...)
		}
		from = end
	}
	if all && from > 0 {
		p.Forward = whole
	}
	if len(p.Forward) == 0 {
		p.Forward = nil
	}
	return nil
}

func (r *body) uint32() uint32 {
	if len(r.b) < 4 {
		r.fail("too short")
		return 0
	}
	v := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return v
}

// AppendNumber adds a property whose value is a number.
func AppendNumber(dst []byte, id Property, n uint32) []byte {
	dst = append(dst, byte(id))
	switch rules[id].kind {
	case oneByte:
		return append(dst, byte(n))
	case twoBytes:
		return binary.BigEndian.AppendUint16(dst, uint16(n))
	case varInt:
		return appendVarint(dst, int(n))
	}
	return binary.BigEndian.AppendUint32(dst, n)
}

// AppendText adds a property whose value is text or data.
func AppendText[S string | []byte](dst []byte, id Property, s S) []byte {
	return appendString(append(dst, byte(id)), s)
}

// AppendUser adds a user property.
func AppendUser(dst []byte, name, value string) []byte {
	return appendString(appendString(append(dst, byte(UserProperty)), name), value)
}

// Each calls f for every property of b, which Parse has accepted, with its value
// as on the wire: a number big-endian (a subscription identifier as a variable
// byte integer), text and data without their length; of a user property name
// and value. It stops when f returns false.
func Each(b []byte, f func(id Property, value, second []byte) bool) {
	r := body{b: b}
	for len(r.b) > 0 && r.bad == "" {
		id := Property(r.byte())
		if int(id) >= len(rules) {
			return
		}
		var value, second []byte
		take := func(n int) {
			if len(r.b) < n {
				r.fail("too short")
				return
			}
			value, r.b = r.b[:n], r.b[n:]
		}
		switch rules[id].kind {
		case oneByte:
			take(1)
		case twoBytes:
			take(2)
		case fourBytes:
			take(4)
		case varInt:
			_, n := varint(r.b)
			if n <= 0 {
				return
			}
			take(n)
		case text, binaryData:
			value = r.binary()
		case textPair:
			value, second = r.binary(), r.binary()
		default:
			return
		}
		if r.bad != "" || !f(id, value, second) {
			return
		}
	}
}
