// Package lambda is AWS Lambda as AWS's command line and SDKs speak it, in rest-json:
// functions, their versions, aliases and settings, over bridge/lambda/store, and their
// calls over a lambda.Manager. Each file has a kind of operation.
package lambda

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

const (
	// maxBody bounds a request: a package in base64, and as much as a call has beside it.
	maxBody = store.MaxZip*4/3 + 1<<20
	// maxRequests are under way at once, those that wait for a function too.
	maxRequests = 256
	// maxChanges are requests that may bring packages.
	maxChanges = 4
)

// Functions are called. *lambda.Manager is one.
type Functions interface {
	Call(ctx context.Context, c lambda.Call) (*lambda.Result, error)
	// Check says what would be wrong with a call.
	Check(c *lambda.Call) (*lambda.Function, error)
	// Isolated returns lambda.ErrNotIsolated where no function may be made.
	Isolated() error
	// End ends a function's processes that are idle.
	End(function string)
}

// Queue takes calls that nobody waits for. *async.Queue is one.
type Queue interface {
	Put(ctx context.Context, c lambda.Call) (id string, err error)
}

// Options of the service.
type Options struct {
	Store     *store.Store
	Functions Functions
	Queue     Queue
	// Object reads a package from the bridge's own objects.
	Object func(ctx context.Context, bucket, key string, most int) ([]byte, error)
	// Right says what a destination of queued calls needs, and its error why there is none:
	// functions.Destinations has it.
	Right func(arn string, success bool) (action, resource string, err error)
	// Granted says whether a role gives a function's processes any right of the bridge's
	// APIs: who gives it to a function needs iam:PassRole for it. nil: none does.
	Granted func(role string) bool
	// Concurrency is that of all functions together.
	Concurrency int
}

// An operation is a row of the table.
type operation struct {
	name, method, path string
	status             int
	run                func(*wire.Request) (any, error)
	concurrent         int
}

// Prefixes of paths are the days on which parts of the API came (Lambda API
// reference).
const (
	functionsPath = "/2015-03-31/functions"
	oneFunction   = functionsPath + "/:name"
)

// service are the operations.
type service struct{ Options }

// Service serves o.
func Service(o Options) *wire.Service {
	s := &service{o}
	w := &wire.Service{Name: "lambda", Signing: []string{"lambda"}, Protocol: wire.RESTJSON{}, MaxBody: maxBody,
		Concurrent: maxRequests, Errors: names}
	const concurrency, events = "/functions/:name/concurrency", "/2019-09-25/functions/:name/event-invoke-config"
	for _, row := range []operation{
		{"CreateFunction", "POST", functionsPath, 201, s.create, maxChanges},
		{"GetFunction", "GET", oneFunction, 200, s.get, 0},
		{"GetFunctionConfiguration", "GET", oneFunction + "/configuration", 200, s.configuration, 0},
		{"UpdateFunctionCode", "PUT", oneFunction + "/code", 200, s.updateCode, maxChanges},
		{"UpdateFunctionConfiguration", "PUT", oneFunction + "/configuration", 200, s.updateConfiguration, 0},
		{"ListFunctions", "GET", functionsPath, 200, s.list, 0},
		{"ListFunctions", "GET", functionsPath + "/", 200, s.list, 0}, // of SDKs before 2025
		{"DeleteFunction", "DELETE", oneFunction, 204, s.delete, 0},
		{"Invoke", "POST", oneFunction + "/invocations", 200, s.invoke, 0},
		{"PublishVersion", "POST", oneFunction + "/versions", 201, s.publish, 0},
		{"ListVersionsByFunction", "GET", oneFunction + "/versions", 200, s.versions, 0},
		{"CreateAlias", "POST", oneFunction + "/aliases", 201, s.createAlias, 0},
		{"UpdateAlias", "PUT", oneFunction + "/aliases/:alias", 200, s.updateAlias, 0},
		{"GetAlias", "GET", oneFunction + "/aliases/:alias", 200, s.getAlias, 0},
		{"ListAliases", "GET", oneFunction + "/aliases", 200, s.aliases, 0},
		{"DeleteAlias", "DELETE", oneFunction + "/aliases/:alias", 204, s.deleteAlias, 0},
		{"PutFunctionConcurrency", "PUT", "/2017-10-31" + concurrency, 200, s.putConcurrency, 0},
		{"DeleteFunctionConcurrency", "DELETE", "/2017-10-31" + concurrency, 204, s.deleteConcurrency, 0},
		{"GetFunctionConcurrency", "GET", "/2019-09-30" + concurrency, 200, s.getConcurrency, 0},
		{"PutFunctionEventInvokeConfig", "PUT", events, 200, s.putAsync, 0},
		{"UpdateFunctionEventInvokeConfig", "POST", events, 200, s.updateAsync, 0},
		{"GetFunctionEventInvokeConfig", "GET", events, 200, s.getAsync, 0},
		{"DeleteFunctionEventInvokeConfig", "DELETE", events, 204, s.deleteAsync, 0},
		{"AddPermission", "POST", oneFunction + "/policy", 201, s.addPermission, 0},
		{"GetPolicy", "GET", oneFunction + "/policy", 200, s.getPolicy, 0},
		{"RemovePermission", "DELETE", oneFunction + "/policy/:statement", 204, s.removePermission, 0},
		{"GetAccountSettings", "GET", "/2016-08-19/account-settings", 200, s.settings, 0},
	} {
		w.Operations = append(w.Operations, wire.Operation{Name: row.name, Method: row.method, Path: row.path,
			Concurrent: row.concurrent, Run: answer(row), Resource: s.resource(row), Changes: row.changes(),
			Asked: asked, Action: row.action(), Stores: row.stores()})
	}
	w.Operations = append(w.Operations, absent()...)
	return w
}

