package aws

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/control/authz"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow"
)

// Data is what AWS IoT's data plane works on. Errors may be *Error, or
// *shadow.Error.
type Data interface {
	// Publish returns when the message is durable.
	Publish(ctx context.Context, who Caller, m *Message) error
	// Retained returns the retained message of a topic, nil for none.
	Retained(topic string) (*Retained, error)
	// ListRetained returns up to n of them, without payload, in the order of
	// their topics from the first after the one given, and the topic to go on
	// after, "" when there are no more.
	ListRetained(after string, n int) (page []Retained, next string, err error)
	// Shadow does what shadow/service.Do does.
	Shadow(ctx context.Context, thing, name string, op shadow.Op, payload []byte) ([]byte, error)
	// ListShadows does what shadow/service.List does.
	ListShadows(thing, token string, size int) (names []string, next string, err error)
}

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

// A Retained is a retained message.
type Retained struct {
	Topic   string
	Payload []byte
	Size    int // of the payload
	QoS     byte
	At      time.Time // when it was set
	User    [][2]string
}

// dataServices are those that requests of the data plane are signed for.
var dataServices = []string{"iotdata", "iotdevicegateway", "execute-api"}

// ofData says whether a path, still escaped, is of the data plane, whose
// requests need not be signed.
func ofData(path string) bool {
	rest, thing := strings.CutPrefix(path, "/things/")
	_, last, _ := strings.Cut(rest, "/")
	return strings.HasPrefix(path, "/topics/") || path == "/retainedMessage" || strings.HasPrefix(path, "/retainedMessage/") ||
		strings.HasPrefix(path, "/api/things/shadow/") || thing && last == "shadow"
}

// iotData are the operations of AWS IoT's data plane.
type iotData struct {
	Data
	now func() time.Time
}

func (d *iotData) operations() []operation {
	return []operation{
		{"Publish", "POST", "/topics/:topic+", d.publish},
		{"GetRetainedMessage", "GET", "/retainedMessage/:topic+", d.retained},
		{"ListRetainedMessages", "GET", "/retainedMessage", d.listRetained},
		{"GetThingShadow", "GET", "/things/:thing/shadow", d.shadow(shadow.OpGet, authz.GetThingShadow)},
		{"UpdateThingShadow", "POST", "/things/:thing/shadow", d.shadow(shadow.OpUpdate, authz.UpdateThingShadow)},
		{"DeleteThingShadow", "DELETE", "/things/:thing/shadow", d.shadow(shadow.OpDelete, authz.DeleteThingShadow)},
		{"ListNamedShadowsForThing", "GET", "/api/things/shadow/ListNamedShadowsForThing/:thing", d.listShadows},
	}
}

// ErrForbidden is what policy does not allow. AWS's data plane says it so,
// though its model has UnauthorizedException.
var ErrForbidden = &Error{Code: "ForbiddenException", Status: http.StatusForbidden, Message: "Forbidden"}

// shadowCodes are the names of a shadow.Error, by its code.
var shadowCodes = map[int]string{
	400: "InvalidRequestException", 403: "UnauthorizedException", 404: "ResourceNotFoundException", 405: "MethodNotAllowedException",
	409: "ConflictException", 413: "RequestEntityTooLargeException", 415: "UnsupportedDocumentEncodingException",
	429: "ThrottlingException", 500: "InternalFailureException",
}

// ofShadow puts a refusal of the shadow service in AWS's words.
func ofShadow(err error) error {
	if e, ok := errors.AsType[*shadow.Error](err); ok && shadowCodes[e.Code] != "" {
		return &Error{Code: shadowCodes[e.Code], Status: e.Code, Message: e.Message}
	}
	return err
}

// bad is an error in what the caller sent.
func bad(format string, args ...any) error {
	return &Error{Code: "InvalidRequestException", Status: http.StatusBadRequest, Message: fmt.Sprintf(format, args...)}
}

