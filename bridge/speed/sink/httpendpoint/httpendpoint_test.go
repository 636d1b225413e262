package httpendpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
)

// A receiver checks requests strictly and answers as a test has it.
type receiver struct {
	t      *testing.T
	answer func(w http.ResponseWriter, id string)
	got    []string
}

func (x *receiver) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := io.Reader(r.Body)
	if r.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(r.Body)
		if err != nil {
			x.t.Error(err)
		}
		body = z
	}
	var doc struct {
		RequestID string `json:"requestId"`
		Timestamp int64  `json:"timestamp"`
		Records   []struct {
			Data []byte `json:"data"`
		} `json:"records"`
	}
	dec := json.NewDecoder(body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil || doc.Timestamp != 1700000000000 {
		x.t.Errorf("%+v: %v", doc, err)
	}
	for name, want := range map[string]string{"X-Amz-Firehose-Protocol-Version": "1.0",
		"X-Amz-Firehose-Request-Id": doc.RequestID, "X-Amz-Firehose-Source-Arn": "arn:x", "Content-Type": "application/json",
		"X-Amz-Firehose-Access-Key":        "key",
		"X-Amz-Firehose-Common-Attributes": `{"commonAttributes":{"plant":"north"}}`} {
		if got := r.Header.Get(name); got != want {
			x.t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	x.got = nil
	for _, rec := range doc.Records {
		x.got = append(x.got, string(rec.Data))
	}
	x.answer(w, doc.RequestID)
}

func say(status int, media, body string) func(http.ResponseWriter, string) {
	return func(w http.ResponseWriter, id string) {
		w.Header().Set("Content-Type", media)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, strings.ReplaceAll(body, "ID", id))
	}
}

// An answer counts as success only if it is one in every respect.
func TestAnswers(t *testing.T) {
	const good = `{"requestId":"ID","timestamp":1}`
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, string)
		code   string
		large  bool
	}{
		{"good", say(200, "application/json; charset=utf-8", good), "", false},
		{"redirect", say(302, "application/json", good), destination, false},
		{"created", say(201, "application/json", good), destination, false},
		{"error", say(500, "application/json", `{"requestId":"ID","timestamp":1,"errorMessage":"full"}`), destination,
			false},
		{"too large", say(413, "text/plain", ""), destination, true},
		{"media", say(200, "text/plain", good), invalidResponse, false},
		{"other id", say(200, "application/json", `{"requestId":"x","timestamp":1}`), invalidResponse, false},
		{"no time", say(200, "application/json", `{"requestId":"ID"}`), invalidResponse, false},
		{"garbage", say(200, "application/json", "<html>"), invalidResponse, false},
		{"long", say(200, "application/json", strings.Repeat(" ", maxAnswer+1)), responseTooLarge, false},
		{"reset", func(w http.ResponseWriter, _ string) { panic(http.ErrAbortHandler) }, connectionReset, false},
	} {
		for _, packed := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, packed), func(t *testing.T) {
				x := &receiver{t: t, answer: c.answer}
				srv := httptest.NewServer(x)
				defer srv.Close()
				client := *srv.Client()
				client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
				e, err := New(Options{URL: srv.URL, AccessKey: "key", Attributes: map[string]string{"plant": "north"},
					Gzip: packed, SourceARN: "arn:x", HTTP: &client})
				if err != nil {
					t.Fatal(err)
				}
				err = e.Post(t.Context(), &Request{"r-1", 1700000000000, [][]byte{[]byte("a"), {}, []byte("\xff")}})
				srv.Close() // what handles the request is done then
				why, _ := errors.AsType[*Error](err)
				if (err == nil) != (c.code == "") || why != nil && (why.Code != c.code || why.TooLarge != c.large) {
					t.Errorf("%v", err)
				}
				if fmt.Sprintf("%q", x.got) != `["a" "" "\xff"]` {
					t.Errorf("%q came", x.got)
				}
			})
		}
	}
	e, err := New(Options{URL: "http://127.0.0.1:1/?key=hidden", HTTP: http.DefaultClient})
	if err != nil {
		t.Fatal(err)
	}
	if why, _ := errors.AsType[*Error](e.Post(t.Context(), &Request{})); why == nil || why.Code != connectionFailed ||
		strings.Contains(why.Error(), "hidden") {
		t.Errorf("nobody there: %v", why)
	}
}
