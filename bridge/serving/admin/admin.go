// Package admin answers the command line: the API of the admin socket, JSON over
// HTTP, and the health checks of the admin listener.
//
// New makes the API of what Options holds, each part by an interface that says
// what is needed of it. The other exported types are the bodies of requests and
// answers. Every error is answered as an Error. An answer that had begun when it
// failed says why in the trailer ErrorTrailer.
//
// Who asks is known by the socket (WithPeer), and may do what the roles of this peer
// allow (Peers): each row is an action of policies. It also answers over stores of
// which nothing runs, to who could open them.
package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/json"
	"log/slog"
	"net/http"

	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// maxBody bounds requests, but for those whose row in the table says more.
const maxBody = 1 << 20

// Clients are those that are connected; a gateway.Server has them.
type Clients interface {
	// Each calls f for each of them.
	Each(f func(*gateway.Client))
}

// An Issuer is the bridge's own CA; a pki.PKI is one.
type Issuer interface {
	Issue(name string) (*pki.Issued, error)
	IssueFromCSR(csr []byte, name string) (*pki.Issued, error)
	CA() []byte      // PEM
	Trusted() []byte // PEM, of what devices are to trust
	Authorities() []pki.Authority
	SignedByPrevious(*x509.Certificate) bool
	Rotate() error
	Retire() error
	Serves(host string) bool // whether the server's certificate is for the host
}

// A Log is what the API reads of the bridge's log.
type Log interface {
	streams.Router
	streams.Reader
	List() []streams.Info
	Describe(stream string) (streams.Info, error)
	Size(stream string) (streams.Size, error)
}

// DataStreams are those of users; a kinesis.Service has them.
type DataStreams interface {
	Declare(kinesis.Declaration) error
}

// DeliveryStreams are those that are declared; a firehose.Service has them.
type DeliveryStreams interface {
	Stats() map[string]firehose.Stats
	Waiting(name string) (records uint64, err error)
	Kept(name string) map[string]json.RawMessage
}

// Connectors are those that are declared; a declare.Connectors has them.
type Connectors interface {
	List() []connector.Info
}

// TopicRules are the topic rules of files and of the API; declare.Rules has them.
type TopicRules interface {
	Rules() []*rules.Rule
	Named(name string) (*rules.Rule, error) // in force, or registry.ErrNotFound
	Trouble(name string) error
}

// Declarations are the files of bridge.d; a declare.Dir has them.
type Declarations interface {
	Refused() map[string]error // by path
}

// A Clock is the bridge's. Accept trusts it as it is, durably when it returns.
type Clock interface {
	Status() clock.Status
	Accept() error
}

// Options are what the API needs of a bridge.
type Options struct {
	Info            Info
	Account, Region string

	Registry *registry.Registry
	People   *people.Directory
	Declared func() []people.KeyInfo // access keys of files
	Peers    *Peers                  // who may ask for what; nil: everybody for all
	Issuer   Issuer
	Clients  Clients
	// where devices find the bridge: host:port, given or what is missing of it
	Endpoint func(given string) (string, error)
	Expiries func() ([]Expiry, error) // of certificates
	Broker   bool                     // devices connect to a broker instead of the bridge

	Store           Log
	DataStreams     DataStreams
	DeliveryStreams DeliveryStreams
	Connectors      Connectors
	Objects         Objects

	TopicRules TopicRules
	Engine     *rules.Engine
	Compiler   *rules.Compiler

	Declarations Declarations
	Reload       func() (holds int, err error) // applies all files
	Clock        Clock

	Audit   *audit.Log // of changes; nil: they are not kept
	Metrics http.Handler
	Watch   *watch.Hub
	Log     *slog.Logger
}

// Info describes the bridge.
type Info struct {
	Version string `json:"version"`
	Data    string `json:"data"`
	MQTT    string `json:"mqtt"`  // address of the listener; "" if it does not listen
	HTTPS   string `json:"https"` // likewise
	Admin   string `json:"admin"` // likewise
}

// A handler answers a request, or returns why it does not.
type handler func(http.ResponseWriter, *http.Request) error

