package lambda

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// A stand takes calls in the place of processes.
type stand struct {
	store    *store.Store
	isolated error
	answer   func(c lambda.Call) (*lambda.Result, error)
	queued   []string
	ended    []string
}

func (s *stand) Call(_ context.Context, c lambda.Call) (*lambda.Result, error) {
	if _, err := s.Check(&c); err != nil {
		return nil, err
	}
	return s.answer(c)
}

func (s *stand) Check(c *lambda.Call) (*lambda.Function, error) {
	if len(c.Payload) > 0 && !json.Valid(c.Payload) {
		return nil, lambda.ErrPayload
	}
	if c.Depth >= lambda.MaxDepth { // as a Manager does
		return nil, lambda.ErrLoop
	}
	return s.store.Function(c.Function, c.Qualifier)
}

func (s *stand) Isolated() error { return s.isolated }
func (s *stand) End(name string) { s.ended = append(s.ended, name) }

func (s *stand) Put(_ context.Context, c lambda.Call) (string, error) {
	if len(c.Payload) > lambda.MaxEvent {
		return "", lambda.ErrTooLarge
	}
	s.queued = append(s.queued, c.Function+" "+string(c.Payload))
	return c.RequestID, nil
}

func newStand(t *testing.T) (*stand, *wire.Handler) {
	t.Helper()
	all, err := store.Open(store.Options{Dir: t.TempDir(), Account: "000000000000", Region: wiretest.Region})
	if err != nil {
		t.Fatal(err)
	}
	s := &stand{store: all}
	return s, wire.New(wiretest.Options(Service(Options{Store: all, Functions: s, Queue: s, Concurrency: 10,
		Right: right,
		Object: func(context.Context, string, string, int) ([]byte, error) {
			return nil, errors.New("no such key")
		}})))
}

// right knows of buckets for failures, and of queues.
func right(to string, success bool) (action, resource string, err error) {
	switch {
	case strings.HasPrefix(to, "arn:aws:s3:::") && !success:
		return "s3:PutObject", to + "/*", nil
	case strings.HasPrefix(to, "arn:aws:sqs:"):
		return "sqs:SendMessage", to, nil
	}
	return "", "", errors.New("there is none")
}

func ask(h *wire.Handler, method, path, body string, header ...string) wiretest.Answer {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	sigv4test.Sign(r, []byte(body), wiretest.Key, wiretest.Region, "lambda", time.Now())
	return wiretest.Do(h, r)
}

func newFunction(name string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	_, _ = w.Create("app.py") // to memory
	_ = w.Close()
	return fmt.Sprintf(`{"FunctionName":%q,"Runtime":"python3.12","Handler":"app.handler",`+
		`"Role":"arn:aws:iam::000000000000:role/r","Code":{"ZipFile":%q}}`, name,
		base64.StdEncoding.EncodeToString(b.Bytes()))
}

const functions = "/2015-03-31/functions"

