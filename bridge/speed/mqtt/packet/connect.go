package packet

import "encoding/binary"

// Connect is the first packet of a client. Its own Version decides on its
// layout, whatever version Decode and Append are called with.
type Connect struct {
	Version    Version
	Clean      bool   // CleanSession, in version 5 Clean Start
	KeepAlive  uint16 // seconds
	Properties []byte
	ClientID   string

	HasWill        bool
	WillQoS        byte
	WillRetain     bool
	WillProperties []byte
	WillTopic      string
	WillPayload    []byte

	HasUsername, HasPassword bool
	Username                 string
	Password                 []byte
}

// Type is CONNECT.
func (*Connect) Type() Type { return CONNECT }

// Decode refuses protocols that are not MQTT 3.1.1 or 5 with ErrVersion.
func (p *Connect) Decode(first byte, b []byte, _ Version) error {
	if first != byte(CONNECT)<<4 {
		return malformed(CONNECT, "flags")
	}
	r := body{b: b}
	name, level := r.binary(), r.byte()
	if r.bad == "" && (string(name) != "MQTT" || level != byte(V311) && level != byte(V5)) {
		return ErrVersion
	}
	v := Version(level)
	flags := r.byte()
	*p = Connect{Version: v, Clean: flags&0x02 != 0, KeepAlive: r.uint16(), HasWill: flags&0x04 != 0,
		WillQoS: flags >> 3 & 3, WillRetain: flags&0x20 != 0, HasPassword: flags&0x40 != 0,
		HasUsername: flags&0x80 != 0}
	switch {
	case flags&1 != 0: // [MQTT-3.1.2-3]
		r.fail("reserved flag")
	case !p.HasWill && (p.WillQoS != 0 || p.WillRetain): // [MQTT-3.1.2-11]
		r.fail("will flags without a will")
	case p.WillQoS == 3: // [MQTT-3.1.2-14]
		r.fail("will QoS 3")
	case v < V5 && p.HasPassword && !p.HasUsername: // [MQTT-3.1.2-22]
		r.fail("password without user name")
	}
	p.Properties = r.properties(v)
	p.ClientID = string(r.text())
	if p.HasWill {
		p.WillProperties = r.properties(v)
		p.WillTopic = string(r.text())
		p.WillPayload = r.binary()
	}
	if p.HasUsername {
		p.Username = string(r.text())
	}
	if p.HasPassword {
		p.Password = r.binary()
	}
	return r.end(CONNECT)
}

// Append writes the packet after dst.
func (p *Connect) Append(dst []byte, _ Version) []byte {
	v := p.Version
	n := 10 + propertiesLen(p.Properties, v) + 2 + len(p.ClientID)
	var flags byte
	if p.Clean {
		flags |= 0x02
	}
	if p.HasWill {
		flags |= 0x04 | p.WillQoS<<3
		if p.WillRetain {
			flags |= 0x20
		}
		n += propertiesLen(p.WillProperties, v) + 4 + len(p.WillTopic) + len(p.WillPayload)
	}
	if p.HasPassword {
		flags |= 0x40
		n += 2 + len(p.Password)
	}
	if p.HasUsername {
		flags |= 0x80
		n += 2 + len(p.Username)
	}
	dst = AppendHeader(dst, byte(CONNECT)<<4, n)
	dst = appendString(dst, "MQTT")
	dst = append(dst, byte(v), flags)
	dst = binary.BigEndian.AppendUint16(dst, p.KeepAlive)
	dst = appendProperties(dst, p.Properties, v)
	dst = appendString(dst, p.ClientID)
	if p.HasWill {
		dst = appendProperties(dst, p.WillProperties, v)
		dst = appendString(dst, p.WillTopic)
		dst = appendString(dst, p.WillPayload)
	}
	if p.HasUsername {
		dst = appendString(dst, p.Username)
	}
	if p.HasPassword {
		dst = appendString(dst, p.Password)
	}
	return dst
}

