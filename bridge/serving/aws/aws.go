// Package aws speaks AWS's wire protocols, so that its command line and SDKs
// work against the bridge: a request is verified by its signature, finds its
// service by the one that it is signed for and its operation by method and
// path, and is answered as that service answers. Names and HTTP codes of errors
// are chosen in one table, in errors.go.
//
// Served are the topic rules of AWS IoT, rest-json, under the signing names iot
// and execute-api; AWS IoT's data plane (publish, retained messages, shadows),
// rest-json, under iotdata, iotdevicegateway and execute-api; and Kinesis Data
// Streams, whose operations are named by the header X-Amz-Target, in JSON or
// CBOR. A key may do what is granted to it: all, or the data plane alone as far
// as policies allow. Requests of the data plane
// need no signature if Options.Unsigned knows who sends them.
package aws

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/kinesis"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	streams "github.com/tidemill/tidemill/bridge/speed/kinesis"
)

const (
	// maxBody bounds what a request may send. A topic rule's SQL has at most
	// 64 KB (AWS IoT Core quotas, rules engine), and its actions as much again.
	maxBody = 256 << 10
	// maxRequests are under way at once, as are the others here: their bodies
	// have come and memory bounds those.
	maxRequests = 64
	// maxData are under way at once to the data plane.
	maxData = 1024
)

// requestIDHeader is spelled as AWS does; http.Header would write Requestid.
const requestIDHeader = "x-amzn-RequestId"

// Options of a Handler.
type Options struct {
	Account string // 12 digits: part of ARNs
	// Secret finds the secret and session token of an access key.
	Secret  func(keyID string) (secret, sessionToken string, ok bool)
	Rules   TopicRules
	Kinesis *streams.Service
	// Registry is what AWS IoT's control plane works on, with Issuer for the
	// certificates that it makes and Endpoint, where devices connect; nil: none.
	Registry *registry.Registry
	Issuer   *pki.PKI
	Endpoint func() (string, error)
	Fleet    *index.Index // of Registry; nil: none
	// Region is the one that requests must be signed for; "": any. What the
	// services have is of that region alone.
	Region string
	// Provision makes things by templates.
	Provision *provision.Service
	// Authorizers are asked about clients.
	Authorizers Authorizers
	// Data is AWS IoT's data plane; nil: none. Messages have at most MaxPayload
	// bytes.
	Data       Data
	MaxPayload int
	// Key returns what an access key may do, which is not nil.
	Key func(r *http.Request, keyID string) Key
	// Unsigned says who sends a request of the data plane that is not signed.
	// Without a Caller it is refused.
	Unsigned func(r *http.Request) (Caller, error)
	// Place is that of a request's connection among those that are open, nil for
	// none: it learns that the sender is known.
	Place func(r *http.Request) *admission.Slot
	// Permissive takes any signature by any key.
	Permissive bool
	// MaxMemory is what requests' bodies and large answers may have together,
	// in bytes; 0: 256 MiB.
	MaxMemory int64
	Log       *slog.Logger
	Now       func() time.Time // the clock of signatures; nil: time.Now
}

// A Handler answers AWS requests. Several goroutines may use it.
type Handler struct {
	verifier sigv4.Verifier
	services map[string][]operation // by signing name
	wire     *wire.Handler          // of services that have moved to it
	log      *slog.Logger
	memory   *pool
	key      func(r *http.Request, keyID string) Key
	unsigned func(r *http.Request) (Caller, error)
	place    func(r *http.Request) *admission.Slot
	maxData  int64 // bytes of a body of the data plane
	slots    *pool // one for each request under way by path
	data     *pool // one for each to the data plane

	mu    sync.Mutex // guards stats
	stats map[Outcome]Count
}