func TestInvoke(t *testing.T) {
	s, h := newStand(t)
	if a := ask(h, "POST", functions, newFunction("f")); a.Status != 201 {
		t.Fatal(a)
	}
	arn := "arn%3Aaws%3Alambda%3A" + wiretest.Region + "%3A000000000000%3Afunction%3Af"
	large := `"` + strings.Repeat("x", lambda.MaxEvent) + `"`
	for _, c := range []struct {
		name, path, body string
		header           []string
		result           *lambda.Result
		err              error
		status           int
		code, says       string
	}{
		{name: "answer", path: "f", body: "{}", result: &lambda.Result{Payload: []byte(`{"a":1}`)}, status: 200,
			says: `{"a":1}`},
		{name: "by ARN", path: arn, result: &lambda.Result{Payload: []byte(`1`)}, status: 200, says: `1`},
		{name: "failed", path: "f", result: &lambda.Result{Payload: []byte(`{"errorType":"T"}`), Failed: "Unhandled"},
			status: 200, says: `{"errorType":"T"}`},
		{name: "throttled", path: "f", err: &lambda.ThrottledError{Function: "f", Reason: lambda.ReasonAll},
			status: 429, code: "TooManyRequestsException", says: `"Reason":"ConcurrentInvocationLimitExceeded"`},
		{name: "loop", path: "f", header: []string{"X-Amzn-Trace-Id", "Root=1;Lineage=1:0a:16"}, status: 400,
			code: "RecursiveInvocationException"},
		{name: "no loop", path: "f", header: []string{"X-Amzn-Trace-Id", "Root=1;Lineage=1:0a:15"},
			result: &lambda.Result{Payload: []byte(`2`)}, status: 200, says: `2`},
		{name: "no JSON", path: "f", body: "{", status: 400, code: "InvalidRequestContentException",
			says: `"Type":"User"`},
		{name: "none", path: "g", status: 404, code: "ResourceNotFoundException", says: "function:g"},
		{name: "no version", path: "f", header: []string{"q", "7"}, status: 404, code: "ResourceNotFoundException"},
		{name: "own fault", path: "f", err: errors.New("secret"), status: 500, code: "InternalException"},
		{name: "event", path: "f", body: `{"a":2}`, header: []string{"X-Amz-Invocation-Type", "Event"}, status: 202},
		{name: "large event", path: "f", body: large, header: []string{"X-Amz-Invocation-Type", "Event"}, status: 413,
			code: "RequestTooLargeException"},
		{name: "dry run", path: "f", header: []string{"X-Amz-Invocation-Type", "DryRun"}, status: 204},
		{name: "dry run of none", path: "g", header: []string{"X-Amz-Invocation-Type", "DryRun"}, status: 404,
			code: "ResourceNotFoundException"},
		{name: "other type", path: "f", header: []string{"X-Amz-Invocation-Type", "Other"}, status: 400,
			code: "InvalidParameterValueException"},
		{name: "context", path: "f", header: []string{"X-Amz-Client-Context", "!"}, status: 400,
			code: "InvalidRequestContentException"},
	} {
		s.answer = func(lambda.Call) (*lambda.Result, error) { return c.result, c.err }
		path := functions + "/" + c.path + "/invocations"
		if len(c.header) > 0 && c.header[0] == "q" {
			path, c.header = path+"?Qualifier="+c.header[1], nil
		}
		a := ask(h, "POST", path, c.body, c.header...)
		if a.Status != c.status || a.Code != c.code || !strings.Contains(a.Body, c.says) {
			t.Errorf("%s: %d %s %s, want %d %s %s", c.name, a.Status, a.Code, a.Body, c.status, c.code, c.says)
		}
		if failed := a.Header.Get("X-Amz-Function-Error"); c.result != nil && failed != c.result.Failed {
			t.Errorf("%s: function error %q", c.name, failed)
		}
		if c.status == 429 && a.Header.Get("Retry-After") != "1" {
			t.Errorf("%s: %v", c.name, a.Header)
		}
	}
	if got := strings.Join(s.queued, ";"); got != `f {"a":2}` {
		t.Errorf("queued %s", got)
	}
}

// noPassing lets do all but give roles.
type noPassing struct{ wiretest.Anything }

func (noPassing) Authorize(q wire.Question) error {
	if q.Action == "iam:PassRole" {
		return fmt.Errorf("%w: %s", wire.ErrDenied, q.Resource)
	}
	return nil
}

// Who may not pass a role that has rights can give it to no function; others can.
func TestPassRole(t *testing.T) {
	s, _ := newStand(t)
	for name, c := range map[string]struct {
		may     wire.Authorizer
		granted string
		status  int
	}{"may not": {noPassing{}, "r", 403}, "a role without rights": {noPassing{}, "other", 201},
		"may": {wiretest.Anything{}, "r", 201}} {
		o := wiretest.Options(Service(Options{Store: s.store, Functions: s, Queue: s, Concurrency: 10, Right: right,
			Granted: func(role string) bool { return strings.HasSuffix(role, "/"+c.granted) }}))
		o.Authorizer = c.may
		h := wire.New(o)
		function := "f" + strconv.Itoa(len(name))
		if a := ask(h, "POST", functions, newFunction(function)); a.Status != c.status {
			t.Errorf("%s: created with %d %s", name, a.Status, a.Body)
		}
		if c.status == 403 {
			ask(wire.New(wiretest.Options(Service(Options{Store: s.store, Functions: s, Queue: s, Right: right}))), "POST",
				functions, newFunction(function))
		}
		a := ask(h, "PUT", functions+"/"+function+"/configuration", `{"Role":"arn:aws:iam::000000000000:role/r"}`)
		if want := map[int]int{201: 200, 403: 403}[c.status]; a.Status != want {
			t.Errorf("%s: changed with %d %s, want %d", name, a.Status, a.Body, want)
		}
	}
}

