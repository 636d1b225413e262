package wire

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire/shape"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

var key = sigv4test.Key{ID: "AKIATEST", Secret: "secret"}

const (
	jsonType   = jsonPrefix + "1.1"
	json10Type = jsonPrefix + "1.0"
)

// named is a caller by its name.
type named string

func (n named) Principal() string { return string(n) }
func (n named) Owner() string     { return "key/" + string(n) }

// A judge remembers what it was asked, lets AKIATEST do all and everybody else
// what may names, an action and a resource, or an action alone for Admit.
type judge struct {
	may map[string]bool

	mu    sync.Mutex // guards asked
	asked []Question
}

func (j *judge) note(q Question) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.asked = append(j.asked, q)
}

func (j *judge) Admit(q Question) (bool, error) {
	j.note(q)
	if q.Caller.Principal() == key.ID {
		return true, nil
	}
	if !j.may[q.Action] {
		return false, ErrDenied
	}
	return false, nil
}

func (j *judge) Authorize(q Question) error {
	j.note(q)
	if !j.may[q.Action+" "+q.Resource] {
		return ErrDenied
	}
	return nil
}

var errMissing = errors.New("there is none")

type item struct {
	Name  *string `aws:"required,min=1,max=8"`
	Count *int32
}

// A toy is a Handler of three small services: mill in REST, loom and its elder
// sister in JSON 1.1 and 1.0.
type toy struct {
	*Handler
	judge *judge
	log   bytes.Buffer
}

func newToy(change func(*Options)) *toy {
	t := &toy{judge: &judge{}}
	name := func(r *Request) string { return "arn:aws:mill:::wheel/" + r.Path("wheel") }
	mill := &Service{
		Name: "mill", Signing: []string{"mill", "execute-api"}, Protocol: RESTJSON{}, MaxBody: 4 << 10, Concurrent: 2,
		Errors: []Rule{Is(errMissing, "ResourceNotFoundException", 404)},
		Operations: []Operation{
			{Name: "GetWheel", Method: "GET", Path: "/wheels/:wheel", Resource: name,
				Run: func(r *Request) (any, error) {
					if r.Path("wheel") == "lost" {
						return nil, errMissing
					}
					return map[string]string{"wheel": r.Path("wheel"), "speed": r.Query.Get("speed")}, nil
				}},
			{Name: "PutWheel", Method: "PUT", Path: "/wheels/:wheel", Resource: name,
				Run: func(r *Request) (any, error) { return nil, nil }},
		},
	}
	gate := &Service{
		Name: "gate", Signing: []string{"gatedata", "execute-api"}, Protocol: RESTJSON{}, MaxBody: 128 << 10,
		Concurrent: 2,
		Unsigned:   func(path string) bool { return strings.HasPrefix(path, "/gates/") },
		Errors:     []Rule{Say(ErrDenied, "ForbiddenException", 403, "Forbidden")},
		Operations: []Operation{{Name: "Open", Method: "POST", Path: "/gates/:gate+",
			Run:      func(r *Request) (any, error) { return string(r.Body), nil },
			Resource: func(r *Request) string { return "gate/" + r.Path("gate") }}},
	}
	weave := func(r *Request, in *item) (*item, error) {
		if *in.Name == "sick" {
			return nil, errors.New("the disk is sick")
		}
		return in, nil
	}
	loom := &Service{
		Name: "loom", Signing: []string{"loom"}, Protocol: JSON{Target: "Loom_2020", Version: "1.1", CBOR: true},
		MaxBody: 14 << 20, Concurrent: 2,
		Operations: []Operation{
			Query("Weave", nil, weave),
			Command("Cut", nil, func(*Request, *struct{}) error { return nil }),
		},
	}
	loom.Operations[0].Resource = func(r *Request) string { return "cloth/" + *r.Input.(*item).Name }
	old := &Service{
		Name: "oldloom", Signing: []string{"loom"}, Protocol: JSON{Target: "OldLoom", Version: "1.0",
			Namespace: "com.example#"}, MaxBody: 1 << 10, Concurrent: 1,
		Operations: []Operation{Query("Weave", nil, weave)},
	}
	o := Options{
		Services: []*Service{mill, gate, loom, old},
		Verifier: &sigv4.Verifier{Secret: func(id string) (string, string, bool) {
			return key.Secret, "", id == key.ID || id == "AKIAHELD"
		}},
		Key:        func(_ *http.Request, id string) Caller { return named(id) },
		Authorizer: t.judge,
		Unsigned: func(r *http.Request) (Caller, error) {
			if who := r.Header.Get("Who"); who != "" {
				return named(who), nil
			}
			return nil, nil
		},
		MaxMemory: 64 << 20,
		Log:       slog.New(slog.NewTextHandler(&t.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&o)
	}
	t.Handler = New(o)
	return t
}

// held is all that requests hold: bytes and places.
func (h *Handler) held() (n int64) {
	for _, p := range append([]*pool{h.memory, h.peeks}, h.places...) {
		n += p.inUse()
	}
	return n
}

// path is a request of a REST service that is signed by a key.
func path(id, service, method, path, body string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	sigv4test.Sign(r, []byte(body), sigv4test.Key{ID: id, Secret: key.Secret}, "r", service, time.Now())
	return r
}

// targeted is a request of a JSON service.
func targeted(id, target, kind, body string) *http.Request {
	r := httptest.NewRequest("POST", "/", strings.NewReader(body))
	r.Header.Set("X-Amz-Target", target)
	r.Header.Set("Content-Type", kind)
	sigv4test.Sign(r, []byte(body), sigv4test.Key{ID: id, Secret: key.Secret}, "r", "loom", time.Now())
	return r
}

func answer(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}
func (unread) Close() error { return nil }

// without is r with a body that must not be read.
func without(t *testing.T, r *http.Request) *http.Request {
	r.ContentLength, r.Body = cmp.Or(r.ContentLength, 1000), unread{t}
	return r
}

// stream is a service T whose operation Sub gives e.
func stream(e Events) *Service {
	return &Service{Name: "t", Signing: []string{"loom"}, Protocol: JSON{Target: "T", Version: "1.1"}, MaxBody: 4 << 20,
		Concurrent: 8, Operations: []Operation{
			Subscription("Sub", 8, nil, func(*Request, *struct{}) (Events, error) { return e, nil }),
			{Name: "Slow", Input: shape.Of[struct{}](nil), Run: func(*Request) (any, error) { return nil, nil }},
		}}
}
