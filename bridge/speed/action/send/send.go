// Package send does deliveries of rule actions at their targets: AWS's services,
// what stands for them at an endpoint of its own, and what the bridge has itself.
// The clients are packages of sink and know nothing of rules; here a Delivery
// becomes their call, and their error one that is tried again or not.
package send

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/egress"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/alarm"
	"github.com/tidemill/tidemill/bridge/speed/metric"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/kafka"
	"github.com/tidemill/tidemill/bridge/speed/sink/logs"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/sink/postgres"
	"github.com/tidemill/tidemill/bridge/speed/sink/search"
)

// Options say where targets are. They are fixed before New.
type Options struct {
	// Places are where the services are that kinds of actions call, by kind; of a
	// kind that is not there all is found as AWS's tools find it.
	Places map[string]awsapi.Place
	// Region is that of services where neither the place nor the machine's AWS
	// configuration says which, and of state machines that have only a name.
	Region string
	// Account is the 12 digits of the bridge, and Machines those in the ARNs of state
	// machines; "": the bridge's.
	Account, Machines string
	// Objects are the bridge's own; nil: s3 is elsewhere.
	Objects sink.Objects
	// Functions are the bridge's own; nil: all functions are Lambda's.
	Functions Invoker
	// Topics are the bridge's own of sns actions; nil: all are SNS's.
	Topics *Topics
	// Publish publishes a republish delivery, for topics that have MQTT subscribers.
	Publish func(ctx context.Context, d *action.Delivery) error
	// Alarms are the bridge's own; nil: CloudWatch's.
	Alarms *alarm.Service
	// Metrics are the bridge's own; nil: CloudWatch's.
	Metrics *metric.Registry
	// Search authorizes requests to searches, by kind of action; nil: by signature.
	Search map[string]search.Authorize
	// HTTP calls what is not called through the SDK, and the SDK's services, too,
	// if it is not nil.
	HTTP *http.Client
	// Web calls the URLs that rules name; nil: as HTTP.
	Web *http.Client
	// HTTPTries bounds how often the http action is answered by 429 or 500 to 599
	// before it is given up; 0: not at all. AWS gives up after the third.
	HTTPTries int
	// Dial connects to the brokers that rules name; nil: as net.Dialer does.
	Dial kafka.Dial
	// Postgres is the database of the postgres and timestream actions; nil: none.
	Postgres *postgres.Store
	// Produce and Measures are in the place of brokers and the database; nil: they
	// are not.
	Produce  func(ctx context.Context, p kafka.Properties, records []kafka.Record) []error
	Measures func(ctx context.Context, database, table string, all []action.Measure) error
	// Limit is of one Send; 0: 30 s.
	Limit time.Duration

	plain *http.Client // New's, where HTTP is nil
}

// An Invoker runs functions of the bridge's own.
type Invoker interface {
	// HasFunction says whether a function of that ARN, which may end in a version or
	// alias, is the bridge's.
	HasFunction(arn string) bool
	// InvokeEvent takes an event for a function, to be run some time later, and
	// returns when the event cannot be lost any more. request is the id that the
	// function sees: the same for an event that is given again. An error wraps
	// action.ErrPermanent if the function could never take the event.
	InvokeEvent(ctx context.Context, arn, request string, event []byte) error
}

// standardLimit is how long one Send may take: AWS's clients wait as long for an
// answer at most, and an outbox waits for nobody else.
const standardLimit = 30 * time.Second

// deliveries are of one kind of action.
type deliveries = []*action.Delivery

// A do is what a kind of action does with deliveries; see action.Sender.
type do func(ctx context.Context, ds deliveries) []error

// A Set is the senders of all kinds, and what they counted.
type Set struct {
	senders  map[string]*sender
	brokers  *brokers
	database *postgres.Store // nil: none
	web      *http.Client    // nil: not its own
}

// Close ends connections that stay open. Nobody may Send any more.
func (s *Set) Close() error {
	s.brokers.close()
	if s.database != nil {
		s.database.Close()
	}
	if s.web != nil {
		s.web.CloseIdleConnections()
	}
	return nil
}

// New returns the senders. Nothing is asked before the first delivery.
func New(o Options) *Set {
	if o.Limit == 0 {
		o.Limit = standardLimit
	}
	if o.HTTP == nil {
		o.plain = awsapi.NewHTTP()
	}
	s := &Set{senders: map[string]*sender{}, database: o.Postgres, web: o.Web}
	add := func(kind string, deliveries, bytes int, f do) {
		s.senders[kind] = &sender{bound: action.Bound{Deliveries: deliveries, Bytes: bytes}, do: f, limit: o.Limit}
	}
	addQueues(&o, add)
	addStreams(&o, add)
	addCloudWatch(&o, add)
	addCalls(&o, add)
	addTables(&o, add)
	addObjects(&o, add)
	addWeb(&o, add)
	s.gathers("http", addHTTP(&o, add))
	s.brokers = addKafka(&o, add)
	addRows(&o, add)
	return s
}

// gathers has a kind wait for more.
func (s *Set) gathers(kind string, f func(deliveries) time.Duration) {
	s.senders[kind].gather = f
}

// adding puts a kind of action into a Set, with its bound.
type adding func(kind string, deliveries, bytes int, f do)

// Senders are by kind, as a Drainer wants them.
func (s *Set) Senders() map[string]action.Sender {
	all := make(map[string]action.Sender, len(s.senders))
	for kind, x := range s.senders {
		all[kind] = x
	}
	return all
}

// A sender implements action.Sender.
type sender struct {
	bound  action.Bound
	do     do
	gather func(deliveries) time.Duration // nil: more is not waited for
	limit  time.Duration
	count  counters
}