func TestLogTail(t *testing.T) {
	s, h := newStand(t)
	ask(h, "POST", functions, newFunction("f"))
	s.answer = func(c lambda.Call) (*lambda.Result, error) {
		if c.ClientContext != `{"a":1}` {
			t.Errorf("context %s", c.ClientContext)
		}
		return &lambda.Result{Payload: []byte("null"), Log: []byte("log\n"), Version: "$LATEST"}, nil
	}
	a := ask(h, "POST", functions+"/f/invocations", "{}", "X-Amz-Log-Type", "Tail", "X-Amz-Client-Context",
		base64.StdEncoding.EncodeToString([]byte(`{"a":1}`)))
	if a.Header.Get("X-Amz-Log-Result") != "bG9nCg==" || a.Header.Get("X-Amz-Executed-Version") != "$LATEST" {
		t.Error(a.Header)
	}
}

// Where nothing isolates functions, none is made.
func TestNotIsolated(t *testing.T) {
	s, h := newStand(t)
	s.isolated = lambda.ErrNotIsolated
	a := ask(h, "POST", functions, newFunction("f"))
	if a.Status != 400 || !strings.Contains(a.Body, "lambda.unsafe") {
		t.Error(a)
	}
	if len(s.store.List()) != 0 {
		t.Error("it is there")
	}
}

func TestRefused(t *testing.T) {
	_, h := newStand(t)
	change := func(from, to string) string { return strings.Replace(newFunction("f"), from, to, 1) }
	for name, c := range map[string]struct{ body, code string }{
		"image":   {change(`"Runtime"`, `"PackageType":"Image","Runtime"`), "InvalidParameterValueException"},
		"arch":    {change(`"Runtime"`, `"Architectures":["z80"],"Runtime"`), "InvalidParameterValueException"},
		"runtime": {change(`python3.12`, `ruby3.3`), "InvalidParameterValueException"},
		"no code": {`{"FunctionName":"f"}`, "InvalidParameterValueException"},
		"S3":      {change(`{"ZipFile"`, `{"S3Bucket":"b","S3Key":"k","X"`), "InvalidParameterValueException"},
		"folder":  {change(`{"ZipFile"`, `{"S3Bucket":"hot-reload","S3Key":"/etc","X"`), "InvalidParameterValueException"},
		"name":    {newFunction("a/b"), "InvalidParameterValueException"},
		"no JSON": {"{", "InvalidRequestContentException"},
	} {
		if a := ask(h, "POST", functions, c.body); a.Code != c.code {
			t.Errorf("%s: %d %s %s", name, a.Status, a.Code, a.Body)
		}
	}
	if a := ask(h, "GET", functions, ""); a.Body != `{"Functions":[]}`+"\n" {
		t.Error(a.Body)
	}
}

