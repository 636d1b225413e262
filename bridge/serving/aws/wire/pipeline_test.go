package wire

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Each stage refuses what comes to it, and no earlier one lets it through: of
// all that is wrong with a request the first is told.
func TestStages(t *testing.T) {
	for _, c := range []struct {
		name   string
		r      *http.Request
		may    string // what AKIAHELD and others may, by commas
		status int
		want   string // in the header, or the body
	}{
		{"path", path(key.ID, "mill", "GET", "/wheels/a?speed=3", ""), "", 200, `{"speed":"3","wheel":"a"}`},
		{"no answer", path(key.ID, "mill", "PUT", "/wheels/a", "x"), "", 200, ``},
		{"error of the service", path(key.ID, "mill", "GET", "/wheels/lost", ""), "", 404,
			`ResourceNotFoundException {"message":"there is none"}`},
		{"body over the service's", path(key.ID, "mill", "PUT", "/wheels/a", strings.Repeat("x", 4<<10+1)), "", 413,
			`RequestEntityTooLargeException`},
		{"service", path(key.ID, "boats", "GET", "/wheels/a", ""), "", 404, `UnknownOperationException ` +
			`{"message":"unknown operation: GET /wheels/a: the service boats is not served here, want one of ` +
			`execute-api, gatedata, loom, mill"}`},
		{"another service's path", path(key.ID, "gatedata", "GET", "/wheels/a", ""), "", 404,
			`GET /wheels/a is none that is served here; of gatedata there are Open"}`},
		{"method", path(key.ID, "mill", "POST", "/wheels/a", ""), "", 404,
			`POST /wheels/a is none that is served here; of mill there are GetWheel, PutWheel"}`},
		{"twice", path(key.ID, "mill", "GET", "/wheels/a?speed=1&speed=2", ""), "", 400,
			`InvalidRequestException {"message":"\"speed\" is given twice in the query"}`},
		{"unknown key", path("AKIAX", "mill", "GET", "/wheels/a", ""), "", 403, `UnrecognizedClientException`},
		{"held", path("AKIAHELD", "mill", "GET", "/wheels/a", ""), "", 403, `AccessDeniedException`},
		{"held, at no operation", path("AKIAHELD", "mill", "GET", "/none", ""), "mill:GetWheel", 403,
			`AccessDeniedException`},
		{"held to the service", path("AKIAHELD", "mill", "GET", "/none", ""), "mill:", 404,
			`UnknownOperationException`},
		{"held to another", path("AKIAHELD", "mill", "GET", "/wheels/a", ""),
			"mill:GetWheel,mill:GetWheel arn:aws:mill:::wheel/b", 403, `AccessDeniedException`},
		{"held to this", path("AKIAHELD", "mill", "GET", "/wheels/a", ""),
			"mill:GetWheel,mill:GetWheel arn:aws:mill:::wheel/a", 200, `{"speed":"","wheel":"a"}`},
		{"nobody", httptest.NewRequest("GET", "/wheels/a", http.NoBody), "", 403,
			`MissingAuthenticationTokenException`},
		{"nobody where it need not be signed", httptest.NewRequest("POST", "/gates/a", http.NoBody), "", 403,
			`MissingAuthenticationTokenException`},
		{"unsigned", unsignedBy("dev", "/gates/a/b"), "gate:Open,gate:Open gate/a/b", 200, `"hi"`},
		{"unsigned elsewhere", unsignedBy("dev", "/wheels/a"), "", 403, `MissingAuthenticationTokenException`},
		{"unsigned, denied in the service's words", unsignedBy("dev", "/gates/a"), "gate:Open,gate:Open gate/b", 403,
			`ForbiddenException {"message":"Forbidden"}`},
		{"unsigned, at no operation", unsignedBy("dev", "/gates/"), "", 404, `UnknownOperationException`},

		{"target", targeted(key.ID, "Loom_2020.Weave", jsonType, `{"Name":"a"}`), "", 200, `{"Name":"a"}`},
		{"CBOR", targeted(key.ID, "Loom_2020.Weave", cborType, "\xa1\x64Name\x61a"), "", 200, "\xbf\x64Name\x61a\xff"},
		{"no answer by target", targeted(key.ID, "Loom_2020.Cut", jsonType, `{}`), "", 200, ``},
		{"target, held", targeted("AKIAHELD", "Loom_2020.Weave", jsonType, `{"Name":"a"}`),
			"loom:Weave,loom:Weave cloth/a", 200, `{"Name":"a"}`},
		{"target, held to another", targeted("AKIAHELD", "Loom_2020.Weave", jsonType, `{"Name":"a"}`),
			"loom:Weave,loom:Weave cloth/b", 400, `{"__type":"AccessDeniedException","message":"`},
		{"values before rights", targeted("AKIAHELD", "Loom_2020.Weave", jsonType, `{}`), "loom:Weave", 400,
			`{"__type":"ValidationException","message":"1 validation error detected: `},
		{"rights before values", targeted("AKIAHELD", "Loom_2020.Weave", jsonType, `{}`), "", 400,
			`{"__type":"AccessDeniedException"`},
		{"values", targeted(key.ID, "Loom_2020.Weave", jsonType, `{"Name":1}`), "", 400,
			`{"__type":"SerializationException","Message":"`},
		{"no JSON before the operation", targeted("AKIAX", "Loom_2020.Fly", jsonType, `{`), "", 400,
			`{"__type":"SerializationException"}`},
		{"the operation before the key", targeted("AKIAX", "Loom_2020.Fly", jsonType, `{}`), "", 400,
			`{"__type":"UnknownOperationException","message":"Fly of loom is not served here"}`},
		{"1.0", targeted(key.ID, "OldLoom.Weave", json10Type, `{"Name":"a"}`), "", 200, `{"Name":"a"}`},
		{"1.0's errors have a namespace", targeted(key.ID, "OldLoom.Weave", json10Type, `{}`), "", 400,
			`{"__type":"com.example#ValidationException"`},
		{"another version", targeted(key.ID, "OldLoom.Weave", jsonType, `{"Name":"a"}`), "", 400,
			`{"__type":"com.example#UnknownOperationException"}`},
		{"no CBOR", targeted(key.ID, "OldLoom.Weave", cborType, "\xa0"), "", 400,
			`{"__type":"com.example#UnknownOperationException"}`},
		{"internal", targeted(key.ID, "Loom_2020.Weave", jsonType, `{"Name":"sick"}`), "", 500,
			`{"__type":"InternalFailure"}`},
		{"the path decides", func() *http.Request {
			r := unsignedBy("dev", "/gates/a")
			r.Header.Set("Content-Type", jsonType)
			return r
		}(), "gate:Open,gate:Open gate/a", 200, `"hi"`},
	} {
		toy := newToy(nil)
		toy.judge.may = map[string]bool{}
		for m := range strings.SplitSeq(c.may, ",") {
			toy.judge.may[m] = true
		}
		w := answer(toy, c.r)
		got := strings.TrimSpace(w.Header().Get("X-Amzn-Errortype") + " " + w.Body.String())
		if w.Code != c.status || !strings.Contains(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s: %d %s", c.name, w.Code, got)
		}
		if n := toy.held(); n != 0 {
			t.Errorf("%s: %d are held still", c.name, n)
		}
	}
}

