package message

import (
	"encoding/hex"
	"fmt"
	"net/netip"

	"github.com/tidemill/tidemill/bridge/speed/message/field"
)

// Decode reads a record that AppendRecord wrote. Payload and Properties
// refer to b.
func Decode(b []byte) (*Message, error) {
	m := new(Message)
	if err := new(Decoder).Decode(m, b); err != nil {
		return nil, err
	}
	return m, nil
}

// A Decoder reads records. It keeps the texts it has made, as the messages of
// a log have the same ones over and over, so that a record costs no memory.
// The zero Decoder is ready for use, by one goroutine at a time.
type Decoder struct{ names, principals, addresses texts }

// Decode sets m to what AppendRecord wrote as b, to which m.Payload and
// m.Properties refer.
func (d *Decoder) Decode(m *Message, b []byte) error {
	if len(b) < 4+16 || b[0] != recordVersion || b[1]&flagQoS == 3 ||
		b[1]&(flagIP4|flagIP16) == flagIP4|flagIP16 || int(b[3]) > len(protocols) {
		return fmt.Errorf("%w: header", errRecord)
	}
	*m = Message{QoS: b[1] & flagQoS, Retain: b[1]&flagRetain != 0, Hops: b[2]}
	flags, protocol := b[1], b[3]
	copy(m.Trace[:], b[4:])
	r := field.NewReader(b[20:])
	m.Time = r.Varint()
	m.Topic = d.names.get(r.Text(), verbatim)
	m.Thing = d.names.get(r.Text(), verbatim)
	if m.ClientID = m.Thing; flags&flagSameName == 0 {
		m.ClientID = d.names.get(r.Text(), verbatim)
	}
	if flags&flagPrincipal != 0 {
		m.Principal = d.principals.get(r.Take(32), hex.EncodeToString)
	} else {
		m.Principal = d.names.get(r.Text(), verbatim)
	}
	switch {
	case flags&flagIP4 != 0:
		m.SourceIP = d.addresses.get(r.Take(4), address)
	case flags&flagIP16 != 0:
		m.SourceIP = d.addresses.get(r.Take(16), address)
	default:
		m.SourceIP = d.names.get(r.Text(), verbatim)
	}
	if protocol == 0 {
		m.Protocol = d.names.get(r.Text(), verbatim)
	} else {
		m.Protocol = protocols[protocol-1]
	}
	if flags&flagMQTT5 != 0 {
		m.Expires, m.Properties = r.Time(), r.Text()
	}
	if r.Bad() {
		return fmt.Errorf("%w: cut off", errRecord)
	}
	m.Payload = r.Rest()
	return nil
}

// RecordTopic returns the topic of a record that AppendRecord wrote, which it
// refers to, at a fraction of Decode's cost; the rest of the record is not
// looked at.
func RecordTopic(b []byte) ([]byte, error) {
	if len(b) < 4+16 || b[0] != recordVersion {
		return nil, fmt.Errorf("%w: header", errRecord)
	}
	r := field.NewReader(b[20:])
	r.Varint()
	name := r.Text()
	if r.Bad() {
		return nil, fmt.Errorf("%w: cut off", errRecord)
	}
	return name, nil
}

// texts holds the texts that a decoder made, by the bytes it made them of.
type texts struct{ m map[string]string }

const (
	maxTexts = 1024 // of each kind
	maxText  = 256  // bytes; longer ones are made each time
)

func (t *texts) get(b []byte, text func([]byte) string) string {
	if len(b) == 0 {
		return ""
	}
	if s, ok := t.m[string(b)]; ok {
		return s
	}
	s := text(b)
	if len(b) > maxText {
		return s
	}
	if t.m == nil || len(t.m) >= maxTexts {
		t.m = make(map[string]string)
	}
	t.m[string(b)] = s
	return s
}

func verbatim(b []byte) string { return string(b) }

func address(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}
