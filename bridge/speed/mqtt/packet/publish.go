package packet

import "encoding/binary"

// Publish carries an application message.
type Publish struct {
	Dup        bool
	QoS        byte // 0, 1 or 2
	Retain     bool
	Topic      []byte // UTF-8 text; in version 5 empty if an alias stands for it
	ID         uint16 // 0 for QoS 0
	Properties []byte
	Payload    []byte
}

// Type is PUBLISH.
func (*Publish) Type() Type { return PUBLISH }

// Decode does not allocate: Topic and Payload are parts of b. It does not look
// for wildcards in the topic.
func (p *Publish) Decode(first byte, b []byte, v Version) error {
	*p = Publish{Dup: first&8 != 0, QoS: first >> 1 & 3, Retain: first&1 != 0}
	r := body{b: b}
	switch {
	case first>>4 != byte(PUBLISH) || p.QoS == 3: // [MQTT-3.3.1-4]
		r.fail("QoS 3")
	case p.Dup && p.QoS == 0: // [MQTT-3.3.1-2]
		r.fail("DUP with QoS 0")
	}
	p.Topic = r.text()
	if p.QoS > 0 {
		p.ID = r.id()
	}
	p.Properties = r.properties(v)
	p.Payload, r.b = r.b, nil
	return r.end(PUBLISH)
}

// remaining is the packet's remaining length.
func (p *Publish) remaining(v Version) int {
	n := 2 + len(p.Topic) + propertiesLen(p.Properties, v) + len(p.Payload)
	if p.QoS > 0 {
		n += 2
	}
	return n
}

// SizeWith is how many bytes Append adds if the topic, which is not looked at, has
// so many.
func (p *Publish) SizeWith(topic int, v Version) int {
	n := p.remaining(v) - len(p.Topic) + topic
	return 1 + varintLen(n) + n
}

// Append writes the packet after dst.
func (p *Publish) Append(dst []byte, v Version) []byte {
	first := byte(PUBLISH)<<4 | p.QoS<<1
	if p.Dup {
		first |= 8
	}
	if p.Retain {
		first |= 1
	}
	dst = AppendHeader(dst, first, p.remaining(v))
	dst = appendString(dst, p.Topic)
	if p.QoS > 0 {
		dst = binary.BigEndian.AppendUint16(dst, p.ID)
	}
	dst = appendProperties(dst, p.Properties, v)
	return append(dst, p.Payload...)
}

// Ack is PUBACK, PUBREC, PUBREL or PUBCOMP.
type Ack struct {
	Kind       Type
	ID         uint16
	Reason     byte // version 5
	Properties []byte
}

// Type is p.Kind.
func (p *Ack) Type() Type { return p.Kind }

// Decode reads the packet and sets Kind.
func (p *Ack) Decode(first byte, b []byte, v Version) error {
	*p = Ack{Kind: Type(first >> 4)}
	r := body{b: b}
	if first != p.Kind.first() {
		r.fail("flags")
	}
	p.ID = r.id()
	p.Reason, p.Properties = r.tail(v)
	if err := r.end(p.Kind); err != nil {
		return err
	}
	return knownReason(p.Kind, p.Reason)
}

// Append writes the packet after dst.
func (p *Ack) Append(dst []byte, v Version) []byte {
	dst = AppendHeader(dst, p.Kind.first(), 2+tailLen(p.Reason, p.Properties, v))
	dst = binary.BigEndian.AppendUint16(dst, p.ID)
	return appendTail(dst, p.Reason, p.Properties, v)
}

// first is the first byte of a packet whose flags are fixed (MQTT 2.2.2).
func (t Type) first() byte {
	switch t {
	case PUBREL, SUBSCRIBE, UNSUBSCRIBE:
		return byte(t)<<4 | 2
	}
	return byte(t) << 4
}
