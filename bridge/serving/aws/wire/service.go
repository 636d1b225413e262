package wire

import (
	"context"
	"net/http"
	"net/url"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/sigv4"
)

// A Service is one of AWS's: how its requests are written, what they may take,
// its errors and its operations. New reads it once; it must not change then.
type Service struct {
	// Name is what actions of policies begin with, "kinesis".
	Name string
	// Signing are the names that its requests may be signed for, Name among them
	// or not.
	Signing []string
	// Protocol is RESTJSON, a JSON or a RESTXML.
	Protocol Protocol
	// MaxBody bounds a request's body, in bytes.
	MaxBody int64
	// Concurrent is how many requests may be under way at once. They have their
	// place once their body has come and the signature holds, so that who is slow
	// or has no right keeps nobody out.
	Concurrent int
	// Unsigned says whether a path, still escaped, is one of the service's that
	// may be asked for without a signature: Options.Unsigned says then who asks.
	// nil: every request must be signed.
	Unsigned func(path string) bool
	// Errors give errors their names in AWS's words. The first that knows an error
	// counts; those that all services have come after them.
	Errors []Rule
	// Operations by their names or paths.
	Operations []Operation
}

// An Operation answers one kind of request. Run, Stream or Absent is set.
type Operation struct {
	// Name is AWS's, "CreateTopicRule".
	Name string
	// Action is its name in policies, "GetObject" of HeadObject; "": Name.
	Action string
	// Method and Path find the operation in a REST protocol. A segment of Path
	// that begins with ":" takes any text, which Request.Path gives; with "+"
	// behind it, the rest of the path. "/topics/:topic+".
	Method, Path string
	// Read reads and checks what the request says, before it is asked whether the
	// caller may: it becomes Request.Input. nil: Run does it.
	Read func(*Request) (any, error)
	// Run does it. What it returns is written by Output.
	Run func(*Request) (any, error)
	// Absent is what to do in the place of an operation in RESTJSON that is not served, and
	// has no Run: it is refused by its name. "": it is served.
	Absent string
	// Resource is the ARN of what the request is about, for policies; "*" for
	// nothing in particular, as is nil. It is asked of callers alone that may not
	// do it to everything.
	Resource func(*Request) string
	// Resources is in the place of Resource where a request may be about several: the
	// caller must be allowed to do it to each of them. There is at least one.
	Resources func(*Request) []string
	// Changes says that it changes control: what it did, or why it was refused, is
	// kept in the audit log before it is answered (Audit). What it changes in the
	// registry it changes with the request's context, in which the change is, so that
	// it shows what was before and after.
	Changes bool
	// Before is what is changed as it is before, for the audit log, where the change
	// itself does not show it; it returns nil for nothing. nil: it does.
	Before func(*Request) any
	// Asked is what the request asks for, for the audit log, where its body is large or
	// has secrets; nil: the body.
	Asked func(*Request) any

	// Stores says that it puts data, which is refused while Options.Room refuses it.
	Stores bool

	// Query are names that the query must have besides, between spaces, and Having a
	// header, in RESTXML. Of several operations that with more of both is meant.
	Query, Having string
	// Judges says that Run asks by Request.Authorize about each of several resources.
	Judges bool

	// The rest is of JSON protocols.

	// Input is what the body is read into, checked as AWS does: Request.Input.
	Input *shape.Type
	// Output writes what Run returned; nil: the answer is empty. RESTJSON takes
	// what encoding/json takes.
	Output func(w *shape.Writer, out any)
	// Weigh is how many bytes an answer has that may be as large as maxAnswer. It
	// is counted against the memory of bodies. nil: an answer is small.
	Weigh func(out any) int64
	// Stream is in the place of Run where the answer is a stream of events.
	Stream func(*Request) (Events, error)
	// Concurrent is how many may be under way at once; 0: the service's, shared
	// with its other operations.
	Concurrent int
}

// A Request is what an operation sees of a request that was verified and is
// allowed. It is the operation's until that returns.
type Request struct {
	ID     string // of the request, told in the answer
	Region string // that it is signed for, or else Options.Region
	Caller Caller
	Header http.Header
	Query  url.Values // RESTJSON; no name is there twice
	Body   []byte     // in JSON protocols as it came only for Operation.Changes: reading Input unescapes it in place
	Input  any        // what Operation.Read returned, or a pointer to the struct that Operation.Input was made of
	Remote string     // address of the client, with its port
	// Data is the body in RESTXML, which Run reads; nil where there can be none.
	Data *sigv4.Payload

	x      *exchange
	route  *route   // RESTJSON
	values []string // what the segments of its path took
}

// An Answer is what Run returns in RESTJSON where the answer has another status than
// 200, or headers.
type Answer struct {
	Status int
	Header map[string]string
	Body   any // as Run returns it; json.RawMessage goes out as it is
}

// Context ends when the client is gone or the bridge stops.
func (r *Request) Context() context.Context { return r.x.r.Context() }

// Origin is the scheme and host that the client asked, "https://host:8443".
func (r *Request) Origin() string {
	if r.x.r.TLS == nil {
		return "http://" + r.x.r.Host
	}
	return "https://" + r.x.r.Host
}

// Path is what the segment ":name" of the operation's path took, "" for none.
func (r *Request) Path(name string) string {
	for i, n := range r.route.names {
		if n == name {
			return r.values[i]
		}
	}
	return ""
}

// Authorize asks whether the caller may do more than the operation's own action
// to its own resource. It returns nil, or the error to answer with.
func (r *Request) Authorize(action, resource string) error {
	return r.x.h.authorizer.Authorize(r.x.question(action, resource))
}

// Query is an operation of a JSON protocol that answers. In and Out are structs
// as package shape has them; their tags name patterns.
func Query[In, Out any](name string, patterns map[string]string, f func(*Request, *In) (*Out, error)) Operation {
	output := shape.Of[Out](nil)
	return Operation{
		Name:   name,
		Input:  shape.Of[In](patterns),
		Run:    func(r *Request) (any, error) { return f(r, r.Input.(*In)) },
		Output: func(w *shape.Writer, out any) { output.Encode(w, out) },
	}
}

// Command is an operation of a JSON protocol whose answer is empty.
func Command[In any](name string, patterns map[string]string, f func(*Request, *In) error) Operation {
	return Operation{
		Name:  name,
		Input: shape.Of[In](patterns),
		Run:   func(r *Request) (any, error) { return nil, f(r, r.Input.(*In)) },
	}
}

// Subscription is an operation of a JSON protocol that answers with a stream of
// events, of which so many may be under way at once.
func Subscription[In any](name string, concurrent int, patterns map[string]string,
	f func(*Request, *In) (Events, error)) Operation {
	return Operation{
		Name:       name,
		Input:      shape.Of[In](patterns),
		Stream:     func(r *Request) (Events, error) { return f(r, r.Input.(*In)) },
		Concurrent: concurrent,
	}
}
