package gateway

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// Output is gathered in c.out and written by whoever comes first: the reading
// goroutine just before it waits for the client (its acknowledgements then leave
// in one write, without waking anybody), or a goroutine that is started when
// something else puts bytes there and that ends when it has written all. So an
// idle connection has neither a writing goroutine nor a buffer.

const (
	bufBytes  = 4 << 10  // of a fresh output buffer
	keepBytes = 64 << 10 // larger buffers are not reused
	// directBytes is what the reading goroutine writes itself. More than that is
	// deliveries, and a client that does not take them should still be heard.
	directBytes = 16 << 10
	writeBytes  = 64 << 10 // of one write, which has WriteTimeout to finish
)

var bufs = sync.Pool{New: func() any { b := make([]byte, 0, bufBytes); return &b }}

// putBuf gives the memory of an output buffer back. from is where the pool kept it.
func putBuf(b []byte, from *[]byte) {
	if cap(b) > 0 && cap(b) <= keepBytes {
		*from = b[:0]
		bufs.Put(from)
	}
}

// room makes sure that there is a buffer to append to. s.mu is held.
func (c *Client) room() {
	if c.out == nil {
		c.outFrom = bufs.Get().(*[]byte)
		c.out = *c.outFrom
	}
}

// The append functions put packets into the output buffer; s.mu is held. What
// is put there after the end of the connection goes nowhere.

// appendPacket is for the reading goroutine. A packet that is larger than the
// client takes ends the connection [MQTT-3.1.2-24].
func (c *Client) appendPacket(p packet.Packet) {
	c.room()
	from := len(c.out)
	c.out = p.Append(c.out, c.version)
	if most := c.v5.maxPacket; most > 0 && len(c.out)-from > most {
		c.out = c.out[:from]
		if p.Type() == packet.CONNACK {
			c.polite.Store(false) // there is no DISCONNECT before CONNACK [MQTT-3.14.0-1]
		}
		c.code = codeTooLarge
		c.kick(ReasonProtocol)
		return
	}
	c.outPackets[p.Type()]++
}

func (c *Client) appendAck(kind packet.Type, id uint16, reason byte) {
	c.room()
	first := byte(kind) << 4
	if kind == packet.PUBREL {
		first |= 2
	}
	if reason == 0 || c.version == packet.V311 {
		c.out = append(c.out, first, 2, byte(id>>8), byte(id))
	} else {
		c.out = append(c.out, first, 3, byte(id>>8), byte(id), reason)
	}
	c.outPackets[kind]++
}

func (c *Client) appendPublish(o outbound, id uint16, dup bool) {
	c.room()
	first := byte(packet.PUBLISH)<<4 | o.qos<<1
	if dup {
		first |= 8
	}
	if o.retain {
		first |= 1
	}
	name := o.m.Topic
	if c.version == packet.V5 {
		c.appendPublish5(first, &o, id)
		return
	}
	n := 2 + len(name) + len(o.m.Payload)
	if o.qos > 0 {
		n += 2
	}
	b := packet.AppendHeader(c.out, first, n)
	b = append(b, byte(len(name)>>8), byte(len(name)))
	b = append(b, name...)
	if o.qos > 0 {
		b = append(b, byte(id>>8), byte(id))
	}
	c.out = append(b, o.m.Payload...)
	c.outPackets[packet.PUBLISH]++
}

