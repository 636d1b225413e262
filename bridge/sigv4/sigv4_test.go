package sigv4

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

const (
	testKey    = "AKIATESTTESTTESTTEST"
	testSecret = "sEcReT/sEcReT+sEcReT/sEcReT+sEcReT/sEcRe"
)

func testVerifier() *Verifier {
	return &Verifier{Secret: func(id string) (string, string, bool) { return testSecret, "", id == testKey }}
}

// A call is a request before it is signed.
type call struct {
	method, host, path string // path decoded, clean
	query              url.Values
	headers            http.Header
	body               string
	time               time.Time
	service            string
}

func testCall() call {
	return call{"POST", "bridge:8443", "/rules/a b/enable", url.Values{"topic": {"dt/#", "a+b"}, "x": {""}},
		http.Header{"X-Amz-Tagging": {"a=b"}, "Accept": {"a", "b"}},
		`{"sql":"x"}`, time.Now(), "iot"}
}

// sent is the request as it would arrive, unsigned.
func (c call) sent() *http.Request {
	var path []string
	for seg := range strings.SplitSeq(c.path, "/") {
		path = append(path, url.PathEscape(seg))
	}
	target := strings.Join(path, "/")
	if len(c.query) > 0 {
		target += "?" + c.query.Encode()
	}
	r := httptest.NewRequest(c.method, target, strings.NewReader(c.body))
	r.Host = c.host
	for k, v := range c.headers {
		r.Header[k] = append([]string(nil), v...)
	}
	r.Header.Set("X-Amz-Date", c.time.UTC().Format(timeFormat))
	return r
}

// signedRequest is the request, signed from the call's decoded parts; Verify
// comes from what was sent.
func (c call) signedRequest() *http.Request {
	r := c.sent()
	sigv4test.Sign(r, []byte(c.body), sigv4test.Key{ID: testKey, Secret: testSecret}, "eu-local-1", c.service, c.time)
	return r
}

func TestVerify(t *testing.T) {
	r := testCall().signedRequest()
	id, err := testVerifier().verify(r, 100)
	if err != nil || id != (Identity{testKey, "eu-local-1", "iot"}) {
		t.Fatal(id, err)
	}
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != `{"sql":"x"}` {
		t.Errorf("the body is then %q, %v", body, err)
	}
}

// untouched is a body that must not be read.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestUnknownKeyIsNotListenedTo(t *testing.T) {
	r := testCall().signedRequest()
	r.Body = io.NopCloser(untouched{t})
	v := &Verifier{Secret: func(string) (string, string, bool) { return "", "", false }}
	if _, err := v.verify(r, 100); !errors.Is(err, ErrUnknownKey) {
		t.Error(err)
	}
}

