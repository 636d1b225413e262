package sessions

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The records of sessions and retained messages; FORMAT.md has the layout.

const (
	sessionPrefix  = "gw/s/"
	queuePrefix    = "gw/q/"
	acceptedPrefix = "gw/x/"
	retainedPrefix = "gw/r/"
)

// ErrRecord means that stored bytes are no record.
var ErrRecord = errors.New("gateway: corrupt record")

const (
	recordVersion = 1
	// retainedOwned is a retained message's version since it has an owner.
	retainedOwned = 2
)

func sessionKey(id string) []byte { return []byte(sessionPrefix + id) }

func retainedKey(topic string) []byte { return []byte(retainedPrefix + topic) }

func cutPrefix(key []byte, prefix string) (rest string, ok bool) {
	return strings.CutPrefix(string(key), prefix)
}

// A Life is one session of a client id. What is left of an earlier one is
// nobody's.
type Life struct {
	ID     string // the client's
	Number uint64 // random
}

// owned is the key of what belongs to a life.
func (l Life) owned(prefix string) []byte {
	b := make([]byte, 0, len(prefix)+len(l.ID)+17)
	b = append(append(append(b, prefix...), l.ID...), 0)
	return binary.BigEndian.AppendUint64(b, l.Number)
}

func (l Life) queueKey(seq uint64) []byte {
	return binary.BigEndian.AppendUint64(l.owned(queuePrefix), seq)
}

func (l Life) acceptedKey(packetID uint16) []byte {
	return binary.BigEndian.AppendUint16(l.owned(acceptedPrefix), packetID)
}

// Queue stores a message that waits for the client, or its new state. seq is
// larger than that of earlier ones.
func (l Life) Queue(to Changes, seq uint64, q *Queued) { to.Set(l.queueKey(seq), q.append(nil)) }

// Unqueue removes one.
func (l Life) Unqueue(from Changes, seq uint64) { from.Unset(l.queueKey(seq)) }

// Accept stores that a QoS 2 publish of the client was accepted.
func (l Life) Accept(to Changes, packetID uint16) {
	to.Set(l.acceptedKey(packetID), []byte{recordVersion})
}

// Release removes that.
func (l Life) Release(from Changes, packetID uint16) { from.Unset(l.acceptedKey(packetID)) }

// parseOwned takes a key apart; tail is what follows the life.
func parseOwned(key []byte, prefix string, tail int) (l Life, rest []byte, err error) {
	n := len(key) - tail - 9
	if n < len(prefix)+1 || key[n] != 0 {
		return l, nil, fmt.Errorf("%w: key %q", ErrRecord, key)
	}
	return Life{string(key[len(prefix):n]), binary.BigEndian.Uint64(key[n+1:])}, key[n+9:], nil
}

// A Record is what a session is made anew of.
type Record struct {
	Life   uint64 // its number
	Expiry time.Duration
	Away   time.Time // zero: the client was there
	Owner  string    // principal; empty in records of earlier releases
	Subs   map[string]uint64
}

func (r *Record) append(b []byte) []byte {
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, r.Life)
	b = binary.AppendUvarint(b, uint64(r.Expiry.Milliseconds()))
	b = appendTime(b, r.Away)
	b = binary.AppendUvarint(b, uint64(len(r.Subs)))
	for f, o := range r.Subs {
		b = binary.AppendUvarint(appendText(b, f), o)
	}
	return appendText(b, r.Owner)
}

func parseRecord(b []byte) (*Record, error) {
	r := reader{b: b}
	if r.byte() != recordVersion {
		return nil, fmt.Errorf("%w: version", ErrRecord)
	}
	s := &Record{Life: r.uint64(), Expiry: time.Duration(r.uvarint()) * time.Millisecond, Away: r.time(), Subs: make(map[string]uint64)}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		f := r.text()
		s.Subs[f] = r.uvarint()
	}
	if len(r.b) > 0 {
		s.Owner = r.text()
	}
	return s, r.end()
}

// Flags of a queued message.
const (
	queuedQoS      = 0x03
	queuedRetain   = 0x04
	queuedReleased = 0x08 // PUBREC came: only the packet id counts
)

