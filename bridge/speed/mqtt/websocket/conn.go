package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

const (
	// bufBytes is read at once: a frame's header, and whole frames while they
	// are small. It has room for the largest control frame.
	bufBytes = 1 << 10
	// maxFrame is the largest that a client may begin: MQTT's largest packet
	// has 256 MiB and 5 bytes, and what is in a frame is bounded by the reader
	// of packets.
	maxFrame = 256<<20 + 5
	// maxControl is the payload of a control frame (RFC 6455, section 5.5).
	maxControl = 125
	// maxHeader is a header of a client's frame.
	maxHeader = 14

	pongTimeout  = 10 * time.Second
	closeTimeout = time.Second
	keepBytes    = 64<<10 + maxHeader // larger output buffers are not reused
)

// errProtocol is wrapped by what Read returns when the client breaks RFC 6455.
// It is malformed to the gateway too.
var errProtocol = fmt.Errorf("websocket: %w", packet.ErrMalformed)

// A Conn is a connection whose reads give what is in the client's binary
// frames, and whose writes are one frame each, sent by one write. Pings are
// answered while reading. One goroutine may read and others write, at the same
// time. A read that fails with a timeout loses nothing.
type Conn struct {
	net.Conn // below: TLS or plain

	// Of the reader.
	buf    [bufBytes]byte
	r, w   int      // buf[r:w] is not yet returned
	left   int64    // of the data frame's payload
	pos    int      // in it, for the mask
	mask   [4]byte  // of the data frame
	state  ws.State // server side; fragmented while a message goes on
	failed error    // of what came; sticky
	header struct { // for parsing one
		r   bytes.Reader
		buf [maxHeader]byte
	}

	writing sync.Mutex    // one frame at a time
	closed  bool          // guarded by writing: a close frame was sent
	cut     cutter        // guarded by writing
	code    atomic.Uint32 // of the close frame to be sent; 0: the normal one

	mu   sync.Mutex // guards what follows; taken after writing
	by   time.Time  // write deadline, as the user set it
	pong []byte     // to be sent; nil: none

	close func() error
}

// newConn returns a Conn over nc of which early was read already.
func newConn(nc net.Conn, early []byte) *Conn {
	c := &Conn{Conn: nc, state: ws.StateServerSide}
	if len(early) > 0 {
		c.Conn = &begun{nc, early}
	}
	c.close = sync.OnceValue(func() error {
		c.goodbye(ws.StatusNormalClosure) // or what was to be said before
		return c.Conn.Close()
	})
	return c
}

// A begun connection gives again what was read of it.
type begun struct {
	net.Conn
	early []byte
}

// Read implements net.Conn, for one reader.
func (b *begun) Read(p []byte) (int, error) {
	if len(b.early) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.early)
	if b.early = b.early[n:]; len(b.early) == 0 {
		b.early = nil
	}
	return n, nil
}

// NetConn is the connection below all layers: closing it does not wait.
func (c *Conn) NetConn() net.Conn {
	nc := c.Conn
	for {
		switch x := nc.(type) {
		case *begun:
			nc = x.Conn
		case interface{ NetConn() net.Conn }:
			nc = x.NetConn()
		default:
			return nc
		}
	}
}

// Read implements net.Conn. It returns what is in several frames at once, if
// they are there. After the client's close frame it returns io.EOF.
func (c *Conn) Read(b []byte) (n int, err error) {
	if len(b) == 0 {
		return 0, nil
	}
	for n < len(b) {
		if c.left == 0 {
			if err := c.next(n == 0); err != nil {
				if n > 0 {
					return n, nil // it comes again
				}
				return 0, err
			}
			continue
		}
		want := b[n:]
		if int64(len(want)) > c.left {
			want = want[:c.left]
		}
		got := 0
		switch {
		case c.r < c.w:
			got = copy(want, c.buf[c.r:c.w])
			c.r += got
		case n > 0:
			return n, nil
		default:
			if got, err = c.Conn.Read(want); got == 0 {
				return 0, eof(err)
			}
		}
		ws.Cipher(want[:got], c.mask, c.pos)
		c.pos = (c.pos + got) & 3
		c.left -= int64(got)
		n += got
	}
	return n, nil
}