// TestChanged changes one thing of a signed request at a time.
func TestChanged(t *testing.T) {
	auth := func(old, now string) func(*http.Request) {
		return func(r *http.Request) {
			a := r.Header.Get("Authorization")
			if !strings.Contains(a, old) {
				panic(old)
			}
			r.Header.Set("Authorization", strings.Replace(a, old, now, 1))
		}
	}
	target := func(old, now string) func(*http.Request) {
		return func(r *http.Request) { r.RequestURI = strings.Replace(r.RequestURI, old, now, 1) }
	}
	for name, c := range map[string]struct {
		change func(*http.Request)
		want   error
	}{
		"nothing":          {func(*http.Request) {}, nil},
		"another spelling": {target("%20", "%2520"), ErrMismatch},
		"space as plus":    {target("topic=a%2Bb", "topic=a+b"), ErrMismatch},
		"order of the query": {func(r *http.Request) {
			r.RequestURI = "/rules/a%20b/enable?x&topic=a%2Bb&&topic=dt/%23"
		}, nil},
		"path":        {target("enable", "disable"), ErrMismatch},
		"dot segment": {target("/rules", "/./rules"), nil},
		"query":       {target("dt", "dx"), ErrMismatch},
		"query gone": {func(r *http.Request) {
			r.RequestURI, _, _ = strings.Cut(r.RequestURI, "?")
		}, ErrMismatch},
		"semicolon":         {target("dt%2F", "dt;"), ErrIncomplete},
		"bad escape":        {target("dt", "%zz"), ErrIncomplete},
		"absolute target":   {target("/rules", "https://bridge/rules"), ErrIncomplete},
		"asterisk":          {func(r *http.Request) { r.RequestURI = "*" }, ErrIncomplete},
		"method":            {func(r *http.Request) { r.Method = "PUT" }, ErrMismatch},
		"host":              {func(r *http.Request) { r.Host = "bridge" }, ErrMismatch},
		"header":            {func(r *http.Request) { r.Header.Set("X-Amz-Tagging", "a=c") }, ErrMismatch},
		"header gone":       {func(r *http.Request) { r.Header.Del("X-Amz-Tagging") }, ErrMismatch},
		"header twice":      {func(r *http.Request) { r.Header.Add("X-Amz-Tagging", "a=b") }, ErrMismatch},
		"header not signed": {func(r *http.Request) { r.Header.Set("X-Amz-Target", "x") }, ErrMismatch},
		"other not signed":  {func(r *http.Request) { r.Header.Set("User-Agent", "x") }, nil},
		"space around":      {func(r *http.Request) { r.Header.Set("X-Amz-Tagging", " a=b\t") }, nil},
		"body": {func(r *http.Request) {
			r.Body = io.NopCloser(strings.NewReader(`{"sql":"y"}`))
		}, ErrMismatch},
		"no body":             {func(r *http.Request) { r.Body = nil }, ErrMismatch},
		"body at limit":       {func(r *http.Request) { r.ContentLength = 100 }, nil},
		"body said too large": {func(r *http.Request) { r.ContentLength = 101 }, ErrTooLarge},
		"body too large": {func(r *http.Request) {
			r.ContentLength = -1
			r.Body = io.NopCloser(strings.NewReader(strings.Repeat("x", 101)))
		}, ErrTooLarge},
		"body torn":  {func(r *http.Request) { r.Body = io.NopCloser(torn{}) }, ErrBody},
		"wrong hash": {func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", "e3b0") }, ErrMismatch},
		"not signed": {func(r *http.Request) { r.Header.Del("Authorization") }, ErrMissing},
		"signed twice": {func(r *http.Request) {
			r.Header.Add("Authorization", "AWS4-HMAC-SHA256 x")
		}, ErrIncomplete},
		"signed both ways": {target("?", "?X-Amz-Algorithm=AWS4-HMAC-SHA256&"), ErrBoth},
		"basic":            {func(r *http.Request) { r.Header.Set("Authorization", "Basic eDp5") }, ErrIncomplete},
		"empty": {func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 ")
		}, ErrIncomplete},
		"long":                {auth("Credential=", "Credential="+strings.Repeat("x", 4000)), ErrIncomplete},
		"key":                 {auth(testKey, "AKIAOTHER"), ErrUnknownKey},
		"key empty":           {auth(testKey, ""), ErrIncomplete},
		"region":              {auth("eu-local-1", "eu-local-2"), ErrMismatch},
		"region with a colon": {auth("eu-local-1", "eu:x"), ErrIncomplete},
		"service":             {auth("/iot/", "/kinesis/"), ErrMismatch},
		"terminator":          {auth("aws4_request", "aws5_request"), ErrIncomplete},
		"scope too short":     {auth("/iot/", "/"), ErrIncomplete},
		"signature":           {auth("Signature=", "Signature=0"), ErrIncomplete},
		"no signature":        {auth("Signature=", "Sign="), ErrIncomplete},
		"part twice":          {auth("Signature=", "Signature=x, Signature="), ErrIncomplete},
		"host not signed":     {auth("host;", ""), ErrMismatch},
		"names out of order":  {auth("accept;host", "host;accept"), ErrIncomplete},
		"name twice":          {auth("host;", "host;host;"), ErrIncomplete},
		"upper case name":     {auth("accept;", "Accept;"), ErrIncomplete},
		"many names":          {auth("accept;", strings.Repeat("a;", 64)), ErrIncomplete},
		"name that is not":    {auth("host;", "host;missing;"), ErrMismatch},
		"no date":             {func(r *http.Request) { r.Header.Del("X-Amz-Date") }, ErrIncomplete},
		"date":                {func(r *http.Request) { r.Header.Set("X-Amz-Date", "yesterday") }, ErrIncomplete},
		"another time": {func(r *http.Request) {
			r.Header.Set("X-Amz-Date", time.Now().Add(-time.Minute).UTC().Format(timeFormat))
		}, ErrMismatch},
		"another day in scope": {auth(time.Now().UTC().Format("20060102"), "20200101"), ErrMismatch},
		"token":                {func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") }, ErrUnknownKey},
		"token twice": {func(r *http.Request) {
			r.Header["X-Amz-Security-Token"] = []string{"", ""}
		}, ErrIncomplete},
	} {
		r := testCall().signedRequest()
		c.change(r)
		if _, err := testVerifier().verify(r, 100); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

type torn struct{}

func (torn) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// Beside an error too the identity is what the request claims.
func TestClaimedIdentity(t *testing.T) {
	for _, change := range []func(*http.Request){
		func(r *http.Request) { r.Method = "PUT" },
		func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "x") },
		func(r *http.Request) { r.ContentLength = 101 },
	} {
		r := testCall().signedRequest()
		change(r)
		if id, err := testVerifier().verify(r, 100); err == nil || id != (Identity{testKey, "eu-local-1", "iot"}) {
			t.Errorf("%v, %v", id, err)
		}
	}
}

// S3 signs a path as it is sent, others normalized and encoded once more.
func TestPath(t *testing.T) {
	for _, c := range []struct{ service, sent, want string }{
		{"iot", "/a%20b", "/a%2520b"},
		{"iot", "/a:b@c", "/a%3Ab%40c"},
		{"iot", "/a/b/../c/./d//e/", "/a/c/d/e/"},
		{"iot", "/../..", "/"},
		{"iot", "/%2E/a", "/%252E/a"},
		{"s3", "/a%20b", "/a%20b"},
		{"s3", "/a:b", "/a%3Ab"},
		{"s3", "/a/../b//c/.", "/a/../b//c/."},
		{"s3", "/a%2Fb", "/a/b"},
		{"s3", "/%zz", ""},
	} {
		r := &http.Request{RequestURI: c.sent + "?x=y"}
		if got, err := (&signed{service: c.service}).path(r); got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s %s: %s, %v; want %s", c.service, c.sent, got, err, c.want)
		}
	}
}

