// Package mqttbound holds an MQTT connection to packets of a size: the MQTT client
// (paho 1.5.1) allocates whatever its peer announces, up to 256 MiB, before a byte
// of it has come, and panics at a SUBACK with more codes than were asked for. The
// agent's connection to its broker and those to local ones go through a Conn.
package mqttbound

import (
	"fmt"
	"net"
	"sync/atomic"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// MaxPacket is the largest packet that this device takes: twice what AWS IoT Core
// lets anybody publish (128 KiB).
const MaxPacket = 256 << 10

// An Error is what of the peer's bytes made reads fail.
type Error struct{ Text string }

func (e *Error) Error() string { return e.Text }

// New returns c, whose reads fail when the peer announces an MQTT packet of more than
// most bytes.
func New(c net.Conn, most int) *Conn { return &Conn{Conn: c, most: most} }

// A Conn follows the packets' fixed headers (MQTT 3.1.1, 2.2). One goroutine at
// a time reads.
type Conn struct {
	net.Conn
	most  int
	err   atomic.Pointer[Error]
	asked atomic.Int64 // filters of the SUBSCRIBE that is not answered yet

	kind   byte // of the packet, and its flags
	body   int  // bytes of the packet that are still to come
	header bool // within the remaining length
	length int  // ... as read so far
	shift  uint
}

// Expect says that a SUBSCRIBE with so many filters is sent next, which the peer
// answers by one SUBACK with as many codes. Reads fail at a SUBACK with more, at
// which the MQTT client would panic (net.go).
func (b *Conn) Expect(filters int) { b.asked.Store(int64(filters)) }

func (b *Conn) Read(p []byte) (int, error) {
	if e := b.err.Load(); e != nil {
		return 0, e
	}
	n, err := b.Conn.Read(p)
	if e := b.follow(p[:n]); e != nil {
		b.err.Store(e)
		return 0, e
	}
	return n, err
}

// Violation is what of the peer's bytes made reads fail, nil if that was none.
func (b *Conn) Violation() error {
	if e := b.err.Load(); e != nil {
		return e
	}
	return nil
}

func (b *Conn) follow(p []byte) *Error {
	for len(p) > 0 {
		if b.body > 0 {
			n := min(b.body, len(p))
			b.body, p = b.body-n, p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		if !b.header { // type and flags
			b.kind, b.header, b.length, b.shift = c, true, 0, 0
			continue
		}
		b.length |= int(c&0x7f) << b.shift
		b.shift += 7
		switch {
		case b.length > b.most:
			return &Error{
				Text: fmt.Sprintf("%s announces a packet of %d bytes or more, this device takes %d",
					b.RemoteAddr(), b.length, b.most)}
		case c < 0x80:
			b.header, b.body = false, b.length
			if b.kind>>4 != packets.Suback {
				continue
			}
			if codes, asked := b.length-2, int(b.asked.Swap(0)); codes > asked {
				return &Error{
					Text: fmt.Sprintf("%s answers a SUBSCRIBE with %d codes, %d filters were asked for",
						b.RemoteAddr(), codes, asked)}
			}
		case b.shift == 28:
			return &Error{
				Text: fmt.Sprintf("%s sends a length of more than four bytes", b.RemoteAddr())}
		}
	}
	return nil
}
