// Package aws speaks AWS's wire protocols, so that its command line and SDKs
// work against the bridge: a request is verified by its signature, finds its
// service by the one that it is signed for and its operation by method and
// path, and is answered as that service answers. Names and HTTP codes of errors
// are chosen in one table, in errors.go.
//
// Served are the topic rules of AWS IoT, rest-json, under the signing names iot
// and execute-api, and Kinesis Data Streams, whose operations are named by the
// header X-Amz-Target, in JSON or CBOR. A key that is known may do all; there
// are no policies for keys.
package aws

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
)

const (
	// maxBody bounds what a request may send. A topic rule's SQL has at most
	// 64 KB (AWS IoT Core quotas, rules engine), and its actions as much again.
	maxBody = 256 << 10
	// maxRequests are under way at once; each may hold a body.
	maxRequests = 64
	// maxCalls are under way at once by target.
	maxCalls = 2048
)

// requestIDHeader is spelled as AWS does; http.Header would write Requestid.
const requestIDHeader = "x-amzn-RequestId"

// Options of a Handler.
type Options struct {
	Account string // 12 digits: part of ARNs
	// Secret finds the secret and session token of an access key.
	Secret  func(keyID string) (secret, sessionToken string, ok bool)
	Rules   TopicRules
	Kinesis *kinesis.Service
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
	targets  map[string]*target     // by the prefix of X-Amz-Target
	log      *slog.Logger
	memory   *memory
	slots    chan struct{} // one for each request under way by path
	peeks    chan struct{} // one for each by target whose key is not known yet
	calls    chan struct{} // one for each by target, whose bodies memory bounds
	pushes   chan struct{} // one for each subscription

	mu    sync.Mutex // guards stats
	stats map[Outcome]Count
}

// New returns a Handler of what o has.
func New(o Options) *Handler {
	rules := (&topicRules{o.Account, o.Rules}).operations()
	h := &Handler{
		verifier: sigv4.Verifier{Secret: o.Secret, Permissive: o.Permissive, Now: o.Now},
		services: map[string][]operation{"iot": rules, "execute-api": rules},
		targets:  map[string]*target{},
		log:      o.Log,
		memory:   newMemory(cmp.Or(o.MaxMemory, 256<<20)),
		slots:    make(chan struct{}, maxRequests),
		peeks:    make(chan struct{}, maxPeeks),
		calls:    make(chan struct{}, maxCalls),
		pushes:   make(chan struct{}, maxSubscriptions),
		stats:    map[Outcome]Count{},
	}
	if o.Kinesis != nil {
		t := kinesisTarget(o.Kinesis)
		h.targets[t.prefix] = t
	}
	return h
}

// ServeHTTP implements http.Handler. The request must be as it was received.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, id := time.Now(), requestID()
	w.Header()[requestIDHeader] = []string{id}
	serve := h.servePath
	if byTarget(r) {
		serve = h.serveTarget
	}
	who, name, status, err := serve(w, r)
	outcome := Outcome{name, "OK"}
	if err != nil {
		e := errorOf(err)
		if outcome.Code = e.Code; e.internal() {
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
func (h *Handler) servePath(w http.ResponseWriter, r *http.Request) (who sigv4.Identity, name string, status int, err error) {
	who, name, out, err := h.answer(r)
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

// answer verifies r, finds its operation and runs it.
func (h *Handler) answer(r *http.Request) (who sigv4.Identity, name string, out any, err error) {
	select {
	case h.slots <- struct{}{}:
		defer func() { <-h.slots }()
	default:
		return who, "", nil, errBusy
	}
	if who, err = h.verifier.Verify(r, maxBody); err != nil {
		return who, "", nil, err
	}
	op, values, err := h.route(who.Service, r)
	if err != nil {
		return who, "", nil, err
	}
	query := r.URL.Query()
	for name, values := range query {
		if len(values) > 1 { // the signature is the same whichever comes first
			return who, op.name, nil, fmt.Errorf("%w: %.60q is given twice in the query", registry.ErrInvalid, name)
		}
	}
	body, err := io.ReadAll(r.Body) // bounded by Verify
	if err != nil {
		return who, op.name, nil, err
	}
	out, err = op.run(&request{region: who.Region, path: values, query: query, body: body})
	return who, op.name, out, err
}

// write sends out as JSON; nil is an empty body.
func (h *Handler) write(w http.ResponseWriter, status int, out any) {
	var body bytes.Buffer
	if out != nil {
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

// An Outcome is an operation, "" where a request came to none, and the error
// code it was answered with, or OK.
type Outcome struct{ Operation, Code string }

// A Count is how often there was an outcome, and how long that took in all.
type Count struct {
	Requests uint64
	Time     time.Duration
}

func (h *Handler) count(o Outcome, took time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c := h.stats[o]
	h.stats[o] = Count{c.Requests + 1, c.Time + took}
}

// Stats returns what has been answered. There are no more outcomes than
// operations times error codes.
func (h *Handler) Stats() map[Outcome]Count {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make(map[Outcome]Count, len(h.stats))
	for o, c := range h.stats {
		all[o] = c
	}
	return all
}

// Subscriptions is how many there are now.
func (h *Handler) Subscriptions() int { return len(h.pushes) }