// A body is left out of the signature only for services that are named.
func TestUnsignedBody(t *testing.T) {
	const hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" // of nothing
	v := &Verifier{Unsigned: func(service string) bool { return service == "s3" }}
	for _, c := range []struct {
		service   string
		presigned bool
		said      []string
		want      string // "": an error
	}{
		{"iot", false, nil, hash},
		{"iot", true, nil, hash},
		{"iot", false, []string{hash}, hash},
		{"iot", false, []string{unsigned}, ""},
		{"s3", false, nil, hash},
		{"s3", true, nil, unsigned},
		{"s3", false, []string{unsigned}, unsigned},
		{"s3", false, []string{hash, hash}, ""},
		{"s3", false, []string{"STREAMING-AWS4-HMAC-SHA256-PAYLOAD"}, ""},
		{"s3", false, []string{strings.ToUpper(hash)}, ""},
	} {
		r := &http.Request{Header: http.Header{}}
		if c.said != nil {
			r.Header["X-Amz-Content-Sha256"] = c.said
		}
		got, err := v.payload(r, &signed{service: c.service, presigned: c.presigned}, nil)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%+v: %s, %v", c, got, err)
		}
	}
}

// A request with Date has that in its signature.
func TestDateHeader(t *testing.T) {
	c := testCall()
	r := c.signedRequest()
	r.Header.Del("X-Amz-Date")
	r.Header.Set("Date", c.time.UTC().Format(http.TimeFormat))
	s, err := parse(r)
	if err != nil || !s.time.Equal(c.time.UTC().Truncate(time.Second)) {
		t.Errorf("%v, %v", s, err)
	}
}

func TestTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v, r := testVerifier(), testCall().signedRequest()
		early := testCall()
		early.time = time.Now().Add(10*time.Minute + time.Second)
		again := func(after time.Duration, r *http.Request, want error) {
			t.Helper()
			time.Sleep(after)
			if _, err := v.verify(r, 100); !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		again(5*time.Minute, r, nil)
		again(0, early.signedRequest(), ErrTime)
		again(time.Second, r, ErrTime)
		again(0, early.signedRequest(), nil)
	})
}

