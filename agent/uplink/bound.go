package uplink

import (
	"fmt"
	"net"
)

// MaxPacket is the largest packet that this device takes: twice what AWS IoT Core
// lets anybody publish (128 KiB).
const MaxPacket = 256 << 10

// Bound returns c, whose reads fail when the peer announces an MQTT packet of
// more than most bytes: the MQTT client allocates whatever is announced, up to
// 256 MiB, before a byte of it has come.
func Bound(c net.Conn, most int) net.Conn { return &bounded{Conn: c, most: most} }

// bounded follows the packets' fixed headers (MQTT 3.1.1, 2.2). One goroutine at
// a time reads.
type bounded struct {
	net.Conn
	most int
	err  error

	body   int  // bytes of the packet that are still to come
	header bool // within the remaining length
	length int  // ... as read so far
	shift  uint
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.Conn.Read(p)
	if b.err = b.follow(p[:n]); b.err != nil {
		return 0, b.err
	}
	return n, err
}

func (b *bounded) follow(p []byte) error {
	for len(p) > 0 {
		if b.body > 0 {
			n := min(b.body, len(p))
			b.body, p = b.body-n, p[n:]
			continue
		}
		c := p[0]
		p = p[1:]
		if !b.header { // type and flags
			b.header, b.length, b.shift = true, 0, 0
			continue
		}
		b.length |= int(c&0x7f) << b.shift
		b.shift += 7
		switch {
		case b.length > b.most:
			return &Error{Kind: KindProtocol, Text: fmt.Sprintf("%s announces a packet of %d bytes or more, this device takes %d",
				b.RemoteAddr(), b.length, b.most)}
		case c < 0x80:
			b.header, b.body = false, b.length
		case b.shift == 28:
			return &Error{Kind: KindProtocol, Text: fmt.Sprintf("%s sends a length of more than four bytes", b.RemoteAddr())}
		}
	}
	return nil
}
