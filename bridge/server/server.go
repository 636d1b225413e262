// Package server assembles the bridge: it opens the stores, wires the parts of
// bridge/speed and bridge/control to each other, and runs and stops them in
// order. The command line and the tests run whole bridges through it.
package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/declare"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/aws"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/events"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

// A Server is one bridge over one data directory.
type Server struct {
	cfg     *config.Config
	log     *slog.Logger
	version string

	pki      *pki.PKI
	keys     *access.Keyring
	registry *registry.Registry
	expiries *expiries
	store    *pebble.Store
	objects  *sink.Dir
	dir      *datadir.Dir
	clock    *clock.Clock
	shadows  *boltstore.Store
	fleet    *index.Index

	shadow     *service.Service
	ingest     *ingest.Ingest
	compiler   *rules.Compiler
	rules      *rules.Engine
	topicRules *declare.Rules
	outboxes   *action.Outboxes
	drainer    *action.Drainer
	firehose   *firehose.Service
	kinesis    *kinesis.Service
	connectors *declare.Connectors
	gateway    *gateway.Server
	lifecycle  *events.Lifecycle
	refusals   *access.Refusals
	webhooks   *webhooks
	provision  *provision.Service
	custom     *access.CustomAuthorizers
	authorizer *access.Authorizer
	revoker    *access.Revoker
	broker     *joined // nil: none
	router     *router
	aws        *wire.Handler
	calls      *failedCalls
	onlookers  watch.Hub

	registryEvents *events.Registry

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
	Log     *slog.Logger
}

// New opens, and at the first start makes, everything in the data directory.
// It listens to nothing and starts nothing; the caller must Close it.
func New(o Options) (*Server, error) {
	return open(o, pebble.Options{Log: o.Log, Gather: time.Duration(o.Config.Ingest.Gather)}, service.Options{Log: o.Log})
}

// open is New with the options of the parts that touch the disk and the clock.
func open(o Options, so pebble.Options, sh service.Options) (_ *Server, err error) {
	cfg := o.Config
	s := &Server{cfg: cfg, log: o.Log, version: o.Version}
	defer func() {
		if err != nil {
			err = errors.Join(datadir.HowOn(err), s.Close())
		}
	}()
	if err := checkRoom(cfg.DataDir, int64(cfg.MinFree)); err != nil {
		return nil, err
	}
	if s.dir, err = datadir.Open(cfg.DataDir, datadir.Parts(cfg.DataDir, cfg.Objects.Dir), cfg.AcceptLoss, s.log); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.dir.Close)
	if err := s.dir.Check(); err != nil {
		return nil, err
	}
	s.clock = clock.New(clock.Options{MaxStep: time.Duration(cfg.Clock.MaxStep), MaxGap: time.Duration(cfg.Clock.MaxGap),
		AcceptAfter: acceptAfter(cfg.Clock), Wall: so.Now, Log: s.log})
	so.Expiry = s.clock.Expiry
	at := func(name string) string { return filepath.Join(cfg.DataDir, name) }
	if s.pki, err = pki.Open(at("pki"), pki.Options{ServerNames: cfg.MQTT.ServerNames, DeviceLifetime: time.Duration(cfg.PKI.DeviceLifetime),
		MQTT: pki.Files{Cert: cfg.MQTT.Cert, Key: cfg.MQTT.Key}, HTTPS: pki.Files{Cert: cfg.HTTPS.Cert, Key: cfg.HTTPS.Key}}); err != nil {
		return nil, err
	}
	if err = s.openKeyring(o.Reread); err != nil {
		return nil, err
	}
	tables, err := bolt.Open(at("registry.db"), bolt.Options{})
	if err != nil {
		return nil, err
	}
	if s.registry, err = registry.New(tables); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.registry.Close)
	s.registry.SetExpiry(s.clock.Expiry)
	s.expiries = &expiries{pki: s.pki, registry: s.registry}
	// The log's files have the mode that the umask leaves them.
	if err := datadir.Private(at("log")); err != nil {
		return nil, err
	}
	if s.store, err = pebble.Open(at("log"), so); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.store.Close)
	if err := s.dir.CheckLog(s.store); err != nil {
		return nil, err
	}
	if s.objects, err = sink.OpenDir(cfg.Objects.Dir); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.objects.Close)
	if s.shadows, err = boltstore.Open(at("shadow.db"), boltstore.Options{}); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.shadows.Close)
	// A directory of before there were grants is complete when Listen has made
	// them, so that a query that comes first does not take the rights away.
	if !s.keys.NeedsMigration() {
		if err := s.dir.Complete(); err != nil {
			return nil, err
		}
	}
	if err := s.resumeClock(); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.note)
	return s, s.wire(sh)
}