// New returns a Handler of what o has.
func New(o Options) *Handler {
	iot := (&topicRules{o.Account, o.Rules}).operations()
	if o.Registry != nil {
		c := &controlPlane{account: o.Account, registry: o.Registry, issuer: o.Issuer, authorizers: o.Authorizers, endpoint: o.Endpoint, provision: o.Provision}
		if o.Fleet != nil {
			c.fleet, c.index = o.Fleet, o.Fleet
		}
		iot = append(iot, c.operations()...)
	}
	h := &Handler{
		verifier: sigv4.Verifier{Secret: o.Secret, Region: o.Region, Permissive: o.Permissive, Now: o.Now},
		services: map[string][]operation{"iot": iot, "execute-api": iot},
		log:      o.Log,
		memory:   newPool(cmp.Or(o.MaxMemory, 256<<20)),
		key:      o.Key,
		unsigned: o.Unsigned,
		place:    o.Place,
		maxData:  int64(max(o.MaxPayload, 128<<10)),
		data:     newPool(maxData),
		slots:    newPool(maxRequests),
		stats:    map[Outcome]Count{},
	}
	if o.Data != nil {
		d := &iotData{o.Data, o.Now}
		if d.now == nil {
			d.now = time.Now
		}
		for _, name := range dataServices {
			h.services[name] = append(slices.Clone(h.services[name]), d.operations()...)
		}
	}
	moved := wire.Options{
		Verifier: &h.verifier, Authorizer: grants{}, Place: o.Place, Region: o.Region,
		Key:        func(r *http.Request, id string) wire.Caller { return o.Key(r, id) },
		Permissive: o.Permissive, MaxMemory: o.MaxMemory, Log: o.Log,
	}
	if o.Kinesis != nil {
		moved.Services = append(moved.Services, kinesis.Service(o.Kinesis))
	}
	h.wire = wire.New(moved)
	return h
}

// ServeHTTP implements http.Handler. The request must be as it was received.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if byTarget(r) && !ofData(r.URL.EscapedPath()) {
		h.wire.ServeHTTP(w, r)
		return
	}
	start, id := time.Now(), requestID()
	w.Header()[requestIDHeader] = []string{id}
	who, name, status, err := h.servePath(w, r, id)
	outcome := Outcome{Operation: name, Code: "OK"}
	if err != nil {
		e := errorOf(err)
		if outcome.Code = e.Code; e.Status == http.StatusInternalServerError {
			h.log.Error("a request failed", "request_id", id, "operation", name, "err", err)
		}
	}
	took := time.Since(start)
	h.count(outcome, took)
	h.log.LogAttrs(context.Background(), slog.LevelDebug, "aws request", slog.String("request_id", id), slog.String("key", who.KeyID),
		slog.String("service", who.Service), slog.String("operation", name), slog.Int("status", status), slog.String("code", outcome.Code),
		slog.String("remote", r.RemoteAddr), slog.Duration("took", took))
}

// servePath answers a request of rest-json.
func (h *Handler) servePath(w http.ResponseWriter, r *http.Request, id string) (who sigv4.Identity, name string, status int, err error) {
	who, name, out, err := h.answer(w, r, id)
	status = http.StatusOK
	if err != nil {
		e := errorOf(err)
		status = e.Status
		w.Header().Set("X-Amzn-Errortype", e.Code)
		out = e
	}
	h.write(w, status, out)
	return who, name, status, err
}

// answer finds out who sent r, finds its operation and runs it.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, id string) (who sigv4.Identity, name string, out any, err error) {
	data := ofData(r.URL.EscapedPath())
	from := h.begin(w, r)
	defer from.done()
	in := &request{ctx: r.Context(), id: id, header: r.Header, remote: r.RemoteAddr}
	if data {
		who, in.caller, in.body, err = h.openData(from)
	} else {
		who, in.body, err = h.open(from)
	}
	if err != nil {
		return who, "", nil, err
	}
	places := h.slots
	if data {
		places = h.data
	}
	if err := from.enter(places); err != nil {
		return who, "", nil, err
	}
	op, values, err := h.route(cmp.Or(who.Service, dataServices[0]), r)
	if err != nil {
		return who, "", nil, err
	}
	in.region, in.path, in.query = who.Region, values, r.URL.Query()
	for name, values := range in.query {
		if len(values) > 1 { // the signature is the same whichever comes first
			return who, op.name, nil, fmt.Errorf("%w: %.60q is given twice in the query", registry.ErrInvalid, name)
		}
	}
	out, err = op.run(in)
	return who, op.name, out, err
}

