package aws

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// book is the rules of a test, kept in memory.
type book struct {
	all  map[string]*rules.Rule
	fail error // of every call, if not nil
}

var made = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func (b *book) put(name string, doc []byte) error {
	r, err := (&rules.Compiler{}).Parse(name, doc)
	if err != nil {
		return fmt.Errorf("%w: %w", registry.ErrInvalid, err)
	}
	r.Created = made
	b.all[name] = r
	return nil
}

func (b *book) Create(name string, doc []byte) error {
	if b.all[name] != nil {
		return fmt.Errorf("rule %s: %w", name, registry.ErrExists)
	}
	return cmp.Or(b.fail, b.put(name, doc))
}

func (b *book) Replace(name string, doc []byte) error {
	if _, err := b.Rule(name); err != nil {
		return err
	}
	return cmp.Or(b.fail, b.put(name, doc))
}

func (b *book) Delete(name string) error {
	_, err := b.Rule(name)
	delete(b.all, name)
	return cmp.Or(b.fail, err)
}

func (b *book) SetDisabled(name string, disabled bool) error {
	r, err := b.Rule(name)
	if err == nil {
		r.Disabled = disabled
	}
	return cmp.Or(b.fail, err)
}

func (b *book) Rule(name string) (*rules.Rule, error) {
	if r := b.all[name]; r != nil {
		return r, b.fail
	}
	return nil, fmt.Errorf("rule %s: %w", name, registry.ErrNotFound)
}

func (b *book) Rules() []*rules.Rule {
	var all []*rules.Rule
	for _, r := range b.all {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *rules.Rule) int { return strings.Compare(a.Name, b.Name) })
	return all
}

var key = sigv4test.Key{ID: "AKIATEST", Secret: "secret"}

// A bench is a Handler over a book, and what it logs.
type bench struct {
	*Handler
	book *book
	log  bytes.Buffer
}

func newBench() *bench {
	b := &bench{book: &book{all: map[string]*rules.Rule{}}}
	b.Handler = New(Options{Account: "000000000000", Key: anyKey, Rules: b.book,
		Log:    slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Secret: func(id string) (string, string, bool) { return key.Secret, "", id == key.ID }})
	return b
}

// ask signs and sends one request, for service "iot" or the one before a colon
// in the target.
func (b *bench) ask(method, target, body string) *http.Response {
	service, path, ok := strings.Cut(target, ":")
	if !ok {
		service, path = "iot", target
	}
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	sigv4test.Sign(r, []byte(body), key, "eu-test-7", service, time.Now())
	w := httptest.NewRecorder()
	b.ServeHTTP(w, r)
	return w.Result()
}

const hot = `{"sql":"SELECT temp FROM 'dt/#' WHERE temp > 30","actions":[],"description":"d","errorAction":null}`

