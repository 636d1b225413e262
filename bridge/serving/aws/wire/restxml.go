package wire

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/tidemill/tidemill/bridge/sigv4"
)

// RESTXML is S3's protocol: operations are named by method, bucket and key in the
// path, names in the query and a header; bodies are content of any length or
// XML. Operation.Path is "/", "/:bucket" or "/:bucket/:key+".
type RESTXML struct {
	// Public says whether everybody may read a bucket's objects, at
	// /s3/BUCKET/KEY without a signature. nil: no bucket.
	Public func(bucket string) bool
}

func (RESTXML) isProtocol() {}

// publicPath is before the path of a request that is not signed.
const publicPath = "/s3/"

// restXML is the protocol of one RESTXML service.
type restXML struct {
	service *service
	public  func(bucket string) bool
	byPath  map[string][]*operation // by method and Path
}

func newRESTXML(o RESTXML, s *service, all []*operation) *restXML {
	p := &restXML{s, o.Public, map[string][]*operation{}}
	for _, op := range all {
		at := op.Method + " " + op.Path
		p.byPath[at] = append(p.byPath[at], op)
	}
	for _, ops := range p.byPath { // those that ask for most come first
		slices.SortStableFunc(ops, func(a, b *operation) int { return cmp.Compare(b.asks(), a.asks()) })
	}
	return p
}

// asks is how much of a request names the operation.
func (op *operation) asks() int {
	n := 2 * len(strings.Fields(op.Query))
	if op.Having != "" {
		n++
	}
	return n
}

func (p *restXML) takes(r *http.Request) bool {
	scope := "/" + p.service.Signing[0] + "/aws4_request"
	if auth := r.Header.Get("Authorization"); auth != "" {
		return strings.Contains(auth, scope) || strings.HasPrefix(auth, "AWS ")
	}
	if strings.HasPrefix(r.URL.Path, publicPath) || sigv4.IsV2(r) {
		return true
	}
	return r.URL.RawQuery != "" && strings.HasSuffix(r.URL.Query().Get("X-Amz-Credential"), scope)
}

func (p *restXML) greet(x *exchange) (bool, error) {
	x.w.Header()["x-amz-request-id"] = []string{x.ID}
	return false, nil
}

var errNotPublic = &Error{Code: "AccessDenied", Status: http.StatusForbidden,
	Message: "without a signature objects are read of public buckets alone, at /s3/BUCKET/KEY"}

var errVersion2 = &Error{Code: "InvalidRequest", Status: http.StatusBadRequest, // AWS's words
	Message: "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."}

// find fails where a request without a signature is for nothing public.
func (p *restXML) find(x *exchange) error {
	x.service = p.service
	if strings.HasPrefix(x.r.Header.Get("Authorization"), "AWS ") {
		return errVersion2
	}
	path := strings.TrimPrefix(x.r.URL.Path, "/")
	if !signedForS3(x.r) {
		path = strings.TrimPrefix(x.r.URL.Path, publicPath)
		bucket, key, _ := strings.Cut(path, "/")
		if p.public == nil || !p.public(bucket) || key == "" || x.r.URL.RawQuery != "" ||
			x.r.Method != http.MethodGet && x.r.Method != http.MethodHead {
			return errNotPublic
		}
		x.public = true
	}
	bucket, key, _ := strings.Cut(path, "/")
	x.values = []string{bucket, key}
	pattern := "/:bucket/:key+"
	switch {
	case bucket == "":
		pattern = "/"
	case key == "":
		pattern = "/:bucket"
	}
	query := x.r.URL.Query()
	for _, op := range p.byPath[x.r.Method+" "+pattern] {
		if op.named(query, x.r.Header) {
			x.op, x.route = op, &route{op, []string{"bucket", "key"}}
			return nil
		}
	}
	return nil
}

// signedForS3 says whether a request that is the protocol's is signed.
func signedForS3(r *http.Request) bool { return !unsigned(r) || sigv4.IsV2(r) }

// named says whether query and header have all that names the operation.
func (op *operation) named(query map[string][]string, h http.Header) bool {
	for name := range strings.FieldsSeq(op.Query) {
		if _, ok := query[name]; !ok {
			return false
		}
	}
	return op.Having == "" || h.Get(op.Having) != ""
}