func (s *sender) Bound() action.Bound { return s.bound }

// Gather implements action.Gatherer.
func (s *sender) Gather(ds deliveries) time.Duration {
	if s.gather == nil {
		return 0
	}
	return s.gather(ds)
}

func (s *sender) Send(ctx context.Context, ds []*action.Delivery) []error {
	ctx, cancel := context.WithTimeout(ctx, s.limit)
	defer cancel()
	errs := s.do(ctx, ds)
	for i, err := range errs {
		errs[i] = final(err)
	}
	s.count.add(errs)
	return errs
}

// final marks an error that no later try can mend: the one place that decides it.
func final(err error) error {
	if err == nil || errors.Is(err, action.ErrPermanent) {
		return err
	}
	permanent := errors.Is(err, sink.ErrName) || errors.Is(err, egress.ErrRefused) || kafka.Permanent(err) ||
		postgres.Permanent(err) || errors.Is(err, logs.ErrRejected) || errors.Is(err, alarm.ErrFull)
	if e, ok := errors.AsType[*post.StatusError](err); ok {
		permanent = awsapi.PermanentStatus(e.Status)
	} else if e, ok := errors.AsType[*search.StatusError](err); ok {
		permanent = awsapi.PermanentStatus(e.Status) && !e.Unauthorized()
	} else if !permanent {
		permanent = awsapi.Permanent(err)
	}
	if permanent {
		return action.Permanent(err)
	}
	return err
}

// errBefore is of deliveries that were not tried: one before them is to be tried
// again, and what is sent to one target keeps its order.
var errBefore = errors.New("a delivery before it is to be tried again")

// inOrder does deliveries one by one, up to the first that is to be tried again.
func inOrder(f func(ctx context.Context, d *action.Delivery) error) do {
	return func(ctx context.Context, ds deliveries) []error {
		return runs(ds, func(*action.Delivery) string { return "" }, 1, 0,
			func(run deliveries) []error { return []error{f(ctx, run[0])} })
	}
}

// runs cuts deliveries into runs that have the same key and are at most so many,
// with at most so many bytes; 0: any. It calls f for each, up to one in which
// something is to be tried again.
func runs(ds deliveries, key func(*action.Delivery) string, most, bytes int,
	f func(run deliveries) []error) []error {
	errs := make([]error, 0, len(ds))
	for len(errs) < len(ds) {
		rest := ds[len(errs):]
		n, size, of := 1, rest[0].Size(), key(rest[0])
		for n < len(rest) && n < most && key(rest[n]) == of && (bytes == 0 || size+rest[n].Size() <= bytes) {
			size += rest[n].Size()
			n++
		}
		again := false
		for _, err := range f(rest[:n]) {
			errs = append(errs, err)
			again = again || err != nil && !errors.Is(final(err), action.ErrPermanent)
		}
		for again && len(errs) < len(ds) {
			errs = append(errs, errBefore)
		}
	}
	return errs
}

// each gives all of n deliveries one error.
func each(n int, err error) []error {
	errs := make([]error, n)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

// apart does a run in one call. If that is refused for good as a whole, the fault may
// be one delivery's: then each is done by itself.
func apart(run deliveries, f func(run deliveries) []error) []error {
	errs := f(run)
	if len(run) == 1 || slices.ContainsFunc(errs, ofPart) {
		return errs
	}
	return runs(run, func(*action.Delivery) string { return "" }, 1, 0, f)
}

// ofPart says whether the error of a part of a call says that the call was not refused
// for good as a whole.
func ofPart(err error) bool {
	e, part := errors.AsType[*awsapi.PartError](err)
	return part && e.Status == 0 || errors.Is(err, logs.ErrRejected) || !permanent(final(err))
}

// clients makes a service's client for each region and role that deliveries name.
type clients[C any] struct {
	o    *Options
	kind string
	make func(aws.Config) C

	mu   sync.Mutex // guards made
	made *kept[C]   // by region
}

func newClients[C any](o *Options, kind string, make func(aws.Config) C) *clients[C] {
	return &clients[C]{o: o, kind: kind, make: make, made: newKept[C](maxClients)}
}

// maxClients bounds for how many regions clients are kept. One that is dropped while
// it is used goes on, for it has nothing to close.
const maxClients = 64

// in returns the client for a region; "": where the place says. An error is of this
// machine's configuration, and not for ever.
func (c *clients[C]) in(ctx context.Context, region string) (C, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if made, ok := c.made.get(region); ok {
		return made, nil
	}
	var none C
	place := c.o.Places[c.kind]
	if region != "" {
		place.Region = region
	}
	cfg, err := config(ctx, c.o, place)
	if err != nil {
		return none, err
	}
	made := c.make(cfg)
	c.made.put(region, made)
	return made, nil
}

// config is what clients at a place are made of.
func config(ctx context.Context, o *Options, place awsapi.Place) (aws.Config, error) {
	cfg, err := place.Once(ctx)
	if errors.Is(err, awsapi.ErrNoRegion) {
		place.Region = o.Region
		cfg, err = place.Once(ctx)
	}
	if o.HTTP != nil {
		cfg.HTTPClient = o.HTTP
	}
	return cfg, err
}

// web is the client of what the SDK does not call.
func (o *Options) web() *http.Client {
	if o.HTTP != nil {
		return o.HTTP
	}
	return o.plain
}

// webOfRules is the client of URLs that rules name.
func (o *Options) webOfRules() *http.Client {
	if o.Web != nil {
		return o.Web
	}
	return o.web()
}

// permanent says whether final marked an error.
func permanent(err error) bool { return errors.Is(err, action.ErrPermanent) }