// action is the row's name in policies, if that is another.
func (row operation) action() string {
	if row.name == "Invoke" {
		return "InvokeFunction"
	}
	return ""
}

// changes says whether a row's operation changes functions.
func (row operation) changes() bool { return row.method != "GET" && row.name != "Invoke" }

// stores says whether a row's operation puts a package.
func (row operation) stores() bool {
	return row.name == "CreateFunction" || row.name == "UpdateFunctionCode"
}

// asked is what a request asks for without the package and the values of variables,
// which may be secrets.
func asked(r *wire.Request) any {
	var in map[string]any
	if json.Unmarshal(r.Body, &in) != nil { // Run says what is wrong with it
		return nil
	}
	for _, code := range []any{in, in["Code"]} {
		if c, ok := code.(map[string]any); ok {
			if zip, ok := c["ZipFile"].(string); ok {
				c["ZipFile"] = fmt.Sprintf("%d bytes of base64", len(zip))
			}
		}
	}
	if e, ok := in["Environment"].(map[string]any); ok {
		if v, ok := e["Variables"].(map[string]any); ok {
			for name := range v {
				v[name] = "hidden"
			}
		}
	}
	return in
}

// answer has a row's function answer with its status.
func answer(row operation) func(*wire.Request) (any, error) {
	return func(r *wire.Request) (any, error) {
		out, err := row.run(r)
		if _, whole := out.(*wire.Answer); err != nil || whole || row.status == 200 {
			return out, err
		}
		return &wire.Answer{Status: row.status, Body: out}, nil
	}
}

// resource is the ARN of the function that a path names. One that the body names is
// looked for, too, so that a policy may let a user make some.
func (s *service) resource(row operation) func(*wire.Request) string {
	switch {
	case row.name == "CreateFunction":
		return func(r *wire.Request) string {
			var in struct{ FunctionName string }
			_ = json.Unmarshal(r.Body, &in) // Run says what is wrong with it
			return s.arn(in.FunctionName)
		}
	case row.name == "ListFunctions" || row.name == "GetAccountSettings":
		return nil
	}
	return func(r *wire.Request) string { return s.arn(r.Path("name")) }
}