// A presigned request is good as long as it says, and for five minutes where
// it says nothing, as AWS IoT's device SDK for JavaScript leaves it.
func TestExpires(t *testing.T) {
	c := suite[0]
	at := time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)
	base := "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + suiteKey + "%2F" +
		strings.ReplaceAll(suiteScope, "/", "%2F") +
		"&X-Amz-Date=" + suiteDate + "&X-Amz-SignedHeaders=host&X-Amz-Signature=" + c.query
	for _, q := range []struct {
		more  string
		after time.Duration
		want  error
	}{
		{"&X-Amz-Expires=3600", time.Hour, nil},
		{"&X-Amz-Expires=3600", time.Hour + time.Second, ErrTime},
		{"&X-Amz-Expires=3600", -5 * time.Minute, nil},
		{"&X-Amz-Expires=3600", -5*time.Minute - time.Second, ErrTime},
		{"&X-Amz-Expires=3601", 0, ErrMismatch},
		{"", 5 * time.Minute, ErrMismatch},
		{"", 5*time.Minute + time.Second, ErrTime},
		{"&X-Amz-Expires=0", 0, ErrIncomplete},
		{"&X-Amz-Expires=604801", 0, ErrIncomplete},
		{"&X-Amz-Expires=-1", 0, ErrIncomplete},
		{"&X-Amz-Expires=3600&X-Amz-Expires=3600", 0, ErrIncomplete},
		{"&X-Amz-Expires=3600&more=1", 0, ErrMismatch},
		{"&X-Amz-Expires=3600&X-Amz-Security-Token=x", 0, ErrUnknownKey},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RequestURI, r.Host = base+q.more, "example.amazonaws.com"
		v := suiteVerifier("")
		v.Now = func() time.Time { return at.Add(q.after) }
		if _, err := v.verify(r, 0); !errors.Is(err, q.want) || (err == nil) != (q.want == nil) {
			t.Errorf("%s after %v: %v, want %v", q.more, q.after, err, q.want)
		}
	}
}

// What Verify finds wrong names no secret.
func TestErrorsHoldNoSecret(t *testing.T) {
	r := testCall().signedRequest()
	r.Method = "GET"
	right := strings.TrimPrefix(r.Header.Get("Authorization")[strings.Index(r.Header.Get("Authorization"),
		"Signature="):], "Signature=")
	if _, err := testVerifier().verify(r, 100); err == nil || strings.Contains(err.Error(), testSecret) ||
		strings.Contains(err.Error(), right) {
		t.Error(err)
	}
}

// However a request's signature is written, Verify ends; what it accepts it
// accepts again; a call that is signed is accepted, and refused when any part
// of it has changed.
func FuzzAuthorization(f *testing.F) {
	var raw bytes.Buffer
	_ = testCall().signedRequest().Write(&raw)
	f.Add(raw.Bytes(), "GET", "rules", "topic", "dt/#", "X-Amz-Tagging", "a=b", []byte("{}"), uint8(0))
	f.Add([]byte("GET /?X-Amz-Signature=0&X-Amz-Algorithm=AWS4-HMAC-SHA256 HTTP/1.1\r\nHost: a\r\n\r\n"), "POST",
		"é %/", ";", "+", "Date", "x,  y", []byte{}, uint8(5))
	f.Fuzz(func(t *testing.T, raw []byte, method, segment, name, value, header, text string, body []byte, which uint8) {
		v := testVerifier()
		if r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(raw))); err == nil {
			first, err := v.verify(r, 1<<10)
			if err == nil {
				if second, err := v.verify(r, 1<<10); err != nil || first != second {
					t.Fatalf("then %v, %v", second, err)
				}
			}
		}
		if len(body) > 1<<10 || len(header) > 1<<10 || strings.Contains(segment, "/") || segment == "." ||
			segment == ".." || segment == "" ||
			!token(header) || !token(method) || strings.EqualFold(header, "authorization") ||
			strings.EqualFold(header, "host") ||
			strings.EqualFold(header, "x-amz-date") || strings.EqualFold(header, "x-amz-content-sha256") ||
			strings.EqualFold(header, "x-amz-security-token") {
			return
		}
		text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r <= ' ' || r == 127 }), " ")
		header = http.CanonicalHeaderKey(header)
		c := call{method, "bridge", "/" + segment, url.Values{name: {value}}, http.Header{header: {text}}, string(body),
			time.Now(), "iot"}
		if strings.HasPrefix(name, "X-Amz-Signature") {
			return
		}
		r := c.signedRequest()
		for range 2 {
			if _, err := v.verify(r, 1<<10); err != nil {
				t.Fatalf("%+v: %v", c, err)
			}
		}
		auth := r.Header.Get("Authorization")
		switch which % 8 {
		case 0:
			c.method += "X"
		case 1:
			c.host += "x"
		case 2:
			c.path += "x"
		case 3:
			c.query = url.Values{name: {value + "x"}}
		case 4:
			c.query = url.Values{name + "x": {value}}
		case 5:
			c.headers = http.Header{header: {text + "x"}}
		case 6:
			c.body += "x"
		case 7:
			c.time = c.time.Add(time.Second)
		}
		r = c.sent()
		r.Header.Set("Authorization", auth)
		if _, err := v.verify(r, 1<<11); err == nil {
			t.Fatalf("verifies after a change: %+v", c)
		}
	})
}

