package sigv4

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

const (
	suiteKey    = "AKIDEXAMPLE"
	suiteSecret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	suiteScope  = "20150830/us-east-1/service/aws4_request"
	suiteDate   = "20150830T123600Z"
	suiteToken1 = "6e86291e8372ff2a2260956d9b8aae1d763fbf315fa00fa31553b73ebf194267"
	suiteToken2 = "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/kMcGd" +
		"QrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64lIZbqBAz" +
		"+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
	formHash = "9095672bbd1f56dfc5b65f3e153adc8731a4a654192329106275f4c7b24d0b6e" // of Param1=value1
)

// suite are AWS's own examples, of the signature test suite that comes with
// its SDKs (awslabs/aws-c-auth, tests/aws-signing-test-suite/v4): what is sent,
// and the signatures it has in the header and presigned for an hour. Those are
// left out that sign a path as no client sends it (not normalized, with a space
// or encoded once) and a header of several lines, which net/http joins.
var suite = []struct {
	name, method, target, headers, signed, body string
	header, query                               string
}{
	{"get-vanilla", "GET", "/", "", "host;x-amz-date", "",
		"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"},
	{"get-header-key-duplicate", "GET", "/", "My-Header1: value2\nMy-Header1: value2\nMy-Header1: value1",
		"host;my-header1;x-amz-date", "",
		"c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
		"3349ee0b81b4b589da0ff28a395c3591e04de515651dd74f298fa992d1507a97"},
	{"get-header-value-order", "GET", "/",
		"My-Header1: value4\nMy-Header1: value1\nMy-Header1: value3\nMy-Header1: value2", "host;my-header1;x-amz-date",
		"",
		"08c7e5a9acfcfeb3ab6b2185e75ce8b1deb5e634ec47601a50643f830c755c01",
		"313720e71ca6202fdcfa9b20f88de01a4eb0638a83c833b1c184359a4eda864e"},
	{"get-header-value-trim", "GET", "/", "My-Header1:  value1\nMy-Header2: \"a   b   c\"",
		"host;my-header1;my-header2;x-amz-date", "",
		"acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
		"e7bb0fd515e125e1aec2ecc4c0c17484fb06f6846b927c35e46005dd3df3acd4"},
	{"get-relative", "GET", "/example/..", "", "host;x-amz-date", "",
		"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"},
	{"get-relative-relative", "GET", "/example1/example2/../..", "", "host;x-amz-date", "",
		"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"},
	{"get-slash", "GET", "//", "", "host;x-amz-date", "",
		"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"},
	{"get-slash-dot-slash", "GET", "/./", "", "host;x-amz-date", "",
		"5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
		"e93c787ed7f371d5c6b165c1b38ede9550f4dce4144713e844b25b7192d3865d"},
	{"get-slash-pointless-dot", "GET", "/./example", "", "host;x-amz-date", "",
		"ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5",
		"35034b1a0bdd969f346975386daf8aedfd4976573b8348cf4f67eaa41c5857de"},
	{"get-slashes", "GET", "//example//", "", "host;x-amz-date", "",
		"9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84",
		"c1834e8fb0307243711f0f907f6ab7311ed300d87f13792d7ee4da89ab93e082"},
	{"get-unreserved", "GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", "",
		"host;x-amz-date", "",
		"07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f",
		"95968482db1b9e0fadef6efc1bd24689f77c77d9ef56919c96a28cc92e0d6005"},
	{"get-vanilla-empty-query-key", "GET", "/?Param1=value1", "", "host;x-amz-date", "",
		"a67d582fa61cc504c4bae71f336f98b97f1ea3c7a6bfe1b6e45aec72011b9aeb",
		"49096700cbbaa5753443850f40df10f904fc2fdb544dc9512203cc77c471a9de"},
	{"get-vanilla-query-order-encoded", "GET", "/?Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "", "host;x-amz-date",
		"",
		"371d3713e185cc334048618a97f809c9ffe339c62934c032af5a0e595648fcac",
		"c5f1848ceec943ac2ca68ee720460c23aaae30a2300586597ada94c4a65e4787"},
	{"get-vanilla-query-order-key-case", "GET", "/?Param2=value2&Param1=value1", "", "host;x-amz-date", "",
		"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
		"86012e2c9ad4d77369f5d81c11f75158aae4f895a085212cc6d3f923d300bed5"},
	{"get-vanilla-query-unreserved", "GET",
		"/?-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz=-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
		"", "host;x-amz-date", "",
		"9c3e54bfcdf0b19771a7f523ee5669cdf59bc7cc0884027167c21bb143a40197",
		"8e76a88a7433637b12778d5592799b29ad21ecd6cf6325051c21d86f0acda2bf"},
	{"get-vanilla-utf8-query", "GET", "/?\u1234=bar", "", "host;x-amz-date", "",
		"2cdec8eed098649ff3a119c94853b13c643bcf08f8b0a1d91e12c9027818dd04",
		"0bdd809b1519ac4f0c1dc3540e2cc46bd0c7f778eda408b2ebf3b913d21ff600"},
	{"get-vanilla-with-session-token", "GET", "/", "X-Amz-Security-Token: " + suiteToken1,
		"host;x-amz-date;x-amz-security-token", "",
		"07ec1639c89043aa0e3e2de82b96708f198cceab042d4a97044c66dd9f74e7f8",
		"7ff2b50b376cb4d151970630573d6291dc128cc5c2a12ffb237f73cc53f67b6c"},
	{"post-vanilla", "POST", "/", "", "host;x-amz-date", "",
		"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		"2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b"},
	{"post-header-key-sort", "POST", "/", "My-Header1: value1", "host;my-header1;x-amz-date", "",
		"c5410059b04c1ee005303aed430f6e6645f61f4dc9e1461ec8f8916fdf18852c",
		"c09d07e0d55871f10f2a6d350d994acf6825a3cae70673d7def55616e6119dd7"},
	{"post-header-value-case", "POST", "/", "My-Header1: VALUE1", "host;my-header1;x-amz-date", "",
		"cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d",
		"0698bc9e4f7f9139065ba2909c0e99da257e8e2a42492a097bcd46d792391fed"},
	{"post-sts-header-after", "POST", "/", "X-Amz-Security-Token: " + suiteToken2, "host;x-amz-date", "",
		"5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
		"2ce6e6d2e0cf2f9d1b55fafec88cd20574c31dc2e7631979f71ba2310083e95b"},
	{"post-sts-header-before", "POST", "/", "X-Amz-Security-Token: " + suiteToken2,
		"host;x-amz-date;x-amz-security-token", "",
		"85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead",
		"46c2e3c63c1dbe7d39f8ada16fe7f001c1f56c5791441565323677f96308871c"},
	{"post-vanilla-query", "POST", "/?Param1=value1", "", "host;x-amz-date", "",
		"28038455d6de14eafc1f9222cf5aa6f1a96197d7deb8263271d420d138af7f11",
		"a9ef26247f293bffe40eeff86a0480ba8c14d31503b2e0c3399e3a16bf1a3682"},
	{"post-x-www-form-urlencoded", "POST", "/",
		"Content-Type: application/x-www-form-urlencoded\nX-Amz-Content-Sha256: " + formHash,
		"content-length;content-type;host;x-amz-content-sha256;x-amz-date", "Param1=value1",
		"d3875051da38690788ef43de4db0d8f280229d82040bfac253562e56c3f20e0b",
		"89a40deed0f26f9461242825a082d2222717248abc7ab41f552ad84a94ad46e9"},
	{"post-x-www-form-urlencoded-parameters", "POST", "/",
		"Content-Type: application/x-www-form-urlencoded; charset=utf-8\nX-Amz-Content-Sha256: " + formHash,
		"content-length;content-type;host;x-amz-content-sha256;x-amz-date", "Param1=value1",
		"328d1b9eaadca9f5818ef05e8392801e091653bafec24fcab71e7344e7f51422",
		"0dbeb9b026c7b6675f266b8427efec9b4fa8b1f6ef1477d717aea231106eab4d"},
}

// suiteVerifier knows the suite's key, with the session token given.
func suiteVerifier(token string) *Verifier {
	return &Verifier{
		Secret: func(id string) (string, string, bool) { return suiteSecret, token, id == suiteKey },
		Now:    func() time.Time { return time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC) },
	}
}

