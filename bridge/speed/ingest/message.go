package ingest

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Message is one publish as the ingest log keeps it: a reading of a batch,
// or what a client published as it is.
type Message struct {
	Topic     string
	Payload   []byte
	QoS       byte // 0 to 2
	Retain    bool
	ClientID  string
	Thing     string // "" when the client is no thing
	Principal string // certificate id, 64 hex digits, or another name
	SourceIP  string
	Protocol  string   // "mqtt", "http" …
	Time      int64    // arrival, epoch ms
	Hops      uint8    // rules that republished it
	Trace     [16]byte // random; given by Publish when zero

	// Properties are those of MQTT 5 that receivers get (gateway.Message), and
	// Expires is when the message is of no more use, epoch ms; 0: never.
	Properties []byte
	Expires    int64

	// Owner is who the message counts for if it is retained; it is not part of
	// the record.
	Owner string

	// Stage, unless nil, adds what is to be durable with the message. It is
	// not part of the record.
	Stage func(*streams.Batch)
}

// IsJSON says whether a payload is JSON as programs exchange it: in UTF-8 (RFC 8259,
// section 8.1). json.Valid alone takes any bytes inside strings.
func IsJSON(payload []byte) bool { return utf8.Valid(payload) && json.Valid(payload) }

// ErrRecord is returned for bytes that are no message record.
var ErrRecord = errors.New("ingest: corrupt message record")

const recordVersion = 1

// Flags of a record; FORMAT.md has the layout.
const (
	flagQoS       = 0x03
	flagRetain    = 0x04
	flagSameName  = 0x08 // the client id is the thing's name
	flagPrincipal = 0x10 // 32 bytes, printed as hex
	flagIP4       = 0x20 // 4 bytes
	flagIP16      = 0x40 // 16 bytes
	flagMQTT5     = 0x80 // expiry and properties before the payload
)

// protocols that have a number, from 1; others are written out.
var protocols = [...]string{"mqtt", "http", "wss", "https"}

// AppendRecord appends the record layout of m to dst. The bytes of QoS above
// its two bits are dropped. m is not kept.
func (m *Message) AppendRecord(dst []byte) []byte {
	flags := m.QoS & flagQoS
	if m.Retain {
		flags |= flagRetain
	}
	if m.ClientID == m.Thing {
		flags |= flagSameName
	}
	var principal [32]byte
	if len(m.Principal) == 64 && lowerHex(&principal, m.Principal) {
		flags |= flagPrincipal
	}
	var text [64]byte
	ip, err := netip.ParseAddr(m.SourceIP)
	switch {
	case err != nil || ip.Zone() != "" || string(ip.AppendTo(text[:0])) != m.SourceIP:
	case ip.Is4():
		flags |= flagIP4
	default:
		flags |= flagIP16
	}
	if m.Expires != 0 || len(m.Properties) > 0 {
		flags |= flagMQTT5
	}
	protocol := byte(0)
	for i, p := range protocols {
		if p == m.Protocol {
			protocol = byte(i + 1)
		}
	}
	dst = append(dst, recordVersion, flags, m.Hops, protocol)
	dst = append(dst, m.Trace[:]...)
	dst = binary.AppendVarint(dst, m.Time)
	dst = appendText(dst, m.Topic)
	dst = appendText(dst, m.Thing)
	if flags&flagSameName == 0 {
		dst = appendText(dst, m.ClientID)
	}
	if flags&flagPrincipal != 0 {
		dst = append(dst, principal[:]...)
	} else {
		dst = appendText(dst, m.Principal)
	}
	switch {
	case flags&flagIP4 != 0:
		a := ip.As4()
		dst = append(dst, a[:]...)
	case flags&flagIP16 != 0:
		a := ip.As16()
		dst = append(dst, a[:]...)
	default:
		dst = appendText(dst, m.SourceIP)
	}
	if protocol == 0 {
		dst = appendText(dst, m.Protocol)
	}
	if flags&flagMQTT5 != 0 {
		dst = binary.AppendVarint(dst, m.Expires)
		dst = binary.AppendUvarint(dst, uint64(len(m.Properties)))
		dst = append(dst, m.Properties...)
	}
	return append(dst, m.Payload...)
}

func appendText(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

// lowerHex decodes s if it is all lower-case hex.
func lowerHex(dst *[32]byte, s string) bool {
	for i := range dst {
		hi, lo := nibble(s[2*i]), nibble(s[2*i+1])
		if hi > 15 || lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

func nibble(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 0xff
}

// DecodeMessage reads a record that AppendRecord wrote. Payload and Properties
// refer to b.
func DecodeMessage(b []byte) (*Message, error) {
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
		return fmt.Errorf("%w: header", ErrRecord)
	}
	*m = Message{QoS: b[1] & flagQoS, Retain: b[1]&flagRetain != 0, Hops: b[2]}
	flags, protocol := b[1], b[3]
	copy(m.Trace[:], b[4:])
	r := reader{b: b[20:]}
	m.Time = r.varint()
	m.Topic = d.names.get(r.text(), verbatim)
	m.Thing = d.names.get(r.text(), verbatim)
	if m.ClientID = m.Thing; flags&flagSameName == 0 {
		m.ClientID = d.names.get(r.text(), verbatim)
	}
	if flags&flagPrincipal != 0 {
		m.Principal = d.principals.get(r.bytes(32), hex.EncodeToString)
	} else {
		m.Principal = d.names.get(r.text(), verbatim)
	}
	switch {
	case flags&flagIP4 != 0:
		m.SourceIP = d.addresses.get(r.bytes(4), address)
	case flags&flagIP16 != 0:
		m.SourceIP = d.addresses.get(r.bytes(16), address)
	default:
		m.SourceIP = d.names.get(r.text(), verbatim)
	}
	if protocol == 0 {
		m.Protocol = d.names.get(r.text(), verbatim)
	} else {
		m.Protocol = protocols[protocol-1]
	}
	if flags&flagMQTT5 != 0 {
		m.Expires = r.varint()
		if p := r.text(); len(p) > 0 {
			m.Properties = p[:len(p):len(p)]
		}
	}
	if r.bad {
		return fmt.Errorf("%w: cut off", ErrRecord)
	}
	m.Payload = r.b[:len(r.b):len(r.b)]
	return nil
}

// RecordTopic returns the topic of a record that AppendRecord wrote, which it
// refers to, at a fraction of Decode's cost; the rest of the record is not
// looked at.
func RecordTopic(b []byte) ([]byte, error) {
	if len(b) < 4+16 || b[0] != recordVersion {
		return nil, fmt.Errorf("%w: header", ErrRecord)
	}
	r := reader{b: b[20:]}
	r.varint()
	name := r.text()
	if r.bad {
		return nil, fmt.Errorf("%w: cut off", ErrRecord)
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

// A reader takes fields off the front of b; bad says that one was missing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) text() []byte {
	n, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.bad, r.b = true, nil
		return nil
	}
	r.b = r.b[w:]
	return r.bytes(n)
}
