package message

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/tidemill/tidemill/bridge/speed/message/field"
)

// errRecord is returned for bytes that are no message record.
var errRecord = errors.New("message: corrupt record")

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
	if !m.Expires.IsZero() || len(m.Properties) > 0 {
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
	dst = field.AppendText(dst, m.Topic)
	dst = field.AppendText(dst, m.Thing)
	if flags&flagSameName == 0 {
		dst = field.AppendText(dst, m.ClientID)
	}
	if flags&flagPrincipal != 0 {
		dst = append(dst, principal[:]...)
	} else {
		dst = field.AppendText(dst, m.Principal)
	}
	switch {
	case flags&flagIP4 != 0:
		a := ip.As4()
		dst = append(dst, a[:]...)
	case flags&flagIP16 != 0:
		a := ip.As16()
		dst = append(dst, a[:]...)
	default:
		dst = field.AppendText(dst, m.SourceIP)
	}
	if protocol == 0 {
		dst = field.AppendText(dst, m.Protocol)
	}
	if flags&flagMQTT5 != 0 {
		dst = field.AppendText(field.AppendTime(dst, m.Expires), m.Properties)
	}
	return append(dst, m.Payload...)
}

// lowerHex decodes s if it is all lower-case hex.
func lowerHex(dst *[32]byte, s string) bool {
	for i := range dst {
		hi, lo := nibbles[s[2*i]], nibbles[s[2*i+1]]
		if hi|lo > 15 {
			return false
		}
		dst[i] = hi<<4 | lo
	}
	return true
}

// nibbles has what each lower-case hex digit stands for, and 0xff for all else.
var nibbles = func() (t [256]byte) {
	for i := range t {
		t[i] = 0xff
	}
	for i, c := range []byte("0123456789abcdef") {
		t[c] = byte(i)
	}
	return t
}()
