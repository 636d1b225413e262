package wire

import (
	"encoding/xml"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/restjson"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
)

const (
	formType       = "application/x-www-form-urlencoded" // of AWS's query protocol
	smithyHeader   = "Smithy-Protocol"
	rpcCBOR        = "rpc-v2-cbor"
	rpcCBORType    = "application/cbor"
	json10, json11 = jsonPrefix + "1.0", jsonPrefix + "1.1"
)

// unserved answers requests for services that are not served, and for those that are in a protocol in
// which they are not: who is known learns so, in the words of the protocol that the request speaks.
type unserved struct {
	service  *service
	byTarget *awsJSON
	served   map[string]bool // by the name that is signed for: whether it speaks JSON by target
}

func newUnserved(h *Handler, byTarget *awsJSON, all []*Service) *unserved {
	none := func(string) bool { return false }
	p := &unserved{&service{&Service{MaxBody: maxUnknownBody, Unsigned: none}, h.newPlaces(maxUnknown)}, byTarget,
		map[string]bool{}}
	for _, s := range all {
		_, json := s.Protocol.(JSON)
		for _, name := range s.Signing {
			p.served[name] = json
		}
	}
	return p
}

func (p *unserved) takes(r *http.Request) bool {
	name := signedFor(r)
	if name == "" {
		return false
	}
	target := r.Header.Get("X-Amz-Target")
	prefix, _, _ := strings.Cut(target, ".")
	json, served := p.served[name]
	if !served {
		return p.byTarget.targets[prefix] == nil // else the signature is for another service than the request
	}
	return json && (target == "" && contentType(r) == formType || r.Header.Get(smithyHeader) != "")
}

// signedFor is the service that a signature says it is for, "" for none. It may not hold.
func signedFor(r *http.Request) string {
	credential := r.Header.Get("Authorization")
	if credential == "" && r.URL.RawQuery != "" {
		credential = r.URL.Query().Get("X-Amz-Credential")
	}
	scope, _, ok := strings.Cut(credential, "/aws4_request")
	if !ok {
		return ""
	}
	return scope[strings.LastIndexByte(scope, '/')+1:]
}

// contentType is that of a request without its parameters.
func contentType(r *http.Request) string {
	kind, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	return strings.TrimSpace(kind)
}

func (p *unserved) greet(*exchange) (bool, error) { return false, nil }

func (p *unserved) find(x *exchange) error {
	x.service = p.service
	return nil
}

func (p *unserved) scope(*exchange) error { return nil }

// read says what is not served, and what is.
func (p *unserved) read(x *exchange) error {
	if _, ok := p.served[x.who.Service]; ok {
		return fmt.Errorf("%w: %s is served in JSON alone, want a client that speaks it (of 2024 or later)",
			errUnknownOperation, x.who.Service)
	}
	return fmt.Errorf("%w: %.200s: the service %.60s is not served here, want one of %s", errUnknownOperation,
		asksFor(x.r, x.Body), x.who.Service, strings.Join(slices.Sorted(maps.Keys(p.served)), ", "))
}

// asksFor is the name of what a request asks for, or its method and path.
func asksFor(r *http.Request, body []byte) string {
	if _, name, ok := strings.Cut(r.Header.Get("X-Amz-Target"), "."); ok {
		return name
	}
	if contentType(r) == formType {
		if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
			return form.Get("Action")
		}
	}
	if _, name, ok := strings.Cut(r.URL.Path, "/operation/"); ok && r.Header.Get(smithyHeader) != "" {
		return name
	}
	return r.Method + " " + r.URL.EscapedPath()
}

func (p *unserved) answer(*exchange, any) {} // there is no operation

// queryError is an error of the query protocol, and of REST services in XML but S3.
type queryError struct {
	XMLName xml.Name `xml:"ErrorResponse"`
	Error   struct {
		Type, Code, Message string
	}
	RequestID string `xml:"RequestId"`
}

// ec2Error is one of EC2, whose query protocol is its own.
type ec2Error struct {
	XMLName   xml.Name `xml:"Response"`
	Code      string   `xml:"Errors>Error>Code"`
	Message   string   `xml:"Errors>Error>Message"`
	RequestID string
}

func (p *unserved) fail(x *exchange, e *Error) {
	kind, name := contentType(x.r), signedFor(x.r)
	status := e.Status
	if status < 500 && status != http.StatusRequestEntityTooLarge {
		status = http.StatusBadRequest // of all but REST
	}
	x.done()
	switch {
	case x.r.Header.Get(smithyHeader) == rpcCBOR:
		x.w.Header().Set(smithyHeader, rpcCBOR)
		p.write(x, status, rpcCBORType, typed(shape.CBOR, e))
	case kind == cborType:
		p.write(x, status, cborType, typed(shape.CBOR, e))
	case kind == json10 || kind == json11:
		p.write(x, status, kind, typed(shape.JSON, e))
	case x.r.Header.Get("X-Amz-Target") != "":
		p.write(x, status, json11, typed(shape.JSON, e))
	case name == "ec2":
		p.xml(x, status, &ec2Error{Code: e.Code, Message: e.Message, RequestID: x.ID})
	case name == "s3":
		p.xml(x, e.Status, &xmlError{Code: e.Code, Message: e.Message, Resource: x.r.URL.Path, RequestID: x.ID})
	case kind == formType, name == "route53", name == "cloudfront":
		doc := &queryError{RequestID: x.ID}
		doc.Error.Type, doc.Error.Code, doc.Error.Message = "Sender", e.Code, e.Message
		if status >= 500 {
			doc.Error.Type = "Receiver"
		}
		p.xml(x, status, doc)
	default:
		restjson.SetError(x.w.Header(), e.Code)
		body, _ := restjson.Encode(e) // texts and numbers are always JSON
		p.write(x, e.Status, "application/json", body)
	}
}

// typed is an error as JSON services write it, in JSON or CBOR.
func typed(codec shape.Codec, e *Error) []byte {
	w := shape.NewWriter(codec, nil)
	w.OpenMap()
	w.Name("__type")
	w.Text(e.Code)
	w.Name("message")
	w.Text(e.Message)
	w.CloseMap()
	return w.Bytes()
}

func (p *unserved) xml(x *exchange, status int, doc any) {
	body, _ := xml.Marshal(doc) // texts are always XML
	p.write(x, status, "text/xml", append([]byte(xml.Header), body...))
}

func (p *unserved) write(x *exchange, status int, kind string, body []byte) {
	h := x.w.Header()
	h.Set("Content-Type", kind)
	h.Set("Content-Length", fmt.Sprint(len(body)))
	x.status = status
	x.w.WriteHeader(status)
	if x.r.Method != http.MethodHead {
		_, _ = x.w.Write(body) // the client is gone if this fails
	}
}