func (p *restXML) scope(x *exchange) error { return nil }

func (p *restXML) read(x *exchange) (err error) {
	if x.op == nil {
		return &Error{Code: "MethodNotAllowed", Status: http.StatusMethodNotAllowed,
			Message: fmt.Sprintf("%.20s %.200s is no operation that is served here", x.r.Method, x.r.URL.Path)}
	}
	x.Query = x.r.URL.Query()
	for name, values := range x.Query {
		if len(values) > 1 { // the signature is the same whichever comes first
			return &Error{Code: "InvalidArgument", Status: http.StatusBadRequest,
				Message: fmt.Sprintf("%.60q is given twice in the query", name)}
		}
	}
	if x.op.Read != nil {
		x.Input, err = x.op.Read(&x.Request)
	}
	return err
}

// xmlErrors are the errors of all services in S3's words (S3 API reference,
// "Error responses").
var xmlErrors = []Rule{
	Say(sigv4.ErrMissing, "AccessDenied", 403, "Access Denied: the request is not signed"),
	Is(sigv4.ErrBoth, "InvalidRequest", 400),
	Is(sigv4.ErrIncomplete, "AuthorizationHeaderMalformed", 400),
	Say(sigv4.ErrUnknownKey, "InvalidAccessKeyId", 403,
		"The AWS Access Key Id you provided does not exist in our records."),
	Is(sigv4.ErrMismatch, "SignatureDoesNotMatch", 403),
	Say(sigv4.ErrExpired, "AccessDenied", 403, "Request has expired"),
	Is(sigv4.ErrTime, "RequestTimeTooSkewed", 403),
	Say(sigv4.ErrContent, "XAmzContentSHA256Mismatch", 400,
		"The provided 'x-amz-content-sha256' header does not match what was computed."),
	Is(sigv4.ErrTooLarge, "EntityTooLarge", 400),
	Is(sigv4.ErrBody, "IncompleteBody", 400),
	Say(errBusy, "SlowDown", 503, "Please reduce your request rate."),
	Say(errNoRoom, "ServiceUnavailable", 503, noRoom),
	Is(ErrDenied, "AccessDenied", 403),
}

// xmlError is how an Error is written.
type xmlError struct {
	XMLName   xml.Name `xml:"Error"`
	Code      string
	Message   string
	Resource  string
	RequestID string `xml:"RequestId"`
}

func (p *restXML) fail(x *exchange, e *Error) {
	code := e.Code
	if e.internal() {
		code = "InternalError"
	}
	x.done()
	p.write(x, &Reply{Status: e.Status,
		XML: &xmlError{Code: code, Message: e.Message, Resource: x.r.URL.Path, RequestID: x.ID}})
}

func (p *restXML) answer(x *exchange, out any) {
	r, _ := out.(*Reply)
	if r == nil {
		r = &Reply{}
	}
	if r.Data != nil {
		p.send(x, r)
		return
	}
	x.done()
	p.write(x, r)
}

// head writes what comes before the body.
func (p *restXML) head(x *exchange, r *Reply, length int64) {
	x.status = cmp.Or(r.Status, http.StatusOK)
	h := x.w.Header()
	for name, value := range r.Header {
		h[name] = []string{value} // spelled as AWS does
	}
	if x.status != http.StatusNoContent && x.status != http.StatusNotModified {
		h.Set("Content-Length", strconv.FormatInt(length, 10))
	}
	x.w.WriteHeader(x.status)
}

func (p *restXML) write(x *exchange, r *Reply) {
	var body []byte
	begun := x.status != 0 // by beat
	if r.XML != nil {
		doc, err := xml.Marshal(r.XML)
		if err != nil {
			x.h.log.Error("an answer cannot be written as XML", "err", err)
			r.Status = http.StatusInternalServerError
		}
		if body = doc; !begun {
			body = append([]byte(xml.Header), doc...)
			x.w.Header().Set("Content-Type", "application/xml")
		}
	}
	x.writeWithin()
	if begun {
		_, _ = x.w.Write(body)
		return
	}
	length := int64(len(body))
	if r.Size > 0 { // of what a GET would have
		length = r.Size
	}
	p.head(x, r, length)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body) // the client is gone if this fails
	}
}