// eof is err of a stream that ended within a frame.
func eof(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// errWait says that the rest of a frame has not come.
var errWait = errors.New("websocket: wait")

// next takes the header of the next frame from the stream, and of a control
// frame all; it answers that. Without wait only what was read already is looked
// at, and errWait returned if that is too little.
func (c *Conn) next(wait bool) error {
	for c.failed == nil {
		h, size, err := c.peek()
		if err != nil {
			c.fail(ws.StatusProtocolError, err)
			break
		}
		if size > 0 {
			c.r += size
			c.take(h)
			break
		}
		if !wait {
			return errWait
		}
		c.r, c.w = 0, copy(c.buf[:], c.buf[c.r:c.w])
		n, err := c.Conn.Read(c.buf[c.w:])
		if c.w += n; n == 0 && err != nil {
			if c.w > 0 || c.state.Fragmented() {
				err = eof(err)
			}
			return err
		}
	}
	return c.failed
}

// peek parses the header at the front of the buffer. size is its length, 0
// while it, or the payload of a control frame, is not all there.
func (c *Conn) peek() (h ws.Header, size int, err error) {
	b := c.buf[c.r:c.w]
	if len(b) < 2 {
		return h, 0, nil
	}
	size = 2
	if b[1]&0x80 != 0 {
		size += 4
	}
	switch b[1] & 0x7f {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if len(b) < size {
		return h, 0, nil
	}
	c.header.r.Reset(b[:size])
	if h, err = ws.ReadHeaderBuffer(&c.header.r, c.header.buf[:]); err != nil {
		return h, 0, err
	}
	if err := ws.CheckHeader(h, c.state); err != nil {
		return h, 0, err
	}
	if h.OpCode.IsControl() && int64(len(b)-size) < h.Length {
		return h, 0, nil // CheckHeader bounds it
	}
	return h, size, nil
}

// take acts on a frame whose header was taken.
func (c *Conn) take(h ws.Header) {
	if h.OpCode.IsControl() {
		payload := c.buf[c.r : c.r+int(h.Length)]
		c.r += len(payload)
		ws.Cipher(payload, h.Mask, 0)
		c.control(h.OpCode, payload)
		return
	}
	switch {
	case h.OpCode == ws.OpText: // [MQTT-6.0.0-1]
		c.fail(ws.StatusUnsupportedData, errors.New("a text frame, want binary ones"))
		return
	case h.Length > maxFrame:
		c.fail(ws.StatusMessageTooBig, fmt.Errorf("a frame of %d bytes", h.Length))
		return
	}
	c.left, c.pos, c.mask = h.Length, 0, h.Mask
	c.state = c.state.Clear(ws.StateFragmented)
	if !h.Fin {
		c.state = c.state.Set(ws.StateFragmented)
	}
}

func (c *Conn) control(op ws.OpCode, payload []byte) {
	switch op {
	case ws.OpPing:
		c.mu.Lock()
		c.pong = append([]byte{}, payload...) // not nil, if it is empty
		c.mu.Unlock()
		if err := c.sendPong(); err != nil {
			c.failed = err
		}
	case ws.OpClose:
		code := ws.StatusNormalClosure
		switch {
		case len(payload) == 1:
			c.fail(ws.StatusProtocolError, errors.New("a close frame of one byte"))
			return
		case len(payload) >= 2:
			var reason string
			if code, reason = ws.ParseCloseFrameDataUnsafe(payload); ws.CheckCloseFrameData(code, reason) != nil {
				code = ws.StatusProtocolError
			}
		}
		c.failed = io.EOF
		c.goodbye(code)
	}
}

// fail makes the stream end with an error, of which the client is told.
func (c *Conn) fail(code ws.StatusCode, err error) {
	c.failed = fmt.Errorf("%w: %w", errProtocol, err)
	c.goodbye(code)
}

// goodbye sends a close frame, unless one was sent or somebody is writing: who
// doesn't take what is written to him is not waited for. Then Close tries again
// to say the first code.
func (c *Conn) goodbye(code ws.StatusCode) {
	if !c.code.CompareAndSwap(0, uint32(code)) {
		code = ws.StatusCode(c.code.Load())
	}
	if !c.writing.TryLock() {
		return
	}
	defer c.writing.Unlock()
	if c.closed {
		return
	}
	_ = c.within(closeTimeout, func() error { // nobody is left to tell
		return c.frame(ws.OpClose, binary.BigEndian.AppendUint16(nil, uint16(code)))
	})
	c.closed = true
}

// sendPong sends the latest pong that is due. If somebody is writing, he sends
// it afterwards.
func (c *Conn) sendPong() error {
	for c.due() && c.writing.TryLock() {
		c.mu.Lock()
		pong := c.pong
		c.pong = nil
		c.mu.Unlock()
		var err error
		if pong != nil {
			err = c.within(pongTimeout, func() error {
				return c.frame(ws.OpPong, pong)
			})
		}
		c.writing.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) due() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pong != nil
}

// within runs write with a deadline of its own, unless the user's is earlier.
func (c *Conn) within(timeout time.Duration, write func() error) error {
	by := time.Now().Add(timeout)
	c.mu.Lock()
	user := c.by
	if user.IsZero() || user.After(by) {
		_ = c.Conn.SetWriteDeadline(by) // writing tells
	}
	c.mu.Unlock()
	err := write()
	c.mu.Lock()
	defer c.mu.Unlock()
	return errors.Join(err, c.Conn.SetWriteDeadline(c.by))
}

// Write implements net.Conn: each MQTT packet of b, or part of one, is sent as a
// binary frame, all by one write. AWS's SDK for Python of version 1 (1.5.4)
// overlooks a second packet in a frame until more comes.
func (c *Conn) Write(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	c.writing.Lock()
	n, err := c.packets(b)
	c.writing.Unlock()
	if err == nil {
		// A pong that cannot be written is the reader's to find.
		_ = c.sendPong()
	}
	return n, err
}

var frames = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

// packets writes a frame for each packet in b. writing is held.
func (c *Conn) packets(b []byte) (int, error) {
	err := c.send(func(out []byte) []byte {
		for rest := b; len(rest) > 0; {
			n := c.cut.next(rest)
			out = appendFrame(out, ws.OpBinary, rest[:n])
			rest = rest[n:]
		}
		return out
	})
	if err != nil {
		return 0, err // how much of it went out nobody needs to know
	}
	return len(b), nil
}

// frame writes one frame. writing is held.
func (c *Conn) frame(op ws.OpCode, payload []byte) error {
	return c.send(func(out []byte) []byte { return appendFrame(out, op, payload) })
}

// send writes what fill appends, by one write. writing is held.
func (c *Conn) send(fill func(out []byte) []byte) error {
	if c.closed {
		return net.ErrClosed
	}
	buf := frames.Get().(*[]byte)
	b := fill((*buf)[:0])
	_, err := c.Conn.Write(b)
	if cap(b) <= keepBytes {
		*buf = b
		frames.Put(buf)
	}
	return err
}

func appendFrame(b []byte, op ws.OpCode, payload []byte) []byte {
	b = append(b, 0x80|byte(op))
	switch n := len(payload); {
	case n <= maxControl:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	return append(b, payload...)
}

// A cutter finds where MQTT packets end in a stream that comes in pieces.
type cutter struct {
	head int // bytes of the fixed header that have come
	size int // its remaining length, as far as it has come
	left int // of the packet after its header
}

// next returns how much of b belongs to the packet at its front.
func (c *cutter) next(b []byte) int {
	i := 0
	for ; c.left == 0 && i < len(b); i++ {
		if c.head > 0 {
			c.size |= int(b[i]&0x7f) << (7 * (c.head - 1))
			if b[i] < 0x80 {
				c.left, c.size, c.head = c.size, 0, 0
				if c.left == 0 {
					return i + 1
				}
				continue
			}
		}
		c.head++
	}
	n := min(c.left, len(b)-i)
	c.left -= n
	return i + n
}

// SetWriteDeadline implements net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.by = t
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Close implements net.Conn; it may be called again. A client that takes data
// is told.
func (c *Conn) Close() error { return c.close() }
