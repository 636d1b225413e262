package awsapi

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
)

var query = Service{ID: "CloudWatch Logs", Name: "logs", JSON: "1.1", Target: "T", Version: "v"}

type answers func(r *http.Request) (*http.Response, error)

func (a answers) Do(r *http.Request) (*http.Response, error) { return a(r) }

// keys gives the test credentials, and shared files of its own.
func keys(t testing.TB, shared string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(file, []byte(shared), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AWS_CONFIG_FILE", file)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
}

// A service is where the SDK's client of it would look for it.
func TestEndpoint(t *testing.T) {
	const services = "[default]\nservices = here\n[services here]\n" +
		"cloudwatch_logs =\n  endpoint_url = http://profile\n"
	for name, c := range map[string]struct {
		place  Place
		env    string
		shared string
		want   string // "": none
	}{
		"Amazon's":         {place: Place{Region: "eu-central-1"}, want: "https://logs.eu-central-1.amazonaws.com/"},
		"China":            {place: Place{Region: "cn-north-1"}, want: "https://logs.cn-north-1.amazonaws.com.cn/"},
		"isolated":         {place: Place{Region: "us-isob-east-1"}, want: "https://logs.us-isob-east-1.sc2s.sgov.gov/"},
		"the place's":      {place: Place{Region: "r", EndpointURL: "http://place:1/"}, want: "http://place:1/"},
		"below a path":     {place: Place{Region: "r", EndpointURL: "http://place:1/a"}, want: "http://place:1/a/"},
		"for all services": {place: Place{Region: "r"}, env: "AWS_ENDPOINT_URL=http://all", want: "http://all/"},
		"for the service": {place: Place{Region: "r"}, env: "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=http://one",
			want: "http://one/"},
		"the place's, not the service's": {place: Place{Region: "r", EndpointURL: "http://place:1"},
			env: "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS=http://one", want: "http://place:1/"},
		"the place's, not for all": {place: Place{Region: "r", EndpointURL: "http://place:1"},
			env: "AWS_ENDPOINT_URL=http://all", want: "http://place:1/"},
		"the place's, not of a profile": {place: Place{Region: "r", EndpointURL: "http://place:1"}, shared: services,
			want: "http://place:1/"},
		"the place's, of none configured": {place: Place{Region: "r", EndpointURL: "http://place:1"}, shared: services,
			env: "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true", want: "http://place:1/"},
		"of a profile": {place: Place{Region: "r"}, shared: services, want: "http://profile/"},
		"which is not to be": {place: Place{Region: "r"}, env: "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS=true",
			shared: services, want: "https://logs.r.amazonaws.com/"},
		"no name of a region": {place: Place{Region: "a.b/c"}},
		"of FIPS":             {place: Place{Region: "r"}, env: "AWS_USE_FIPS_ENDPOINT=true"},
		"of FIPS, that is set": {place: Place{Region: "r", EndpointURL: "http://fips"},
			env: "AWS_USE_FIPS_ENDPOINT=true", want: "http://fips/"},
		"dual-stack": {place: Place{Region: "r"}, env: "AWS_USE_DUALSTACK_ENDPOINT=true"},
	} {
		t.Run(name, func(t *testing.T) {
			keys(t, c.shared)
			if key, value, ok := strings.Cut(c.env, "="); ok {
				t.Setenv(key, value)
			}
			cfg, err := c.place.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			got := ""
			cfg.HTTPClient = answers(func(r *http.Request) (*http.Response, error) {
				got = r.URL.String()
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader("{}"))}, nil
			})
			err = query.Caller(cfg).Call(t.Context(), "Do", map[string]string{}, nil)
			if got != c.want || (err != nil) != (c.want == "") {
				t.Errorf("asked %q: %v, want %q", got, err, c.want)
			}
			if c.want == "" && !Permanent(err) {
				t.Errorf("%v is worth another try", err)
			}
		})
	}
}