// What the bridge does not do is refused with what to do instead, when a function is made and when it
// is changed; what AWS has by itself is taken.
func TestRefusals(t *testing.T) {
	_, h := newStand(t)
	if a := ask(h, "POST", functions, newFunction("f")); a.Status != 201 {
		t.Fatal(a)
	}
	made := 0
	for _, r := range refusals {
		asks := map[string]bool{`{"Mode":"Active"}`: true}
		for _, harmless := range append(r.harmless, "null") {
			asks[harmless] = false
		}
		for value, isRefused := range asks {
			member := fmt.Sprintf("%q: %s", r.member, value)
			made++
			body := strings.Replace(newFunction(fmt.Sprint("g", made)), `"Runtime"`, member+`,"Runtime"`, 1)
			for _, a := range []wiretest.Answer{ask(h, "POST", functions, body),
				ask(h, "PUT", functions+"/f/configuration", "{"+member+"}")} {
				if isRefused != (a.Code == "InvalidParameterValueException") || isRefused &&
					!strings.Contains(a.Body, r.member+": "+r.instead[:20]) || !isRefused && a.Status/100 != 2 {
					t.Errorf("%s: %d %s", member, a.Status, a.Body)
				}
			}
		}
	}
	a := ask(h, "PUT", functions+"/f/configuration", `{"Layers":["arn:aws:lambda:eu-local-1:000000000000:layer:l:1"]}`)
	if a.Status != 400 || !strings.Contains(a.Body, "layers are not served here: put their files into the package") {
		t.Errorf("%d %s", a.Status, a.Body)
	}
	for path, want := range map[string]string{"/2018-10-31/layers/l/versions": "PublishLayerVersion is not served here: ",
		"/2015-03-31/event-source-mappings": "CreateEventSourceMapping is not served here: "} {
		if a := ask(h, "POST", path, "{}"); a.Code != "UnknownOperationException" || !strings.Contains(a.Body, want) {
			t.Errorf("%s: %d %s %s", path, a.Status, a.Code, a.Body)
		}
	}
	if a := ask(h, "PATCH", functions, ""); strings.Count(a.Body, "ListFunctions,") != 1 ||
		strings.Contains(a.Body, "PublishLayerVersion") {
		t.Error(a.Body)
	}
	if a := ask(h, "POST", "/2018-10-31/layers/l/versions", "{}"); a.Code != "UnknownOperationException" {
		t.Errorf("%d %s", a.Status, a.Body)
	}
}

func TestPages(t *testing.T) {
	_, h := newStand(t)
	for n := range 5 {
		if a := ask(h, "POST", functions, newFunction(fmt.Sprint("f", n))); a.Status != 201 {
			t.Fatal(a)
		}
	}
	marker, names := "", ""
	for range 3 {
		var out struct {
			Functions  []struct{ FunctionName string }
			NextMarker string
		}
		a := ask(h, "GET", functions+"?MaxItems=2&Marker="+marker, "")
		if err := json.Unmarshal([]byte(a.Body), &out); err != nil {
			t.Fatal(a.Body, err)
		}
		for _, f := range out.Functions {
			names += f.FunctionName + " "
		}
		marker = out.NextMarker
	}
	if names != "f0 f1 f2 f3 f4 " || marker != "" {
		t.Error(names, marker)
	}
	for _, query := range []string{"MaxItems=0", "MaxItems=x", "Marker=!"} {
		if a := ask(h, "GET", functions+"?"+query, ""); a.Code != "InvalidParameterValueException" {
			t.Errorf("%s: %+v", query, a)
		}
	}
}

