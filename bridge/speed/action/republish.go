package action

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// MaxHops bounds rules that republish into themselves or each other. AWS
// states no such limit; without one a wrong rule fills the log by itself.
const MaxHops = 10

// toTopic is the republish action.
type toTopic struct {
	outbox
	topic    *iotsql.Template
	qos      int
	headers  []header
	resource string
}

func compileRepublish(p *parser) Target {
	t := &toTopic{
		outbox: p.outbox, topic: p.topicTemplate("topic"), qos: p.number("qos", 0, 1),
		headers: p.headers(), resource: p.raw("topic"),
	}
	if len(p.errs) == 0 {
		t.never = judged("topic", t.topic, topic.ValidName)
	}
	return t
}

func (t *toTopic) Kind() string     { return "republish" }
func (t *toTopic) Resource() string { return t.resource }

func (t *toTopic) resolve(ctx context.Context, in *Input) (*Delivery, error) {
	name, err := t.topic.Text(ctx, in.Input)
	d := t.fill(in, &Delivery{Kind: "republish", Name: name, QoS: byte(t.qos), Hops: in.Hops + 1})
	if err == nil {
		err = topic.ValidName(d.Name)
	}
	for i := 0; err == nil && i < len(t.headers); i++ {
		err = t.headers[i].set(ctx, in.Input, d)
	}
	if err == nil {
		err = new(packet.Properties).Parse(packet.PUBLISH, d.Properties)
	}
	if err == nil && in.Hops >= MaxHops {
		err = fmt.Errorf("topic %s: the message was republished %d times already", name, in.Hops)
	}
	return d, err
}

func (t *toTopic) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.resolve(ctx, in)
	return t.stage(b, d, err)
}

func (t *toTopic) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.resolve(ctx, in)
	return t.describe(d, err, append([]Parameter{{"topic", d.Name}, {"qos", strconv.Itoa(t.qos)}},
		d.describeHeaders()...)...)
}

// maxHeader is the longest header, a user property's key and value included, in
// bytes (RepublishAction, MqttHeaders).
const maxHeader = 1024

// maxUserProperties is how many the action may have (same place).
const maxUserProperties = 100

// A header sets one property of MQTT 5 on the new message.
type header struct {
	name       string // in the topic rule document
	key, value *iotsql.Template
}

// headers reads the member of that name: what is set on the message, whose
// values are templates.
func (p *parser) headers() (all []header) {
	raw, ok := p.params["headers"]
	if !ok {
		return nil
	}
	h := parser{compile: p.compile}
	h.read(raw, "payloadFormatIndicator", "contentType", "responseTopic", "correlationData", "messageExpiry",
		"userProperties")
	for _, name := range []string{"payloadFormatIndicator", "contentType", "responseTopic", "correlationData",
		"messageExpiry"} {
		if _, ok := h.params[name]; ok {
			all = append(all, header{name: name, value: h.template(name, "")})
		}
	}
	if raw, ok := h.params["userProperties"]; ok {
		var users []json.RawMessage
		if err := json.Unmarshal(raw, &users); err != nil || len(users) < 1 || len(users) > maxUserProperties {
			h.bad("userProperties: want a list of 1 to %d", maxUserProperties)
		}
		for i, doc := range users {
			u := parser{compile: p.compile}
			u.read(doc, "key", "value")
			all = append(all, header{name: "userProperties", key: u.template("key", ""),
				value: u.template("value", "")})
			for _, err := range u.errs {
				h.bad("userProperties[%d].%w", i, err)
			}
		}
	}
	for _, err := range h.errs {
		p.bad("headers.%w", err)
	}
	if len(p.errs) > 0 {
		return nil
	}
	// What is the same for every message is judged when the rule is made.
	for _, x := range all {
		_, same := x.value.Const()
		if x.key != nil {
			_, key := x.key.Const()
			same = same && key
		}
		if same {
			if err := x.set(context.Background(), &iotsql.Input{}, &Delivery{}); err != nil {
				p.bad("%w", err)
			}
		}
	}
	return all
}

// errNoText fails the action: a header says something or is not in the rule.
// MQTT takes an empty content type or key, whose receiver learns nothing.
var errNoText = errors.New("the template gives no text, such as of an Undefined value; give it one by a " +
	"function, or take the header away")

// set adds the header to d. What comes out empty or not as its property wants
// it fails the action, as an empty topic does; only a user property's value may
// be empty.
func (h *header) set(ctx context.Context, m *iotsql.Input, d *Delivery) error {
	value, err := h.value.Text(ctx, m)
	switch {
	case err != nil:
	case value == "" && h.key == nil:
		err = errNoText
	case len(value) > maxHeader:
		err = fmt.Errorf("%d bytes, want at most %d", len(value), maxHeader)
	}
	if err == nil {
		switch h.name {
		case "payloadFormatIndicator":
			switch value {
			case "UNSPECIFIED_BYTES":
				d.Properties = packet.AppendNumber(d.Properties, packet.PayloadFormat, 0)
			case "UTF8_DATA":
				d.Properties = packet.AppendNumber(d.Properties, packet.PayloadFormat, 1)
			default:
				err = fmt.Errorf("%q, want UNSPECIFIED_BYTES or UTF8_DATA", value)
			}
		case "contentType":
			d.Properties = packet.AppendText(d.Properties, packet.ContentType, value)
		case "responseTopic":
			if err = topic.ValidName(value); err == nil {
				d.Properties = packet.AppendText(d.Properties, packet.ResponseTopic, value)
			}
		case "correlationData":
			var data []byte
			if data, err = base64.StdEncoding.DecodeString(value); err == nil {
				d.Properties = packet.AppendText(d.Properties, packet.CorrelationData, data)
			}
		case "messageExpiry":
			var n uint64
			if n, err = strconv.ParseUint(value, 10, 32); err != nil || n == 0 {
				err = fmt.Errorf("%q, want seconds from 1 on", value)
			}
			d.Expiry = uint32(n)
		case "userProperties":
			var key string
			switch key, err = h.key.Text(ctx, m); {
			case err != nil:
			case key == "":
				err = fmt.Errorf("key: %w", errNoText)
			case len(key) > maxHeader:
				err = fmt.Errorf("a key of %d bytes, want at most %d", len(key), maxHeader)
			}
			if err == nil {
				d.Properties = packet.AppendUser(d.Properties, key, value)
			}
		}
	}
	if err != nil {
		return fmt.Errorf("headers.%s: %w", h.name, err)
	}
	return nil
}

// describeHeaders shows the headers that resolve has set.
func (d *Delivery) describeHeaders() (all []Parameter) {
	packet.Each(d.Properties, func(id packet.Property, value, second []byte) bool {
		switch id {
		case packet.PayloadFormat:
			all = append(all, Parameter{"payloadFormatIndicator",
				[2]string{"UNSPECIFIED_BYTES", "UTF8_DATA"}[value[0]&1]})
		case packet.ContentType:
			all = append(all, Parameter{"contentType", string(value)})
		case packet.ResponseTopic:
			all = append(all, Parameter{"responseTopic", string(value)})
		case packet.CorrelationData:
			all = append(all, Parameter{"correlationData", base64.StdEncoding.EncodeToString(value)})
		case packet.UserProperty:
			all = append(all, Parameter{"userProperties." + string(value), string(second)})
		}
		return true
	})
	if d.Expiry > 0 {
		all = append(all, Parameter{"messageExpiry", strconv.FormatUint(uint64(d.Expiry), 10)})
	}
	return all
}