// number reads a parameter of the query, otherwise if it is not given.
func (r *request) number(name string, otherwise, least, most int) (int, error) {
	text := r.query.Get(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > most {
		return 0, bad("%s: %.20q, want %d to %d", name, text, least, most)
	}
	return n, nil
}

func (d *iotData) publish(r *request) (any, error) {
	m := &Message{Topic: r.path["topic"], Payload: r.body, Remote: r.remote,
		ContentType: r.query.Get("contentType"), ResponseTopic: r.query.Get("responseTopic")}
	if err := m.read(r); err != nil {
		return nil, err
	}
	if !r.caller.May(authz.Publish, m.Topic) || m.Retain && !r.caller.May(authz.RetainPublish, m.Topic) {
		return nil, ErrForbidden
	}
	if err := d.Publish(r.ctx, r.caller, m); err != nil {
		return nil, err
	}
	return map[string]string{"message": "OK", "traceId": r.id}, nil
}

// read reads what a request says of the message beside topic and payload.
func (m *Message) read(r *request) error {
	if topic.ValidName(m.Topic) != nil {
		return bad("topic: want one without wildcards, at most 65535 bytes of UTF-8")
	}
	qos, err := r.number("qos", 0, 0, 1)
	if err != nil {
		return err
	}
	m.QoS = byte(qos)
	switch text := r.query.Get("retain"); text {
	case "", "false":
	case "true":
		m.Retain = true
	default:
		return bad("retain: %.20q, want true or false", text)
	}
	expiry, err := r.number("messageExpiry", 0, 0, 1<<32-1)
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
	header := func(name string) string { return r.header.Get("X-Amz-Mqtt5-" + name) }
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

func (d *iotData) retained(r *request) (any, error) {
	name := r.path["topic"]
	if !r.caller.May(authz.GetRetainedMessage, name) {
		return nil, ErrForbidden
	}
	m, err := d.Retained(name)
	if err != nil {
		return nil, err
	}
	if m == nil {
		return nil, &Error{Code: "ResourceNotFoundException", Status: http.StatusNotFound, Message: "No retained message for the topic"}
	}
	return struct {
		Topic   string  `json:"topic"`
		Payload []byte  `json:"payload"`
		QoS     byte    `json:"qos"`
		At      int64   `json:"lastModifiedTime"`
		User    *string `json:"userProperties,omitempty"`
	}{m.Topic, append([]byte{}, m.Payload...), m.QoS, m.At.UnixMilli(), user(m.User)}, nil
}

func (d *iotData) listRetained(r *request) (any, error) {
	if !r.caller.May(authz.ListRetainedMessages, "*") {
		return nil, ErrForbidden
	}
	n, err := r.number("maxResults", 200, 1, 200)
	if err != nil {
		return nil, err
	}
	after, err := base64.RawURLEncoding.DecodeString(r.query.Get("nextToken"))
	if err != nil {
		return nil, bad("nextToken: want that of the page before")
	}
	page, next, err := d.ListRetained(string(after), n)
	if err != nil {
		return nil, err
	}
	type summary struct {
		Topic string `json:"topic"`
		Size  int    `json:"payloadSize"`
		QoS   byte   `json:"qos"`
		At    int64  `json:"lastModifiedTime"`
	}
	out := struct {
		Topics []summary `json:"retainedTopics"`
		Next   string    `json:"nextToken,omitempty"`
	}{make([]summary, len(page)), base64.RawURLEncoding.EncodeToString([]byte(next))}
	for i, m := range page {
		out.Topics[i] = summary{m.Topic, m.Size, m.QoS, m.At.UnixMilli()}
	}
	return out, nil
}

func (d *iotData) shadow(op shadow.Op, action string) func(*request) (any, error) {
	return func(r *request) (any, error) {
		thing, name := r.path["thing"], r.query.Get("name")
		resource := thing
		if name != "" {
			resource += "/" + name
		}
		// A thing's name has no slash, so that one resource is never another's.
		if !shadow.ValidThing(thing) {
			return nil, ofShadow(shadow.ErrThingName)
		}
		if !r.caller.May(action, resource) {
			return nil, ErrForbidden
		}
		doc, err := d.Shadow(r.ctx, thing, name, op, r.body)
		return json.RawMessage(doc), ofShadow(err)
	}
}

func (d *iotData) listShadows(r *request) (any, error) {
	if !r.caller.May(authz.ListNamedShadows, "*") {
		return nil, ErrForbidden
	}
	n, err := r.number("pageSize", 25, 1, 100)
	if err != nil {
		return nil, err
	}
	names, next, err := d.ListShadows(r.path["thing"], r.query.Get("nextToken"), n)
	if err != nil {
		return nil, ofShadow(err)
	}
	return struct {
		Results []string `json:"results"`
		Next    string   `json:"nextToken,omitempty"`
		At      int64    `json:"timestamp"`
	}{append([]string{}, names...), next, d.now().Unix()}, nil
}

// unsigned says whether r does not even try to be signed.
func unsigned(r *http.Request) bool {
	query, err := url.ParseQuery(r.URL.RawQuery)
	return err == nil && !query.Has("X-Amz-Algorithm") && !query.Has("X-Amz-Signature") &&
		!strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-")
}
