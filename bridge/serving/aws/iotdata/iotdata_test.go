package iotdata

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/broker"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/bridge/speed/route"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/service"
)

// fake is a data plane that keeps what it is asked to publish.
type fake struct {
	got  []*message.Message
	fail error
}

func (p *fake) Submit(_ context.Context, m *message.Message, _ route.Sender) error {
	p.got = append(p.got, m)
	return p.fail
}
func (p *fake) Do(context.Context, string, string, shadow.Op, []byte) ([]byte, error) {
	return []byte(`{"x":1}`), p.fail
}
func (p *fake) List(string, string, int) ([]string, string, error) {
	return nil, "more", p.fail
}

// retained has two messages.
type retained struct{}

func (retained) Get(string) (*message.Message, time.Time, bool) { return nil, time.Time{}, false }
func (retained) List(_ string, f func(*message.Message, time.Time) bool) {
	_ = f(&message.Message{Topic: "a\xffb"}, time.Time{}) && f(&message.Message{Topic: "b"}, time.Time{})
}

// handler serves p to whom the header Who names, and to a key.
func handler(p *fake) *wire.Handler {
	o := wiretest.Options(Service("000000000000", Data{Messages: p, Retained: retained{}, Shadows: p}, 0, nil))
	o.Unsigned = func(r *http.Request) (wire.Caller, error) { return wiretest.Caller(r.Header.Get("Who")), nil }
	return wire.New(o)
}

func signed(r *http.Request, body string) *http.Request {
	r.Host = "h"
	sigv4test.Sign(r, []byte(body), wiretest.Key, "r", "iotdata", time.Now())
	return r
}

// A message has all that the request says of it.
func TestPublishRequest(t *testing.T) {
	p := &fake{}
	h := handler(p)
	header := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	r := httptest.NewRequest("POST", "/topics/a%2F%2Fb%20c?qos=1&retain=true&contentType=text%2Fplain&responseTopic=r%2F1&messageExpiry=60",
		strings.NewReader("héllo"))
	r.Header.Set("X-Amz-Mqtt5-User-Properties", header(`[{"a":"1","b":"2"},{"a":"3"}]`))
	r.Header.Set("X-Amz-Mqtt5-Payload-Format-Indicator", "UTF8_DATA")
	r.Header.Set("X-Amz-Mqtt5-Correlation-Data", header("\x00\xff"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, signed(r, "héllo"))
	props := packet.AppendText(packet.AppendNumber(nil, packet.PayloadFormat, 1), packet.ContentType, "text/plain")
	props = packet.AppendText(packet.AppendText(props, packet.ResponseTopic, "r/1"), packet.CorrelationData, "\x00\xff")
	for _, u := range [][2]string{{"a", "1"}, {"b", "2"}, {"a", "3"}} {
		props = packet.AppendUser(props, u[0], u[1])
	}
	want := message.Message{Topic: "a//b c", Payload: []byte("héllo"), QoS: 1, Retain: true, SourceIP: "192.0.2.1",
		Protocol: "http", Properties: props, Principal: wiretest.Key.ID, Owner: "key/" + wiretest.Key.ID}
	if w.Code != 200 || len(p.got) != 1 {
		t.Fatalf("%d %s\n%+v", w.Code, w.Body, p.got)
	}
	got := *p.got[0]
	if life := got.Expires.Sub(time.UnixMilli(got.Time)); life < time.Minute || life > time.Minute+time.Millisecond ||
		time.Since(time.UnixMilli(got.Time)) > time.Hour {
		t.Errorf("taken at %d, of use until %v", got.Time, got.Expires)
	}
	if got.Time, got.Expires = 0, want.Expires; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want\n%+v", got, want)
	}
	for _, bad := range []string{"e30=", "!", header(`[1]`), header(`[null]`), header(`[{"a":1}]`),
		header(`[{"a":null}]`), header(`[{"a":"1","b":{}}]`),
		header(`[{"a":"` + strings.Repeat("x", maxUser) + `"}]`)} {
		if _, err := userProperties(bad); err == nil {
			t.Errorf("%.40s: taken", bad)
		}
	}
}

