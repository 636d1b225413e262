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
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A Message is one to be published.
type Message struct {
	Topic   string
	Payload []byte
	QoS     byte
	Retain  bool
	Remote  string // address of the client, with its port

	// The rest is that of MQTT 5, empty if it was not given.
	UTF8            bool // of the payload
	ContentType     string
	ResponseTopic   string
	CorrelationData []byte
	Expiry          time.Duration
	User            [][2]string
}

// readMessage reads the message of a request.
func readMessage(r *wire.Request) (any, error) {
	m := &Message{Topic: r.Path("topic"), Payload: r.Body, Remote: r.Remote,
		ContentType: r.Query.Get("contentType"), ResponseTopic: r.Query.Get("responseTopic")}
	return m, m.read(r)
}

func (p *plane) publish(r *wire.Request) (any, error) {
	m := r.Input.(*Message)
	if m.Retain {
		if err := r.Authorize(authz.RetainPublish, p.topicARN(r)); err != nil {
			return nil, err
		}
	}
	may := func(topic string) bool { return r.Authorize(authz.Publish, p.arn(r, "topic", topic)) == nil }
	if err := p.Publish(r.Context(), r.Caller, may, m); err != nil {
		return nil, err
	}
	return map[string]string{"message": "OK", "traceId": r.ID}, nil
}

// read reads what a request says of the message beside topic and payload.
func (m *Message) read(r *wire.Request) error {
	if topic.ValidName(m.Topic) != nil {
		return bad("topic: want one without wildcards, at most 65535 bytes of UTF-8")
	}
	qos, err := number(r, "qos", 0, 0, 1)
	if err != nil {
		return err
	}
	m.QoS = byte(qos)
	switch text := r.Query.Get("retain"); text {
	case "", "false":
	case "true":
		m.Retain = true
	default:
		return bad("retain: %.20q, want true or false", text)
	}
	expiry, err := number(r, "messageExpiry", 0, 0, 1<<32-1)
	if err != nil {
		return err
	}
	m.Expiry = time.Duration(expiry) * time.Second
	if m.ResponseTopic != "" && topic.ValidName(m.ResponseTopic) != nil {
		return bad("responseTopic: want a topic")
	}
	if len(m.ContentType) > maxText || !utf8.ValidString(m.ContentType) {
		return bad("contentType: want at most %d bytes of UTF-8", maxText)
	}
	header := func(name string) string { return r.Header.Get("X-Amz-Mqtt5-" + name) }
	switch text := header("Payload-Format-Indicator"); text {
	case "", "UNSPECIFIED_BYTES":
	case "UTF8_DATA":
		if m.UTF8 = true; !utf8.Valid(m.Payload) {
			return bad("the payload is no UTF-8")
		}
	default:
		return bad("payloadFormatIndicator: %.20q, want UNSPECIFIED_BYTES or UTF8_DATA", text)
	}
	if text := header("Correlation-Data"); text != "" {
		if m.CorrelationData, err = base64.StdEncoding.DecodeString(text); err != nil || len(m.CorrelationData) > maxText {
			return bad("correlationData: want base64 of at most %d bytes", maxText)
		}
	}
	if text := header("User-Properties"); text != "" {
		if m.User, err = userProperties(text); err != nil {
			return bad("userProperties: %v", err)
		}
	}
	return nil
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
