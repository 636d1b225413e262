package wire

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// requestIDHeader is spelled as AWS does; http.Header would write Requestid.
const requestIDHeader = "x-amzn-RequestId"

// Options of a Handler.
type Options struct {
	Services []*Service
	// Verifier reads signatures.
	Verifier Verifier
	// Key is who signed with an access key, which is not nil.
	Key func(r *http.Request, keyID string) Caller
	// Unsigned says who sends a request that is not signed, of a service that
	// takes those. Without a Caller it is refused; nil: all must be signed.
	Unsigned func(r *http.Request) (Caller, error)
	// Authorizer decides what callers may do.
	Authorizer Authorizer
	// Slot is that of a request's connection among those that are open, nil for
	// none: it learns that the sender is known.
	Slot func(r *http.Request) *admission.Slot
	// Region is that of requests that are not signed.
	Region string
	// Permissive takes a signature for any service, as Verifier takes any by any
	// key then.
	Permissive bool
	// MaxMemory is what requests' bodies and large answers may have together, in
	// bytes; 0: 256 MiB.
	MaxMemory int64
	// Room is nil while there is room for new data, else it says why there is none,
	// for the log and not for callers. It is asked before each Operation that Stores
	// and must be quick. nil: there is always room.
	Room  func() error
	Audit Audit // nil: nothing is kept
	Log   *slog.Logger
}

// A Handler answers AWS requests. Several goroutines may use it.
type Handler struct {
	protocols  []protocol // asked in turn
	verifier   Verifier
	key        func(r *http.Request, keyID string) Caller
	unsigned   func(r *http.Request) (Caller, error)
	authorizer Authorizer
	slot       func(r *http.Request) *admission.Slot
	region     string
	permissive bool
	room       func() error
	audit      Audit
	log        *slog.Logger
	memory     *pool   // bytes of bodies and large answers
	peeks      *pool   // one for each request whose body is read before its key is known
	places     []*pool // all others
	streams    []*pool // of places, those of subscriptions
	actions    []string

	mu    sync.Mutex // guards stats
	stats map[Outcome]Count
}

// service is a Service that is served.
type service struct {
	*Service
	places *pool // one for each request under way
}

// An operation is an Operation that is served.
type operation struct {
	*Operation
	service *service
	action  string // in policies
	places  *pool  // of its own, in the service's place; nil: none
}

// New returns a Handler of what o has. It panics if two operations have one name
// or path.
func New(o Options) *Handler {
	h := &Handler{
		verifier:   o.Verifier,
		key:        o.Key,
		unsigned:   o.Unsigned,
		authorizer: o.Authorizer,
		slot:       o.Slot,
		region:     o.Region,
		permissive: o.Permissive,
		room:       o.Room,
		audit:      o.Audit,
		log:        o.Log,
		memory:     newPool(cmp.Or(o.MaxMemory, 256<<20)),
		peeks:      newPool(maxPeeks),
		stats:      map[Outcome]Count{},
	}
	rest, byTarget := newRESTJSON(), &awsJSON{targets: map[string]*target{}}
	byTarget.claimed = rest.claimed
	h.protocols = []protocol{byTarget, rest} // REST takes the rest
	for _, s := range o.Services {
		served := &service{s, h.newPlaces(s.Concurrent)}
		all := make([]*operation, len(s.Operations))
		for i := range s.Operations {
			op := &s.Operations[i]
			all[i] = &operation{op, served, s.Name + ":" + cmp.Or(op.Action, op.Name), nil}
			h.actions = append(h.actions, all[i].action)
			if op.Concurrent > 0 {
				all[i].places = h.newPlaces(op.Concurrent)
			}
			if op.Stream != nil { // it has places of its own
				h.streams = append(h.streams, all[i].places)
			}
		}
		switch p := s.Protocol.(type) {
		case RESTJSON:
			rest.add(served, all)
		case JSON:
			byTarget.add(&p, served, all)
		case RESTXML:
			// It says itself what is its own, so it is asked first.
			h.protocols = append([]protocol{newRESTXML(p, served, all)}, h.protocols...)
		}
	}
	if rest.standard == nil {
		rest.standard = &service{&Service{MaxBody: maxUnknownBody}, h.newPlaces(maxUnknown)}
	}
	// What is for nobody is asked for first: the others would take it by its path.
	h.protocols = append([]protocol{newUnserved(h, byTarget, o.Services)}, h.protocols...)
	return h
}

// Actions lists the actions of policies that h asks for, of all operations; some
// may be there twice.
func (h *Handler) Actions() []string { return slices.Clone(h.actions) }

func (h *Handler) newPlaces(n int) *pool {
	p := newPool(int64(n))
	h.places = append(h.places, p)
	return p
}

