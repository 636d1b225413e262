package wire

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
)

const (
	jsonPrefix = "application/x-amz-json-" // and the version
	cborType   = "application/x-amz-cbor-1.1"

	// peeked is how large a body may be that is looked at before the
	// signature, so that errors come in AWS's order: first what cannot be
	// read, then the operation, then who asks.
	peeked = 4 << 10
	// maxPeeks bodies are under way at once from who may have no key; of more,
	// errors come in another order.
	maxPeeks = 256
	// maxAnswer is what GetRecords may answer: 10 MiB of records.
	maxAnswer = 10 << 20
)

var (
	errSerialization = &Error{Code: serialization, Status: http.StatusBadRequest}
	errNoOperation   = &Error{Code: "UnknownOperationException", Status: http.StatusBadRequest}
	errNoMethod      = &Error{Code: "AccessDeniedException", Status: http.StatusForbidden}
)

// awsJSON is the protocol of JSON services.
type awsJSON struct {
	targets map[string]*target // by what X-Amz-Target has before the dot
	claimed func(path string) *service
}

// A target is a service of the protocol.
type target struct {
	*JSON
	service *service
	actions map[string]*operation // by what X-Amz-Target has behind the dot
}

// noTarget is how requests are read and answered whose target is not served.
var noTarget = JSON{Version: "1.1"}

// A form is how a request is written, and its answer.
type form struct {
	codec     shape.Codec
	content   string // the type
	namespace string // of errors
}

func (p *awsJSON) add(of *JSON, s *service, all []*operation) {
	t := &target{of, s, map[string]*operation{}}
	for _, op := range all {
		if t.actions[op.Name] != nil {
			panic("wire: two of " + op.action)
		}
		t.actions[op.Name] = op
	}
	p.targets[of.Target] = t
}

// takes leaves a request without the protocol's headers to those that know its
// path.
func (p *awsJSON) takes(r *http.Request) bool {
	ours := r.Header.Get("X-Amz-Target") != "" || r.URL.Path == "/" ||
		strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-amz-")
	return ours && p.claimed(r.URL.EscapedPath()) == nil
}

// greet lets pages of browsers ask, and refuses what is no POST.
func (p *awsJSON) greet(x *exchange) (answered bool, err error) {
	header := x.w.Header()
	if origin := x.r.Header.Get("Origin"); origin != "" {
		header.Set("Access-Control-Allow-Origin", "*") // as AWS: who asks has to have a key
		if x.h.permissive {
			header.Set("Access-Control-Allow-Origin", origin) // whom the listener has let in
			header.Set("Vary", "Origin")
		}
		if x.r.Method == http.MethodOptions {
			x.status = http.StatusOK
			preflight(header, x.r.Header)
			return true, nil
		}
		header.Set("Access-Control-Expose-Headers",
			"x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date")
	}
	header["x-amz-id-2"] = []string{extendedID()}
	if x.r.Method == http.MethodPost {
		return false, nil
	}
	const text = "<AccessDeniedException>\n" +
		"  <Message>Unable to determine service/operation name to be authorized</Message>\n" +
		"</AccessDeniedException>\n"
	x.status = errNoMethod.Status
	header.Set("Content-Length", strconv.Itoa(len(text)))
	x.w.WriteHeader(x.status)
	_, _ = io.WriteString(x.w, text) // the client is gone if this fails
	return true, errNoMethod
}

func preflight(header, asked http.Header) {
	for _, what := range []string{"Headers", "Method"} {
		if v := asked.Get("Access-Control-Request-" + what); v != "" {
			header.Set("Access-Control-Allow-"+strings.TrimSuffix(what, "s")+"s", v)
		}
	}
	header.Set("Access-Control-Max-Age", "172800")
	header.Set("Content-Length", "0")
}

// extendedID is what AWS's support would ask for: 72 random bytes.
func extendedID() string {
	var b [72]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.StdEncoding.EncodeToString(b[:])
}