// What a service says is understood in each of its protocols' spellings, and another
// try is made of what it may cure.
func TestRefusal(t *testing.T) {
	const xmlOf = "<ErrorResponse><Error><Type>Sender</Type><Code>%</Code><Message>m</Message></Error></ErrorResponse>"
	for name, c := range map[string]struct {
		status    int
		head      string
		body      string
		code      string
		permanent bool
	}{
		"type": {400, "", `{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"m"}`,
			"QueueDoesNotExist", true},
		"header": {400, "X-Amzn-Errortype: ResourceNotFoundException:http://x/", `{"Message":"m"}`,
			"ResourceNotFoundException", true},
		"query too": {400, "X-Amzn-Query-Error: AWS.SimpleQueueService.NonExistentQueue;Sender", `{"__type":"a#B"}`,
			"AWS.SimpleQueueService.NonExistentQueue", true},
		"code":        {400, "", `{"code":"ValidationException"}`, "ValidationException", true},
		"a number":    {400, "", `{"code":17,"message":"m"}`, "", true},
		"XML":         {404, "", strings.Replace(xmlOf, "%", "NotFound", 1), "NotFound", true},
		"throttled":   {400, "", strings.Replace(xmlOf, "%", "Throttling", 1), "Throttling", false},
		"not well":    {500, "", `{"__type":"InternalError"}`, "InternalError", false},
		"a page":      {502, "", "<html>Bad Gateway", "", false},
		"nothing":     {503, "", "", "", false},
		"a redirect":  {307, "Location: http://elsewhere/", "", "", true},
		"not allowed": {403, "", `null`, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			keys(t, "")
			cfg, err := Place{Region: "r", EndpointURL: "http://here"}.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			cfg.HTTPClient = answers(func(r *http.Request) (*http.Response, error) {
				if !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=AKIA") {
					t.Errorf("signed %q", r.Header.Get("Authorization"))
				}
				head := http.Header{}
				if k, v, ok := strings.Cut(c.head, ": "); ok {
					head.Set(k, v)
				}
				return &http.Response{StatusCode: c.status, Header: head,
					Body: io.NopCloser(strings.NewReader(c.body))}, nil
			})
			err = query.Caller(cfg).Query(t.Context(), "Do", url.Values{}, nil)
			e, ok := errors.AsType[*PartError](err)
			if name == "a page" && !strings.Contains(fmt.Sprint(err), `status 502: the answer is none of the service's: `+
				`"<html>Bad Gateway"`) {
				t.Error(err)
			}
			if !ok || e.Code != c.code || Code(err) != c.code || e.Status != c.status || Permanent(err) != c.permanent {
				t.Errorf("%v: %#v, permanent %t; want %q, permanent %t", err, e, Permanent(err), c.code, c.permanent)
			}
		})
	}
}

// An answer that cannot be read, or is too long, is no answer.
func TestAnswer(t *testing.T) {
	for name, body := range map[string]string{"not JSON": "<a/>",
		"too long": `{"a":"` + strings.Repeat("x", maxAnswer) + `"}`} {
		t.Run(name, func(t *testing.T) {
			keys(t, "")
			cfg, err := Place{Region: "r", EndpointURL: "http://here"}.Once(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			cfg.HTTPClient = answers(func(*http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(body))}, nil
			})
			var out struct{ A string }
			err = query.Caller(cfg).Call(t.Context(), "Do", map[string]string{}, &out)
			if err == nil || Permanent(err) {
				t.Errorf("%v", err)
			}
		})
	}
}

// Whatever comes as an answer, it is refused without a panic, and its code is not
// longer than it.
func FuzzRefusal(f *testing.F) {
	f.Add("a#b:c", "d;e", []byte(`{"__type":"a#b:c","code":1}`))
	f.Add("", "", []byte("<a><Error><Code>x</Code></Error></a>"))
	f.Fuzz(func(t *testing.T, kind, query string, body []byte) {
		e := refusal(&http.Response{StatusCode: 400, Header: http.Header{"X-Amzn-Errortype": {kind},
			"X-Amzn-Query-Error": {query}}}, body)
		if len(e.Code) > max(len(kind), len(query), 3*len(body)) || e.ErrorFault() != smithy.FaultClient {
			t.Errorf("%#v", e)
		}
	})
}

// The SDK's clients, too, go where the place says, and a role is assumed where STS is.
func TestEndpointOfTheSDK(t *testing.T) {
	keys(t, "[default]\nservices = here\n[services here]\nsts =\n  endpoint_url = http://profile\n")
	for place, want := range map[string]string{"http://place:1": "http://place:1/", "": "http://profile/"} {
		cfg, err := Place{Region: "r", EndpointURL: place}.Once(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		cfg.HTTPClient = answers(func(r *http.Request) (*http.Response, error) {
			got = r.URL.String()
			return nil, errors.New("asked")
		})
		if _, err := sts.NewFromConfig(cfg).GetCallerIdentity(t.Context(), nil); err == nil || got != want {
			t.Errorf("asked %q: %v, want %q", got, err, want)
		}
	}
}

// What an error says of a service's answer is short, and valid text.
func TestErrorsAreShort(t *testing.T) {
	long := strings.Repeat("é", 1<<19)
	for _, e := range []*PartError{{Code: "A", Message: long}, {Code: long, Message: "m"}} {
		if got := e.Error(); len(got) > 2*(maxQuoted+8) || !utf8.ValidString(got) ||
			len(e.ErrorMessage()) > maxQuoted+8 {
			t.Errorf("%d bytes", len(got))
		}
	}
	if e := (&PartError{Code: "A", Message: "b"}); e.Error() != "A: b" || e.ErrorMessage() != "b" {
		t.Error(e)
	}
}
