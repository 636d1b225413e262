package web

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPost(t *testing.T) {
	var got *http.Request
	var body []byte
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		switch r.URL.Path {
		case "/busy":
			w.WriteHeader(http.StatusServiceUnavailable)
			io.WriteString(w, "come\nlater"+strings.Repeat("!", 1000))
		case "/never":
			w.WriteHeader(http.StatusGone)
		case "/long":
			io.WriteString(w, strings.Repeat("x", MaxAnswer+1))
		case "/full":
			io.WriteString(w, strings.Repeat("x", MaxAnswer))
		case "/broken":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
		case "/created":
			w.WriteHeader(http.StatusCreated)
		}
	}))
	defer s.Close()
	c := New(s.Client())
	for path, want := range map[string]string{"/": "", "/created": "", "/full": "", "/long": "more than 16384 bytes",
		"/broken": "broke off", "/busy": `answers 503 Service Unavailable: "come\nlater!`, "/never": "answers 410 Gone"} {
		err := c.Post(t.Context(), &Request{URL: s.URL + path, Body: []byte("{}"),
			Header: http.Header{"X-One": {"1"}, "Host": {"other.example.org"}}})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", path, err, want)
		}
		if r, ok := errors.AsType[*Refusal](err); ok && r.Again() != (path == "/busy") ||
			len(want) > 0 && len(err.Error()) > 400 {
			t.Errorf("%s: %v", path, err)
		}
		if got.Header.Get("X-One") != "1" || got.Host != "other.example.org" || string(body) != "{}" {
			t.Errorf("%s: %v, host %s, body %q", path, got.Header, got.Host, body)
		}
	}
	for _, u := range []string{"", "ftp://host/", "https://", "https://user:secret@host/", "http://ho st/", "://"} {
		if err := c.Post(t.Context(), &Request{URL: u}); !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v", u, err)
		}
	}
	if err := c.Post(t.Context(), &Request{URL: s.URL, Header: http.Header{"bad key": {"x"}}}); err == nil {
		t.Error("a header with a space was sent")
	}
	signed := &Request{URL: s.URL, Sign: func(_ context.Context, r *http.Request, _ []byte) error {
		r.Header.Set("Authorization", "proof")
		return nil
	}}
	if err := c.Post(t.Context(), signed); err != nil || got.Header.Get("Authorization") != "proof" {
		t.Errorf("signed: %v", err)
	}
	s.Close()
	if err := c.Post(t.Context(), &Request{URL: s.URL + "/?key=secret"}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("away: %v", err)
	}
}
