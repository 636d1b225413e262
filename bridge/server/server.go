// Package server assembles the bridge: it opens the stores, wires the parts of
// bridge/speed and bridge/control to each other, and runs and stops them in
// order. The command line and the tests run whole bridges through it.
package server

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/control/secrets"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/declare"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/egress"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/seal"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/events"
	"github.com/tidemill/tidemill/bridge/serving/functions"
	"github.com/tidemill/tidemill/bridge/serving/lookup"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/action/send"
	"github.com/tidemill/tidemill/bridge/speed/alarm"
	"github.com/tidemill/tidemill/bridge/speed/broker"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	"github.com/tidemill/tidemill/bridge/speed/firehose/control"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/metric"
	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/route"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

// A Server is one bridge over one data directory.
type Server struct {
	cfg     *config.Config
	log     *slog.Logger
	version string

	pki       *pki.PKI
	keys      *access.Keyring
	registry  *registry.Registry
	engine    *bolt.Engine // of the registry
	people    *people.Directory
	peers     *admin.Peers
	readPeers func() error // of the configuration, again
	expiries  *admin.Expiries

	audit       *audit.Log
	queuedAudit *audit.Log  // does not wait; for who holds locks
	auditWaits  atomic.Bool // something was queued before the log ran
	logRuns     atomic.Bool

	pkiFiles      *pkiFiles
	auditMover    *audit.Mover
	auditRefusals *audit.Refusals // of whoever comes
	auditDenied   *audit.Refusals // of those who are known

	store       *pebble.Store
	objects     *objects.Store
	dir         *datadir.Dir
	disk        *disk.Meter
	clock       *clock.Clock
	shadows     *boltstore.Store
	fleet       *index.Index
	backups     *backup.Service
	started     time.Time
	revocations *backup.Revoker

	shadow      *service.Service
	ingest      *ingest.Ingest
	compiler    *rules.Compiler
	rules       *rules.Engine
	topicRules  *declare.Rules
	outboxes    *action.Outboxes
	drainer     *action.Drainer
	senders     *send.Set        // of actions that call a service
	topics      *send.Topics     // of sns actions
	alarms      *alarm.Service   // nil: they are CloudWatch's
	ruleMetrics *metric.Registry // nil: they are CloudWatch's
	firehose    *firehose.Service
	deliveries  *control.Service
	seal        *seal.Key
	tables      *catalogue.Catalogue // that delivery streams convert by
	kinesis     *kinesis.Service
	queues      *queue.Service
	egress      *egress.List
	connectors  *declare.Connectors
	subscribers *gateway.Subscribers
	gateway     *gateway.Server
	lifecycle   *events.Lifecycle
	refusals    *access.Refusals
	notices     notice.Log // of services and calls that fail
	webhooks    *webhooks
	provision   *provision.Service
	custom      *access.CustomAuthorizers
	authorizer  *access.Authorizer
	revoker     *access.Revoker
	broker      *broker.Broker // nil: none
	publisher   *route.Publisher
	router      *route.Router
	aws         *wire.Handler
	failures    *lookup.Failures
	watchers    watch.Hub
	functions   *functionParts // nil: switched off
	caller      *functions.Caller
	secrets     *secrets.Store

	registryEvents *events.Registry

	drain    chan datadir.Move      // has one when a drain is to begin
	stopping atomic.Pointer[string] // why the bridge is ready no more

	listens bool          // Listen returned
	mqtt    net.Listener  // set by Listen; nil: a broker takes the devices
	https   *listen.HTTPS // nil: none
	admin   net.Listener  // likewise

	declared *declare.Dir

	closers []func() error
}

// Options are those of a Server.
type Options struct {
	Config *config.Config
	// Reread reads the configuration anew: Reload takes [[access]] from it. nil: it
	// stays as it is.
	Reread  func() (*config.Config, error)
	Version string
	// Moving opens a directory that was drained, for its last backup.
	Moving bool
	Log    *slog.Logger
}

// New opens, and at the first start makes, everything in the data directory.
// It listens to nothing and starts nothing; the caller must Close it.
func New(o Options) (*Server, error) {
	return open(o, pebble.Options{Log: o.Log, Gather: time.Duration(o.Config.Ingest.Gather)},
		service.Options{Log: o.Log})
}

