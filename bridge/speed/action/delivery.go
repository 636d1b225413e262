package action

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// ErrorSlot is the slot of a rule's error action.
const ErrorSlot = "error"

const outboxPrefix = "$outbox/"

// OutboxStream names the stream that holds the undelivered work of one action
// of a rule.
func OutboxStream(rule, slot string) string { return outboxPrefix + rule + "/" + slot }

// IsOutbox says whether a stream is an outbox.
func IsOutbox(stream string) bool { return strings.HasPrefix(stream, outboxPrefix) }

// A Delivery is one piece of work in an outbox.
type Delivery struct {
	Kind   string // "s3" or "republish"
	Rule   string
	Bucket string // s3: bucket; republish: ""
	Name   string // s3: object key; republish: topic
	QoS    byte   // republish
	Hops   uint8  // republish: the new message's
	Data   []byte
	// Of republish, the new message's headers: properties of MQTT 5 as on the wire
	// without their length, and how long it is of use, from its publishing on.
	Properties []byte
	Expiry     uint32 // seconds; 0: for ever

	// Of the message that fired the rule, for the error action.
	Topic, ClientID, TraceID string
	Time                     int64 // arrival, epoch ms; 0: not known
	Payload                  []byte
}

// deliveryVersion is the first byte of a stored Delivery. Versions 1 and 2 may
// wait in outboxes of earlier releases: 1 has no time, neither has headers.
const deliveryVersion = 3

// errDelivery means that stored bytes are no Delivery.
var errDelivery = errors.New("action: corrupt delivery")

// append writes d after dst in the layout of FORMAT.md.
func (d *Delivery) append(dst []byte) []byte {
	dst = append(dst, deliveryVersion, d.QoS, d.Hops)
	for _, s := range []string{d.Kind, d.Rule, d.Bucket, d.Name, d.Topic, d.ClientID, d.TraceID} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = binary.AppendVarint(dst, d.Time)
	dst = binary.AppendUvarint(dst, uint64(len(d.Payload)))
	dst = append(dst, d.Payload...)
	dst = binary.AppendUvarint(dst, uint64(d.Expiry))
	dst = binary.AppendUvarint(dst, uint64(len(d.Properties)))
	dst = append(dst, d.Properties...)
	return append(dst, d.Data...)
}

// ParseDelivery reads what append wrote. Data, Payload and Properties alias src.
func ParseDelivery(src []byte) (*Delivery, error) {
	if len(src) < 3 || src[0] < 1 || src[0] > deliveryVersion {
		return nil, errDelivery
	}
	d := &Delivery{QoS: src[1], Hops: src[2]}
	rest := src[3:]
	take := func() ([]byte, bool) {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > uint64(len(rest)-used) {
			return nil, false
		}
		part := rest[used : used+int(n)]
		rest = rest[used+int(n):]
		return part, true
	}
	for _, s := range []*string{&d.Kind, &d.Rule, &d.Bucket, &d.Name, &d.Topic, &d.ClientID, &d.TraceID} {
		part, ok := take()
		if !ok {
			return nil, errDelivery
		}
		*s = string(part)
	}
	if src[0] > 1 {
		t, used := binary.Varint(rest)
		if used <= 0 {
			return nil, errDelivery
		}
		d.Time, rest = t, rest[used:]
	}
	var ok bool
	if d.Payload, ok = take(); !ok {
		return nil, errDelivery
	}
	if src[0] > 2 {
		n, used := binary.Uvarint(rest)
		if used <= 0 || n > math.MaxUint32 {
			return nil, errDelivery
		}
		d.Expiry, rest = uint32(n), rest[used:]
		if d.Properties, ok = take(); !ok || new(packet.Properties).Parse(packet.PUBLISH, d.Properties) != nil {
			return nil, errDelivery
		}
		if len(d.Properties) == 0 {
			d.Properties = nil
		}
	}
	d.Data = rest
	return d, nil
}

// outbox is what actions with an outbox share.
type outbox struct {
	rule, stream string
	catalog      Catalog
}

func (o outbox) Outbox() string { return o.stream }

// fill adds what d has of the message and the rule.
func (o outbox) fill(in *Input, d *Delivery) *Delivery {
	d.Rule, d.Data = o.rule, in.Doc
	m := in.Input
	d.Topic, d.ClientID, d.TraceID, d.Time, d.Payload = m.Topic, m.ClientID, m.Trace.String(), m.Time, m.Payload
	return d
}

// encode returns the record of d, which must have room.
func (o outbox) encode(d *Delivery) ([]byte, error) {
	if err := o.catalog.Room(o.stream); err != nil {
		return nil, err
	}
	data := d.append(nil)
	if len(data) > streams.MaxData { // it would fail the whole commit, for ever
		return nil, fmt.Errorf("delivery of %d bytes, want at most %d", len(data), streams.MaxData)
	}
	return data, nil
}

// stage adds what resolve made to b, if that went well.
func (o outbox) stage(b *streams.Batch, d *Delivery, err error) error {
	if err != nil {
		return err
	}
	data, err := o.encode(d)
	if err == nil {
		b.Append(o.stream, 0, streams.Record{Key: d.Topic[:min(len(d.Topic), 256)], Data: data})
	}
	return err
}

// describe adds to err what stage would say. An outbox that is not there is
// made when the rule comes into force.
func (o outbox) describe(d *Delivery, err error, all ...Parameter) ([]Parameter, error) {
	if err == nil {
		if _, err = o.encode(d); errors.Is(err, streams.ErrNotFound) {
			err = nil
		}
	}
	return all, err
}