// Whatever is taken as user properties, is what is written of them.
func FuzzUserProperties(f *testing.F) {
	for _, s := range []string{`[{"a":"1","b":"2"},{"a":"3"}]`, `[]`, `[{"a":null}]`, `[{"a":"\ud800"}]`, `[{}]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		all, err := userProperties(base64.StdEncoding.EncodeToString(doc))
		if err != nil {
			return
		}
		text := user(all)
		if text == nil {
			if len(all) > 0 {
				t.Fatalf("%q: %q, and nothing is written", doc, all)
			}
			return
		}
		if again, err := userProperties(*text); err != nil || !slices.Equal(all, again) {
			t.Fatalf("%q: %q, then %q, %v", doc, all, again, err)
		}
	})
}

// Bodies are bounded before they have memory, and a changed one is not taken.
func TestDataBodies(t *testing.T) {
	p := &fake{}
	h := handler(p)
	big := strings.Repeat("x", 128<<10+1)
	for name, r := range map[string]*http.Request{
		"length said": httptest.NewRequest("POST", "/topics/a", strings.NewReader(big)),
		"not said":    httptest.NewRequest("POST", "/topics/a", struct{ io.Reader }{strings.NewReader(big)}),
	} {
		r.Header.Set("Who", "iot:Publish a")
		w := httptest.NewRecorder()
		if h.ServeHTTP(w, r); w.Code != 413 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
	r := signed(httptest.NewRequest("POST", "/topics/a", strings.NewReader("evil")), "good")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 403 || len(p.got) != 0 {
		t.Errorf("changed: %d %s", w.Code, w.Body)
	}
}

// Errors have the names of AWS's data plane.
func TestDataErrors(t *testing.T) {
	for _, c := range []struct {
		fail error
		want int
		code string
		text string
	}{
		{shadow.NotFound("t", ""), 404, "ResourceNotFoundException", `{"message":"No shadow exists with name: 't'"}`},
		{shadow.ErrVersionConflict, 409, "ConflictException", `{"message":"Version conflict"}`},
		{shadow.ErrTooLarge, 413, "RequestEntityTooLargeException", "maximum size"},
		{shadow.ErrEncoding, 415, "UnsupportedDocumentEncodingException", "UTF-8"},
		{shadow.ErrTooMany, 429, "ThrottlingException", "in flight"},
		{shadow.ErrNoState, 400, "InvalidRequestException", "state"},
		{shadow.ErrInternal, 500, "InternalFailureException", "Internal"},
		{service.ErrClosed, 503, "ServiceUnavailableException", "stopping"},
		{gateway.ErrNotAuthorized, 403, "ForbiddenException", `{"message":"Forbidden"}`},
		{fmt.Errorf("two readings; %w", route.ErrRefused), 403, "ForbiddenException",
			`{"message":"two readings; the rest is stored, do not send it again"}`},
		{route.ErrThrottled, 429, "ThrottlingException", "too much"},
		{gateway.ErrQuota, 429, "ThrottlingException", "quota"},
		{broker.ErrFull, 429, "ThrottlingException", ""},
		{packet.ErrTooLarge, 413, "RequestEntityTooLargeException", ""},
		{packet.ErrMalformed, 400, "InvalidRequestException", ""},
		{&gateway.LimitError{Limit: "MaxTopic", Got: "a topic of 9 bytes", Most: 8}, 400, "InvalidRequestException",
			"at most 8"},
		{context.Canceled, 503, "ServiceUnavailableException", "stopping"},
		{errors.New("disk"), 500, "InternalException", "unexpected"},
	} {
		r := httptest.NewRequest("GET", "/things/t/shadow", http.NoBody)
		r.Header.Set("Who", "iot:GetThingShadow t")
		w := httptest.NewRecorder()
		handler(&fake{fail: c.fail}).ServeHTTP(w, r)
		if w.Code != c.want || w.Header().Get("X-Amzn-Errortype") != c.code ||
			!bytes.Contains(w.Body.Bytes(), []byte(c.text)) {
			t.Errorf("%v: %d %s %s", c.fail, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
	}
}