// Close closes the listeners, if Run did not, and the stores, the last opened
// first. Run must have returned. Closing again does nothing.
func (s *Server) Close() error {
	errs := []error{s.closeListeners()}
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Run serves until ctx ends, then stops in order: listeners and connections,
// rules, sinks, shadows, and last the log. Listen comes first. When a part
// ends by itself, all stop and Run returns its error.
func (s *Server) Run(ctx context.Context) error {
	if !s.listens {
		return errors.New("server: Run before Listen")
	}
	// What Reload refuses is logged. But without any rules the workers would
	// pass over what the log holds for them.
	if _, err := s.Reload(); !s.topicRules.Loaded() {
		return errors.Join(err, s.closeListeners())
	}
	socket, err := listen.Socket(s.cfg.Admin.Socket, len(s.cfg.Admin.Peers) > 0 && admin.KnowsPeers)
	if err != nil {
		return errors.Join(err, s.closeListeners())
	}
	var running []*stage
	failed := make(chan error, 1)
	for _, parts := range s.stages(s.peers.Limit(socket)) {
		running = append(running, startStage(s.log, failed, parts...))
	}
	s.log.Info("bridge is up", "version", s.version, "mqtt", address(s.mqtt), "broker", s.cfg.Broker.URL,
		"https", s.httpsAddr(), "admin", address(s.admin), "data", s.cfg.DataDir)
	var move *datadir.Move
	select {
	case <-ctx.Done():
		s.stops("the bridge stops")
	case err := <-failed:
		s.stops("a part of the bridge failed: " + err.Error())
	case m := <-s.drain:
		move = &m
		s.stops("draining: the bridge is being moved")
	}
	for _, st := range slices.Backward(running) {
		err = errors.Join(err, st.stop())
	}
	if move != nil && err == nil {
		err = s.drained(move)
	}
	return err
}

// stops says why the bridge is ready no more.
func (s *Server) stops(why string) {
	s.stopping.Store(&why)
	s.log.Info("bridge stops", "why", why)
}

// stages are in the order in which they start; the last stops first.
func (s *Server) stages(socket net.Listener) [][]part {
	// The admin listener says until the end that the bridge stops.
	log := []part{{"log", s.runLog}, {"clock", s.clock.Run}, {"notes", s.notes}, {"disk", s.disk.Run},
		s.serve("admin listener", s.admin, s.publicHandler(), listen.Within(time.Minute))}
	devices := part{"gateway", func(ctx context.Context) error { return s.gateway.Serve(ctx, s.mqtt) }}
	var publishing []part
	if s.broker != nil {
		devices = part{"broker", func(ctx context.Context) error { return s.broker.Consume(ctx, s.router.FromBroker) }}
		publishing = []part{{"publishing to the broker", s.broker.Send}}
	}
	shadows := part{"shadows", func(ctx context.Context) error {
		<-ctx.Done()
		s.shadow.Close() // its last answers go to the log
		return nil
	}}
	sinks := []part{{"outboxes", s.drainer.Run}, {"delivery streams", s.firehose.Run},
		{"ends of delivery streams", s.deliveries.Run},
		{"data streams", s.kinesis.Run}, {"connectors", s.unheld(hold.Connectors, s.connectors.Run)},
		{"objects", s.objects.Run}}
	if s.alarms != nil {
		sinks = append(sinks, part{"alarms", s.alarms.Run})
	}
	front := []part{
		devices,
		{"declarations", s.declared.Run},
		{"refusals", s.refusals.Run},
		{"services and calls that fail", s.notices.Run},
		{"registry events", s.registryEvents.Run},
		{"fleet index", s.fleet.Run},
		{"provisioning", s.provision.Run},
		{"people", s.people.Run},
		{"end of forbidden connections", s.revoker.Run},
		{"session tickets", func(ctx context.Context) error { return s.pki.Run(ctx, s.log) }},
		{"backups", s.backups.Run},
		{"revocations", s.revocations.Run},
		{"server certificates", func(ctx context.Context) error { return s.pki.WatchServed(ctx, s.log) }},
		s.serveHTTPS(),
		s.serve("admin socket", socket, s.Handler(), adminServer()),
	}
	stages := append([][]part{log}, s.functionStages()...)
	return append(stages,
		publishing,
		[]part{shadows},
		sinks,
		[]part{{"rules", s.rules.Run}},
		[]part{{"sessions", s.gateway.Run}}, // acknowledgements come until the last connection has ended
		// They come until the last connection has ended, and end then.
		[]part{{"lifecycle events", func(ctx context.Context) error { return s.lifecycle.Run(ctx, s.gateway) }}},
		[]part{{"audit records", s.auditMover.Run}, {"refused sign-ins", s.auditRefusals.Run},
			{"refused changes", s.auditDenied.Run}},
		front)
}
