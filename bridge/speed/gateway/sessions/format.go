package sessions

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message/field"
)

// The records of sessions and retained messages; FORMAT.md has the layout.

const (
	sessionPrefix  = "gw/s/"
	queuePrefix    = "gw/q/"
	acceptedPrefix = "gw/x/"
	retainedPrefix = "gw/r/"

	formatKey = "gw/format"
	// formatNumber is that of FORMAT.md. It is raised when an earlier version would
	// leave out a record, or take it for another.
	formatNumber = 1
)

// errRecord means that stored bytes are no record.
var errRecord = errors.New("gateway: corrupt record")

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
		return l, nil, fmt.Errorf("%w: key %q", errRecord, key)
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
	b = field.AppendTime(b, r.Away)
	b = binary.AppendUvarint(b, uint64(len(r.Subs)))
	for f, o := range r.Subs {
		b = binary.AppendUvarint(field.AppendText(b, f), o)
	}
	return field.AppendText(b, r.Owner)
}

func parseRecord(b []byte) (*Record, error) {
	r := field.NewReader(b)
	if r.Byte() != recordVersion {
		return nil, fmt.Errorf("%w: version", errRecord)
	}
	s := &Record{Life: r.Uint64(), Expiry: time.Duration(r.Uvarint()) * time.Millisecond, Away: r.Time(),
		Subs: make(map[string]uint64)}
	for n := r.Uvarint(); n > 0 && !r.Bad(); n-- {
		f := string(r.Text())
		s.Subs[f] = r.Uvarint()
	}
	if r.Left() > 0 {
		s.Owner = string(r.Text())
	}
	return s, end(&r)
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
	b = field.AppendTime(b, q.Expires)
	b = field.AppendText(b, q.Topic)
	b = field.AppendText(b, q.Properties)
	b = field.AppendText(b, q.Group)
	b = binary.AppendUvarint(b, uint64(len(q.IDs)))
	for _, id := range q.IDs {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return append(b, q.Payload...)
}

// parseQueued keeps no reference to b.
func parseQueued(b []byte) (*Queued, error) {
	r := field.NewReader(append([]byte(nil), b...))
	version, flags := r.Byte(), r.Byte()
	q := &Queued{QoS: flags & queuedQoS, Retain: flags&queuedRetain != 0, Released: flags&queuedReleased != 0,
		PacketID: r.Uint16(), Expires: r.Time(), Topic: string(r.Text())}
	q.Properties = r.Text()
	q.Group = string(r.Text())
	for n := r.Uvarint(); n > 0 && !r.Bad(); n-- {
		q.IDs = append(q.IDs, uint32(r.Uvarint()))
	}
	q.Payload = r.Rest()
	err := end(&r)
	if err == nil && (version != recordVersion || q.QoS == 0 || q.QoS == 3 || q.Released &&
		(q.QoS != 2 || q.PacketID == 0)) {
		err = fmt.Errorf("%w: flags", errRecord)
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
	b = field.AppendTime(b, m.At)
	b = field.AppendTime(b, m.Expires)
	b = field.AppendText(b, m.Owner)
	b = field.AppendText(b, m.Properties)
	return append(b, m.Payload...)
}

// parseRetained keeps no reference to b.
func parseRetained(topic string, b []byte) (*Retained, error) {
	r := field.NewReader(append([]byte(nil), b...))
	version := r.Byte()
	m := &Retained{Topic: topic, QoS: r.Byte(), At: r.Time(), Expires: r.Time()}
	if version == retainedOwned {
		m.Owner = string(r.Text())
	}
	m.Properties = r.Text()
	m.Payload = r.Rest()
	err := end(&r)
	if err == nil && (version < recordVersion || version > retainedOwned || m.QoS > 2 || len(m.Payload) == 0) {
		err = fmt.Errorf("%w: retained message", errRecord)
	}
	return m, err
}

// end says whether the record was read and had nothing more.
func end(r *field.Reader) error {
	if r.Bad() || r.Left() > 0 {
		return fmt.Errorf("%w: length", errRecord)
	}
	return nil
}
