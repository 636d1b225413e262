package action

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/message/field"
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
	Kind   string // of action, as in the topic rule document
	Rule   string
	Bucket string // s3: bucket; others: ""
	Name   string // s3: object key; republish: topic; others: what it acts on, for error documents
	QoS    byte   // republish
	Hops   uint8  // republish: the new message's
	Data   []byte
	// Of republish, the new message's headers: properties of MQTT 5 as on the wire
	// without their length, and how long it is of use, from its publishing on.
	Properties []byte
	Expiry     uint32 // seconds; 0: for ever

	// ID is the same as often as this is tried, and no other delivery's: a UUID made
	// of the message's trace id and the rule's slot. Targets know duplicates by
	// it. "" of versions before 4.
	ID string
	// Parameters are the action's, in the order of its kind, each evaluated once,
	// when it was staged.
	Parameters []Parameter

	// Of the message that fired the rule, for the error action.
	Topic, ClientID, TraceID string
	Time                     int64 // arrival, epoch ms; 0: not known
	Payload                  []byte
}

// deliveryVersion is the first byte of a stored Delivery. Versions 1 to 3 may
// wait in outboxes of earlier releases: 1 has no time, 1 and 2 have no headers,
// none of them has an id and parameters.
const deliveryVersion = 4

// maxParameters is more than any kind of action has.
const maxParameters = 512

// errDelivery means that stored bytes are no Delivery.
var errDelivery = errors.New("action: corrupt delivery")

// append writes d after dst in the layout of FORMAT.md.
func (d *Delivery) append(dst []byte) []byte {
	dst = append(dst, deliveryVersion, d.QoS, d.Hops)
	for _, s := range []string{d.Kind, d.Rule, d.Bucket, d.Name, d.Topic, d.ClientID, d.TraceID} {
		dst = field.AppendText(dst, s)
	}
	dst = binary.AppendVarint(dst, d.Time)
	dst = field.AppendText(dst, d.Payload)
	dst = binary.AppendUvarint(dst, uint64(d.Expiry))
	dst = field.AppendText(dst, d.Properties)
	dst = field.AppendText(dst, d.ID)
	dst = binary.AppendUvarint(dst, uint64(len(d.Parameters)))
	for _, p := range d.Parameters {
		dst = field.AppendText(field.AppendText(dst, p.Name), p.Value)
	}
	return append(dst, d.Data...)
}

// Record is d in the layout of FORMAT.md.
func (d *Delivery) Record() []byte { return d.append(nil) }

// ParseDelivery reads what append wrote. Data, Payload and Properties alias src.
func ParseDelivery(src []byte) (*Delivery, error) {
	if len(src) < 3 || src[0] < 1 || src[0] > deliveryVersion {
		return nil, errDelivery
	}
	version := src[0]
	d := &Delivery{QoS: src[1], Hops: src[2]}
	r := field.NewReader(src[3:])
	for _, s := range []*string{&d.Kind, &d.Rule, &d.Bucket, &d.Name, &d.Topic, &d.ClientID, &d.TraceID} {
		*s = string(r.Text())
	}
	if version > 1 {
		d.Time = r.Varint()
	}
	d.Payload = r.Text()
	if version > 2 {
		expiry := r.Uvarint()
		d.Expiry, d.Properties = uint32(expiry), r.Text()
		if expiry > math.MaxUint32 || new(packet.Properties).Parse(packet.PUBLISH, d.Properties) != nil {
			return nil, errDelivery
		}
	}
	if version > 3 {
		d.ID = string(r.Text())
		n := r.Uvarint()
		if n > maxParameters {
			return nil, errDelivery
		}
		for ; n > 0 && !r.Bad(); n-- {
			d.Parameters = append(d.Parameters, Parameter{string(r.Text()), string(r.Text())})
		}
	}
	if r.Bad() {
		return nil, errDelivery
	}
	d.Data = r.Rest()
	return d, nil
}

// outbox is what actions with an outbox share.
type outbox struct {
	rule, stream string
	catalog      Catalog
	constant
}

func (o outbox) Outbox() string { return o.stream }

// fill adds what d has of the message and the rule.
func (o outbox) fill(in *Input, d *Delivery) *Delivery {
	d.Rule, d.Data = o.rule, in.Doc
	m := in.Input
	d.Topic, d.ClientID, d.TraceID, d.Time, d.Payload = m.Topic, m.ClientID, m.Trace.String(), m.Time, m.Payload
	d.ID = o.id(in)
	return d
}

// id is a delivery's: the same when the message is met again after a crash. An
// error action may run more than once for a message, for another failure each
// time.
func (o outbox) id(in *Input) string {
	if in.Trace == (message.Trace{}) { // nothing that came in is without
		return uuid.NewString()
	}
	h := sha256.New()
	h.Write(in.Trace[:])
	io.WriteString(h, o.stream)
	if strings.HasSuffix(o.stream, "/"+ErrorSlot) {
		h.Write(in.Doc)
	}
	id := uuid.UUID(h.Sum(nil)[:16])
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80 // version 8, made otherwise (RFC 9562, section 5.8)
	return id.String()
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

// Resource is what the delivery acts on, for error documents.
func (d *Delivery) Resource() string {
	if d.Kind == "s3" {
		return d.Bucket
	}
	return d.Name
}

// stage adds what resolve made to b, if that went well.
func (o outbox) stage(b *streams.Batch, d *Delivery, err error) error {
	if err != nil {
		return onResource(d.Resource(), err)
	}
	data, err := o.encode(d)
	err = onResource(d.Resource(), err)
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