// TestTopicRules is the life of rules: each line asks and says status, error
// and body.
func TestTopicRules(t *testing.T) {
	b := newBench()
	const arn = "arn:aws:iot:eu-test-7:000000000000:rule/"
	listed := func(name, pattern, disabled string) string {
		return `{"ruleArn":"` + arn + name + `","ruleName":"` + name + `","topicPattern":"` + pattern + `","createdAt":1772366400,"ruleDisabled":` + disabled + `}`
	}
	denied := func(name string) string { return `{"message":"Access to topic rule '` + name + `' was denied"}` }
	for _, c := range []struct {
		method, target, body string
		status               int
		code, want           string
	}{
		{"GET", "/rules", "", 200, "", `{"rules":[]}`},
		{"GET", "/rules/hot", "", 401, "UnauthorizedException", denied("hot")},
		{"PATCH", "/rules/hot", hot, 401, "UnauthorizedException", denied("hot")},
		{"DELETE", "/rules/hot", "", 401, "UnauthorizedException", denied("hot")},
		{"POST", "/rules/hot/enable", "", 401, "UnauthorizedException", denied("hot")},
		{"POST", "/rules/hot/disable", "", 401, "UnauthorizedException", denied("hot")},
		{"POST", "/rules/hot", hot, 200, "", ""},
		{"POST", "/rules/hot", hot, 409, "ResourceAlreadyExistsException",
			`{"message":"rule hot: registry: exists with other content","resourceId":"hot","resourceArn":"` + arn + `hot"}`},
		{"GET", "/rules/hot", "", 200, "", `{"ruleArn":"` + arn + `hot","rule":{"ruleName":"hot","sql":"SELECT temp FROM 'dt/#' WHERE temp > 30",` +
			`"description":"d","createdAt":1772366400,"actions":[],"ruleDisabled":false,"awsIotSqlVersion":"2015-10-08"}}`},
		{"GET", "execute-api:/rules", "", 200, "", `{"rules":[` + listed("hot", "dt/#", "false") + `]}`},
		{"POST", "/rules/hot/disable", "", 200, "", ""},
		{"GET", "/rules", "", 200, "", `{"rules":[` + listed("hot", "dt/#", "true") + `]}`},
		{"GET", "/rules?ruleDisabled=false", "", 200, "", `{"rules":[]}`},
		{"POST", "/rules/hot/enable", "", 200, "", ""},
		{"GET", "/rules?ruleDisabled=false", "", 200, "", `{"rules":[` + listed("hot", "dt/#", "false") + `]}`},
		{"PATCH", "/rules/hot", `{"sql":"SELECT * FROM 'a/+'","actions":[],"awsIotSqlVersion":"2016-03-23","ruleDisabled":true}`, 200, "", ""},
		{"GET", "/rules/hot", "", 200, "", `{"ruleArn":"` + arn + `hot","rule":{"ruleName":"hot","sql":"SELECT * FROM 'a/+'",` +
			`"createdAt":1772366400,"actions":[],"ruleDisabled":true,"awsIotSqlVersion":"2016-03-23"}}`},
		{"POST", "/rules/cold", hot, 200, "", ""},
		{"GET", "/rules?topic=a/b", "", 200, "", `{"rules":[` + listed("hot", "a/+", "true") + `]}`},
		{"GET", "/rules?topic=dt/%23", "", 200, "", `{"rules":[` + listed("cold", "dt/#", "false") + `]}`},
		{"GET", "/rules?topic=dt", "", 200, "", `{"rules":[]}`},
		{"GET", "/rules?maxResults=1", "", 200, "", `{"rules":[` + listed("cold", "dt/#", "false") + `],"nextToken":"Y29sZA"}`},
		{"GET", "/rules?maxResults=1&nextToken=Y29sZA", "", 200, "", `{"rules":[` + listed("hot", "a/+", "true") + `]}`},
		{"GET", "/rules?maxResults=0", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?maxResults=10001", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?nextToken=!", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?ruleDisabled=yes", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?topic=a&topic=b", "", 400, "InvalidRequestException", `{"message":"registry: invalid: \"topic\" is given twice in the query"}`},
		{"POST", "/rules/bad", `{"sql":"SELECT FROM FROM","actions":[]}`, 400, "SqlParseException", ""},
		{"POST", "/rules/bad", `{"sql":"SELECT * FROM 'a'","actions":[],"colour":1}`, 400, "InvalidRequestException", ""},
		{"POST", "/rules/bad", `{"sql":`, 400, "InvalidRequestException", ""},
		{"POST", "/rules/bad%20name", hot, 400, "InvalidRequestException", ""},
		{"PATCH", "/rules/hot", `{"sql":"SELECT FROM FROM","actions":[]}`, 400, "SqlParseException", ""},
		{"DELETE", "/rules/hot", "", 200, "", ""},
		{"DELETE", "/rules/hot", "", 401, "UnauthorizedException", denied("hot")},

		{"GET", "/things", "", 404, "UnknownOperationException", ""},
		{"PUT", "/rules/hot", "", 404, "UnknownOperationException", ""},
		{"GET", "/rules/", "", 404, "UnknownOperationException", ""},
		{"GET", "/rules/a%2Fb", "", 401, "UnauthorizedException", denied("a/b")},
		{"GET", "s3:/bucket", "", 404, "UnknownOperationException", ""},
		{"POST", "/rules/big", strings.Repeat(" ", maxBody+1), 413, "RequestEntityTooLargeException", ""},
	} {
		resp := b.ask(c.method, c.target, c.body)
		body, _ := io.ReadAll(resp.Body)
		code := resp.Header.Get("X-Amzn-Errortype")
		if resp.StatusCode != c.status || code != c.code || c.want != "" && strings.TrimSpace(string(body)) != c.want || (c.code == "" && c.want == "") != (len(body) == 0) {
			t.Errorf("%s %s: %d %s %s", c.method, c.target, resp.StatusCode, code, body)
		}
		if c.code != "" {
			var said struct{ Message string }
			if err := json.Unmarshal(body, &said); err != nil || said.Message == "" {
				t.Errorf("%s %s: %v in %s", c.method, c.target, err, body)
			}
		}
	}
	body, _ := io.ReadAll(b.ask("GET", "/things", "").Body)
	if !strings.Contains(string(body), "GET /things is none that is served here; of iot there are CreateTopicRule, ") {
		t.Errorf("%s", body)
	}
}