func (s *service) arn(text string) string {
	name, _, err := s.Store.Parse(text)
	if err != nil {
		return "*"
	}
	return s.Store.ARN(name, "")
}

// names are the names of errors: those of Lambda's API reference.
var names = []wire.Rule{
	user(lambda.ErrNotFound, "ResourceNotFoundException", 404),
	user(lambda.ErrPayload, "InvalidRequestContentException", 400),
	user(lambda.ErrTooLarge, "RequestTooLargeException", 413),
	user(lambda.ErrLoop, "RecursiveInvocationException", 400),
	user(lambda.ErrNotIsolated, "InvalidParameterValueException", 400),
	user(store.ErrExists, "ResourceConflictException", 409),
	user(store.ErrInUse, "ResourceConflictException", 409),
	user(store.ErrInvalid, "InvalidParameterValueException", 400),
	user(store.ErrRevision, "PreconditionFailedException", 412),
	user(store.ErrPolicyFull, "PolicyLengthExceededException", 400),
	user(store.ErrFull, "CodeStorageExceededException", 400),
	wire.As(func(e *lambda.ThrottledError) *wire.Error {
		return &wire.Error{Code: "TooManyRequestsException", Status: 429, Message: "Rate Exceeded.", Type: "User",
			Reason: e.Reason, RetryAfter: 1}
	}),
	wire.Say(lambda.ErrClosed, "ServiceException", 502, "the bridge is stopping"),
}

// user names an error that is the caller's.
func user(target error, code string, status int) wire.Rule {
	return func(err error) *wire.Error {
		if !errors.Is(err, target) {
			return nil
		}
		return &wire.Error{Code: code, Status: status, Message: err.Error(), Type: "User"}
	}
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{store.ErrInvalid}, args...)...)
}

// decode reads the body of a request. Members that are not known are AWS's to have,
// and ignored.
func decode(r *wire.Request, in any) error {
	if len(r.Body) == 0 {
		return nil
	}
	if err := json.Unmarshal(r.Body, in); err != nil {
		return &wire.Error{Code: "InvalidRequestContentException", Status: http.StatusBadRequest, Type: "User",
			Message: "Could not parse request body into json: " + err.Error()}
	}
	return nil
}

// function is the name that the path has; a qualifier in it is not for this request.
func (s *service) function(r *wire.Request) (string, error) {
	name, qualifier, err := s.Store.Parse(r.Path("name"))
	if err == nil && qualifier != "" && qualifier != store.Latest {
		err = invalid("%.200q: want a function without a version or alias", r.Path("name"))
	}
	return name, err
}

// qualified is function where the path or the query may have a qualifier.
func (s *service) qualified(r *wire.Request) (name, qualifier string, err error) {
	name, qualifier, err = s.Store.Parse(r.Path("name"))
	if q := r.Query.Get("Qualifier"); err == nil && q != "" {
		if qualifier != "" && qualifier != q {
			return "", "", invalid("the qualifiers %s and %.100q differ", qualifier, q)
		}
		qualifier = q
	}
	return name, qualifier, err
}

// page is a part of a list: from where the marker says on, at most MaxItems.
func page[T any](r *wire.Request, all []T) (part []T, next string, err error) {
	n, from := 50, 0
	if text := r.Query.Get("MaxItems"); text != "" {
		if n, err = strconv.Atoi(text); err != nil || n < 1 || n > 10_000 {
			return nil, "", invalid("MaxItems %.20q, want 1 to 10000", text)
		}
	}
	if text := r.Query.Get("Marker"); text != "" {
		b, err := base64.RawURLEncoding.DecodeString(text)
		if err == nil {
			from, err = strconv.Atoi(string(b))
		}
		if err != nil || from < 0 {
			return nil, "", invalid("Marker: not one that a list ended with")
		}
	}
	all = all[min(from, len(all)):]
	if len(all) > n {
		all, next = all[:n], base64.RawURLEncoding.EncodeToString([]byte(strconv.Itoa(from+n)))
	}
	return append([]T{}, all...), next, nil // [] and not null
}
