package packet

import "encoding/binary"

// A Filter is one line of a Subscribe.
type Filter struct {
	Filter string
	// Options holds the QoS in its two low bits; version 5 adds no local (4),
	// retain as published (8) and retain handling (0x30).
	Options byte
}

// QoS is the quality asked for.
func (f Filter) QoS() byte { return f.Options & 3 }

// Subscribe asks for subscriptions.
type Subscribe struct {
	ID         uint16
	Properties []byte
	Filters    []Filter // at least one
}

// Type is SUBSCRIBE.
func (*Subscribe) Type() Type { return SUBSCRIBE }

// Decode does not look at the form of the filters beyond their being text, so
// that a server can refuse one and grant the others.
func (p *Subscribe) Decode(first byte, b []byte, v Version) error {
	r := body{b: b}
	if first != SUBSCRIBE.first() { // [MQTT-3.8.1-1]
		r.fail("flags")
	}
	*p = Subscribe{ID: r.id(), Properties: r.properties(v)}
	for r.bad == "" && (len(r.b) > 0 || len(p.Filters) == 0) { // [MQTT-3.8.3-3]
		f := Filter{string(r.text()), r.byte()}
		reserved := byte(0xfc)
		if v >= V5 {
			reserved = 0xc0
		}
		switch {
		case r.bad != "":
		case f.Options&reserved != 0: // [MQTT-3.8.3-4], of version 5 [MQTT-3.8.3-5]
			r.fail("subscription options")
		case v >= V5 && (f.QoS() == 3 || f.Options&0x30 == 0x30):
			return offence(SUBSCRIBE, "subscription options")
		case f.QoS() == 3:
			r.fail("subscription options")
		}
		p.Filters = append(p.Filters, f)
	}
	return r.end(SUBSCRIBE)
}

// Append writes the packet after dst.
func (p *Subscribe) Append(dst []byte, v Version) []byte {
	n := 2 + propertiesLen(p.Properties, v)
	for _, f := range p.Filters {
		n += 3 + len(f.Filter)
	}
	dst = AppendHeader(dst, SUBSCRIBE.first(), n)
	dst = binary.BigEndian.AppendUint16(dst, p.ID)
	dst = appendProperties(dst, p.Properties, v)
	for _, f := range p.Filters {
		dst = append(appendString(dst, f.Filter), f.Options)
	}
	return dst
}

// SubFailure is the code for a filter that is refused.
const SubFailure byte = 0x80

// Suback answers a Subscribe with a code for each filter: the QoS granted or
// SubFailure (version 5: any reason code from 0x80).
type Suback struct {
	ID         uint16
	Properties []byte
	Codes      []byte // at least one
}

// Type is SUBACK.
func (*Suback) Type() Type { return SUBACK }

// Decode reads the packet.
func (p *Suback) Decode(first byte, b []byte, v Version) error {
	r := body{b: b}
	if first != SUBACK.first() {
		r.fail("flags")
	}
	*p = Suback{ID: r.id(), Properties: r.properties(v), Codes: r.b}
	for _, c := range p.Codes {
		if c > 2 && c < 0x80 || v < V5 && c > 0x80 { // [MQTT-3.9.3-2]
			r.fail("return code")
		}
	}
	if len(p.Codes) == 0 {
		r.fail("no return code")
	}
	r.b = nil
	return r.end(SUBACK)
}

// Append writes the packet after dst.
func (p *Suback) Append(dst []byte, v Version) []byte {
	dst = AppendHeader(dst, SUBACK.first(), 2+propertiesLen(p.Properties, v)+len(p.Codes))
	dst = binary.BigEndian.AppendUint16(dst, p.ID)
	dst = appendProperties(dst, p.Properties, v)
	return append(dst, p.Codes...)
}

// Unsubscribe ends subscriptions.
type Unsubscribe struct {
	ID         uint16
	Properties []byte
	Filters    []string // at least one
}

// Type is UNSUBSCRIBE.
func (*Unsubscribe) Type() Type { return UNSUBSCRIBE }

// Decode reads the packet.
func (p *Unsubscribe) Decode(first byte, b []byte, v Version) error {
	r := body{b: b}
	if first != UNSUBSCRIBE.first() { // [MQTT-3.10.1-1]
		r.fail("flags")
	}
	*p = Unsubscribe{ID: r.id(), Properties: r.properties(v)}
	for r.bad == "" && (len(r.b) > 0 || len(p.Filters) == 0) { // [MQTT-3.10.3-2]
		p.Filters = append(p.Filters, string(r.text()))
	}
	return r.end(UNSUBSCRIBE)
}

// Append writes the packet after dst.
func (p *Unsubscribe) Append(dst []byte, v Version) []byte {
	n := 2 + propertiesLen(p.Properties, v)
	for _, f := range p.Filters {
		n += 2 + len(f)
	}
	dst = AppendHeader(dst, UNSUBSCRIBE.first(), n)
	dst = binary.BigEndian.AppendUint16(dst, p.ID)
	dst = appendProperties(dst, p.Properties, v)
	for _, f := range p.Filters {
		dst = appendString(dst, f)
	}
	return dst
}

// Unsuback answers an Unsubscribe.
type Unsuback struct {
	ID         uint16
	Properties []byte
	Codes      []byte // version 5: one for each filter; nil before
}

// Type is UNSUBACK.
func (*Unsuback) Type() Type { return UNSUBACK }

// Decode reads the packet.
func (p *Unsuback) Decode(first byte, b []byte, v Version) error {
	r := body{b: b}
	if first != UNSUBACK.first() {
		r.fail("flags")
	}
	*p = Unsuback{ID: r.id(), Properties: r.properties(v)}
	if v >= V5 {
		if len(r.b) == 0 {
			r.fail("no reason code")
		}
		p.Codes, r.b = r.b, nil
	}
	return r.end(UNSUBACK)
}

// Append writes the packet after dst.
func (p *Unsuback) Append(dst []byte, v Version) []byte {
	n := 2 + propertiesLen(p.Properties, v)
	if v >= V5 {
		n += len(p.Codes)
	}
	dst = AppendHeader(dst, UNSUBACK.first(), n)
	dst = binary.BigEndian.AppendUint16(dst, p.ID)
	dst = appendProperties(dst, p.Properties, v)
	if v >= V5 {
		dst = append(dst, p.Codes...)
	}
	return dst
}