// New returns the API: JSON over HTTP, that the command line speaks through a Unix
// socket. It also works where the bridge does not run, for what only the stores are
// needed for.
func New(o Options) http.Handler {
	thing := &things{o.Registry, o.Issuer, o.Clients, o.Endpoint, o.Broker, o.Account, o.Region}
	cert := &certificates{o.Registry, o.Issuer}
	ca := &authorities{o.Registry}
	own := &rotation{o.Registry, o.Issuer}
	policy := &policies{o.Registry, o.Account, o.Region, o.Log}
	stream := &dataStreams{o.Store, o.DataStreams}
	rule := &topicRules{o.TopicRules, o.Engine}
	replay := &replays{rules: o.TopicRules, engine: o.Engine, compiler: o.Compiler,
		stops: map[string]context.CancelFunc{}}
	declared := &declarations{o.Declarations, o.Reload}
	user, key := &users{o.People}, &accessKeys{o.People, o.Declared}
	state := &clockState{o.Clock}
	info := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Info) }
	metrics := func(w http.ResponseWriter, r *http.Request) error { o.Metrics.ServeHTTP(w, r); return nil }
	connectors := func(w http.ResponseWriter, _ *http.Request) error { return writeJSON(w, o.Connectors.List()) }
	changes := map[string]change{
		"POST /v1/reload":                                  {action: "Reload", opaque: true},
		"POST /v1/clock/accept":                            {action: "AcceptClock"},
		"POST /v1/streams":                                 {action: "CreateStream"},
		"POST /v1/things":                                  {action: "CreateThing"},
		"DELETE /v1/things/{name}":                         {action: "DeleteThing"},
		"POST /v1/certificates/{id}":                       {action: "UpdateCertificate"},
		"POST /v1/certificates":                            {action: "CreateCertificate"},
		"PUT /v1/certificates":                             {action: "RegisterCertificate"},
		"DELETE /v1/certificates/{id}":                     {action: "DeleteCertificate"},
		"POST /v1/own-cas/rotate":                          {action: "RotateCA"},
		"POST /v1/own-cas/retire":                          {action: "RetireCA"},
		"POST /v1/cas":                                     {action: "RegisterCA"},
		"POST /v1/cas/{id}":                                {action: "UpdateCA"},
		"DELETE /v1/cas/{id}":                              {action: "DeleteCA"},
		"DELETE /v1/policies/{name}":                       {action: "DeletePolicy"},
		"DELETE /v1/policies/{name}/versions/{version}":    {action: "DeletePolicyVersion"},
		"POST /v1/policies/{name}/default":                 {action: "SetDefaultPolicyVersion"},
		"PUT /v1/policies/{name}":                          {action: "PutPolicy"},
		"POST /v1/policies/{name}/targets":                 {action: "AttachPolicy"},
		"DELETE /v1/policies/{name}/targets/{certificate}": {action: "DetachPolicy"},
		"POST /v1/users":                                   {action: "CreateUser"},
		"PUT /v1/users/{name}":                             {action: "UpdateUser"},
		"DELETE /v1/users/{name}":                          {action: "DeleteUser"},
		"PUT /v1/users/{name}/password":                    {action: "SetPassword", opaque: true},
		"POST /v1/access-keys":                             {action: "CreateAccessKey"},
		"POST /v1/access-keys/{id}":                        {action: "UpdateAccessKey"},
		"POST /v1/access-keys/{id}/rotate":                 {action: "RotateAccessKey"},
		"DELETE /v1/access-keys/{id}":                      {action: "DeleteAccessKey"},
		"PUT /v1/objects":                                  {action: "PutObject", opaque: true},
		"POST /v1/crls":                                    {action: "ImportCRL", opaque: true},
	}
	mux, arn := http.NewServeMux(), "arn:aws:tidemill:"+o.Region+":"+o.Account+":"
	for _, row := range []struct {
		pattern string
		answer  handler
		maxBody int64 // 0: as the constant
	}{
		{"GET /metrics", metrics, 0},
		{"GET /v1/info", info, 0},
		{"POST /v1/reload", declared.apply, 0},
		{"GET /v1/clock", state.get, 0},
		{"POST /v1/clock/accept", state.accept, 0},
		{"GET /v1/refused", declared.refused, 0},
		{"GET /v1/streams", stream.list, 0},
		{"POST /v1/streams", stream.create, 0},
		{"GET /v1/streams/records", stream.tail, 0},
		{"GET /v1/delivery-streams", (&deliveryStreams{o.DeliveryStreams}).list, 0},
		{"GET /v1/connectors", connectors, 0},
		{"GET /v1/rules", rule.list, 0},
		{"GET /v1/rules/{name}/recent", rule.recent, 0},
		{"GET /v1/rules/{name}/why", rule.why, 0},
		{"POST /v1/rules/{name}/why", rule.try, 0},
		{"POST /v1/replays", replay.run, 0},
		{"DELETE /v1/replays/{id}", replay.stopOne, 0},
		{"GET /v1/watch", o.Watch.Serve, 0},
		{"GET /v1/things", thing.list, 0},
		{"POST /v1/things", thing.create, 0},
		{"DELETE /v1/things/{name}", thing.remove, 0},
		{"GET /v1/certificates", cert.list, 0},
		{"POST /v1/certificates/{id}", cert.setStatus, 0},
		{"POST /v1/certificates", cert.create, 0},
		{"PUT /v1/certificates", cert.register, 0},
		{"GET /v1/certificates/{id}", cert.get, 0},
		{"DELETE /v1/certificates/{id}", cert.remove, 0},
		{"GET /v1/registration-code", ca.registrationCode, 0},
		{"GET /v1/expiries", (&expiries{o.Expiries}).get, 0},
		{"GET /v1/own-cas", own.list, 0},
		{"POST /v1/own-cas/rotate", own.begin, 0},
		{"POST /v1/own-cas/retire", own.retire, 0},
		{"GET /v1/cas", ca.list, 0},
		{"POST /v1/cas", ca.register, 0},
		{"GET /v1/cas/{id}", ca.get, 0},
		{"POST /v1/cas/{id}", ca.change, 0},
		{"DELETE /v1/cas/{id}", ca.remove, 0},
		{"GET /v1/users", user.list, 0},
		{"POST /v1/users", user.create, 0},
		{"GET /v1/users/{name}", user.get, 0},
		{"PUT /v1/users/{name}", user.change, 0},
		{"DELETE /v1/users/{name}", user.remove, 0},
		{"PUT /v1/users/{name}/password", user.setPassword, 0},
		{"GET /v1/access-keys", key.list, 0},
		{"POST /v1/access-keys", key.create, 0},
		{"GET /v1/access-keys/{id}", key.get, 0},
		{"POST /v1/access-keys/{id}", key.setStatus, 0},
		{"POST /v1/access-keys/{id}/rotate", key.rotate, 0},
		{"DELETE /v1/access-keys/{id}", key.remove, 0},
		{"GET /v1/effective-policies", policy.effective, 0},
		{"POST /v1/policy-tests", policy.test, 0},
		{"GET /v1/who-can", policy.whoCan, 0},
		{"DELETE /v1/policies/{name}", policy.remove, 0},
		{"GET /v1/policies/{name}/versions", policy.versions, 0},
		{"DELETE /v1/policies/{name}/versions/{version}", policy.removeVersion, 0},
		{"POST /v1/policies/{name}/default", policy.setDefault, 0},
		{"GET /v1/policies", policy.list, 0},
		{"GET /v1/policies/{name}", policy.get, 0},
		{"PUT /v1/policies/{name}", policy.put, 0},
		{"POST /v1/policies/{name}/targets", policy.attach, 0},
		{"DELETE /v1/policies/{name}/targets/{certificate}", policy.detach, 0},
		{"PUT /v1/objects", (&objects{o.Objects}).put, maxObject},
		{"POST /v1/crls", cert.importCRL, registry.MaxCRL},
	} {
		allowed := o.Peers.authorized(row.pattern, arn, row.answer)
		answers := auditedBy(o.Audit, row.pattern, allowed, changes)
		mux.HandleFunc(row.pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(row.maxBody, maxBody))
			a := &answer{ResponseWriter: w}
			err := o.Peers.known(r.Context()) // before anything is kept of it
			if err == nil {
				err = answers(a, r)
			}
			if err != nil {
				writeError(a, r, o.Log, err)
			}
		})
	}
	return mux
}
