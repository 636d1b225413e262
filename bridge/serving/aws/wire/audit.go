package wire

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/sigv4"
)

// An Audit keeps what operations that change control have done, and who was refused.
// Several goroutines use it.
type Audit interface {
	// Begin returns the context of an operation that makes c, and what ends it: that
	// is called once before the answer is sent, with the error that refused it or
	// nil, and returns what to answer.
	Begin(ctx context.Context, c Change) (of context.Context, end func(error) error)
	// Refuse keeps a change that was refused before it began. proven says that the
	// caller is who it says.
	Refuse(c Change, proven bool, err error)
	// SignIn keeps a request that is nobody's who is known; keyID is whom its
	// signature claims to be of, "" for none.
	SignIn(r *http.Request, keyID string, err error)
}

// A Change is what is known of a change of control before it is made.
type Change struct {
	Caller  Caller
	Key     string // access key that it is signed with, "" for none
	Remote  string // address of the client, with its port
	Address string // by which what clients take is counted
	Request string // id
	Action  string // the operation's name
	Target  string // ARN; "" where the change names it
	Asked   json.RawMessage
	Before  any // of Operation.Before
}

// startChange has the operation's change recorded, if it makes one: those who make
// it find it in the request's context.
func (x *exchange) startChange() {
	if x.h.audit == nil || !x.op.Changes {
		return
	}
	c := x.changeOf()
	if x.op.Before != nil {
		c.Before = x.op.Before(&x.Request)
	}
	ctx, end := x.h.audit.Begin(x.r.Context(), c)
	x.r, x.endOf = x.r.WithContext(ctx), end
}

// endChange keeps the record of a change, or of who was refused, before it is
// answered, and returns what to answer.
func (x *exchange) endChange(err error) error {
	switch {
	case x.endOf != nil:
		return x.endOf(err)
	case err == nil || x.h.audit == nil:
	case !x.verified && isSignature(err), x.Caller == nil && errors.Is(err, ErrDenied):
		x.h.audit.SignIn(x.r, x.who.KeyID, err)
	case x.Caller != nil && x.op != nil && x.op.Changes:
		x.h.audit.Refuse(x.changeOf(), x.verified, err)
	}
	return err
}

// signs says whether a name in the query is of a signature: who has the query of a
// presigned request can send it again.
func signs(name string) bool {
	low := strings.ToLower(name)
	return strings.HasPrefix(low, "x-amz-") || low == "awsaccesskeyid" || low == "signature" || low == "expires"
}

// isSignature says whether err is that of a signature that does not hold.
func isSignature(err error) bool {
	for _, is := range []error{sigv4.ErrBoth, sigv4.ErrIncomplete, sigv4.ErrUnknownKey, sigv4.ErrMismatch,
		sigv4.ErrTime} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// changeOf is what is known of the change so far.
func (x *exchange) changeOf() Change {
	c := Change{Caller: x.Caller, Key: x.who.KeyID, Remote: x.r.RemoteAddr, Address: x.address, Request: x.ID,
		Action: x.op.Name, Asked: x.asked()}
	switch {
	case x.op.Input != nil && x.Input == nil: // it is not read yet
	case x.op.Resources != nil:
		c.Target = x.op.Resources(&x.Request)[0]
	case x.op.Resource != nil:
		c.Target = x.op.Resource(&x.Request)
	}
	if c.Target == "*" {
		c.Target = ""
	}
	return c
}

// asked is what the request asks for: its body, or what was read of one that is no
// JSON, and what is in the query.
func (x *exchange) asked() json.RawMessage {
	if x.op.Asked != nil {
		doc, err := json.Marshal(x.op.Asked(&x.Request))
		if err != nil {
			x.h.log.Error("what a request asks for cannot be kept", "operation", x.op.Name, "err", err)
		}
		return doc
	}
	if x.op.Input != nil {
		if x.Input == nil {
			return nil
		}
		w := shape.NewWriter(shape.JSON, nil)
		x.op.Input.Encode(w, x.Input)
		return w.Bytes()
	}
	body := json.RawMessage(x.Body)
	if !utf8.Valid(body) || !json.Valid(body) {
		body = nil
	}
	if len(x.Query) == 0 {
		return body
	}
	query := map[string]string{}
	for name := range x.Query {
		if !signs(name) {
			query[name] = x.Query.Get(name)
		}
	}
	if len(query) == 0 {
		return body
	}
	all := map[string]any{"query": query}
	if body != nil {
		all["body"] = body
	}
	text, err := json.Marshal(all)
	if err != nil {
		return nil
	}
	return text
}
