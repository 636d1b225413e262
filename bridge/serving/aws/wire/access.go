package wire

import (
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
)

// A Verifier finds out who signed a request. *sigv4.Verifier is one.
type Verifier interface {
	Begin(*http.Request) (*sigv4.Signature, sigv4.Identity, error)
}

// A Caller is who sent a request: an access key, a certificate, or whom a custom
// authorizer let in.
type Caller interface {
	// Principal is the caller's name, for policies and logs.
	Principal() string
	// Owner names the caller among those of all kinds: a principal's name is its
	// own among those of its kind and authorizer alone. What a request takes is
	// counted by it.
	Owner() string
}

// A Signer is a Caller that is told when its signature was found to hold, and for
// which service.
type signer interface {
	Caller
	Signed(service string)
}

// anybody reads what is public.
type anybody struct{}

func (anybody) Principal() string { return "anybody" }
func (anybody) Owner() string     { return "anybody" }

// An Authorizer decides what callers may do. It is asked twice about a request, and
// again about one that lasts.
// Several goroutines ask at once.
type Authorizer interface {
	// Admit is asked before the body is read, with no Resource: it returns an
	// error if the caller may not do the action to anything. all says that the
	// caller may do it to everything, and then Authorize is not asked.
	Admit(Question) (all bool, err error)
	// Authorize is asked when the request has been read and its resource is
	// known. The error is ErrDenied, for the service's words of that, or an
	// *Error.
	Authorize(Question) error
}

// A Question is whether a caller may do something.
type Question struct {
	Caller     Caller
	Action     string // the service's name and the operation's, "kinesis:PutRecord"; "iot:" where there is none
	Resource   string // an ARN; "*" for none in particular
	Conditions Conditions
}

// Conditions are what a policy's conditions may ask of a request, by the global
// keys of IAM.
type Conditions struct {
	SourceIP  string // aws:SourceIp; "" if it is not known
	Secure    bool   // aws:SecureTransport
	UserAgent string // aws:UserAgent
	Region    string // aws:RequestedRegion
}

// identify finds out who sends the request, by its signature or as the listener
// knows. Of the signature it returns what is to be checked over the body, nil
// for none.
func (x *exchange) identify() (*sigv4.Signature, error) {
	s := x.service
	if x.public {
		x.Caller = anybody{}
		return nil, nil
	}
	if s.Unsigned != nil && x.h.unsigned != nil && s.Unsigned(x.r.URL.EscapedPath()) && unsigned(x.r) {
		caller, err := x.h.unsigned(x.r)
		if err == nil && caller == nil {
			err = sigv4.ErrMissing
		}
		if err != nil {
			return nil, err
		}
		x.Caller = caller
		x.proven(caller.Owner())
		return nil, nil
	}
	sig, who, err := x.h.verifier.Begin(x.r)
	if x.who = who; err != nil {
		return nil, err
	}
	x.Region, x.Caller = who.Region, x.h.key(x.r, who.KeyID)
	return sig, nil
}

// admit refuses what the caller may not do to anything.
func (x *exchange) admit() (err error) {
	action := x.service.Name + ":"
	switch {
	case x.public:
		x.mayAll = true
		return nil
	case x.op != nil:
		action = x.op.action
	case x.service.Unsigned != nil: // whoever is known learns that there is no such operation
		return nil
	}
	x.admitted = time.Now()
	x.mayAll, err = x.h.authorizer.Admit(x.question(action, ""))
	return err
}

// prompt is how long after admit its answer is believed. Most bodies have come by
// then. Our choice.
const prompt = 100 * time.Millisecond

// authorize asks about each resource, and of a request whose body was slow to come
// again what admit asked: the right may have ended since.
func (x *exchange) authorize() error {
	if !x.public && time.Since(x.admitted) > prompt {
		return x.stillMay(&x.Request)
	}
	if x.mayAll || x.op.Judges {
		return nil
	}
	for _, r := range x.op.resources(&x.Request) {
		if err := x.h.authorizer.Authorize(x.question(x.op.action, r)); err != nil {
			return err
		}
	}
	return nil
}

// resources are what a request is about, for policies.
func (op *operation) resources(r *Request) []string {
	switch {
	case op.Resources != nil:
		return op.Resources(r)
	case op.Resource != nil:
		return []string{op.Resource(r)}
	}
	return []string{"*"}
}

func (x *exchange) question(action, resource string) Question {
	return Question{x.Caller, action, resource, Conditions{SourceIP: admission.Host(x.r.RemoteAddr),
		Secure: x.r.TLS != nil, UserAgent: x.r.UserAgent(), Region: x.Region}}
}

// unsigned says whether r does not even try to be signed.
func unsigned(r *http.Request) bool {
	query, err := url.ParseQuery(r.URL.RawQuery)
	return err == nil && !query.Has("X-Amz-Algorithm") && !query.Has("X-Amz-Signature") &&
		!strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-")
}
