// Package aws puts the services together that answer AWS's command line and
// SDKs: AWS IoT's control plane and topic rules (package iot), its data plane
// (iotdata), Kinesis Data Streams (kinesis), Firehose (firehose), the tables of AWS Glue
// (glue), S3 (s3) and queues (sqs), over the pipeline of package wire. A key of a file may do what is granted to
// it: all, or the data plane alone as far as policies allow; a user's what the user's
// policies allow, of any service (grants).
package aws

import (
	"log/slog"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/aws/firehose"
	"github.com/tidemill/tidemill/bridge/serving/aws/glue"
	"github.com/tidemill/tidemill/bridge/serving/aws/iot"
	"github.com/tidemill/tidemill/bridge/serving/aws/iotdata"
	"github.com/tidemill/tidemill/bridge/serving/aws/kinesis"
	"github.com/tidemill/tidemill/bridge/serving/aws/lambda"
	"github.com/tidemill/tidemill/bridge/serving/aws/s3"
	"github.com/tidemill/tidemill/bridge/serving/aws/sqs"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	deliveries "github.com/tidemill/tidemill/bridge/speed/firehose/control"
	streams "github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// Options of a handler.
type Options struct {
	Account string // 12 digits: part of ARNs
	// Region is the one that requests must be signed for; "": any. What the
	// services have is of that region alone.
	Region string

	// Rules are AWS IoT's, beside what Registry has; see iot.Options.
	Rules       iot.TopicRules
	Registry    registry.Store // nil: none
	Issuer      *pki.PKI
	Endpoint    func() (string, error)
	Fleet       *index.Index // of Registry; nil: none
	Provision   *provision.Service
	Authorizers iot.Authorizers
	// Data is AWS IoT's data plane; nil: none. Messages have at most MaxPayload
	// bytes.
	Data       *iotdata.Data
	MaxPayload int
	// Objects are served as S3's; nil: none. Everybody reads the buckets of Public.
	Objects *objects.Store
	Public  []string
	// Kinesis are the data streams; nil: none.
	Kinesis *streams.Service
	// Functions are those of Lambda; nil: none.
	Functions *lambda.Options
	// Queues are those that SQS's clients ask; nil: none.
	Queues *queue.Service
	// Firehose are the delivery streams; nil: none.
	Firehose *deliveries.Service
	// Tables are those that AWS Glue's clients read; nil: none.
	Tables *catalogue.Catalogue

	// Secret finds the secret and session token of an access key.
	Secret func(keyID string) (secret, sessionToken string, ok bool)
	// Key returns what an access key may do, which is not nil.
	Key func(r *http.Request, keyID string) Key
	// Unsigned says who sends a request of the data plane that is not signed.
	// Without a Caller it is refused.
	Unsigned func(r *http.Request) (Caller, error)
	// Slot is that of a request's connection among those that are open, nil for
	// none: it learns that the sender is known.
	Slot func(r *http.Request) *admission.Slot
	// Permissive takes any signature by any key.
	Permissive bool
	// MaxMemory is what requests' bodies and large answers may have together,
	// in bytes; 0: 256 MiB.
	MaxMemory int64
	// Room refuses new data while it is not nil, see wire.Options.
	Room  func() error
	Audit *Audit // of changes and refused callers; nil: none
	Log   *slog.Logger
	Now   func() time.Time // the clock of signatures; nil: time.Now
}

// New returns a handler of what o has.
func New(o Options) *wire.Handler {
	services := []*wire.Service{iot.Service(iot.Options{Account: o.Account, Rules: o.Rules, Registry: o.Registry,
		Issuer: o.Issuer, Endpoint: o.Endpoint, Fleet: o.Fleet, Provision: o.Provision, Authorizers: o.Authorizers})}
	may := grants{data: map[string]bool{}}
	if o.Data != nil {
		s := iotdata.Service(o.Account, *o.Data, o.MaxPayload, o.Now)
		services = append(services, s)
		may.add(s)
	}
	if o.Kinesis != nil {
		services = append(services, kinesis.Service(o.Kinesis))
	}
	if o.Queues != nil {
		services = append(services, sqs.Service(o.Queues, o.Account))
	}
	if o.Firehose != nil {
		services = append(services, firehose.Service(o.Firehose))
	}
	if o.Tables != nil {
		services = append(services, glue.Service(o.Tables, o.Account))
	}
	if o.Objects != nil {
		services = append(services, s3.Service(s3.Options{Store: o.Objects, Account: o.Account, Region: o.Region,
			Public: o.Public}))
	}
	if o.Functions != nil {
		services = append(services, lambda.Service(*o.Functions))
	}
	w := wire.Options{
		Services: services,
		Verifier: &sigv4.Verifier{Secret: o.Secret, Region: o.Region, Permissive: o.Permissive, Now: o.Now,
			Unsigned: func(service string) bool { return service == "s3" }},
		Key:        func(r *http.Request, id string) wire.Caller { return o.Key(r, id) },
		Authorizer: may,
		Slot:       o.Slot,
		Region:     o.Region,
		Permissive: o.Permissive,
		MaxMemory:  o.MaxMemory,
		Room:       o.Room,
		Log:        o.Log,
	}
	if o.Audit != nil { // not a wire.Audit that is not nil
		w.Audit = o.Audit
	}
	if o.Unsigned != nil {
		w.Unsigned = func(r *http.Request) (wire.Caller, error) {
			c, err := o.Unsigned(r)
			if c == nil { // not a wire.Caller that is not nil
				return nil, err
			}
			return c, err
		}
	}
	return wire.New(w)
}
