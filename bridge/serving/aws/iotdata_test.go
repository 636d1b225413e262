package aws

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/shadow"
)

// plane is a data plane that keeps what it is asked to publish.
type plane struct {
	got  []*Message
	fail error
}

func (p *plane) Publish(_ context.Context, _ Caller, m *Message) error {
	p.got = append(p.got, m)
	return p.fail
}
func (p *plane) Retained(string) (*Retained, error) { return nil, p.fail }
func (p *plane) ListRetained(string, int) ([]Retained, string, error) {
	return []Retained{{Topic: "a\xffb"}}, "a\xffb", p.fail
}
func (p *plane) Shadow(context.Context, string, string, shadow.Op, []byte) ([]byte, error) {
	return []byte(`{"x":1}`), p.fail
}
func (p *plane) ListShadows(string, string, int) ([]string, string, error) {
	return nil, "more", p.fail
}

// narrow may do one thing.
type narrow string

func (n narrow) Principal() string                { return "narrow" }
func (n narrow) Owner() string                    { return "key/narrow" }
func (n narrow) Whole() bool                      { return false }
func (n narrow) May(action, resource string) bool { return string(n) == action+" "+resource }

// anything is a key that may do all.
type anything string

func (k anything) Principal() string        { return string(k) }
func (k anything) Owner() string            { return "key/" + string(k) }
func (anything) May(string, string) bool    { return true }
func (anything) Whole() bool                { return true }
func anyKey(_ *http.Request, id string) Key { return anything(id) }

// dataHandler serves p. Unsigned requests are whom the header Who names.
func dataHandler(p *plane) *Handler {
	return New(Options{
		Account: "000000000000", Rules: &book{}, Data: p, Log: slog.New(slog.DiscardHandler),
		Secret: func(id string) (string, string, bool) { return "secret", "", id == "AKIAALL" || id == "AKIANARROW" },
		Key: func(r *http.Request, id string) Key {
			if id == "AKIANARROW" {
				return narrow("iot:Publish open")
			}
			return anyKey(r, id)
		},
		Unsigned: func(r *http.Request) (Caller, error) {
			switch who := r.Header.Get("Who"); who {
			case "":
				return nil, nil
			case "error":
				return nil, errors.New("no registry")
			default:
				return narrow(who), nil
			}
		},
	})
}

func signedBy(id, service string, r *http.Request, body string) *http.Request {
	r.Host = "h"
	sigv4test.Sign(r, []byte(body), sigv4test.Key{ID: id, Secret: "secret"}, "r", service, time.Now())
	return r
}

