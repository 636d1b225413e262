package iot

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
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

func (b *book) Create(_ context.Context, name string, doc []byte) error {
	if b.all[name] != nil {
		return fmt.Errorf("rule %s: %w", name, registry.ErrExists)
	}
	return cmp.Or(b.fail, b.put(name, doc))
}

func (b *book) Replace(_ context.Context, name string, doc []byte) error {
	if _, err := b.Rule(name); err != nil {
		return err
	}
	return cmp.Or(b.fail, b.put(name, doc))
}

func (b *book) Delete(_ context.Context, name string) error {
	_, err := b.Rule(name)
	delete(b.all, name)
	return cmp.Or(b.fail, err)
}

func (b *book) SetDisabled(_ context.Context, name string, disabled bool) error {
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

// A bench is a handler of the rules of a book, and what it logs.
type bench struct {
	*wire.Handler
	book *book
	log  bytes.Buffer
}

func newBench() *bench {
	b := &bench{book: &book{all: map[string]*rules.Rule{}}}
	o := wiretest.Options(Service(Options{Account: "000000000000", Rules: b.book}))
	o.Log = slog.New(slog.NewTextHandler(&b.log, nil))
	b.Handler = wire.New(o)
	return b
}

// ask signs and sends one request, for service "iot" or the one before a colon
// in the target.
func (b *bench) ask(method, target, body string) wiretest.Answer {
	service, path, ok := strings.Cut(target, ":")
	if !ok {
		service, path = "iot", target
	}
	return wiretest.Ask(b, service, method, path, body)
}

const hot = `{"sql":"SELECT temp FROM 'dt/#' WHERE temp > 30","actions":[],"description":"d","errorAction":null}`

// TestTopicRules is the life of rules: each line asks and says status, error
// and body.
func TestTopicRules(t *testing.T) {
	b := newBench()
	const arn = "arn:aws:iot:eu-test-7:000000000000:rule/"
	listed := func(name, pattern, disabled string) string {
		return `{"ruleArn":"` + arn + name + `","ruleName":"` + name + `","topicPattern":"` + pattern +
			`","createdAt":1772366400,"ruleDisabled":` + disabled + `}`
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
			`{"message":"rule hot: registry: exists with other content","resourceId":"hot","resourceArn":"` + arn +
				`hot"}`},
		{"GET", "/rules/hot", "", 200, "", `{"ruleArn":"` + arn +
			`hot","rule":{"ruleName":"hot","sql":"SELECT temp FROM 'dt/#' WHERE temp > 30",` +
			`"description":"d","createdAt":1772366400,"actions":[],"ruleDisabled":false,"awsIotSqlVersion":"2015-10-08"}}`},
		{"GET", "execute-api:/rules", "", 200, "", `{"rules":[` + listed("hot", "dt/#", "false") + `]}`},
		{"POST", "/rules/hot/disable", "", 200, "", ""},
		{"GET", "/rules", "", 200, "", `{"rules":[` + listed("hot", "dt/#", "true") + `]}`},
		{"GET", "/rules?ruleDisabled=false", "", 200, "", `{"rules":[]}`},
		{"POST", "/rules/hot/enable", "", 200, "", ""},
		{"GET", "/rules?ruleDisabled=false", "", 200, "", `{"rules":[` + listed("hot", "dt/#", "false") + `]}`},
		{"PATCH", "/rules/hot", `{"sql":"SELECT * FROM 'a/+'","actions":[],"awsIotSqlVersion":"2016-03-23","ruleDisabled":true}`,
			200, "", ""},
		{"GET", "/rules/hot", "", 200, "", `{"ruleArn":"` + arn +
			`hot","rule":{"ruleName":"hot","sql":"SELECT * FROM 'a/+'",` +
			`"createdAt":1772366400,"actions":[],"ruleDisabled":true,"awsIotSqlVersion":"2016-03-23"}}`},
		{"POST", "/rules/cold", hot, 200, "", ""},
		{"GET", "/rules?topic=a/b", "", 200, "", `{"rules":[` + listed("hot", "a/+", "true") + `]}`},
		{"GET", "/rules?topic=dt/%23", "", 200, "", `{"rules":[` + listed("cold", "dt/#", "false") + `]}`},
		{"GET", "/rules?topic=dt", "", 200, "", `{"rules":[]}`},
		{"GET", "/rules?maxResults=1", "", 200, "", `{"rules":[` + listed("cold", "dt/#", "false") +
			`],"nextToken":"Y29sZA"}`},
		{"GET", "/rules?maxResults=1&nextToken=Y29sZA", "", 200, "", `{"rules":[` + listed("hot", "a/+", "true") +
			`]}`},
		{"GET", "/rules?maxResults=0", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?maxResults=10001", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?nextToken=!", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?ruleDisabled=yes", "", 400, "InvalidRequestException", ""},
		{"GET", "/rules?topic=a&topic=b", "", 400, "InvalidRequestException",
			`{"message":"\"topic\" is given twice in the query"}`},
		{"POST", "/rules/bad", `{"sql":"SELECT FROM FROM","actions":[]}`, 400, "SqlParseException",
			`{"message":"registry: invalid: rule bad: sql: line 1, column 8: unexpected \"FROM\"; expected an ` +
				`expression\n    SELECT FROM FROM\n           ^"}`},
		{"POST", "/rules/bad", `{"sql":"SELECT * FROM 'a'","actions":[],"colour":1}`, 400, "InvalidRequestException",
			""},
		{"POST", "/rules/bad", `{"sql":`, 400, "InvalidRequestException", ""},
		{"POST", "/rules/bad%20name", hot, 400, "InvalidRequestException", ""},
		{"PATCH", "/rules/hot", `{"sql":"SELECT FROM FROM","actions":[]}`, 400, "SqlParseException", ""},
		{"DELETE", "/rules/hot", "", 200, "", ""},
		{"DELETE", "/rules/hot", "", 401, "UnauthorizedException", denied("hot")},

		{"GET", "/things", "", 404, "UnknownOperationException", ""},
		{"PUT", "/rules/hot", "", 404, "UnknownOperationException", ""},
		{"GET", "/rules/", "", 404, "UnknownOperationException", ""},
		{"GET", "/rules/a%2Fb", "", 401, "UnauthorizedException", denied("a/b")},
		{"GET", "batch:/bucket", "", 404, "UnknownOperationException", ""},
		{"POST", "/rules/big", strings.Repeat(" ", maxBody+1), 413, "RequestEntityTooLargeException", ""},
	} {
		got := b.ask(c.method, c.target, c.body)
		if got.Status != c.status || got.Code != c.code || c.want != "" && strings.TrimSpace(got.Body) != c.want ||
			(c.code == "" && c.want == "") != (got.Body == "") {
			t.Errorf("%s %s: %d %s %s", c.method, c.target, got.Status, got.Code, got.Body)
		}
		if c.code != "" {
			var said struct{ Message string }
			if err := json.Unmarshal([]byte(got.Body), &said); err != nil || said.Message == "" {
				t.Errorf("%s %s: %v in %s", c.method, c.target, err, got.Body)
			}
		}
	}
	body := b.ask("GET", "/things", "").Body
	if !strings.Contains(body, "GET /things is none that is served here; of iot there are CreateTopicRule, ") {
		t.Errorf("%s", body)
	}
}

// What goes wrong is told by AWS's names; what is the bridge's own fault stays
// in its log.
func TestErrors(t *testing.T) {
	b := newBench()
	if got := b.ask("POST", "/rules/hot", hot); got.Status != 200 {
		t.Fatal(got)
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{
		{errors.New("the disk is sick"), 500, "InternalException"},
		{fmt.Errorf("rule hot is declared in a file: %w", registry.ErrConflict), 409,
			"ConflictingResourceUpdateException"},
		{registry.ErrLimit, 409, "ConflictingResourceUpdateException"},
		{fmt.Errorf("put: %w", registry.ErrInvalid), 400, "InvalidRequestException"},
		// Of a bridge that is stopping clients learn that they may ask again.
		{fmt.Errorf("put: %w", context.Canceled), 503, "ServiceUnavailableException"},
		{fmt.Errorf("put: %w", context.DeadlineExceeded), 503, "ServiceUnavailableException"},
	} {
		b.book.fail = c.err
		b.log.Reset()
		got := b.ask("POST", "/rules/hot/disable", "")
		told := c.status < 500
		if got.Status != c.status || got.Code != c.code || strings.Contains(got.Body, c.err.Error()) != told ||
			strings.Contains(b.log.String(), "level=ERROR") != (c.status == 500) {
			t.Errorf("%v: %d %s\n%s", c.err, got.Status, got.Body, &b.log)
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
		{"torn", func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 x")
		}, "IncompleteSignatureException"},
		{"key", func(r *http.Request) {
			r.Header.Set("Authorization",
				strings.Replace(r.Header.Get("Authorization"), wiretest.Key.ID, "AKIAOTHER", 1))
		}, "UnrecognizedClientException"},
		{"method", func(r *http.Request) { r.Method = "DELETE" }, "InvalidSignatureException"},
		{"time", func(r *http.Request) {
			sigv4test.Sign(r, nil, wiretest.Key, "r", "iot", time.Now().Add(-time.Hour))
		}, "InvalidSignatureException"},
	} {
		b := newBench()
		r := httptest.NewRequest("GET", "/rules", nil)
		sigv4test.Sign(r, nil, wiretest.Key, "r", "iot", time.Now())
		c.change(r)
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if w.Code != 403 || w.Header().Get("X-Amzn-Errortype") != c.code {
			t.Errorf("%s: %d %v %s", c.name, w.Code, w.Header(), w.Body)
		}
		name := "ListTopicRules"
		if r.Method != "GET" {
			name = ""
		}
		if n := b.Stats()[wire.Outcome{Operation: name, Code: c.code}].Requests; n != 1 {
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
		sigv4test.Sign(first, []byte(hot), wiretest.Key, "r", "iot", time.Now())
		r := httptest.NewRequest(c.method, c.sent, strings.NewReader(hot))
		r.Header, r.Host = first.Header, first.Host
		w := httptest.NewRecorder()
		b.ServeHTTP(w, r)
		if got := w.Header().Get("X-Amzn-Errortype"); got != c.code || len(b.book.all) != 0 {
			t.Errorf("%s, signed as %s: %d %s %v", c.sent, c.signed, w.Code, got, b.book.all)
		}
	}
}