// open verifies a request that must be signed, and reads its body, of a key that
// may do all.
func (h *Handler) open(in *intake) (who sigv4.Identity, body []byte, err error) {
	sig, who, err := h.verifier.Begin(in.r)
	var key Key
	if err == nil {
		key, err = h.whole(in.r, who)
	}
	if err == nil {
		in.claimed(key.Owner())
		body, err = in.body(maxBody)
	}
	if err == nil {
		err = sig.Check(body)
	}
	if err == nil {
		in.proven(key.Owner())
	}
	return who, body, err
}

// whole returns the key of a request, and refuses one that may not do all.
func (h *Handler) whole(r *http.Request, who sigv4.Identity) (Key, error) {
	key := h.key(r, who.KeyID)
	if key.Whole() {
		return key, nil
	}
	return nil, &Error{Code: "AccessDeniedException", Status: http.StatusForbidden, Message: "this is not granted to the access key: " +
		"[[access]] names it with policies, which are for AWS IoT's data plane alone, or not at all"}
}

// openData finds out who sent a request of the data plane, by its signature or
// as the listener knows, and reads its body. Who is nobody comes no further than
// the header.
func (h *Handler) openData(in *intake) (who sigv4.Identity, caller Caller, body []byte, err error) {
	check := func([]byte) error { return nil }
	if h.unsigned != nil && unsigned(in.r) {
		if caller, err = h.unsigned(in.r); err == nil && caller == nil {
			err = sigv4.ErrMissing
		}
		if err == nil {
			in.proven(caller.Owner())
		}
	} else {
		var sig *sigv4.Signature
		if sig, who, err = h.verifier.Begin(in.r); err == nil {
			check, caller = sig.Check, h.key(in.r, who.KeyID)
			in.claimed(caller.Owner())
		}
	}
	if err == nil {
		body, err = in.body(h.maxData)
	}
	if err == nil {
		err = check(body)
	}
	if err == nil {
		in.proven(caller.Owner())
	}
	return who, caller, body, err
}

// write sends out as JSON; nil is an empty body.
func (h *Handler) write(w http.ResponseWriter, status int, out any) {
	var body bytes.Buffer
	if doc, ok := out.(json.RawMessage); ok {
		body.Write(doc)
	} else if out != nil {
		enc := json.NewEncoder(&body)
		enc.SetEscapeHTML(false) // SQL has < and >
		if err := enc.Encode(out); err != nil {
			h.log.Error("an answer cannot be written as JSON", "err", err)
			status = http.StatusInternalServerError
			body.Reset()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(status)
	_, _ = w.Write(body.Bytes()) // the client is gone if this fails
}

// requestID returns a random UUID, as AWS's request ids are.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// An Outcome is what an operation came to.
type Outcome = wire.Outcome

// A Count is how often there was an outcome, and how long that took in all.
type Count = wire.Count

func (h *Handler) count(o Outcome, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.stats[o]
	h.stats[o] = Count{Requests: c.Requests + 1, Time: c.Time + took}
}

// Stats returns what has been answered. There are no more outcomes than
// operations times error codes.
func (h *Handler) Stats() map[Outcome]Count {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.wire.Stats()
	for o, c := range h.stats {
		was := all[o]
		all[o] = Count{Requests: was.Requests + c.Requests, Time: was.Time + c.Time}
	}
	return all
}

// Subscriptions is how many there are now.
func (h *Handler) Subscriptions() int { return h.wire.Subscriptions() }

// byTarget says whether r is of the JSON protocols, which ignore the path; of a
// request without their headers the path decides.
func byTarget(r *http.Request) bool {
	return r.Header.Get("X-Amz-Target") != "" || r.URL.Path == "/" || strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-amz-")
}