// A destination must be there, and the caller must have the right to bring records to it.
func TestDestinations(t *testing.T) {
	s, h := newStand(t)
	if a := ask(h, "POST", functions, newFunction("f")); a.Status != 201 {
		t.Fatal(a)
	}
	o := wiretest.Options(Service(Options{Store: s.store, Functions: s, Queue: s, Concurrency: 10, Right: right}))
	o.Authorizer = reader{}
	denied := wire.New(o)
	const path, queue = "/2019-09-25/functions/f/event-invoke-config", "arn:aws:sqs:eu-local-1:000000000000:q"
	own := s.store.ARN("f", "")
	for _, c := range []struct {
		h                        *wire.Handler
		method, success, failure string
		status                   int
		says                     string
	}{
		{h, "PUT", queue, "arn:aws:s3:::b", 200, `{"OnSuccess":{"Destination":"` + queue + `"},` +
			`"OnFailure":{"Destination":"arn:aws:s3:::b"}}`},
		{h, "POST", "", queue, 200, `"DestinationConfig":{"OnFailure":{"Destination":"` + queue + `"}}`},
		{h, "PUT", "arn:aws:s3:::b", "", 400, "there is none"},
		{h, "PUT", "", "arn:aws:sns:eu-local-1:000000000000:t", 400, "there is none"},
		{h, "PUT", own, "", 400, "there is none"},
		{denied, "PUT", queue, "", 403, "AccessDenied"},
		{denied, "PUT", "", "arn:aws:s3:::b", 403, "AccessDenied"},
	} {
		body := fmt.Sprintf(`{"DestinationConfig":{"OnSuccess":{"Destination":%q},"OnFailure":{"Destination":%q}}}`,
			c.success, c.failure)
		a := ask(c.h, c.method, path, body)
		if a.Status != c.status || !strings.Contains(a.Body+a.Code, c.says) {
			t.Errorf("%s %s: %d %s %s", c.method, body, a.Status, a.Code, a.Body)
		}
	}
	if a := ask(h, "GET", path, ""); !strings.Contains(a.Body, `"OnFailure":{"Destination":"`+queue) ||
		strings.Contains(a.Body, "OnSuccess") {
		t.Error(a.Body)
	}
	one := func(to string, _ bool) (string, string, error) { return "lambda:InvokeFunction", to, nil }
	h = wire.New(wiretest.Options(Service(Options{Store: s.store, Functions: s, Queue: s, Concurrency: 10,
		Right: one})))
	a := ask(h, "PUT", path, `{"DestinationConfig":{"OnSuccess":{"Destination":"`+own+`:live"}}}`)
	if a.Status != 400 || !strings.Contains(a.Body, "the function itself") {
		t.Error(a)
	}
}

// The audit log has neither packages nor the values of variables.
func TestAsked(t *testing.T) {
	got, err := json.Marshal(asked(&wire.Request{Body: []byte(`{"FunctionName":"f","Code":{"ZipFile":"QUJD"},` +
		`"ZipFile":"QUJD","Environment":{"Variables":{"KEY":"secret"}}}`)}))
	want := `{"Code":{"ZipFile":"4 bytes of base64"},"Environment":{"Variables":{"KEY":"hidden"}},"FunctionName":"f",` +
		`"ZipFile":"4 bytes of base64"}`
	if string(got) != want || err != nil {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// reader may do all with functions, and read one object.
type reader struct{ wiretest.Anything }

func (reader) Authorize(q wire.Question) error {
	if !strings.HasPrefix(q.Action, "lambda:") && q.Action+" "+q.Resource != "s3:GetObject arn:aws:s3:::mine/k" {
		return wire.ErrDenied
	}
	return nil
}

// Code is read from a bucket only for callers who may read it themselves.
func TestCodeOfBuckets(t *testing.T) {
	all, err := store.Open(store.Options{Dir: t.TempDir(), Account: "000000000000", Region: wiretest.Region})
	if err != nil {
		t.Fatal(err)
	}
	var read []string
	s := &stand{store: all}
	o := wiretest.Options(Service(Options{Store: all, Functions: s, Queue: s, Concurrency: 10,
		Object: func(_ context.Context, bucket, key string, _ int) ([]byte, error) {
			read = append(read, bucket+"/"+key)
			return nil, errors.New("no such key")
		}}))
	o.Authorizer = reader{}
	h := wire.New(o)
	if a := ask(h, "POST", functions, newFunction("f")); a.Status != 201 {
		t.Fatal(a)
	}
	for _, c := range []struct{ bucket, code string }{
		{"others", "AccessDeniedException"}, {"mine", "InvalidParameterValueException"}} {
		from := fmt.Sprintf(`{"S3Bucket":%q,"S3Key":"k"}`, c.bucket)
		if a := ask(h, "POST", functions, `{"FunctionName":"g","Runtime":"python3.12","Handler":"app.handler",`+
			`"Role":"arn:aws:iam::000000000000:role/r","Code":`+from+`}`); a.Code != c.code {
			t.Errorf("create from %s: %d %s", c.bucket, a.Status, a.Body)
		}
		if a := ask(h, "PUT", functions+"/f/code", from); a.Code != c.code {
			t.Errorf("update from %s: %d %s", c.bucket, a.Status, a.Body)
		}
	}
	if got := strings.Join(read, " "); got != "mine/k mine/k" {
		t.Errorf("read %q", got)
	}
}