// What goes wrong is told by AWS's names; what is the bridge's own fault stays
// in its log.
func TestErrors(t *testing.T) {
	b := newBench()
	if resp := b.ask("POST", "/rules/hot", hot); resp.StatusCode != 200 {
		t.Fatal(resp.Status)
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{errors.New("the disk is sick"), 500, "InternalException"},
		{fmt.Errorf("rule hot is declared in a file: %w", registry.ErrConflict), 409, "ConflictingResourceUpdateException"},
		{registry.ErrLimit, 409, "ConflictingResourceUpdateException"},
		{fmt.Errorf("put: %w", registry.ErrInvalid), 400, "InvalidRequestException"},
	} {
		b.book.fail = c.err
		b.log.Reset()
		resp := b.ask("POST", "/rules/hot/disable", "")
		body, _ := io.ReadAll(resp.Body)
		internal := c.status == 500
		if resp.StatusCode != c.status || resp.Header.Get("X-Amzn-Errortype") != c.code || strings.Contains(string(body), c.err.Error()) == internal ||
			strings.Contains(b.log.String(), "level=ERROR") != internal {
			t.Errorf("%v: %s %s\n%s", c.err, resp.Status, body, &b.log)
		}
	}
}

// Of a bridge that is stopping clients learn that they may ask again.
func TestStopping(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		if e := errorOf(fmt.Errorf("put: %w", err)); e.Code != "ServiceUnavailableException" || e.Status != 503 {
			t.Errorf("%v: %v", err, e)
		}
	}
}

// TestSignatures looks at requests that come to no operation.
func TestSignatures(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*http.Request)
		code   string
	}{
		{"none", func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException"},
		{"torn", func(r *http.Request) { r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x") }, "IncompleteSignatureException"},
		{"key", func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), key.ID, "AKIAOTHER", 1))
		}, "UnrecognizedClientException"},
		{"method", func(r *http.Request) { r.Method = "DELETE" }, "InvalidSignatureException"},
		{"time", func(r *http.Request) { sigv4test.Sign(r, nil, key, "r", "iot", time.Now().Add(-time.Hour)) }, "InvalidSignatureException"},
	} {
		b := newBench()
		r := httptest.NewRequest("GET", "/rules", nil)
		sigv4test.Sign(r, nil, key, "r", "iot", time.Now())
		c.change(r)
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != c.code {
			t.Errorf("%s: %d %v %s", c.name, w.Code, w.Header(), w.Body)
		}
		if n := b.Stats()[Outcome{Code: c.code}].Requests; n != 1 {
			t.Errorf("%s: counted %v", c.name, b.Stats())
		}
	}
}

