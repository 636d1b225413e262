// Package wiretest makes handlers of AWS services for tests, and requests that
// they take.
package wiretest

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// Key is one that the handlers know, and Region where Ask is.
var Key = sigv4test.Key{ID: "AKIATEST", Secret: "secret"}

const Region = "eu-test-7"

// Options are those of a handler that serves services to Key, which may do all.
func Options(services ...*wire.Service) wire.Options {
	return wire.Options{
		Services:   services,
		Verifier:   Verifier(Key.ID),
		Key:        func(_ *http.Request, id string) wire.Caller { return Caller(id) },
		Authorizer: Anything{},
		MaxMemory:  64 << 20,
		Log:        slog.New(slog.DiscardHandler),
	}
}

// Verifier knows keys of Key's secret.
func Verifier(ids ...string) *sigv4.Verifier {
	return &sigv4.Verifier{Secret: func(id string) (string, string, bool) {
		for _, known := range ids {
			if id == known {
				return Key.Secret, "", true
			}
		}
		return "", "", false
	}}
}

// A Caller is a key by its id.
type Caller string

// Principal implements wire.Caller.
func (c Caller) Principal() string { return string(c) }

// Owner implements wire.Caller.
func (c Caller) Owner() string { return "key/" + string(c) }

// Anything lets everybody do all.
type Anything struct{}

// Admit implements wire.Authorizer.
func (Anything) Admit(wire.Question) (bool, error) { return true, nil }

// Authorize implements wire.Authorizer.
func (Anything) Authorize(wire.Question) error { return nil }

// An Answer is what a handler said.
type Answer struct {
	Status int
	Code   string // of an error, in RESTJSON
	Body   string
	Header http.Header
}

// Ask asks h for a path of a REST service, signed for the service by Key.
func Ask(h http.Handler, service, method, path, body string) Answer {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	sigv4test.Sign(r, []byte(body), Key, Region, service, time.Now())
	return Do(h, r)
}

// AskTarget asks h for an operation of a service in JSON 1.1, signed for the
// service by Key.
func AskTarget(h http.Handler, service, target, body string) Answer {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	sigv4test.Sign(r, []byte(body), Key, Region, service, time.Now())
	return Do(h, r)
}

// Do answers r.
func Do(h http.Handler, r *http.Request) Answer {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	text, _ := io.ReadAll(w.Result().Body) // a recorder's never fails
	return Answer{w.Code, w.Header().Get("X-Amzn-Errortype"), string(text), w.Header()}
}
