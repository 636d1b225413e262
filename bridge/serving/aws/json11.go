package aws

import (
	"crypto/rand"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/sigv4"
)

// Content types of the protocol.
const (
	jsonType   = "application/x-amz-json-1.1"
	cborType   = "application/x-amz-cbor-1.1"
	eventsType = "application/vnd.amazon.eventstream"
)

const (
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
	errSerialization = &Error{Code: "SerializationException", Status: http.StatusBadRequest}
	errNoOperation   = &Error{Code: "UnknownOperationException", Status: http.StatusBadRequest}
)

// byTarget says whether r is of the JSON 1.1 protocol, which ignores the path;
// of a request without its headers the path decides.
func byTarget(r *http.Request) bool {
	return r.Header.Get("X-Amz-Target") != "" || r.URL.Path == "/" || strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-amz-")
}

// An exchange is one request of the JSON 1.1 protocol and its answer.
type exchange struct {
	*intake
	codec  shape.Codec
	target *target
	action action // known if it has a name
	who    sigv4.Identity
	sent   []byte // the body
	read   bool   // it was
}

// serveTarget answers r and returns who asked, for what, and what was wrong.
func (h *Handler) serveTarget(w http.ResponseWriter, r *http.Request) (who sigv4.Identity, name string, status int, err error) {
	header := w.Header()
	if origin := r.Header.Get("Origin"); origin != "" {
		header.Set("Access-Control-Allow-Origin", "*") // as AWS: who asks has to have a key
		if h.verifier.Permissive {
			header.Set("Access-Control-Allow-Origin", origin) // whom the listener has let in
			header.Set("Vary", "Origin")
		}
		if r.Method == http.MethodOptions {
			preflight(header, r.Header)
			return who, "", http.StatusOK, nil
		}
		header.Set("Access-Control-Expose-Headers", "x-amzn-RequestId,x-amzn-ErrorType,x-amz-request-id,x-amz-id-2,x-amzn-ErrorMessage,Date")
	}
	header["x-amz-id-2"] = []string{extendedID()}
	if r.Method != http.MethodPost {
		const text = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n</AccessDeniedException>\n"
		header.Set("Content-Length", strconv.Itoa(len(text)))
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, text)
		return who, "", http.StatusForbidden, &Error{Code: "AccessDeniedException"}
	}
	x := &exchange{intake: h.begin(w, r)}
	defer x.done()
	out, err := x.run()
	status = http.StatusOK
	switch {
	case err != nil:
		e := errorOf(err)
		status = e.status()
		x.fail(e, status)
	case x.action.subscribe != nil:
		err = x.push(out.(events))
	default:
		x.answer(out)
	}
	return x.who, x.action.name, status, err
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

// run goes through what may be wrong with a request in AWS's order, and then
// runs its operation.
func (x *exchange) run() (any, error) {
	kind, _, _ := strings.Cut(x.r.Header.Get("Content-Type"), ";")
	kind = strings.TrimSpace(kind)
	if kind != jsonType {
		x.codec = shape.CBOR
	}
	x.find()
	switch {
	case x.r.ContentLength == 0 && x.action.name != "":
		return nil, errSerialization
	case x.r.ContentLength == 0, kind != jsonType && kind != cborType:
		return nil, errNoOperation
	}
	if n := x.r.ContentLength; n > 0 && n <= peeked && x.enter(x.h.peeks) == nil {
		if err := x.readBody(peeked); err != nil {
			return nil, err
		}
		if !shape.Valid(x.codec, x.sent) {
			return nil, errSerialization
		}
	}
	if x.action.name == "" {
		return nil, errNoOperation
	}
	if err := x.verify(); err != nil {
		return nil, err
	}
	in, err := x.action.input.Decode(x.codec, x.sent)
	if err != nil {
		return nil, err
	}
	if err := x.action.input.Check(in); err != nil {
		return nil, err
	}
	if x.action.subscribe != nil {
		if err := x.enter(x.h.pushes); err != nil {
			return nil, err
		}
		return x.action.subscribe(x.r.Context(), x.who.Region, in)
	}
	if x.action.size == nil {
		return x.action.run(x.r.Context(), x.who.Region, in)
	}
	if err := x.hold(maxAnswer); err != nil {
		return nil, err
	}
	out, err := x.action.run(x.r.Context(), x.who.Region, in)
	if err == nil {
		x.shrink(x.action.size(out)) // while a slow client reads it
	}
	return out, err
}