// What is signed for one target does nothing at another, also where the two
// have the same signature.
func TestOneMeaning(t *testing.T) {
	for _, c := range []struct{ method, signed, sent, code string }{
		{"POST", "/rules/enable", "/rules//enable", "UnknownOperationException"},
		{"POST", "/rules/hot", "/rules/hot/x/..", "UnknownOperationException"},
		{"POST", "/rules/hot", "/rules/hot/.", "UnknownOperationException"},
		{"POST", "/rules/hot", "//rules/hot", "UnknownOperationException"},
		{"POST", "/rules/disable", "/rules/./disable", "UnknownOperationException"},
		{"POST", "/rules/disable", "/rules/../rules/disable", "UnknownOperationException"},
		{"POST", "/rules/hot", "/rules/hot/", "InvalidSignatureException"},
		{"POST", "/rules/hot", "/rules/%68ot", "InvalidSignatureException"},
		{"POST", "/rules/disable", "/rules/%2E/disable", "InvalidSignatureException"},
		{"POST", "/rules/hot/disable", "/rules/hot%2Fdisable", "InvalidSignatureException"},
		{"POST", "/rules/hot", "/rules/hot?x", "InvalidSignatureException"},
		{"POST", "/rules/hot", "/rules/hot;x", "InvalidSignatureException"},
		{"POST", "/rules/hot", "http://example.com/rules/hot", "IncompleteSignatureException"},
	} {
		b := newBench()
		first := httptest.NewRequest(c.method, c.signed, nil)
		sigv4test.Sign(first, []byte(hot), key, "r", "iot", time.Now())
		r := httptest.NewRequest(c.method, c.sent, strings.NewReader(hot))
		r.Header, r.Host = first.Header, first.Host
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if got := w.Header().Get("X-Amzn-Errortype"); got != c.code || len(b.book.all) != 0 {
			t.Errorf("%s, signed as %s: %d %s %v", c.sent, c.signed, w.Code, got, b.book.all)
		}
	}
}

// Each answer has an id of its own, which the log has too.
func TestRequestID(t *testing.T) {
	b := newBench()
	seen := map[string]bool{}
	for range 3 {
		var id string
		for name, values := range b.ask("GET", "/rules", "").Header {
			if name == requestIDHeader { // Header.Get would look for another spelling
				id = values[0]
			}
		}
		if !regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) || seen[id] {
			t.Errorf("id %q", id)
		}
		seen[id] = true
		if !strings.Contains(b.log.String(), "request_id="+id+" key=AKIATEST service=iot operation=ListTopicRules status=200 code=OK") {
			t.Errorf("not in the log:\n%s", &b.log)
		}
	}
	if c := b.Stats()[Outcome{Operation: "ListTopicRules", Code: "OK"}]; c.Requests != 3 || c.Time <= 0 {
		t.Errorf("counted %+v", c)
	}
	if strings.Contains(b.log.String(), key.Secret) {
		t.Error("the log has the secret")
	}
}

// More requests than maxRequests are refused, not queued: each holds a body.
func TestBusy(t *testing.T) {
	b := newBench()
	for range maxRequests {
		b.slots.try(1, nil)
	}
	if resp := b.ask("GET", "/rules", ""); resp.StatusCode != 429 || resp.Header.Get("X-Amzn-Errortype") != "ThrottlingException" {
		t.Error(resp.Status)
	}
	b.slots.release(1, nil)
	if resp := b.ask("GET", "/rules", ""); resp.StatusCode != 200 {
		t.Error(resp.Status)
	}
	if b.slots.inUse() != maxRequests-1 {
		t.Error("a place was not given back")
	}
}

// Whatever the path, match takes as many values as the pattern has, and none
// that the signature would understand otherwise.
func FuzzMatch(f *testing.F) {
	f.Add("/rules/:a/enable", "/rules/%2e%2E/enable")
	f.Add("/:a/:b", "/x/%zz")
	f.Fuzz(func(t *testing.T, pattern, path string) {
		values, ok := match(pattern, path)
		if !ok {
			return
		}
		if strings.Count(pattern, "/") != strings.Count(path, "/") {
			t.Fatal(values)
		}
		for _, v := range values {
			if v == "" || v == "." || v == ".." {
				t.Fatal(values)
			}
		}
	})
}