func unsignedBy(who, path string) *http.Request {
	r := httptest.NewRequest("POST", path, strings.NewReader("hi"))
	r.Header.Set("Who", who)
	return r
}

// A body that is refused by what the header says is not read.
func TestNoBodyForWhatIsRefused(t *testing.T) {
	large := strings.Repeat(" ", peeked+1)
	for name, r := range map[string]*http.Request{
		"held":              path("AKIAHELD", "mill", "PUT", "/wheels/a", "x"),
		"unknown":           path("AKIAX", "mill", "PUT", "/wheels/a", "x"),
		"nobody":            httptest.NewRequest("POST", "/gates/a", http.NoBody),
		"too large":         path(key.ID, "mill", "PUT", "/wheels/a", large),
		"held by target":    targeted("AKIAHELD", "Loom_2020.Weave", jsonType, large),
		"unknown by target": targeted("AKIAX", "Loom_2020.Weave", jsonType, large),
		"no operation":      targeted(key.ID, "Loom_2020.Fly", jsonType, large),
		"for another": func() *http.Request {
			r := path(key.ID, "mill", "POST", "/", large)
			r.Header.Set("Content-Type", jsonType)
			return r
		}(),
		"too large a target": targeted(key.ID, "OldLoom.Weave", json10Type, large),
	} {
		if w := answer(newToy(nil), without(t, r)); w.Code < 400 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

// Who decides is told who asks, for what, and from where.
func TestQuestions(t *testing.T) {
	toy := newToy(nil)
	toy.judge.may = map[string]bool{"mill:GetWheel": true, "mill:GetWheel arn:aws:mill:::wheel/a b": true}
	r := path("AKIAHELD", "mill", "GET", "/wheels/a%20b", "")
	r.RemoteAddr = "198.51.100.7:1234"
	r.Header.Set("User-Agent", "loom/1")
	if w := answer(toy, r); w.Code != 200 {
		t.Fatal(w.Code, w.Body)
	}
	from := Conditions{SourceIP: "198.51.100.7", UserAgent: "loom/1", Region: "r"}
	want := []Question{{named("AKIAHELD"), "mill:GetWheel", "", from},
		{named("AKIAHELD"), "mill:GetWheel", "arn:aws:mill:::wheel/a b", from}}
	if !slices.Equal(toy.judge.asked, want) {
		t.Errorf("%+v", toy.judge.asked)
	}
	// Who may do all is asked about once.
	toy.judge.asked = nil
	if answer(toy, path(key.ID, "mill", "GET", "/wheels/a", "")); len(toy.judge.asked) != 1 {
		t.Errorf("%+v", toy.judge.asked)
	}
}

// More requests than a service takes at once are refused, not queued.
func TestBusy(t *testing.T) {
	for name, c := range map[string]struct {
		r     func() *http.Request
		busy  int
		ready int
	}{
		"path":         {func() *http.Request { return path(key.ID, "mill", "GET", "/wheels/a", "") }, 429, 200},
		"no operation": {func() *http.Request { return path(key.ID, "mill", "GET", "/none", "") }, 429, 404},
		"unsigned":     {func() *http.Request { return unsignedBy("dev", "/gates/a") }, 429, 200},
		"target": {func() *http.Request {
			return targeted(key.ID, "Loom_2020.Weave", jsonType, `{"Name":"a"}`)
		}, 400, 200},
	} {
		toy := newToy(nil)
		toy.judge.may = map[string]bool{"gate:Open": true, "gate:Open gate/a": true}
		for _, p := range toy.places {
			p.try(p.size, nil)
		}
		if w := answer(toy, c.r()); w.Code != c.busy ||
			!strings.Contains(w.Header().Get("X-Amzn-Errortype")+w.Body.String(), "ThrottlingException") {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		for _, p := range toy.places {
			p.release(p.size, nil)
		}
		if w := answer(toy, c.r()); w.Code != c.ready || toy.held() != 0 {
			t.Errorf("%s: %d %s, %d held", name, w.Code, w.Body, toy.held())
		}
	}
}

// Each answer has an id of its own, which the log has too.
func TestRequestID(t *testing.T) {
	toy := newToy(nil)
	seen := map[string]bool{}
	for range 3 {
		var id string
		for name, values := range answer(toy, path(key.ID, "mill", "GET", "/wheels/a", "")).Header() {
			if name == requestIDHeader { // Header.Get would look for another spelling
				id = values[0]
			}
		}
		if !regexp.MustCompile(
			`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`).MatchString(id) || seen[id] {
			t.Errorf("id %q", id)
		}
		seen[id] = true
		if !strings.Contains(toy.log.String(), "request_id="+id+
			" key=AKIATEST service=mill operation=GetWheel status=200 code=OK") {
			t.Errorf("not in the log:\n%s", &toy.log)
		}
	}
	if c := toy.Stats()[Outcome{"GetWheel", "OK"}]; c.Requests != 3 || c.Time <= 0 {
		t.Errorf("counted %+v", c)
	}
	if strings.Contains(toy.log.String(), key.Secret) {
		t.Error("the log has the secret")
	}
}

// The bridge's own faults stay in its log.
func TestInternalFailure(t *testing.T) {
	toy := newToy(nil)
	if w := answer(toy, targeted(key.ID, "Loom_2020.Weave", jsonType,
		`{"Name":"sick"}`)); strings.Contains(w.Body.String(), "sick") {
		t.Error(w.Body)
	}
	if !strings.Contains(toy.log.String(), "level=ERROR") || !strings.Contains(toy.log.String(), "the disk is sick") {
		t.Error(toy.log.String())
	}
}

// Pages of browsers may ask; where nobody needs a key, those alone that the
// listener let in.
func TestCORS(t *testing.T) {
	for _, permissive := range []bool{false, true} {
		toy := newToy(func(o *Options) { o.Permissive = permissive })
		allowed := map[bool]string{false: "*", true: "https://example.com"}[permissive]
		r := httptest.NewRequest("OPTIONS", "/", http.NoBody)
		r.Header.Set("Origin", "https://example.com")
		r.Header.Set("Access-Control-Request-Headers", "x-amz-target")
		r.Header.Set("Access-Control-Request-Method", "POST")
		w := answer(toy, r)
		h := w.Header()
		all := fmt.Sprint(h) // Get would look for another spelling
		if w.Code != 200 || w.Body.Len() != 0 || h.Get("Access-Control-Allow-Origin") != allowed ||
			h.Get("Access-Control-Allow-Headers") != "x-amz-target" ||
			h.Get("Access-Control-Allow-Methods") != "POST" || h.Get("Access-Control-Max-Age") != "172800" ||
			strings.Contains(all, "x-amz-id-2") || !strings.Contains(all, requestIDHeader) {
			t.Errorf("%d %v %s", w.Code, h, w.Body)
		}
		q := targeted(key.ID, "Loom_2020.Weave", jsonType, `{"Name":"a"}`)
		q.Header.Set("Origin", "https://example.com")
		if w := answer(toy, q); w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != allowed ||
			(w.Header().Get("Vary") == "Origin") != permissive {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		if n := fmt.Sprint(toy.Stats()); !strings.Contains(n, "{Weave OK}") {
			t.Error(n)
		}
	}
}
