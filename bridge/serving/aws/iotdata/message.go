package iotdata

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// readMessage reads the *message.Message of a request; who published it is not in
// it yet.
func readMessage(r *wire.Request) (any, error) {
	now := time.Now()
	m := &message.Message{Topic: r.Path("topic"), Payload: r.Body, SourceIP: admission.Host(r.Remote), Protocol: "http",
		Time: now.UnixMilli()}
	if topic.ValidName(m.Topic) != nil {
		return nil, bad("topic: want one without wildcards, at most 65535 bytes of UTF-8")
	}
	qos, err := number(r, "qos", 0, 0, 1)
	if err != nil {
		return nil, err
	}
	m.QoS = byte(qos)
	switch text := r.Query.Get("retain"); text {
	case "", "false":
	case "true":
		m.Retain = true
	default:
		return nil, bad("retain: %.20q, want true or false", text)
	}
	expiry, err := number(r, "messageExpiry", 0, 0, 1<<32-1)
	if err != nil {
		return nil, err
	}
	if expiry > 0 {
		m.Expires = now.Add(time.Duration(expiry) * time.Second)
	}
	m.Properties, err = properties(r)
	return m, err
}

// properties reads those of MQTT 5, and encodes them as on the wire.
func properties(r *wire.Request) (b []byte, err error) {
	header := func(name string) string { return r.Header.Get("X-Amz-Mqtt5-" + name) }
	switch text := header("Payload-Format-Indicator"); text {
	case "", "UNSPECIFIED_BYTES":
	case "UTF8_DATA":
		if !utf8.Valid(r.Body) {
			return nil, bad("the payload is no UTF-8")
		}
		b = packet.AppendNumber(b, packet.PayloadFormat, 1)
	default:
		return nil, bad("payloadFormatIndicator: %.20q, want UNSPECIFIED_BYTES or UTF8_DATA", text)
	}
	if text := r.Query.Get("contentType"); text != "" {
		if len(text) > maxText || !utf8.ValidString(text) {
			return nil, bad("contentType: want at most %d bytes of UTF-8", maxText)
		}
		b = packet.AppendText(b, packet.ContentType, text)
	}
	if name := r.Query.Get("responseTopic"); name != "" {
		if topic.ValidName(name) != nil {
			return nil, bad("responseTopic: want a topic")
		}
		b = packet.AppendText(b, packet.ResponseTopic, name)
	}
	if text := header("Correlation-Data"); text != "" {
		data, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(data) > maxText {
			return nil, bad("correlationData: want base64 of at most %d bytes", maxText)
		}
		b = packet.AppendText(b, packet.CorrelationData, data)
	}
	if text := header("User-Properties"); text != "" {
		all, err := userProperties(text)
		if err != nil {
			return nil, bad("userProperties: %v", err)
		}
		for _, p := range all {
			b = packet.AppendUser(b, p[0], p[1])
		}
	}
	return b, nil
}

func (p *plane) publish(r *wire.Request) (any, error) {
	m := r.Input.(*message.Message)
	if m.Retain {
		if err := r.Authorize(authz.RetainPublish, p.topicARN(r)); err != nil {
			return nil, err
		}
	}
	m.Principal = r.Caller.Principal()
	if m.Retain {
		m.Owner = r.Caller.Owner()
	}
	if err := p.data.Messages.Submit(r.Context(), m, sender{p, r}); err != nil {
		return nil, err
	}
	return map[string]string{"message": "OK", "traceId": r.ID}, nil
}

// A sender is the caller of a request. It implements route.Sender.
type sender struct {
	p *plane
	r *wire.Request
}

func (s sender) MayPublish(topic string) bool {
	return s.r.Authorize(authz.Publish, s.p.arn(s.r, "topic", topic)) == nil
}

// AsThing returns the one thing that the caller is: by HTTPS there is no client id
// that would name it.
func (s sender) AsThing() (thing string, rights gateway.Session, err error) {
	if c, ok := s.r.Caller.(interface {
		AsThing() (string, gateway.Session, error)
	}); ok {
		thing, rights, err = c.AsThing()
	}
	if err == nil && rights == nil {
		err = bad("a batch does not say whose it is: send it with a client certificate that is attached to one " +
			"thing, " +
			"or by MQTT")
	}
	return thing, rights, err
}

// maxText bounds texts of MQTT (MQTT 5, 1.5.4).
const maxText = 65535

// maxUser bounds user properties: 8 KiB in all (AWS IoT Core quotas).
const maxUser = 8 << 10

// userProperties reads a header: base64 of a JSON array of objects with names
// and texts. A name may be there several times, and the order counts.
func userProperties(text string) (all [][2]string, err error) {
	doc, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, errors.New("want base64")
	}
	var list []json.RawMessage
	if err := json.Unmarshal(doc, &list); err != nil {
		return nil, errors.New("want a JSON array of objects")
	}
	size := 0
	for _, object := range list {
		var pairs map[string]string
		if err := json.Unmarshal(object, &pairs); err != nil || pairs == nil {
			return nil, errors.New("want objects of texts")
		}
		dec := json.NewDecoder(strings.NewReader(string(object)))
		_, _ = dec.Token() // the object was read once
		for dec.More() {
			k, _ := dec.Token()
			v, _ := dec.Token()
			name, ok1 := k.(string)
			value, ok2 := v.(string) // null is no text, though it can be read as one
			if !ok1 || !ok2 {
				return nil, errors.New("want objects of texts")
			}
			pair := [2]string{name, value}
			if size += len(pair[0]) + len(pair[1]); size > maxUser {
				return nil, fmt.Errorf("more than %d bytes", maxUser)
			}
			all = append(all, pair)
		}
	}
	return all, nil
}

// user writes them as they are read.
func user(all [][2]string) *string {
	if len(all) == 0 {
		return nil
	}
	list := make([]map[string]string, len(all))
	for i, p := range all {
		list[i] = map[string]string{p[0]: p[1]}
	}
	doc, _ := json.Marshal(list) // texts never fail
	text := base64.StdEncoding.EncodeToString(doc)
	return &text
}
