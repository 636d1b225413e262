package kinesis

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/fxamacker/cbor/v2"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

const (
	account = "123456789012"

	jsonType   = "application/x-amz-json-1.1"
	cborType   = "application/x-amz-cbor-1.1"
	eventsType = "application/vnd.amazon.eventstream"
)

// latest is a request of GetShardIterator.
const latest = `{"StreamName":"s","ShardId":"shardId-000000000000","ShardIteratorType":"LATEST"}`

// A served is the handler over data streams, behind a real listener. There is a
// stream s of two shards.
type served struct {
	*wire.Handler
	t   testing.TB
	srv *httptest.Server
	log bytes.Buffer // read it when nothing is under way
}

func newServed(t testing.TB, change func(*wire.Options)) *served {
	t.Helper()
	store, err := pebble.Open("db", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- store.Run(ctx) }()
	if err := store.Create("s", streams.Config{Shards: 2, Retention: 24 * time.Hour}); err != nil {
		t.Fatal(err)
	}
	w := &served{t: t}
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	service, err := kinesis.Open(store, kinesis.Options{Account: account, Region: "eu-test-7", Log: log, Now: time.Now})
	if err != nil {
		t.Fatal(err)
	}
	o := wiretest.Options(Service(service))
	o.Log = log
	if change != nil {
		change(&o)
	}
	w.Handler = wire.New(o)
	w.srv = httptest.NewUnstartedServer(w.Handler)
	w.srv.EnableHTTP2 = true
	w.srv.StartTLS()
	t.Cleanup(func() {
		w.srv.Close()
		cancel()
		if err := errors.Join(<-done, store.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// request makes a signed request of an operation.
func (w *served) request(op, kind string, body []byte) *http.Request {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), "POST", w.srv.URL+"/", bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	r.Host = r.URL.Host
	sigv4test.Sign(r, body, wiretest.Key, "eu-test-7", "kinesis", time.Now())
	return r
}

// do sends r and returns the answer with its body read.
func (w *served) do(r *http.Request) (*http.Response, string) {
	w.t.Helper()
	resp, err := w.srv.Client().Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return resp, string(body)
}

// ask asks in JSON and wants 200.
func (w *served) ask(op, body string, out any) {
	w.t.Helper()
	resp, text := w.do(w.request(op, jsonType, []byte(body)))
	if resp.StatusCode != 200 || out != nil && json.Unmarshal([]byte(text), out) != nil {
		w.t.Fatalf("%s: %s %s", op, resp.Status, text)
	}
}

// TestOrderOfChecks: of all that is wrong with a request AWS tells the first of
// these.
func TestOrderOfChecks(t *testing.T) {
	w := newServed(t, nil)
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	unsigned := func(r *http.Request) { r.Header.Del("Authorization") }
	for _, c := range []struct {
		name, kind, body string
		change           func(*http.Request)
		status           int
		want             string // of the body, CBOR as JSON
	}{
		{"method", jsonType, "{}", func(r *http.Request) { r.Method = "PUT" }, 403,
			"<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be " +
				"authorized</Message>\n</AccessDeniedException>\n"},
		{"empty", jsonType, "", unsigned, 400, `{"__type":"SerializationException"}`},
		{"empty, of no operation", jsonType, "", header("X-Amz-Target", "x"), 400,
			`{"__type":"UnknownOperationException"}`},
		{"empty, of no type", "", "", unsigned, 400, `{"__type":"SerializationException"}`},
		{"type", "application/json", "{}", unsigned, 400, `{"__type":"UnknownOperationException"}`},
		{"type with parameters", jsonType + " ; charset=utf-8", `{"Limit":true}`, nil, 400,
			`{"__type":"SerializationException","Message":"class java.lang.Boolean can not be converted to an Integer"}`},
		{"text", jsonType, "{", func(r *http.Request) {
			unsigned(r)
			r.Header.Set("X-Amz-Target", "x")
		}, 400, `{"__type":"SerializationException"}`},
		{"CBOR", cborType, "\xa1", unsigned, 400, `{"__type":"SerializationException"}`},
		{"operation", jsonType, "{}", func(r *http.Request) {
			unsigned(r)
			r.Header.Set("X-Amz-Target", "Kinesis_20131202.Fly")
		}, 400, `{"__type":"UnknownOperationException","message":"Fly of kinesis is not served here"}`},
		{"service", cborType, "\xa0", header("X-Amz-Target", "Kinesis_20131203.ListStreams"), 400,
			`{"__type":"UnknownOperationException"}`},
		{"signed twice", jsonType, `{"Limit":"x"}`, func(r *http.Request) {
			r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256"
		}, 400,
			`{"__type":"InvalidSignatureException","message":"Found both 'X-Amz-Algorithm' as a query-string ` +
				`param and 'Authorization' as HTTP header."}`},
		{"not signed", jsonType, `{"Limit":"x"}`, unsigned, 400,
			`{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`},
		{"half signed", jsonType, `{"Limit":"x"}`, header("Authorization", "AWS4-HMAC-SHA256 Signature=b"), 400,
			`{"__type":"IncompleteSignatureException","message":"Authorization header requires 'Credential' ` +
				`parameter. Authorization header requires 'SignedHeaders' parameter. Authorization=AWS4-HMAC-SHA256 Signature=b"}`},
		{"no scheme", jsonType, `{"Limit":"x"}`, func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-")
			r.Header.Del("X-Amz-Date")
		}, 400,
			`{"__type":"IncompleteSignatureException","message":"Authorization header requires 'Credential' ` +
				`parameter. Authorization header requires 'Signature' parameter. ` +
				`Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence ` +
				`of either a 'X-Amz-Date' or a 'Date' header. Authorization=AWS4-"}`},
		{"parts with spaces", jsonType, `{"Limit":"x"}`,
			header("Authorization", "AWS4-HMAC-SHA256 Signature=b Credential=a"), 400,
			`{"__type":"IncompleteSignatureException","message":"Authorization header requires 'SignedHeaders' ` +
				`parameter. Authorization=AWS4-HMAC-SHA256 Signature=b Credential=a"}`},
		{"bare members of the query", jsonType, `{"Limit":"x"}`, func(r *http.Request) {
			unsigned(r)
			r.URL.RawQuery = "X-Amz-Date=x&X-Amz-Signature=x&X-Amz-Credential=x&X-Amz-SignedHeaders=x"
		}, 400, `{"__type":"MissingAuthenticationTokenException","message":"Missing Authentication Token"}`},
		{"half presigned", cborType, "\xa0", func(r *http.Request) {
			unsigned(r)
			r.URL.RawQuery = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=x&X-Amz-Credential=x"
		}, 400,
			`{"__type":"IncompleteSignatureException","message":"AWS query-string parameters must include 'X-Amz-Signature'. ` +
				`AWS query-string parameters must include 'X-Amz-SignedHeaders'. Re-examine the query-string parameters."}`},
		{"another key", jsonType, `{"Limit":"x"}`, func(r *http.Request) {
			sigv4test.Sign(r, []byte(`{"Limit":"x"}`), sigv4test.Key{ID: "AKIAOTHER", Secret: "x"}, "r", "kinesis",
				time.Now())
		}, 400, `{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`},
		{"another service", jsonType, `{"Limit":"x"}`, func(r *http.Request) {
			r.Header.Del("Authorization")
			sigv4test.Sign(r, []byte(`{"Limit":"x"}`), wiretest.Key, "r", "iot", time.Now())
		}, 400, `{"__type":"InvalidSignatureException","message":"Credential should be scoped to correct service: 'kinesis'. "}`},
		{"another body", jsonType, `{"Limit":"x"}`, func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"Limit":"y"}`))
		}, 400,
			`{"__type":"InvalidSignatureException","message":"the signature does not match the request"}`},
		{"value's type", jsonType, `{"Limit":"x"}`, nil, 400,
			`{"__type":"SerializationException","Message":"class java.lang.String can not be converted to an Integer"}`},
		{"value", cborType, "\xa1\x65Limit\x00", nil, 400,
			`{"__type":"ValidationException","message":"1 validation error detected: Value '0' at 'limit' failed ` +
				`to satisfy constraint: Member must have value greater than or equal to 1"}`},
	} {
		r := w.request("ListStreams", c.kind, []byte(c.body))
		if c.change != nil {
			c.change(r)
		}
		resp, body := w.do(r)
		if kind := resp.Header.Get("Content-Type"); kind == cborType {
			var v map[string]string
			if err := cbor.Unmarshal([]byte(body), &v); err != nil {
				t.Errorf("%s: %v in %x", c.name, err, body)
			}
			body = `{"__type":"` + v["__type"] + `"`
			delete(v, "__type")
			for _, name := range slices.Sorted(maps.Keys(v)) {
				body += `,"` + name + `":"` + v[name] + `"`
			}
			body += "}"
			if strings.TrimSpace(c.kind) == jsonType {
				t.Errorf("%s: answered in CBOR", c.name)
			}
		}
		if resp.StatusCode != c.status || c.want != "" && body != c.want {
			t.Errorf("%s: %s %s\nwant %s", c.name, resp.Status, body, c.want)
		}
		if resp.Header.Get("x-amzn-RequestId") == "" || len(resp.Header.Get("x-amz-id-2")) != 96 {
			t.Errorf("%s: %v", c.name, resp.Header)
		}
	}
}

// A body over the limit is refused before it is read, and one of an unknown key
// is not read at all.
func TestBodies(t *testing.T) {
	w := newServed(t, nil)
	for _, c := range []struct {
		size int64
		id   string
		code string
	}{
		{maxBody + 1, wiretest.Key.ID, "RequestEntityTooLargeException"},
		{maxBody, "AKIAOTHER", "UnrecognizedClientException"},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.ContentLength, r.Body = c.size, unread{t}
		r.Header.Set("Content-Type", jsonType)
		r.Header.Set("X-Amz-Target", "Kinesis_20131202.PutRecords")
		sigv4test.Sign(r, nil, sigv4test.Key{ID: c.id, Secret: "x"}, "r", "kinesis", time.Now())
		out := httptest.NewRecorder()
		w.ServeHTTP(out, r)
		if !strings.Contains(out.Body.String(), c.code) || c.code[0] == 'R' && out.Code != 413 {
			t.Errorf("%d %s", out.Code, out.Body)
		}
	}
	// A body of a length that is not said is read up to the limit.
	for size, code := range map[int]int{1 << 20: 200, maxBody + 1: 413} {
		body := []byte(latest[:len(latest)-1] + `,"x":"` + strings.Repeat("x", size-len(latest)-7) + `"}`)
		r := w.request("GetShardIterator", jsonType, body)
		r.ContentLength, r.Body = -1, io.NopCloser(struct{ io.Reader }{bytes.NewReader(body)})
		if resp, text := w.do(r); resp.StatusCode != code {
			t.Errorf("%d bytes: %s %s", size, resp.Status, text)
		}
	}
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}
func (unread) Close() error { return nil }

// Where it is switched on, any key will do, at any time.
func TestPermissive(t *testing.T) {
	w := newServed(t, func(o *wire.Options) {
		o.Verifier, o.Permissive = &sigv4.Verifier{Permissive: true}, true
	})
	body := []byte(latest)
	r := w.request("GetShardIterator", jsonType, body)
	sigv4test.Sign(r, body, sigv4test.Key{ID: "test", Secret: "test"}, "us-east-1", "kinesis", time.Unix(0, 0))
	if resp, text := w.do(r); resp.StatusCode != 200 {
		t.Error(resp.Status, text)
	}
	r.Header.Del("Authorization")
	r.Body = io.NopCloser(bytes.NewReader(body))
	if resp, text := w.do(r); resp.StatusCode != 400 || !strings.Contains(text, "MissingAuthenticationToken") {
		t.Error(resp.Status, text)
	}
}
