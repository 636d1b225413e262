package action

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

const (
	outboxPrefix = "$outbox/"
	errorSlot    = "error" // of a rule's error action
)

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
	// Of the message that fired the rule, for the error action.
	Topic, ClientID, TraceID string
	Payload                  []byte
}

// deliveryVersion is the first byte of a stored Delivery.
const deliveryVersion = 1

// errDelivery means that stored bytes are no Delivery.
var errDelivery = errors.New("action: corrupt delivery")

// append writes d after dst in the layout of FORMAT.md.
func (d *Delivery) append(dst []byte) []byte {
	dst = append(dst, deliveryVersion, d.QoS, d.Hops)
	for _, s := range []string{d.Kind, d.Rule, d.Bucket, d.Name, d.Topic, d.ClientID, d.TraceID} {
		dst = binary.AppendUvarint(dst, uint64(len(s)))
		dst = append(dst, s...)
	}
	dst = binary.AppendUvarint(dst, uint64(len(d.Payload)))
	dst = append(dst, d.Payload...)
	return append(dst, d.Data...)
}

// parseDelivery reads what append wrote. Data and Payload alias src.
func parseDelivery(src []byte) (*Delivery, error) {
	if len(src) < 3 || src[0] != deliveryVersion {
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
	var ok bool
	if d.Payload, ok = take(); !ok {
		return nil, errDelivery
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

func (o outbox) stage(b *streams.Batch, in *Input, d *Delivery) error {
	if err := o.catalog.Room(o.stream); err != nil {
		return err
	}
	d.Rule, d.Data = o.rule, in.Doc
	d.Topic, d.ClientID, d.TraceID, d.Payload = in.Message.Topic, in.Message.ClientID, in.Message.TraceID, in.Message.Payload
	data := d.append(nil)
	if len(data) > streams.MaxData { // it would fail the whole commit, for ever
		return fmt.Errorf("delivery of %d bytes, want at most %d", len(data), streams.MaxData)
	}
	b.Append(o.stream, 0, streams.Record{Key: d.Topic[:min(len(d.Topic), 256)], Data: data})
	return nil
}

// toObject is the s3 action.
type toObject struct {
	outbox
	bucket   string
	key      *iotsql.Template
	resource string
}

func (t *toObject) Kind() string     { return "s3" }
func (t *toObject) Resource() string { return t.resource }

func (t *toObject) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	key, err := t.key.Append(ctx, nil, in.Message)
	if err != nil {
		return err
	}
	if err := sink.CheckKey(string(key)); err != nil {
		return err
	}
	return t.stage(b, in, &Delivery{Kind: "s3", Bucket: t.bucket, Name: string(key)})
}

// maxHops bounds rules that republish into themselves or each other. AWS
// states no such limit; without one a wrong rule fills the log by itself.
const maxHops = 10

// toTopic is the republish action.
type toTopic struct {
	outbox
	topic    *iotsql.Template
	qos      int
	resource string
}

func (t *toTopic) Kind() string     { return "republish" }
func (t *toTopic) Resource() string { return t.resource }

func (t *toTopic) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	name, err := t.topic.Append(ctx, nil, in.Message)
	if err != nil {
		return err
	}
	if err := topic.ValidName(string(name)); err != nil {
		return err
	}
	if in.Hops >= maxHops {
		return fmt.Errorf("topic %s: the message was republished %d times already", name, in.Hops)
	}
	return t.stage(b, in, &Delivery{Kind: "republish", Name: string(name), QoS: byte(t.qos), Hops: in.Hops + 1})
}
