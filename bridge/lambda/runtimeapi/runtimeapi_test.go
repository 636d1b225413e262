package runtimeapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// A talk is a test's, of a Process and a client.
type talk struct {
	t *testing.T
	p *Process
	s *httptest.Server
}

func start(t *testing.T) *talk {
	p := New()
	s := httptest.NewUnstartedServer(p.Handler())
	s.Config.MaxHeaderBytes = MaxHeader
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return &talk{t, p, s}
}

func (k *talk) post(path, body string, header ...string) (int, string) {
	k.t.Helper()
	r, err := http.NewRequest("POST", k.s.URL+version+path, strings.NewReader(body))
	if err != nil {
		k.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return k.do(r)
}

func (k *talk) do(r *http.Request) (int, string) {
	k.t.Helper()
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		k.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.StatusCode, string(text)
}

// give hands the process an event, as soon as it asks, and returns what comes.
func (k *talk) give(id string) <-chan Answer {
	got := make(chan Answer, 1)
	go func() {
		<-k.p.Asked()
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		a, _ := k.p.Give(ctx, &Event{ID: id, ARN: "arn", Deadline: time.UnixMilli(1234), Payload: []byte(`{"a":1}`)})
		got <- a
	}()
	return got
}

func (k *talk) next() (http.Header, string) {
	k.t.Helper()
	answer, err := http.Get(k.s.URL + version + "/invocation/next")
	if err != nil {
		k.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	return answer.Header, string(text)
}

func TestTalk(t *testing.T) {
	k := start(t)
	got := k.give("id-1")
	header, body := k.next()
	if body != `{"a":1}` || header.Get("Lambda-Runtime-Aws-Request-Id") != "id-1" ||
		header.Get("Lambda-Runtime-Deadline-Ms") != "1234" || header.Get("Content-Type") != "application/json" ||
		header.Get("Lambda-Runtime-Invoked-Function-Arn") != "arn" {
		t.Errorf("next: %v %s", header, body)
	}
	for _, c := range []struct {
		path   string
		status int
		says   string
	}{
		{"/invocation/other/response", 400, "InvalidRequestID"},
		{"/invocation/id-1/response", 202, `"OK"`},
		{"/invocation/id-1/response", 403, "InvalidStateTransition"},
		{"/invocation/id-1/error", 403, "InvalidStateTransition"},
		{"/invocation/id-0/response", 400, "InvalidRequestID"},
		{"/invocation/id-1/nothing", 404, ""},
	} {
		if status, says := k.post(c.path, `"x"`); status != c.status || !strings.Contains(says, c.says) {
			t.Errorf("%s: %d %s, want %d %s", c.path, status, says, c.status, c.says)
		}
	}
	if a := <-got; string(a.Payload) != `"x"` || a.Failed {
		t.Errorf("answer %+v", a)
	}
}

// Nobody is given a second event who owes an answer to the first.
func TestNextWhileAnAnswerIsOwed(t *testing.T) {
	k := start(t)
	k.give("id-1")
	k.next()
	r, _ := http.NewRequest("GET", k.s.URL+version+"/invocation/next", nil)
	if status, says := k.do(r); status != 403 || !strings.Contains(says, "InvalidStateTransition") {
		t.Errorf("%d %s", status, says)
	}
}

func TestErrors(t *testing.T) {
	k := start(t)
	got := k.give("id-1")
	k.next()
	doc := `{"errorMessage":"m","errorType":"T","stackTrace":[{"path":"p","line":1,"label":"l"}]}`
	// The cause for tracing may have 1 MiB.
	cause := `"` + strings.Repeat("x", 1<<20-2) + `"`
	if status, says := k.post("/invocation/id-1/error", doc, errorType, "T",
		"Lambda-Runtime-Function-Xray-Error-Cause", cause); status != 202 {
		t.Fatalf("%d %s", status, says)
	}
	if a := <-got; !a.Failed || string(a.Payload) != doc || a.Type != "T" {
		t.Errorf("answer %+v", a)
	}
	if status, _ := k.post("/init/error", doc, errorType, strings.Repeat("T", 1000)); status != 202 {
		t.Error("init/error:", status)
	}
	if status, _ := k.post("/init/error", doc); status != 403 {
		t.Error("a second init/error:", status)
	}
	if a := <-k.p.Failed(); !a.Failed || len(a.Type) != maxType {
		t.Errorf("of the start %+v", a)
	}
}

func TestTooLarge(t *testing.T) {
	for name, length := range map[string]int64{"said": maxSent + 1, "chunked": -1} {
		t.Run(name, func(t *testing.T) {
			k := start(t)
			got := k.give("id-1")
			k.next()
			r, _ := http.NewRequest("POST", k.s.URL+version+"/invocation/id-1/response",
				io.LimitReader(zeros{}, maxSent+1))
			r.ContentLength = length
			if status, says := k.do(r); status != 413 || !strings.Contains(says, "RequestEntityTooLarge") {
				t.Errorf("%d %s", status, says)
			}
			if a := <-got; a.TooLarge == 0 || a.Payload != nil {
				t.Errorf("too large: %d, %d bytes are here", a.TooLarge, len(a.Payload))
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// A function that streams tells in trailers that it failed midway, and Go's
// client sends empty ones with each answer.
func TestTrailers(t *testing.T) {
	for _, c := range []struct {
		kind, doc, want string
		failed          bool
	}{
		{"", "", `"part"`, false},
		{"Late", base64.StdEncoding.EncodeToString([]byte(`{"errorMessage":"m"}`)), `{"errorMessage":"m"}`, true},
		{"Late", "no base64", `{"errorMessage":"","errorType":"Late"}`, true},
	} {
		k := start(t)
		got := k.give("id-1")
		k.next()
		conn, err := net.Dial("tcp", k.s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "POST %s/invocation/id-1/response HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n"+
			"Trailer: %s, %s\r\n\r\n6\r\n\"part\"\r\n0\r\n%[2]s: %[4]s\r\n%[3]s: %[5]s\r\n\r\n",
			version, errorType, errorBody, c.kind, c.doc)
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.StatusCode != 202 {
			t.Fatal(answer, err)
		}
		answer.Body.Close()
		conn.Close()
		if a := <-got; string(a.Payload) != c.want || a.Failed != c.failed {
			t.Errorf("%s: %+v %s", c.kind, a, a.Payload)
		}
	}
}

// What a process sends never breaks the talk: there is an answer or none, and it
// is no larger than it may be.
func FuzzRespond(f *testing.F) {
	f.Add("id", []byte(`{}`), "T")
	f.Fuzz(func(t *testing.T, id string, body []byte, kind string) {
		p := New()
		p.current, p.answer = "id", make(chan Answer, 1)
		r := httptest.NewRequest("POST", "http://h"+version+"/invocation/id/response", bytes.NewReader(body))
		r.SetPathValue("id", id)
		r.Header.Set(errorType, kind)
		w := httptest.NewRecorder()
		p.respond(w, r)
		if (w.Code == 202) != (id == "id") || len(p.answer) == 0 != (id != "id") {
			t.Fatalf("%d for %q", w.Code, id)
		}
	})
}