// A message has all that the request says of it.
func TestPublishRequest(t *testing.T) {
	p := &plane{}
	h := dataHandler(p)
	header := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	r := httptest.NewRequest("POST", "/topics/a%2F%2Fb%20c?qos=1&retain=true&contentType=text%2Fplain&responseTopic=r%2F1&messageExpiry=60", strings.NewReader("héllo"))
	r.Header.Set("X-Amz-Mqtt5-User-Properties", header(`[{"a":"1","b":"2"},{"a":"3"}]`))
	r.Header.Set("X-Amz-Mqtt5-Payload-Format-Indicator", "UTF8_DATA")
	r.Header.Set("X-Amz-Mqtt5-Correlation-Data", header("\x00\xff"))
	w := httptest.NewRecorder()
	h.ServeHTTP(w, signedBy("AKIAALL", "iotdata", r, "héllo"))
	want := &Message{Topic: "a//b c", Payload: []byte("héllo"), QoS: 1, Retain: true, Remote: "192.0.2.1:1234", UTF8: true, ContentType: "text/plain",
		ResponseTopic: "r/1", CorrelationData: []byte("\x00\xff"), Expiry: time.Minute, User: [][2]string{{"a", "1"}, {"b", "2"}, {"a", "3"}}}
	if w.Code != 200 || len(p.got) != 1 || fmt.Sprintf("%+v", p.got[0]) != fmt.Sprintf("%+v", want) {
		t.Errorf("%d %s\n%+v, want\n%+v", w.Code, w.Body, p.got, want)
	}
	for _, bad := range []string{"e30=", "!", header(`[1]`), header(`[null]`), header(`[{"a":1}]`), header(`[{"a":null}]`), header(`[{"a":"1","b":{}}]`), header(`[{"a":"` + strings.Repeat("x", maxUser) + `"}]`)} {
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

// Who asks is found out before the body is looked at, and what he may not is
// refused.
func TestDataCallers(t *testing.T) {
	for _, c := range []struct {
		name         string
		method, path string
		key, service string // "": not signed
		who          string
		want         int
		code         string
	}{
		{"a key", "POST", "/topics/a", "AKIAALL", "iotdata", "", 200, ""},
		{"a key, for devices", "POST", "/topics/a", "AKIAALL", "iotdevicegateway", "", 200, ""},
		{"a key, for APIs", "POST", "/topics/a", "AKIAALL", "execute-api", "", 200, ""},
		{"a key, for another service", "POST", "/topics/a", "AKIAALL", "iot", "", 404, "UnknownOperationException"},
		{"rules for the data plane", "GET", "/rules", "AKIAALL", "iotdata", "", 404, "UnknownOperationException"},
		{"a key with policies", "POST", "/topics/open", "AKIANARROW", "iotdata", "", 200, ""},
		{"what its policies leave out", "POST", "/topics/other", "AKIANARROW", "iotdata", "", 403, "ForbiddenException"},
		{"retained", "POST", "/topics/open?retain=true", "AKIANARROW", "iotdata", "", 403, "ForbiddenException"},
		{"another service by a key with policies", "GET", "/rules", "AKIANARROW", "iot", "", 403, "AccessDeniedException"},
		{"an unknown key", "POST", "/topics/a", "AKIANOBODY", "iotdata", "", 403, "UnrecognizedClientException"},
		{"nobody", "POST", "/topics/a", "", "", "", 403, "MissingAuthenticationTokenException"},
		{"nobody, for rules", "GET", "/rules", "", "", "iot:Publish a", 403, "MissingAuthenticationTokenException"},
		{"unsigned", "POST", "/topics/a", "", "", "iot:Publish a", 200, ""},
		{"unsigned, not allowed", "POST", "/topics/b", "", "", "iot:Publish a", 403, "ForbiddenException"},
		{"signed wrongly is not unsigned", "POST", "/topics/a?X-Amz-Signature=x", "", "", "iot:Publish a", 403, "MissingAuthenticationTokenException"},
		{"the registry fails", "POST", "/topics/a", "", "", "error", 500, "InternalException"},
		{"retained message", "GET", "/retainedMessage/a", "", "", "iot:GetRetainedMessage a", 404, "ResourceNotFoundException"},
		{"retained messages", "GET", "/retainedMessage", "", "", "iot:ListRetainedMessages *", 200, ""},
		{"shadow", "GET", "/things/t/shadow", "", "", "iot:GetThingShadow t", 200, ""},
		{"named shadow", "POST", "/things/t/shadow?name=n", "", "", "iot:UpdateThingShadow t/n", 200, ""},
		{"named shadow, with a right to the classic one", "DELETE", "/things/t/shadow?name=n", "", "", "iot:DeleteThingShadow t", 403, "ForbiddenException"},
		{"a thing with a slash", "GET", "/things/t%2Fn/shadow", "", "", "iot:GetThingShadow t/n", 400, "InvalidRequestException"},
		{"names", "GET", "/api/things/shadow/ListNamedShadowsForThing/t", "", "", "iot:ListNamedShadowsForThing *", 200, ""},
		{"a page of none", "GET", "/api/things/shadow/ListNamedShadowsForThing/t?pageSize=0", "", "", "iot:ListNamedShadowsForThing *", 400, "InvalidRequestException"},
	} {
		r := httptest.NewRequest(c.method, c.path, http.NoBody)
		if c.key != "" {
			signedBy(c.key, c.service, r, "")
		}
		if c.who != "" {
			r.Header.Set("Who", c.who)
		}
		w := httptest.NewRecorder()
		dataHandler(&plane{}).ServeHTTP(w, r)
		if w.Code != c.want || w.Header().Get("X-Amzn-Errortype") != c.code {
			t.Errorf("%s: %d %s %s", c.name, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
	}
}

// Bodies are bounded before they have memory, and a changed one is not taken.
func TestDataBodies(t *testing.T) {
	p := &plane{}
	h := dataHandler(p)
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
	r := signedBy("AKIAALL", "iotdata", httptest.NewRequest("POST", "/topics/a", strings.NewReader("evil")), "good")
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != 403 || len(p.got) != 0 {
		t.Errorf("changed: %d %s", w.Code, w.Body)
	}
	if n := h.memory.inUse() + h.data.inUse(); n != 0 || len(h.memory.shares) != 0 {
		t.Errorf("%d are held still, %v", n, h.memory.shares)
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
		{context.Canceled, 503, "ServiceUnavailableException", "stopping"},
		{errors.New("disk"), 500, "InternalException", "unexpected"},
	} {
		r := httptest.NewRequest("GET", "/things/t/shadow", http.NoBody)
		r.Header.Set("Who", "iot:GetThingShadow t")
		w := httptest.NewRecorder()
		dataHandler(&plane{fail: c.fail}).ServeHTTP(w, r)
		if w.Code != c.want || w.Header().Get("X-Amzn-Errortype") != c.code || !bytes.Contains(w.Body.Bytes(), []byte(c.text)) {
			t.Errorf("%v: %d %s %s", c.fail, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
	}
	if err := sigv4.ErrMissing; errorOf(err).Status != 403 {
		t.Error(err)
	}
}