// A Queued message waits for a client or for its acknowledgement.
type Queued struct {
	QoS        byte // 1 or 2
	Retain     bool // as the client sees it
	Released   bool // QoS 2: PUBREC came, PUBREL is to be sent; there is no topic and payload
	PacketID   uint16
	Expires    time.Time // zero: never
	Topic      string
	Properties []byte
	Group      string   // whole filter of the shared subscription that it came by, if any
	IDs        []uint32 // of the subscriptions that it came by
	Payload    []byte
}

func (q *Queued) append(b []byte) []byte {
	flags := q.QoS & queuedQoS
	if q.Retain {
		flags |= queuedRetain
	}
	if q.Released {
		flags |= queuedReleased
	}
	b = append(b, recordVersion, flags)
	b = binary.BigEndian.AppendUint16(b, q.PacketID)
	b = appendTime(b, q.Expires)
	b = appendText(b, q.Topic)
	b = appendText(b, q.Properties)
	b = appendText(b, q.Group)
	b = binary.AppendUvarint(b, uint64(len(q.IDs)))
	for _, id := range q.IDs {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return append(b, q.Payload...)
}

// parseQueued keeps no reference to b.
func parseQueued(b []byte) (*Queued, error) {
	r := reader{b: append([]byte(nil), b...)}
	version, flags := r.byte(), r.byte()
	q := &Queued{QoS: flags & queuedQoS, Retain: flags&queuedRetain != 0, Released: flags&queuedReleased != 0,
		PacketID: r.uint16(), Expires: r.time(), Topic: r.text()}
	q.Properties = r.bytes()
	q.Group = r.text()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		q.IDs = append(q.IDs, uint32(r.uvarint()))
	}
	q.Payload, r.b = r.b, nil
	err := r.end()
	if err == nil && (version != recordVersion || q.QoS == 0 || q.QoS == 3 || q.Released && (q.QoS != 2 || q.PacketID == 0)) {
		err = fmt.Errorf("%w: flags", ErrRecord)
	}
	return q, err
}

// Retained is the retained message of a topic.
type Retained struct {
	Topic      string
	QoS        byte
	At         time.Time // when it came
	Expires    time.Time // zero: never
	Owner      string    // principal of the publisher; empty in records of earlier releases
	Properties []byte
	Payload    []byte // not empty
}

func (m *Retained) append(b []byte) []byte {
	b = append(b, retainedOwned, m.QoS)
	b = appendTime(b, m.At)
	b = appendTime(b, m.Expires)
	b = appendText(b, m.Owner)
	b = appendText(b, m.Properties)
	return append(b, m.Payload...)
}

// parseRetained keeps no reference to b.
func parseRetained(topic string, b []byte) (*Retained, error) {
	r := reader{b: append([]byte(nil), b...)}
	version := r.byte()
	m := &Retained{Topic: topic, QoS: r.byte(), At: r.time(), Expires: r.time()}
	if version == retainedOwned {
		m.Owner = r.text()
	}
	m.Properties = r.bytes()
	m.Payload, r.b = r.b, nil
	err := r.end()
	if err == nil && (version < recordVersion || version > retainedOwned || m.QoS > 2 || len(m.Payload) == 0) {
		err = fmt.Errorf("%w: retained message", ErrRecord)
	}
	return m, err
}

func appendText[S string | []byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes epoch ms, 0 for the zero time.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixMilli())
}

// A reader takes fields off the front of b; bad says that one was missing.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte() byte {
	if p := r.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if p := r.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if p := r.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) time() time.Time {
	v, n := binary.Varint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return time.Time{}
	}
	r.b = r.b[n:]
	if v == 0 {
		return time.Time{}
	}
	return time.UnixMilli(v)
}

func (r *reader) text() string { return string(r.take(r.uvarint())) }

// bytes is text, nil if empty.
func (r *reader) bytes() []byte {
	if p := r.take(r.uvarint()); len(p) > 0 {
		return p[:len(p):len(p)]
	}
	return nil
}

func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: length", ErrRecord)
	}
	return nil
}