// find goes through what may be wrong with a request whoever sent it, in AWS's
// order.
func (p *awsJSON) find(x *exchange) error {
	prefix, name, _ := strings.Cut(x.r.Header.Get("X-Amz-Target"), ".")
	t := p.targets[prefix]
	of := &noTarget
	if t != nil {
		of, x.service, x.op = t.JSON, t.service, t.actions[name]
	}
	kind := contentType(x.r)
	known := x.form.set(of, kind)
	switch {
	case x.r.ContentLength == 0 && x.op != nil:
		return errSerialization
	case x.r.ContentLength == 0, !known:
		return errNoOperation
	}
	if n := x.r.ContentLength; n > 0 && n <= peeked && x.enter(x.h.peeks) == nil {
		var err error
		if x.Body, err = x.body(peeked); err != nil {
			return err
		}
		if x.peeked = true; !shape.Valid(x.form.codec, x.Body) {
			return errSerialization
		}
	}
	switch {
	case x.op != nil:
		return nil
	case t == nil:
		return errNoOperation
	}
	return Errorf(errNoOperation.Status, errNoOperation.Code, "%.60s of %s is not served here", name,
		t.service.Name)
}

// set takes the form of a content type, and says whether the service has it.
// What is not the service's JSON is answered in CBOR, as Kinesis does, but for no service.
func (f *form) set(of *JSON, kind string) bool {
	json := kind == jsonPrefix+of.Version
	f.codec, f.content, f.namespace = shape.CBOR, cborType, of.Namespace
	if json || of.Target != "" && !of.CBOR || of.Target == "" && kind != cborType {
		f.codec, f.content = shape.JSON, jsonPrefix+of.Version
	}
	return json || kind == cborType && (of.CBOR || of.Target == "")
}

func (p *awsJSON) scope(x *exchange) error {
	if x.h.permissive || slices.Contains(x.service.Signing, x.who.Service) {
		return nil
	}
	return &Error{Code: "InvalidSignatureException", Status: http.StatusBadRequest,
		Message: "Credential should be scoped to correct service: '" + x.service.Signing[0] + "'. "}
}

func (p *awsJSON) read(x *exchange) (err error) {
	body := x.Body
	if x.op.Changes { // Run may read it, too, and Decode unescapes texts in place
		body = bytes.Clone(body)
	}
	if x.Input, err = x.op.Input.Decode(x.form.codec, body); err != nil {
		return err
	}
	return x.op.Input.Check(x.Input)
}

// maxBuffer is how large one may be to be kept, in bytes.
const maxBuffer = 1 << 20

// buffers are for answers.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (p *awsJSON) answer(x *exchange, out any) {
	x.w.Header().Set("Content-Type", x.form.content)
	w := shape.NewWriter(x.form.codec, nil)
	if x.op.Output != nil {
		buf := buffers.Get().(*[]byte)
		defer func() {
			if *buf = w.Bytes()[:0]; cap(*buf) <= maxBuffer {
				buffers.Put(buf)
			}
		}()
		w = shape.NewWriter(x.form.codec, *buf)
		w.To = &streamedAnswer{x: x}
		x.op.Output(w, out)
	}
	p.finish(x, w, http.StatusOK)
}

// fail writes an error. All that is the caller's fault is 400. AWS spells the
// message of SerializationException with a capital, and says nothing of its own
// failures.
func (p *awsJSON) fail(x *exchange, e *Error) {
	status := http.StatusBadRequest
	if e.Status >= 500 || e.Status == http.StatusRequestEntityTooLarge {
		status = e.Status
	}
	code, message := e.Code, e.Message
	if e.internal() {
		code, message = internalFailure, ""
	}
	w := shape.NewWriter(x.form.codec, nil)
	w.OpenMap()
	w.Name("__type")
	w.Text(x.form.namespace + code)
	if name := "message"; message != "" {
		if e.Code == serialization {
			name = "Message"
		}
		w.Name(name)
		w.Text(message)
	}
	w.CloseMap()
	x.w.Header().Set("Content-Type", x.form.content)
	p.finish(x, w, status)
}

// finish sends what w has: with its length if nothing was sent before.
func (p *awsJSON) finish(x *exchange, w *shape.Writer, status int) {
	x.status = status
	if l, ok := w.To.(*streamedAnswer); ok && l.begun {
		_ = w.Flush() // the client is gone if this fails
		return
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(len(w.Bytes())))
	x.w.WriteHeader(status)
	_, _ = x.w.Write(w.Bytes()) // likewise
}

// streamedAnswer begins an answer that is too large to be gathered first.
type streamedAnswer struct {
	x     *exchange
	begun bool
}

func (l *streamedAnswer) Write(b []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.x.w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(l.x.w).SetWriteDeadline(time.Now().Add(patience))
	return l.x.w.Write(b)
}