func TestSuite(t *testing.T) {
	for _, c := range suite {
		build := func(presigned bool) (*http.Request, string) {
			target := c.target
			signed := c.signed
			if presigned {
				signed = strings.NewReplacer(";x-amz-date", "", ";x-amz-security-token", "", ";x-amz-content-sha256",
					"").Replace(signed)
				sep := "?"
				if strings.Contains(target, "?") {
					sep = "&"
				}
				target += sep + "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=" + suiteKey + "%2F" +
					strings.ReplaceAll(suiteScope, "/", "%2F") +
					"&X-Amz-Date=" + suiteDate + "&X-Amz-Expires=3600&X-Amz-SignedHeaders=" +
					strings.ReplaceAll(signed, ";", "%3B") + "&X-Amz-Signature=" + c.query
			}
			r := httptest.NewRequest(c.method, "/", strings.NewReader(c.body))
			r.RequestURI, r.Host = target, "example.amazonaws.com"
			token := ""
			for line := range strings.SplitSeq(c.headers, "\n") {
				name, value, ok := strings.Cut(line, ": ")
				if !ok {
					continue
				}
				if name == "X-Amz-Security-Token" {
					token = value
				}
				if !presigned || !strings.HasPrefix(name, "X-Amz-") {
					r.Header.Add(name, value)
				}
			}
			if !presigned {
				r.Header.Set("X-Amz-Date", suiteDate)
				r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+suiteKey+"/"+suiteScope+", SignedHeaders="+
					signed+", Signature="+c.header)
			} else if token != "" {
				r.RequestURI += "&X-Amz-Security-Token=" + encode(token, false)
			}
			return r, token
		}
		for _, presigned := range []bool{false, true} {
			r, token := build(presigned)
			id, err := suiteVerifier(token).verify(r, 1<<10)
			if err != nil || id != (Identity{suiteKey, "us-east-1", "service"}) {
				t.Errorf("%s, presigned %v: %v %v", c.name, presigned, id, err)
			}
			r, _ = build(presigned)
			if _, err := suiteVerifier("another").verify(r, 1<<10); !errors.Is(err, ErrUnknownKey) {
				t.Errorf("%s, presigned %v, another token: %v", c.name, presigned, err)
			}
			if presigned {
				r.RequestURI = strings.Replace(r.RequestURI, "X-Amz-Signature="+c.query[:1], "X-Amz-Signature=0", 1)
			} else {
				r.Header.Set("Authorization",
					strings.Replace(r.Header.Get("Authorization"), "Signature="+c.header[:1], "Signature=0", 1))
			}
			if _, err := suiteVerifier(token).verify(r, 1<<10); c.header[0] != '0' && c.query[0] != '0' &&
				!errors.Is(err, ErrMismatch) {
				t.Errorf("%s, presigned %v, another signature: %v", c.name, presigned, err)
			}
		}
	}
}

// The S3 API reference, "Authenticating requests (AWS Signature Version 4)",
// has these: GET Object, and a presigned one.
func TestS3Examples(t *testing.T) {
	v := &Verifier{
		Secret:   func(string) (string, string, bool) { return "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "", true },
		Unsigned: func(service string) bool { return service == "s3" },
		Now:      func() time.Time { return time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC) },
	}
	r := httptest.NewRequest("GET", "/test.txt", nil)
	r.Host = "examplebucket.s3.amazonaws.com"
	r.Header.Set("Range", "bytes=0-9")
	r.Header.Set("X-Amz-Date", "20130524T000000Z")
	r.Header.Set("X-Amz-Content-Sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
	r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"+
		"SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"+
		"Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
	if _, err := v.verify(r, 0); err != nil {
		t.Error(err)
	}
	r = httptest.NewRequest("GET",
		"/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request"+
			"&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host"+
			"&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404", nil)
	r.Host = "examplebucket.s3.amazonaws.com"
	if _, err := v.verify(r, 0); err != nil {
		t.Error(err)
	}
	v.Unsigned = nil
	if _, err := v.verify(r, 0); !errors.Is(err, ErrMismatch) {
		t.Errorf("unsigned body: %v", err)
	}
}