// wire makes the parts and ties them together.
func (s *Server) wire(sh service.Options) error {
	s.router = &router{store: s.store, onlookers: &s.onlookers}
	s.calls, s.webhooks = &failedCalls{log: s.log}, &webhooks{log: s.log}
	s.refusals = access.NewRefusals(s.log)
	s.outboxes = action.NewOutboxes(s.store)
	s.rules = rules.New(s.store, rules.Options{Account: s.cfg.Account, Outbox: s.outboxes.Ensure, Log: s.log})
	s.drainer = action.NewDrainer(s.outboxes, action.Options{Objects: s.objects, Republish: s.router, Failed: s.rules.Fail, Tried: s.rules.Tried, Log: s.log})
	var err error
	s.kinesis, err = kinesis.Open(s.store, kinesis.Options{
		Account: s.cfg.Account, Region: s.cfg.Region, Log: s.log, Delay: time.Duration(s.cfg.Kinesis.Delay),
		Emulate: s.cfg.Kinesis.Emulate, MaxShards: s.cfg.Kinesis.MaxShards, SmallRequests: s.cfg.Kinesis.SmallRequests})
	if err != nil {
		return err
	}
	s.firehose = firehose.New(s.store, func(stream string) connector.Source { return connector.InProcess(s.store, s.kinesis.In(""), stream) }, s.objects, s.log)
	if err := s.openDeclared(sh.Now); err != nil {
		return err
	}
	if s.provision, err = s.newProvision(); err != nil {
		return err
	}
	if err := s.openFleet(); err != nil {
		return err
	}
	if err := s.openAccess(); err != nil {
		return err
	}
	s.aws = aws.New(aws.Options{Account: s.cfg.Account, Region: s.cfg.Region, Authorizers: s.custom, Secret: s.authorizer.Secret, Permissive: s.cfg.HTTPS.Permissive,
		MaxMemory: int64(s.cfg.HTTPS.MaxMemory), Rules: s.topicRules, Kinesis: s.kinesis, Log: s.log,
		Data: dataPlane{s.router}, MaxPayload: int(s.cfg.MQTT.MaxPayload), Key: s.keyCaller, Unsigned: s.unsigned, Slot: listen.SlotOf,
		Registry: s.registry, Provision: s.provision, Issuer: s.pki, Endpoint: func() (string, error) { return s.endpoint("") }, Fleet: s.fleet})
	err = s.store.Create(ingest.Stream, streams.Config{
		Shards: s.cfg.Ingest.Shards, Retention: time.Duration(s.cfg.Ingest.Retention), MaxBytes: int64(s.cfg.Ingest.MaxBytes)})
	if errors.Is(err, streams.ErrExists) {
		err = s.store.Update(ingest.Stream, time.Duration(s.cfg.Ingest.Retention), int64(s.cfg.Ingest.MaxBytes))
	}
	if err != nil {
		return err
	}
	s.ingest, err = ingest.New(s.store, ingest.Options{
		Log:       s.log,
		ThingRate: s.cfg.MQTT.MaxThingRate, ThingBytes: int(s.cfg.MQTT.MaxThingBytes),
		Store: func(t string) bool {
			return slices.ContainsFunc(s.cfg.Ingest.Store, func(f string) bool { return stored(f, t) })
		},
	})
	if err != nil {
		return err
	}
	sh.MaxNamed, sh.MaxBytes = s.cfg.Shadow.MaxNamed, int(s.cfg.Shadow.MaxBytes)
	sh.Steady = s.clock.Steady
	s.shadow = service.New(indexedShadows{s.shadows, s.fleet}, s.router, sh)
	s.closers = append(s.closers, func() error { s.shadow.Close(); return nil })
	s.lifecycle = events.NewLifecycle(s.router.Publish, s.log)
	s.registryEvents = events.NewRegistry(s.registry, s.cfg.Account, s.cfg.Region, s.router.publishOwn, s.log)
	s.gateway = gateway.New(s.gatewayConfig(), s.authorizer, s.router)
	s.revoker = access.NewRevoker(s.gateway, s.log)
	s.router.ingest, s.router.shadow, s.router.gateway = s.ingest, s.shadow, s.gateway
	s.router.provision, s.router.registry = s.provision, s.registry
	if err := s.openBroker(); err != nil {
		return err
	}
	if err := s.gateway.Load(); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	stop := s.registry.Watch(s.registryChanged)
	s.closers = append(s.closers, func() error { stop(); return nil })
	return nil
}

