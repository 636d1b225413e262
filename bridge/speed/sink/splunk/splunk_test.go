package splunk

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A collector is a strict stand-in: no Splunk can be had for tests.
type collector struct {
	t      *testing.T
	status int
	answer string
	acks   []string // one for each time it is asked
	body   string
	path   string
}

func (x *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	if r.Header.Get("Authorization") != "Splunk token" || r.Header.Get("X-Splunk-Request-Channel") != "channel" {
		x.t.Errorf("%v", r.Header)
	}
	if strings.HasPrefix(r.URL.Path, "/services/collector/ack") {
		if string(raw) != `{"acks":[7]}` || r.URL.Query().Get("channel") != "channel" || len(x.acks) == 0 {
			x.t.Errorf("asked %s at %s", raw, r.URL)
			return
		}
		_, _ = io.WriteString(w, x.acks[0])
		x.acks = x.acks[1:]
		return
	}
	x.body, x.path = string(raw), r.URL.String()
	w.WriteHeader(x.status)
	_, _ = io.WriteString(w, x.answer)
}

// RoundTrip answers without a network, so that time can be the test's.
func (x *collector) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	x.ServeHTTP(w, r)
	return w.Result(), nil
}

func TestSend(t *testing.T) {
	const taken = `{"text":"Success","code":0,"ackId":7}`
	for _, c := range []struct {
		name   string
		raw    bool
		status int
		answer string
		acks   []string
		code   string
		never  bool
		body   string
	}{
		{"event", false, 200, taken, []string{`{"acks":{"7":true}}`}, "", false, `{"event":1}{"event":2}`},
		{"raw", true, 200, taken, []string{`{"acks":{"7":false}}`, `{"acks":{"7":true}}`}, "", false,
			"{\"event\":1}\n{\"event\":2}\n"},
		{"no acknowledgement", false, 200, taken, []string{`{"acks":{"7":false}}`, `{"acks":{"7":false}}`, `{}`},
			ackTimeout, false, ""},
		{"no ackId", false, 200, `{"text":"Success","code":0}`, nil, invalidResponse, false, ""},
		{"garbage", false, 200, `<html>`, nil, invalidResponse, false, ""},
		{"token", false, 403, `{"text":"Invalid token","code":4}`, nil, invalidToken, false, ""},
		{"busy", false, 503, `{"text":"Server is busy","code":9}`, nil, indexerBusy, false, ""},
		{"data", false, 400, `{"text":"Invalid data format","code":6}`, nil, invalidData, true, ""},
		{"channel", false, 400, `{"text":"Data channel is missing","code":10}`, nil, serverError, false, ""},
		{"error", false, 500, ``, nil, serverError, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				x := &collector{t: t, status: c.status, answer: c.answer, acks: c.acks}
				client := New(Options{URL: "https://splunk/", Raw: c.raw, Token: "token", Channel: "channel",
					Ack: 5 * time.Second, HTTP: &http.Client{Transport: x}})
				err := client.Send(t.Context(), [][]byte{[]byte(`{"event":1}`), []byte(`{"event":2}`)})
				why, _ := errors.AsType[*Error](err)
				if (err == nil) != (c.code == "") || why != nil && (why.Code != c.code || why.Never != c.never) {
					t.Errorf("%v", err)
				}
				if c.body != "" && x.body != c.body {
					t.Errorf("body %q", x.body)
				}
			})
		})
	}
	gone := New(Options{URL: "http://user:hidden@127.0.0.1:1", HTTP: http.DefaultClient})
	if why, _ := errors.AsType[*Error](gone.Send(t.Context(), nil)); why == nil || why.Code != connectionFailed ||
		strings.Contains(why.Error(), "127.0.0.1:1/") {
		t.Errorf("nobody there: %v", why)
	}
}
