package gateway

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The records of sessions and retained messages in the store; FORMAT.md has the
// layout.

const (
	sessionPrefix  = "gw/s/"
	queuePrefix    = "gw/q/"
	exchangePrefix = "gw/x/"
	retainedPrefix = "gw/r/"
)

var errRecord = errors.New("gateway: corrupt record")

const recordVersion = 1

func sessionKey(id string) []byte { return []byte(sessionPrefix + id) }

func retainedKey(topic string) []byte { return []byte(retainedPrefix + topic) }

// ownedKey is the key of what belongs to one life of a session.
func ownedKey(prefix, id string, life uint64) []byte {
	b := make([]byte, 0, len(prefix)+len(id)+17)
	b = append(append(append(b, prefix...), id...), 0)
	return binary.BigEndian.AppendUint64(b, life)
}

func queueKey(id string, life, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(ownedKey(queuePrefix, id, life), seq)
}

func exchangeKey(id string, life uint64, packet uint16) []byte {
	return binary.BigEndian.AppendUint16(ownedKey(exchangePrefix, id, life), packet)
}

// parseOwned takes a key apart; tail is what follows the life.
func parseOwned(key []byte, prefix string, tail int) (id string, life uint64, rest []byte, err error) {
	n := len(key) - tail - 9
	if n < len(prefix)+1 || key[n] != 0 {
		return "", 0, nil, fmt.Errorf("%w: key %q", errRecord, key)
	}
	return string(key[len(prefix):n]), binary.BigEndian.Uint64(key[n+1:]), key[n+9:], nil
}

// A sessionRecord is what a session is made anew of.
type sessionRecord struct {
	life   uint64
	expiry time.Duration
	away   time.Time // zero: the client was there
	subs   map[string]options
}

func (r *sessionRecord) append(b []byte) []byte {
	b = append(b, recordVersion)
	b = binary.BigEndian.AppendUint64(b, r.life)
	b = binary.AppendUvarint(b, uint64(r.expiry.Milliseconds()))
	b = appendTime(b, r.away)
	b = binary.AppendUvarint(b, uint64(len(r.subs)))
	for f, o := range r.subs {
		b = binary.AppendUvarint(appendText(b, f), uint64(o))
	}
	return b
}

func parseSession(b []byte) (*sessionRecord, error) {
	r := reader{b: b}
	if r.byte() != recordVersion {
		return nil, fmt.Errorf("%w: version", errRecord)
	}
	s := &sessionRecord{life: r.uint64(), expiry: time.Duration(r.uvarint()) * time.Millisecond, away: r.time(), subs: make(map[string]options)}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		f := r.text()
		s.subs[f] = options(r.uvarint())
	}
	return s, r.end()
}

// Flags of a queued message.
const (
	queuedQoS      = 0x03
	queuedRetain   = 0x04
	queuedReleased = 0x08 // PUBREC came: only the packet id counts
)

// appendQueued writes o; id is its packet id, 0 for none yet.
func appendQueued(b []byte, o *outbound, id uint16) []byte {
	flags := o.qos & queuedQoS
	if o.retain {
		flags |= queuedRetain
	}
	m := o.m
	if m == &released {
		flags |= queuedReleased
	}
	b = append(b, recordVersion, flags)
	b = binary.BigEndian.AppendUint16(b, id)
	b = appendTime(b, m.Expires)
	b = appendText(b, m.Topic)
	b = appendText(b, m.Properties)
	name := ""
	if o.group != nil {
		name = o.group.filter
	}
	b = appendText(b, name)
	b = binary.AppendUvarint(b, uint64(len(o.ids)))
	for _, id := range o.ids {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return append(b, m.Payload...)
}

// parseQueued reads what appendQueued wrote; group is the shared subscription's
// whole filter.
func parseQueued(b []byte) (o outbound, id uint16, group string, err error) {
	r := reader{b: append([]byte(nil), b...)}
	version, flags := r.byte(), r.byte()
	o.qos, o.retain = flags&queuedQoS, flags&queuedRetain != 0
	id = r.uint16()
	m := &Message{QoS: o.qos, Expires: r.time(), Topic: r.text()}
	if p := r.text(); p != "" {
		m.Properties = []byte(p)
	}
	group = r.text()
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		o.ids = append(o.ids, uint32(r.uvarint()))
	}
	m.Payload, r.b = r.b, nil
	o.m = m
	if flags&queuedReleased != 0 {
		o.m = &released
	}
	if err = r.end(); err == nil && (version != recordVersion || o.qos == 0 || o.qos == 3 || o.m == &released && (o.qos != 2 || id == 0)) {
		err = fmt.Errorf("%w: flags", errRecord)
	}
	return o, id, group, err
}

func appendRetained(b []byte, m *Message, at time.Time) []byte {
	b = append(b, recordVersion, m.QoS)
	b = appendTime(b, at)
	b = appendTime(b, m.Expires)
	b = appendText(b, m.Properties)
	return append(b, m.Payload...)
}

func parseRetained(topic string, b []byte) (m *Message, at time.Time, err error) {
	r := reader{b: append([]byte(nil), b...)}
	version := r.byte()
	m = &Message{Topic: topic, QoS: r.byte(), Retain: true}
	at, m.Expires = r.time(), r.time()
	if p := r.text(); p != "" {
		m.Properties = []byte(p)
	}
	m.Payload, r.b = r.b, nil
	if err = r.end(); err == nil && (version != recordVersion || m.QoS > 2 || len(m.Payload) == 0) {
		err = fmt.Errorf("%w: retained message", errRecord)
	}
	return m, at, err
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

func (r *reader) end() error {
	if r.bad || len(r.b) > 0 {
		return fmt.Errorf("%w: length", errRecord)
	}
	return nil
}