// stored says whether filter names topic for the ingest log. "#" means all,
// reserved topics too, so that rules see shadows.
func stored(filter, name string) bool { return filter == "#" || topic.Match(filter, name) }

// Bounds of profile mqtt that AWS has far lower (256 bytes, 7 slashes, 8 filters).
// Without them a client could make a subscription of 65,000 levels, each with
// memory of its own, and have every retained message compared with 65,000 filters.
const (
	maxTopic   = 1024
	maxSlashes = 31
	maxFilters = 100
)

// gatewayConfig is the gateway's with the limits and ways of the profile, but for
// what is set.
func (s *Server) gatewayConfig() gateway.Config {
	m, c := s.cfg.MQTT, gateway.Config{MaxTopic: maxTopic, MaxSlashes: maxSlashes, MaxFilters: maxFilters}
	if m.Profile == "aws" {
		c = gateway.AWSConfig()
	}
	c.Store, c.Steady, c.Events, c.Log, c.Denied = s.store, s.clock.Steady, s.clientEvent, s.log, s.refusals.Denied
	c.Wait = func(x gateway.Session) time.Duration { return s.ingest.Wait(x.Thing()) }
	// A decision takes less than looking one up (30 to 220 ns), and a right that is
	// withdrawn ends with the next packet.
	c.PermissionCache = -1
	c.ConnectTimeout, c.MaxConnections, c.MaxPerAddress, c.MaxUnauthenticated = time.Duration(m.ConnectTimeout), m.MaxConnections, m.MaxPerAddress, m.MaxUnauthenticated
	c.MaxPayload, c.InFlight, c.OutBytes = int(m.MaxPayload), m.MaxInflight, int(m.MaxQueue)
	c.MaxSessions, c.MaxRetained, c.MaxRetainedBytes = m.MaxSessions, m.MaxRetained, int(m.MaxRetainedBytes)
	c.SharedSessions, c.MaxSessionsPerOwner = m.SessionOwner == "client", m.MaxPrincipalSessions
	c.MaxRetainedPerOwner, c.MaxRetainedBytesPerOwner = m.MaxPrincipalRetained, int(m.MaxPrincipalRetainedBytes)
	c.MaxSessionExpiry = time.Duration(m.MaxSessionExpiry)
	c.Adopts = s.adopts
	c.SessionExpiry = cmp.Or(time.Duration(m.SessionExpiry), c.SessionExpiry)
	c.MaxTopic, c.MaxSlashes, c.MaxFilters = cmp.Or(m.MaxTopic, c.MaxTopic), cmp.Or(m.MaxSlashes, c.MaxSlashes), cmp.Or(m.MaxFilters, c.MaxFilters)
	c.MaxSubscriptions, c.MaxUnreleased = cmp.Or(m.MaxSubscriptions, c.MaxSubscriptions), m.MaxUnreleased
	c.PublishRate = cmp.Or(m.MaxPublishRate, c.PublishRate)
	c.PublishBytes = cmp.Or(int(m.MaxPublishBytes), c.PublishBytes)
	return c
}