// token says whether s can be a method or the name of a header.
func token(s string) bool {
	return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") == ""
}

func BenchmarkVerify(b *testing.B) {
	r := testCall().signedRequest()
	v := testVerifier()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.verify(r, 100); err != nil {
			b.Fatal(err)
		}
	}
}

// The SDK for JavaScript signs :authority instead of Host when it speaks
// HTTP/2; over HTTP/1.1 there is no such header.
func TestAuthority(t *testing.T) {
	for major, want := range map[int]error{1: ErrMismatch, 2: nil} {
		r := httptest.NewRequest("POST", "/", nil)
		r.Host = "bridge.example.org"
		r.ProtoMajor = major
		now := time.Now().UTC()
		r.Header.Set("X-Amz-Date", now.Format(timeFormat))
		s := &signed{date: now.Format("20060102"), region: "r", service: "kinesis", time: now,
			headers: []string{":authority", "x-amz-date"}}
		sum := sha256.Sum256(nil)
		canonical := "POST\n/\n\n:authority:bridge.example.org\nx-amz-date:" + now.Format(timeFormat) +
			"\n\n:authority;x-amz-date\n" + hex.EncodeToString(sum[:])
		r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=k/"+s.date+
			"/r/kinesis/aws4_request, SignedHeaders=:authority;x-amz-date, Signature="+s.sign("secret", canonical))
		v := Verifier{Secret: func(string) (string, string, bool) { return "secret", "", true }}
		if _, err := v.verify(r, 1000); !errors.Is(err, want) {
			t.Errorf("HTTP/%d: %v, want %v", major, err, want)
		}
	}
}

// Permissive takes whatever has the form of a signature, and says what it is
// for.
func TestPermissive(t *testing.T) {
	v := &Verifier{Permissive: true}
	c := testCall()
	c.time = time.Unix(0, 0)
	r := c.signedRequest()
	r.Header.Set("X-Amz-Tagging", "changed")
	r.Header.Set("X-Amz-New", "not signed")
	if id, err := v.verify(r, 100); err != nil || id != (Identity{testKey, "eu-local-1", "iot"}) {
		t.Error(id, err)
	}
	if _, err := v.verify(c.signedRequest(), 1); !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
	if _, err := v.verify(c.sent(), 100); !errors.Is(err, ErrMissing) {
		t.Error(err)
	}
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x")
	if _, err := v.verify(r, 100); !errors.Is(err, ErrIncomplete) {
		t.Error(err)
	}
}

// What a signature lacks is told all at once.
func TestLacks(t *testing.T) {
	r := testCall().sent()
	r.Header.Del("X-Amz-Date")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=x")
	_, _, err := testVerifier().Begin(r)
	if want := "Authorization header requires 'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. " +
		"Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. " +
		"Authorization=AWS4-HMAC-SHA256 Credential=x"; fmt.Sprint(err) != want {
		t.Errorf("%v\nwant\n%s", err, want)
	}
}

// BenchmarkCheck is a body of 10 MB, which is hashed once and not copied.
func BenchmarkCheck(b *testing.B) {
	c := testCall()
	c.body = strings.Repeat("x", 10<<20)
	body := []byte(c.body)
	sig, _, err := testVerifier().Begin(c.signedRequest())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if err := sig.Check(body); err != nil {
			b.Fatal(err)
		}
	}
}

// verify is Begin and Check. It reads the body, at most maxBody bytes of it, and
// leaves in r.Body one that gives the same bytes again.
func (v *Verifier) verify(r *http.Request, maxBody int64) (Identity, error) {
	sig, id, err := v.Begin(r)
	if err != nil {
		return id, err
	}
	body, err := readBody(r, maxBody)
	if err != nil {
		return id, err
	}
	return id, sig.Check(body)
}

// readBody takes the body out of r and puts it back.
func readBody(r *http.Request, limit int64) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	if r.ContentLength > limit {
		return nil, fmt.Errorf("%w: %d bytes, want at most %d", ErrTooLarge, r.ContentLength, limit)
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBody, err)
	}
	if int64(len(body)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}
