package wire

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// Who asks for a service that is not served learns so in the protocol that its client reads, once the
// signature holds.
func TestUnserved(t *testing.T) {
	const wanted = "is not served here, want one of execute-api, gatedata, loom, mill"
	for _, c := range []struct {
		name, service, method, path, body string
		header                            []string // names and values
		status                            int
		kind, want                        string
	}{
		{"query", "sts", "POST", "/", "Action=GetCallerIdentity&Version=2011-06-15",
			[]string{"Content-Type", formType + "; charset=utf-8"}, 400, "text/xml",
			"<ErrorResponse><Error><Type>Sender</Type><Code>UnknownOperationException</Code>" +
				"<Message>unknown operation: GetCallerIdentity: the service sts " + wanted},
		{"EC2", "ec2", "POST", "/", "Action=DescribeInstances", []string{"Content-Type", formType}, 400, "text/xml",
			"<Response><Errors><Error><Code>UnknownOperationException</Code>" +
				"<Message>unknown operation: DescribeInstances: "},
		{"JSON 1.0", "dynamodb", "POST", "/", "{}",
			[]string{"Content-Type", json10Type, "X-Amz-Target",
				"D_2012.ListTables"},
			400, json10Type, `{"__type":"UnknownOperationException",` +
				`"message":"unknown operation: ListTables: the service dynamodb ` + wanted},
		{"JSON 1.1", "logs", "POST", "/", "{}", []string{"Content-Type", jsonType, "X-Amz-Target", "Logs_2014.Describe"},
			400, jsonType, `{"__type":"UnknownOperationException","message":"unknown operation: Describe: the service logs `},
		{"CBOR", "x", "POST", "/", "\xa0", []string{"Content-Type", cborType, "X-Amz-Target", "X.List"}, 400, cborType,
			"unknown operation: List: the service x "},
		{"rpc-v2", "monitoring", "POST", "/service/Granite/operation/ListMetrics", "\xa0",
			[]string{"Content-Type", rpcCBORType, smithyHeader, rpcCBOR}, 400, rpcCBORType,
			"unknown operation: ListMetrics: the service monitoring "},
		{"S3", "s3", "GET", "/", "", nil, 404, "text/xml", "<Error><Code>UnknownOperationException</Code>"},
		{"REST in XML", "route53", "GET", "/2013-04-01/hostedzone", "", nil, 400, "text/xml", "<ErrorResponse><Error>"},
		{"REST in JSON", "batch", "GET", "/v1/things", "", nil, 404, "application/json",
			`{"message":"unknown operation: GET /v1/things: the service batch ` + wanted + `"}`},
		{"a served service's former protocol", "loom", "POST", "/1/q", "Action=Weave",
			[]string{"Content-Type", formType}, 400, "text/xml", "unknown operation: loom is served in JSON alone"},
	} {
		toy := newToy(nil)
		request := func(secret string) *http.Request {
			r := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
			for i := 0; i < len(c.header); i += 2 {
				r.Header.Set(c.header[i], c.header[i+1])
			}
			held := sigv4test.Key{ID: "AKIAHELD", Secret: secret}
			sigv4test.Sign(r, []byte(c.body), held, "r", c.service, time.Now())
			return r
		}
		w := answer(toy, request(key.Secret))
		if w.Code != c.status || w.Header().Get("Content-Type") != c.kind ||
			!strings.Contains(w.Body.String(), c.want) ||
			c.kind == rpcCBORType && w.Header().Get(smithyHeader) != rpcCBOR {
			t.Errorf("%s: %d %v %s", c.name, w.Code, w.Header(), w.Body)
		}
		if w = answer(toy, request("wrong")); w.Header().Get("Content-Type") != c.kind ||
			!strings.Contains(w.Body.String()+w.Header().Get("X-Amzn-Errortype"), "InvalidSignatureException") ||
			strings.Contains(w.Body.String(), "want one of") {
			t.Errorf("%s, with a wrong key: %d %v %s", c.name, w.Code, w.Header(), w.Body)
		}
		if n := toy.held(); n != 0 {
			t.Errorf("%s: %d are held still", c.name, n)
		}
	}
}

func FuzzSignedFor(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=A/20261130/r/sts/aws4_request, SignedHeaders=host, Signature=0")
	f.Add("/aws4_request")
	f.Fuzz(func(t *testing.T, text string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Authorization", text)
		name := signedFor(r)
		if strings.Contains(name, "/") || len(name) > len(text) {
			t.Errorf("%q of %q", name, text)
		}
	})
}