// adopts says whether a client may have the session of its client id that was
// stored before sessions had owners. Where that id is a thing with certificates it
// is the thing's alone: others whose policies allow the id, such as a claim of that
// time, would get what waits for it, or end it.
func (s *Server) adopts(x gateway.Session, clientID string) bool {
	if x.Thing() == clientID {
		return true
	}
	others := true
	err := s.registry.View(func(tx *registry.Tx) error {
		others = len(tx.ThingCertificates(clientID)) > 0
		return nil
	})
	return err == nil && !others
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

// Listen opens the listeners, so that addresses are known before Run.
func (s *Server) Listen(ctx context.Context) error {
	var err error
	if s.keys.NeedsMigration() {
		if err := s.keys.Migrate(); err != nil {
			return err
		}
		if err := s.dir.Complete(); err != nil {
			return err
		}
	}
	if s.broker == nil {
		l, err := listen.TCP(ctx, "mqtt.listen", s.cfg.MQTT.Listen)
		if err != nil {
			return err
		}
		conf := s.pki.MQTTConfig()
		if s.custom.Any() || len(s.cfg.Hooks) > 0 { // one may be made later
			conf = s.pki.AuthorizerConfig()
		}
		s.mqtt = tls.NewListener(admission.Listener{Listener: l}, conf)
	}
	if err := s.listenHTTPS(ctx); err != nil {
		return errors.Join(err, s.closeListeners())
	}
	if s.cfg.Admin.Listen != "" && s.admin == nil { // else it is Start's
		if s.admin, err = listen.TCP(ctx, "admin.listen", s.cfg.Admin.Listen); err != nil {
			return errors.Join(err, s.closeListeners())
		}
	}
	s.listens = true
	return nil
}

// address is where l listens, "" for no listener.
func address(l net.Listener) string {
	if l == nil {
		return ""
	}
	return l.Addr().String()
}

// MQTTAddr is where devices connect, once Listen returned; there must be no
// broker.
func (s *Server) MQTTAddr() net.Addr { return s.mqtt.Addr() }

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
	socket, err := listen.Socket(s.cfg.Admin.Socket)
	if err != nil {
		return errors.Join(err, s.closeListeners())
	}
	// From the last to stop to the first.
	log := s.stage(part{"log", s.store.Run}, part{"clock", s.clock.Run}, part{"notes", s.notes})
	sinks := s.stage(part{"outboxes", s.drainer.Run}, part{"delivery streams", s.firehose.Run}, part{"data streams", s.kinesis.Run}, part{"connectors", s.connectors.Run})
	out := s.stage(s.publishing()...)
	engine := s.stage(part{"rules", s.rules.Run})
	sessions := s.stage(part{"sessions", s.gateway.Run}) // acknowledgements come until the last connection has ended
	front := s.stage(
		s.devices(),
		part{"declarations", s.declared.Run},
		part{"lifecycle events", func(ctx context.Context) error { return s.lifecycle.Run(ctx, s.gateway) }},
		part{"refusals", s.refusals.Run},
		part{"services that fail", s.webhooks.notices.Run},
		part{"registry events", s.registryEvents.Run},
		part{"fleet index", s.fleet.Run},
		part{"provisioning", s.provision.Run},
		part{"end of forbidden connections", s.revoker.Run},
		part{"session tickets", func(ctx context.Context) error { return s.pki.Run(ctx, s.log) }},
		part{"server certificates", func(ctx context.Context) error { return s.pki.WatchServed(ctx, s.log) }},
		s.serveHTTPS(),
		s.serve("admin socket", socket, s.Handler(), listen.Within(0)),
		s.serve("admin listener", s.admin, s.publicHandler(), listen.Within(time.Minute)),
	)
	s.log.Info("bridge is up", "version", s.version, "mqtt", address(s.mqtt), "broker", s.cfg.Broker.URL, "https", s.httpsAddr(), "admin", address(s.admin), "data", s.cfg.DataDir)
	select {
	case <-ctx.Done():
	case <-front.failed:
	case <-sessions.failed:
	case <-engine.failed:
	case <-sinks.failed:
	case <-out.failed:
	case <-log.failed:
	}
	s.log.Info("bridge stops")
	err = errors.Join(front.stop(), sessions.stop(), engine.stop(), sinks.stop())
	s.shadow.Close() // its last answers go to the log
	return errors.Join(err, out.stop(), log.stop())
}

// devices is where messages come from.
func (s *Server) devices() part {
	if s.broker != nil {
		return part{"broker", s.broker.Consume}
	}
	return part{"gateway", func(ctx context.Context) error { return s.gateway.Serve(ctx, s.mqtt) }}
}

// publishing is what goes on until rules and shadows have stopped.
func (s *Server) publishing() []part {
	if s.broker == nil {
		return nil
	}
	return []part{{"publishing to the broker", s.broker.Send}}
}

// A part is what a stage runs: until its context ends, or something fails.
type part struct {
	name string
	run  func(context.Context) error
}

// A stage is a set of parts that run and stop together.
type stage struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed chan struct{} // closed when a part ended by itself

	mu   sync.Mutex // guards errs
	errs []error
}

func (s *Server) stage(parts ...part) *stage {
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{cancel: cancel, failed: make(chan struct{})}
	for _, p := range parts {
		st.wg.Go(func() {
			err := p.run(ctx)
			switch {
			case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
				return
			case err == nil:
				err = errors.New("ended by itself")
			}
			err = fmt.Errorf("%s: %w", p.name, err)
			s.log.Error("a part of the bridge failed", "err", err)
			st.mu.Lock()
			defer st.mu.Unlock()
			if st.errs = append(st.errs, err); len(st.errs) == 1 {
				close(st.failed)
			}
		})
	}
	return st
}

// stop ends the parts, waits for them and returns what failed.
func (st *stage) stop() error {
	st.cancel()
	st.wg.Wait()
	st.mu.Lock()
	defer st.mu.Unlock()
	return errors.Join(st.errs...)
}