// An exchange is one request and its answer.
type exchange struct {
	Request
	intake
	h        *Handler
	protocol protocol
	service  *service          // that it asks; nil: not known
	op       *operation        // nil: not known
	who      sigv4.Identity    // by its signature, which may not hold
	mayAll   bool              // the caller may do the operation to everything
	admitted time.Time         // when admit asked; 0: it did not
	status   int               // of the answer
	form     form              // of JSON protocols
	peeked   bool              // the body was read before the signature was
	verified bool              // the caller is who it says
	endOf    func(error) error // of the operation's change; nil: it makes none
	over     func()            // ends what asks whether the caller still may; nil: it does not ask
	public   bool              // what everybody may read is asked for, without a signature
}

// ServeHTTP implements http.Handler. The request must be as it was received.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start, id := time.Now(), uuid.NewString()
	w.Header()[requestIDHeader] = []string{id}
	x := &exchange{h: h, Request: Request{ID: id, Region: h.region, Header: r.Header, Remote: r.RemoteAddr}}
	x.x = x
	x.begin(h, w, r)
	defer func() {
		if x.over != nil {
			x.over()
		}
		x.done()
	}()
	for _, x.protocol = range h.protocols {
		if x.protocol.takes(r) {
			break
		}
	}
	err := x.serve()
	outcome := Outcome{Code: "OK"}
	if x.op != nil {
		outcome.Operation = x.op.Name
	}
	if err != nil {
		e := x.errorOf(err)
		if outcome.Code = e.Code; e.internal() {
			h.log.Error("a request failed", "request_id", id, "operation", outcome.Operation, "err", err)
		}
	}
	took := time.Since(start)
	h.count(outcome, took)
	h.log.LogAttrs(context.Background(), slog.LevelDebug, "aws request", slog.String("request_id", id),
		slog.String("key", x.who.KeyID), slog.String("service", x.who.Service),
		slog.String("operation", outcome.Operation), slog.Int("status", x.status), slog.String("code", outcome.Code),
		slog.String("remote", r.RemoteAddr), slog.Duration("took", took))
}

// serve answers the request. The error is what was wrong, and has been told.
func (x *exchange) serve() error {
	if answered, err := x.protocol.greet(x); answered {
		return err
	}
	out, err := x.run()
	err = x.endChange(err)
	switch {
	case err != nil:
		x.protocol.fail(x, x.errorOf(err))
		return err
	case x.op.Stream != nil:
		return x.push(out.(Events))
	}
	x.protocol.answer(x, out)
	return nil
}

// run is the pipeline: what may be wrong with a request in AWS's order, and then
// the operation.
func (x *exchange) run() (any, error) {
	if err := x.protocol.find(x); err != nil {
		return nil, err
	}
	sig, err := x.identify()
	if err != nil {
		return nil, err
	}
	if err := x.admit(); err != nil {
		return nil, err
	}
	if err := x.protocol.scope(x); err != nil {
		return nil, err
	}
	if _, ok := x.service.Protocol.(RESTXML); ok {
		return x.runStreamed(sig)
	}
	owner := x.Caller.Owner()
	if x.claimed(owner); !x.peeked {
		if x.Body, err = x.body(x.service.MaxBody); err != nil {
			return nil, err
		}
	}
	if sig != nil {
		if err := sig.Check(x.Body); err != nil {
			return nil, err
		}
		if c, ok := x.Caller.(signer); ok {
			c.Signed(x.who.Service)
		}
	}
	x.proven(owner)
	x.verified = true
	if err := x.enter(x.service.places); err != nil {
		return nil, err
	}
	if err := x.protocol.read(x); err != nil {
		return nil, err
	}
	if err := x.authorize(); err != nil {
		return nil, err
	}
	return x.operate()
}

// operate runs the operation, until it is done or the caller may not do it any more.
func (x *exchange) operate() (any, error) {
	x.startChange()
	x.last()
	out, err := x.perform()
	if ended := x.ended(); err != nil && ended != nil {
		err = ended
	}
	return out, err
}

func (x *exchange) perform() (any, error) {
	op := x.op
	if op.Stores && x.h.room != nil {
		if err := x.h.room(); err != nil {
			return nil, fmt.Errorf("%w: %w", errNoRoom, err)
		}
	}
	if op.places != nil {
		if err := x.enter(op.places); err != nil {
			return nil, err
		}
	}
	if op.Stream != nil {
		return op.Stream(&x.Request)
	}
	if op.Weigh == nil {
		return op.Run(&x.Request)
	}
	if err := x.hold(maxAnswer); err != nil {
		return nil, err
	}
	out, err := op.Run(&x.Request)
	if err == nil {
		x.shrink(op.Weigh(out)) // while a slow client reads it
	}
	return out, err
}

// errorOf says err in the words of the service.
func (x *exchange) errorOf(err error) *Error {
	if x.service == nil {
		return errorOf(err, nil)
	}
	if _, ok := x.service.Protocol.(RESTXML); ok {
		return errorOf(err, append(slices.Clip(x.service.Errors), xmlErrors...))
	}
	return errorOf(err, x.service.Errors)
}
