package aws

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/serving/aws/iot"
	"github.com/tidemill/tidemill/bridge/serving/aws/iotdata"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/route"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/shadow"
)

// plane is a data plane that has nothing.
type plane struct{}

func (plane) Submit(context.Context, *message.Message, route.Sender) error { return nil }
func (plane) Do(context.Context, string, string, shadow.Op, []byte) ([]byte, error) {
	return []byte(`{"x":1}`), nil
}
func (plane) List(string, string, int) ([]string, string, error) { return nil, "", nil }

// nothing is retained.
type nothing struct{}

func (nothing) Get(string) (*message.Message, time.Time, bool)      { return nil, time.Time{}, false }
func (nothing) List(string, func(*message.Message, time.Time) bool) {}

// noRules are topic rules where there are none.
type noRules struct{ iot.TopicRules }

func (noRules) Rules() []*rules.Rule { return nil }

// narrow may do one thing.
type narrow string

func (n narrow) Principal() string                { return "narrow" }
func (n narrow) Owner() string                    { return "key/narrow" }
func (n narrow) Whole() bool                      { return false }
func (n narrow) Person() *people.Rights           { return nil }
func (n narrow) May(action, resource string) bool { return string(n) == action+" "+resource }

// anything is a key that may do all.
type anything string

func (k anything) Principal() string        { return string(k) }
func (k anything) Owner() string            { return "key/" + string(k) }
func (anything) May(string, string) bool    { return true }
func (anything) Whole() bool                { return true }
func (anything) Person() *people.Rights     { return nil }
func anyKey(_ *http.Request, id string) Key { return anything(id) }

// dataHandler serves plane. Unsigned requests are whom the header Who names.
func dataHandler() *wire.Handler {
	return New(Options{
		Account: "000000000000", Rules: noRules{}, Log: slog.New(slog.DiscardHandler),
		Data:   &iotdata.Data{Messages: plane{}, Retained: nothing{}, Shadows: plane{}},
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
		{"what its policies leave out", "POST", "/topics/other", "AKIANARROW", "iotdata", "", 403,
			"ForbiddenException"},
		{"retained", "POST", "/topics/open?retain=true", "AKIANARROW", "iotdata", "", 403, "ForbiddenException"},
		{"another service by a key with policies", "GET", "/rules", "AKIANARROW", "iot", "", 403,
			"AccessDeniedException"},
		{"an unknown key", "POST", "/topics/a", "AKIANOBODY", "iotdata", "", 403, "UnrecognizedClientException"},
		{"nobody", "POST", "/topics/a", "", "", "", 403, "MissingAuthenticationTokenException"},
		{"nobody, for rules", "GET", "/rules", "", "", "iot:Publish a", 403, "MissingAuthenticationTokenException"},
		{"unsigned", "POST", "/topics/a", "", "", "iot:Publish a", 200, ""},
		{"unsigned, not allowed", "POST", "/topics/b", "", "", "iot:Publish a", 403, "ForbiddenException"},
		{"signed wrongly is not unsigned", "POST", "/topics/a?X-Amz-Signature=x", "", "", "iot:Publish a", 403,
			"MissingAuthenticationTokenException"},
		{"the registry fails", "POST", "/topics/a", "", "", "error", 500, "InternalException"},
		{"retained message", "GET", "/retainedMessage/a", "", "", "iot:GetRetainedMessage a", 404,
			"ResourceNotFoundException"},
		{"retained messages", "GET", "/retainedMessage", "", "", "iot:ListRetainedMessages *", 200, ""},
		{"shadow", "GET", "/things/t/shadow", "", "", "iot:GetThingShadow t", 200, ""},
		{"named shadow", "POST", "/things/t/shadow?name=n", "", "", "iot:UpdateThingShadow t/n", 200, ""},
		{"named shadow, with a right to the classic one", "DELETE", "/things/t/shadow?name=n", "", "",
			"iot:DeleteThingShadow t", 403, "ForbiddenException"},
		{"a thing with a slash", "GET", "/things/t%2Fn/shadow", "", "", "iot:GetThingShadow t/n", 400,
			"InvalidRequestException"},
		{"names", "GET", "/api/things/shadow/ListNamedShadowsForThing/t", "", "", "iot:ListNamedShadowsForThing *", 200,
			""},
		{"a page of none", "GET", "/api/things/shadow/ListNamedShadowsForThing/t?pageSize=0", "", "",
			"iot:ListNamedShadowsForThing *", 400, "InvalidRequestException"},
	} {
		r := httptest.NewRequest(c.method, c.path, http.NoBody)
		if c.key != "" {
			signedBy(c.key, c.service, r, "")
		}
		if c.who != "" {
			r.Header.Set("Who", c.who)
		}
		w := httptest.NewRecorder()
		dataHandler().ServeHTTP(w, r)
		if w.Code != c.want || w.Header().Get("X-Amzn-Errortype") != c.code {
			t.Errorf("%s: %d %s %s", c.name, w.Code, w.Header().Get("X-Amzn-Errortype"), w.Body)
		}
	}
}

// A key that is held to policies, or is nobody's, sends no body to what is not
// for it.
func TestNoBodyForWhatIsRefused(t *testing.T) {
	for id, code := range map[string]string{"AKIANARROW": "AccessDeniedException",
		"AKIAOTHER": "UnrecognizedClientException"} {
		r := httptest.NewRequest("POST", "/rules/x", unread{t})
		r.ContentLength = 1000
		w := httptest.NewRecorder()
		dataHandler().ServeHTTP(w, signedBy(id, "iot", r, ""))
		if w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != code {
			t.Errorf("%s: %d %s %s", id, w.Code, w.Header(), w.Body)
		}
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}