// find finds the operation that X-Amz-Target names.
func (x *exchange) find() {
	prefix, name, _ := strings.Cut(x.r.Header.Get("X-Amz-Target"), ".")
	if x.target = x.h.targets[prefix]; x.target != nil {
		x.action = x.target.actions[name]
	}
}

// verify reads the rest of the body, of a known key only, and verifies the
// signature over it.
func (x *exchange) verify() error {
	sig, who, err := x.h.verifier.Begin(x.r)
	x.who = who
	if err != nil {
		return err
	}
	key, err := x.h.whole(x.r, who)
	if err != nil {
		return err
	}
	if who.Service != x.target.service && !x.h.verifier.Permissive {
		return &Error{Code: "InvalidSignatureException", Status: http.StatusBadRequest,
			Message: "Credential should be scoped to correct service: '" + x.target.service + "'. "}
	}
	if x.claimed(key.Owner()); !x.read {
		if err := x.readBody(x.target.maxBody); err != nil {
			return err
		}
	}
	if err := sig.Check(x.sent); err != nil {
		return err
	}
	x.proven(key.Owner())
	return x.enter(x.h.calls)
}

func (x *exchange) readBody(limit int64) (err error) {
	x.sent, err = x.body(limit)
	x.read = true
	return err
}

// answer writes what an operation returned.
func (x *exchange) answer(out any) {
	header := x.w.Header()
	header.Set("Content-Type", jsonType)
	if x.codec == shape.CBOR {
		header.Set("Content-Type", cborType)
	}
	w := shape.NewWriter(x.codec, nil)
	if x.action.write != nil {
		buf := buffers.Get().(*[]byte)
		defer func() {
			if *buf = w.Bytes()[:0]; cap(*buf) <= maxBuffer {
				buffers.Put(buf)
			}
		}()
		w = shape.NewWriter(x.codec, *buf)
		w.To = &late{x: x}
		x.action.write(w, out)
	}
	x.finish(w, http.StatusOK)
}

// fail writes an error. AWS spells the message of SerializationException with a
// capital, and says nothing of its own failures.
func (x *exchange) fail(e *Error, status int) {
	code, message := e.Code, e.Message
	if e.internal() {
		code, message = "InternalFailure", ""
	}
	w := shape.NewWriter(x.codec, nil)
	w.OpenMap()
	w.Name("__type")
	w.Text(code)
	if name := "message"; message != "" {
		if e.Code == errSerialization.Code {
			name = "Message"
		}
		w.Name(name)
		w.Text(message)
	}
	w.CloseMap()
	x.w.Header().Set("Content-Type", jsonType)
	if x.codec == shape.CBOR {
		x.w.Header().Set("Content-Type", cborType)
	}
	x.finish(w, status)
}

// finish sends what w has: with its length if nothing was sent before.
func (x *exchange) finish(w *shape.Writer, status int) {
	if l, ok := w.To.(*late); ok && l.begun {
		_ = w.Flush() // the client is gone if this fails
		return
	}
	x.w.Header().Set("Content-Length", strconv.Itoa(len(w.Bytes())))
	x.w.WriteHeader(status)
	_, _ = x.w.Write(w.Bytes()) // likewise
}

// late begins an answer that is too large to be gathered first.
type late struct {
	x     *exchange
	begun bool
}

func (l *late) Write(b []byte) (int, error) {
	if !l.begun {
		l.begun = true
		l.x.w.WriteHeader(http.StatusOK)
	}
	_ = http.NewResponseController(l.x.w).SetWriteDeadline(time.Now().Add(patience))
	return l.x.w.Write(b)
}