// The CONNACK return codes of 3.1.1.
const (
	Accepted       byte = 0
	BadVersion     byte = 1
	BadIdentifier  byte = 2
	Unavailable    byte = 3
	BadCredentials byte = 4
	NotAuthorized  byte = 5
)

// Connack answers a Connect.
type Connack struct {
	SessionPresent bool
	Code           byte // return code, in version 5 reason code
	Properties     []byte
}

// Type is CONNACK.
func (*Connack) Type() Type { return CONNACK }

// Decode reads the packet.
func (p *Connack) Decode(first byte, b []byte, v Version) error {
	r := body{b: b}
	flags := r.byte()
	if first != byte(CONNACK)<<4 || flags > 1 {
		r.fail("flags")
	}
	*p = Connack{SessionPresent: flags&1 != 0, Code: r.byte(), Properties: r.properties(v)}
	return r.end(CONNACK)
}

// Append writes the packet after dst.
func (p *Connack) Append(dst []byte, v Version) []byte {
	dst = AppendHeader(dst, byte(CONNACK)<<4, 2+propertiesLen(p.Properties, v))
	var flags byte
	if p.SessionPresent {
		flags = 1
	}
	return appendProperties(append(dst, flags, p.Code), p.Properties, v)
}

// Disconnect ends a connection; in version 5 it also is AUTH, which has the same
// layout.
type Disconnect struct {
	Kind       Type // DISCONNECT or AUTH
	Reason     byte // version 5
	Properties []byte
}

// Type is p.Kind.
func (p *Disconnect) Type() Type { return p.Kind }

// Decode reads the packet and sets Kind.
func (p *Disconnect) Decode(first byte, b []byte, v Version) error {
	*p = Disconnect{Kind: Type(first >> 4)}
	r := body{b: b}
	if first&0x0f != 0 || v < V5 && len(b) > 0 {
		r.fail("flags or length")
	}
	p.Reason, p.Properties = r.tail(v)
	if err := r.end(p.Kind); err != nil {
		return err
	}
	return knownReason(p.Kind, p.Reason)
}

// Append writes the packet after dst.
func (p *Disconnect) Append(dst []byte, v Version) []byte {
	dst = AppendHeader(dst, byte(p.Kind)<<4, tailLen(p.Reason, p.Properties, v))
	return appendTail(dst, p.Reason, p.Properties, v)
}

// tail reads version 5's reason code and properties, both of which may be left
// off at the end of a packet.
func (r *body) tail(v Version) (reason byte, properties []byte) {
	if v < V5 {
		return 0, nil
	}
	if len(r.b) > 0 {
		reason = r.byte()
	}
	if len(r.b) > 0 {
		properties = r.properties(v)
	}
	return reason, properties
}

func tailLen(reason byte, p []byte, v Version) int {
	switch {
	case v < V5 || reason == 0 && len(p) == 0:
		return 0
	case len(p) == 0:
		return 1
	}
	return 1 + propertiesLen(p, v)
}

func appendTail(dst []byte, reason byte, p []byte, v Version) []byte {
	switch tailLen(reason, p, v) {
	case 0:
		return dst
	case 1:
		return append(dst, reason)
	}
	return appendProperties(append(dst, reason), p, v)
}

// Ping is PINGREQ or PINGRESP.
type Ping struct{ Kind Type }

// Type is p.Kind.
func (p *Ping) Type() Type { return p.Kind }

// Decode reads the packet and sets Kind.
func (p *Ping) Decode(first byte, b []byte, _ Version) error {
	p.Kind = Type(first >> 4)
	if first&0x0f != 0 || len(b) > 0 {
		return malformed(p.Kind, "flags or length")
	}
	return nil
}

// Append writes the packet after dst.
func (p *Ping) Append(dst []byte, _ Version) []byte { return append(dst, byte(p.Kind)<<4, 0) }
