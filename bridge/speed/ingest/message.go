package ingest

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
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
}

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
	ip, err := netip.ParseAddr(m.SourceIP)
	switch {
	case err != nil || ip.Zone() != "" || ip.String() != m.SourceIP:
	case ip.Is4():
		flags |= flagIP4
	default:
		flags |= flagIP16
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

// DecodeMessage reads a record that AppendRecord wrote. Payload refers to b.
func DecodeMessage(b []byte) (*Message, error) {
	if len(b) < 4+16 || b[0] != recordVersion || b[1] > 0x7f || b[1]&flagQoS == 3 ||
		b[1]&(flagIP4|flagIP16) == flagIP4|flagIP16 || int(b[3]) > len(protocols) {
		return nil, fmt.Errorf("%w: header", ErrRecord)
	}
	m := &Message{QoS: b[1] & flagQoS, Retain: b[1]&flagRetain != 0, Hops: b[2]}
	flags, protocol := b[1], b[3]
	copy(m.Trace[:], b[4:])
	r := reader{b: b[20:]}
	m.Time = r.varint()
	m.Topic = r.text()
	m.Thing = r.text()
	if m.ClientID = m.Thing; flags&flagSameName == 0 {
		m.ClientID = r.text()
	}
	if flags&flagPrincipal != 0 {
		m.Principal = hex.EncodeToString(r.bytes(32))
	} else {
		m.Principal = r.text()
	}
	switch {
	case flags&flagIP4 != 0:
		if a := r.bytes(4); a != nil {
			m.SourceIP = netip.AddrFrom4([4]byte(a)).String()
		}
	case flags&flagIP16 != 0:
		if a := r.bytes(16); a != nil {
			m.SourceIP = netip.AddrFrom16([16]byte(a)).String()
		}
	default:
		m.SourceIP = r.text()
	}
	if protocol == 0 {
		m.Protocol = r.text()
	} else {
		m.Protocol = protocols[protocol-1]
	}
	if r.bad {
		return nil, fmt.Errorf("%w: cut off", ErrRecord)
	}
	m.Payload = r.b[:len(r.b):len(r.b)]
	return m, nil
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

func (r *reader) text() string {
	n, w := binary.Uvarint(r.b)
	if w <= 0 {
		r.bad, r.b = true, nil
		return ""
	}
	r.b = r.b[w:]
	return string(r.bytes(n))
}
