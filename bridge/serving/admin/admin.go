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

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/secrets"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/action"
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
	// Untrusted is the file of the server's certificate if Trusted has not its CA.
	Untrusted() (file string)
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
	List() ([]firehose.Info, error)
	Info(name string) (firehose.Info, error)
	Kept(name string) map[string]json.RawMessage
	Failed(name string) ([]firehose.Failed, error)
	Redrive(ctx context.Context, name string, ids []string, tell func(firehose.Redriven)) error
}

// Outboxes are those of rules; an action.Drainer has them.
type Outboxes interface {
	List() []action.OutboxInfo
	Retry(rule, slot string) error
	Drop(ctx context.Context, rule, slot string) (dropped uint64, err error)
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

// A Disk is what the bridge's parts take; a disk.Meter measures it.
type Disk interface{ Status() disk.Status }

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
	Expiries *Expiries // of certificates
	Broker   bool      // devices connect to a broker instead of the bridge

	Store           Log
	DataStreams     DataStreams
	DeliveryStreams DeliveryStreams
	Outboxes        Outboxes
	Alarms          Alarms // nil: they are elsewhere
	Connectors      Connectors
	Objects         Objects
	Functions       *Functions // nil: switched off
	Secrets         *secrets.Store

	TopicRules TopicRules
	Engine     *rules.Engine
	Compiler   *rules.Compiler

	Declarations Declarations
	Reload       func() (holds int, err error) // applies all files
	Drain        func(Drain) error             // begins it; the bridge ends after that
	Clock        Clock
	Disk         Disk

	Status      func() Status
	Backups     Backups
	Holds       Holds
	Revocations Revocations

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
	mux, own := http.NewServeMux(), arn.Of("tidemill", o.Region, o.Account, "")
	for _, x := range table(o) {
		answers := auditedBy(o.Audit, x, o.Peers.authorized(x, own))
		mux.HandleFunc(x.pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, cmp.Or(x.maxBody, maxBody))
			a := &answer{ResponseWriter: w}
			err := o.Peers.checkKnown(r.Context()) // before anything is kept of it
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