// appendPublish5 is appendPublish for version 5.
func (c *Client) appendPublish5(first byte, o *outbound, id uint16) {
	var few [128]byte
	props := few[:0]
	name, alias := o.m.Topic, uint16(0)
	if c.v5.aliasMax > 0 {
		known := false
		alias, known = c.outAliases[name]
		if !known && len(c.outAliases) < c.v5.aliasMax {
			alias = uint16(len(c.outAliases) + 1)
		}
		if alias > 0 && c.v5.maxPacket > 0 && c.size(o, alias, known) > c.v5.maxPacket {
			alias, known = 0, false // it fits without one
		}
		switch {
		case known:
			name = ""
		case alias > 0:
			if c.outAliases == nil {
				c.outAliases = make(map[string]uint16)
			}
			c.outAliases[name] = alias
		}
		if alias > 0 {
			props = packet.AppendNumber(props, packet.TopicAlias, uint32(alias))
		}
	}
	props = c.publishProperties(props, o, time.Now())
	p := packet.Publish{Dup: first&8 != 0, QoS: o.qos, Retain: o.retain, Topic: []byte(name), ID: id, Properties: props,
		Payload: o.m.Payload}
	c.out = p.Append(c.out, packet.V5)
	c.outPackets[packet.PUBLISH]++
}

// startWriter sees to it that what is in the output buffer is written. s.mu is
// held.
func (c *Client) startWriter() {
	if c.writing || len(c.out) == 0 || c.closed {
		return
	}
	c.writing = true
	go c.drainer()
}

// take hands the output buffer over for writing, now; both go to putBuf then. s.mu is
// held.
func (c *Client) take() (b []byte, from *[]byte, now time.Time) {
	b, from, now = c.out, c.outFrom, time.Now()
	if c.allDone {
		c.ackedAt, c.allDone = now, false
	}
	c.out, c.outFrom, c.greeting, c.writingBytes = nil, nil, 0, len(b)
	for t, n := range c.outPackets {
		if n > 0 {
			c.srv.count.packetsOut[t].Add(uint64(n))
		}
	}
	clear(c.outPackets[:])
	return b, from, now
}

// drain writes until there is nothing left. c.writing was set for it.
func (c *Client) drain() {
	mu := &c.s.mu
	mu.Lock()
	for len(c.out) > 0 && !c.closed {
		b, from, now := c.take()
		mu.Unlock()
		err := c.write(b, now)
		putBuf(b, from)
		mu.Lock()
		c.writingBytes = 0
		if err != nil {
			c.closed = true
			c.kick(writeReason(err))
		}
	}
	c.writing = false
	c.written.Broadcast()
	mu.Unlock()
}

// flush is for the reading goroutine, before it waits for the client. No
// acknowledgement may stay behind, since nobody else may come to write it.
func (c *Client) flush() {
	mu := &c.s.mu
	mu.Lock()
	c.routing = 0
	if len(c.out)+c.writingBytes > 2*c.srv.conf.OutBytes {
		// Answers to its packets, which no other limit holds: it asks and
		// does not listen.
		c.kick(ReasonThrottled)
	}
	if c.writing || len(c.out) == 0 || c.closed || len(c.out) > directBytes {
		c.startWriter()
		mu.Unlock()
		return
	}
	c.writing = true
	b, from, now := c.take()
	mu.Unlock()
	err := c.write(b, now)
	putBuf(b, from)
	mu.Lock()
	c.writing, c.writingBytes = false, 0
	if err != nil {
		c.closed = true
		c.kick(writeReason(err))
	}
	c.written.Broadcast()
	c.startWriter()
	mu.Unlock()
}

func writeReason(err error) string {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ReasonThrottled
	}
	return ReasonLost
}

// write writes b, which is not empty, from now on, in pieces of which each must get through in
// WriteTimeout, give or take a quarter: setting a deadline costs, so one is used for
// several writes.
func (c *Client) write(b []byte, now time.Time) error {
	timeout := c.srv.conf.WriteTimeout
	for {
		if c.writeBy.Sub(now) < timeout*3/4 {
			c.writeBy = now.Add(timeout)
			if err := c.nc.SetWriteDeadline(c.writeBy); err != nil {
				return err
			}
		}
		n, err := c.nc.Write(b[:min(len(b), writeBytes)])
		c.srv.count.bytesOut.Add(uint64(n))
		if err != nil || n == len(b) {
			return err
		}
		b, now = b[n:], time.Now()
	}
}

// raw is the connection below TLS: closing it does not wait for anything.
func raw(nc net.Conn) net.Conn {
	if t, ok := nc.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return nc
}
