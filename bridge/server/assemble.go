package server

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/people"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/control/secrets"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/egress"
	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/serving/aws"
	"github.com/tidemill/tidemill/bridge/serving/aws/iotdata"
	"github.com/tidemill/tidemill/bridge/serving/events"
	"github.com/tidemill/tidemill/bridge/serving/lookup"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/route"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

// open is New with the options of the parts that touch the disk and the clock.
func open(o Options, so pebble.Options, sh service.Options) (*Server, error) {
	s := &Server{cfg: o.Config, log: o.Log, version: o.Version, started: time.Now(),
		drain: make(chan datadir.Move, 1)}
	a := &assembly{Server: s, reread: o.Reread, moving: o.Moving, streamOptions: so, shadowOptions: sh}
	for _, make := range a.steps() {
		if err := make(); err != nil {
			return nil, errors.Join(datadir.HowOn(a.dir.Newer(err, a.version)), a.Close())
		}
	}
	return s, nil
}

// An assembly makes the parts of a Server and ties them together, in steps: each
// hands the parts that it makes those of the steps before it. What a step opens it
// has Close close.
type assembly struct {
	*Server
	reread        func() (*config.Config, error)
	moving        bool // the directory may have been drained
	streamOptions pebble.Options
	shadowOptions service.Options
}

// steps are in order.
func (a *assembly) steps() []func() error {
	return []func() error{
		a.makeNotices,
		a.makeEgress,
		a.openDataDir,
		a.makeDisk,
		a.openSeal,
		a.makeClock,
		a.openKeys,
		a.openRegistry,
		a.openPeople,
		a.openKeyring,
		a.openLog,
		a.openObjects,
		a.openShadows,
		a.openFunctions,
		a.completeDataDir,
		a.resumeClock,
		a.noteAtStop,
		a.openBackup,
		a.openRevoker,
		a.openIngest,
		a.openBroker,
		a.makePublisher,
		a.openAudit,
		a.openPKIFiles,
		a.makeRules,
		a.openStreams,
		a.openQueues,
		a.openDeliveryControl,
		a.openDeclared,
		a.openProvision,
		a.openFleet,
		a.openAccess,
		a.makeMessagePath,
		a.makeAPIs,
		a.loadSessions,
	}
}

// closes has Close call f, before what was opened earlier is closed.
func (a *assembly) closes(f func() error) { a.closers = append(a.closers, f) }

// at is a part's path in the data directory.
func (a *assembly) at(name string) string { return filepath.Join(a.cfg.DataDir, name) }

// makeNotices makes what logs seldom what happens often.
func (a *assembly) makeNotices() error {
	a.webhooks = &webhooks{&a.notices, a.log}
	a.failures = lookup.NewFailures(&a.notices, a.log)
	a.refusals = access.NewRefusals(a.log)
	return nil
}

func (a *assembly) openDataDir() (err error) {
	if err := checkUser(a.cfg.DataDir); err != nil {
		return err
	}
	if err := checkRoom(a.cfg.DataDir, int64(a.cfg.MinFree)); err != nil {
		return err
	}
	if err := backup.CheckUnfinished(a.cfg.DataDir); err != nil {
		return err
	}
	parts := datadir.Parts(a.cfg.DataDir, a.cfg.Objects.Dir)
	if a.dir, err = datadir.Open(a.cfg.DataDir, parts, a.cfg.AcceptLoss, a.log); err != nil {
		return err
	}
	a.closes(a.dir.Close)
	if !a.moving {
		if err := datadir.CheckMove(a.cfg.DataDir); err != nil {
			return err
		}
	}
	if err := a.dir.Check(); err != nil {
		return err
	}
	// A part that cannot be read is told by the step that opens it.
	if raised, _ := a.dir.Migrations(); len(raised) > 0 {
		a.log.Warn(datadir.WayBack(raised, a.dir.Last()), "data", a.cfg.DataDir, "version", a.version)
	}
	return nil
}

func (a *assembly) makeClock() error {
	c := a.cfg.Clock
	a.clock = clock.New(clock.Options{MaxStep: time.Duration(c.MaxStep), MaxGap: time.Duration(c.MaxGap),
		AcceptAfter: acceptAfter(c), Wall: a.streamOptions.Now, Log: a.log})
	return nil
}

func (a *assembly) openKeys() (err error) {
	m, h := a.cfg.MQTT, a.cfg.HTTPS
	a.pki, err = pki.Open(a.at("pki"), pki.Options{
		ServerNames: m.ServerNames, DeviceLifetime: time.Duration(a.cfg.PKI.DeviceLifetime),
		MQTT: pki.Files{Cert: m.Cert, Key: m.Key}, HTTPS: pki.Files{Cert: h.Cert, Key: h.Key}})
	return err
}

func (a *assembly) openRegistry() (err error) {
	tables, err := bolt.Open(a.at("registry.db"), bolt.Options{})
	if err != nil {
		return err
	}
	if a.registry, err = registry.New(tables, a.clock.Expiry); err != nil {
		return err
	}
	a.engine = tables
	a.closes(a.registry.Close)
	a.expiries = admin.NewExpiries(a.pki.Expiries, a.registry)
	return nil
}

// openPeople reads the users and their access keys, and who may ask by the admin
// socket.
func (a *assembly) openPeople() (err error) {
	if err := a.openPeers(); err != nil {
		return err
	}
	if a.people, err = people.Open(a.registry, a.log); err == nil {
		a.closes(a.people.Close)
	}
	return err
}

func (a *assembly) openLog() (err error) {
	// The log's files have the mode that the umask leaves them.
	if err := datadir.Private(a.at("log")); err != nil {
		return err
	}
	a.streamOptions.Expiry, a.streamOptions.Took = a.clock.Expiry, a.disk.Took
	if a.store, err = pebble.Open(a.at("log"), a.streamOptions); err != nil {
		return err
	}
	a.closes(a.store.Close)
	return a.dir.CheckLog(a.store)
}

func (a *assembly) openObjects() (err error) {
	c := a.cfg.Objects
	var room func() error
	if sameDisk(a.cfg.DataDir, c.Dir) {
		room = a.disk.Data
	}
	for _, name := range c.Public {
		if err := sink.CheckBucket(name); err != nil {
			return fmt.Errorf("objects.public: %w", err)
		}
	}
	a.objects, err = objects.Open(c.Dir, objects.Options{
		MinFree: int64(c.MinFree), MaxBucket: int64(c.MaxBucket), MaxBytes: int64(a.cfg.Disk.Objects),
		MaxUploads:     c.MaxUploads,
		MaxUploadBytes: int64(c.MaxUploadBytes), MaxUploadAge: time.Duration(c.MaxUploadAge), Room: room,
		Log: a.log,
	})
	if err == nil {
		a.closes(a.objects.Close)
	}
	return err
}

func (a *assembly) openShadows() (err error) {
	if a.shadows, err = boltstore.Open(a.at("shadow.db"), boltstore.Options{}); err == nil {
		a.closes(a.shadows.Close)
	}
	return err
}

// completeDataDir notes that all parts are there. A directory of before there were
// grants is complete when Listen has made them, so that a query that comes first
// does not take the rights away.
func (a *assembly) completeDataDir() error {
	if a.keys.NeedsMigration() {
		return nil
	}
	return a.dir.Complete(a.version)
}

// makeRules makes the rule engine and the outboxes that its rules fill.
func (a *assembly) makeRules() error {
	a.outboxes = action.NewOutboxes(a.store)
	a.secrets = secrets.Open(secrets.Options{Dir: a.cfg.Secrets.Dir, Account: a.cfg.Account, Region: a.cfg.Region})
	a.rules = rules.New(a.store, rules.Options{Account: a.cfg.Account, Outbox: a.outboxes.Ensure,
		Redact: a.secrets.Redact, Room: a.disk.Growth, Log: a.log})
	return nil
}

// openStreams opens data streams and delivery streams.
func (a *assembly) openStreams() (err error) {
	c := a.cfg.Kinesis
	a.kinesis, err = kinesis.Open(a.store, kinesis.Options{
		Account: a.cfg.Account, Region: a.cfg.Region, Delay: time.Duration(c.Delay),
		Emulate: c.Emulate, MaxShards: c.MaxShards, SmallRequests: c.SmallRequests, Log: a.log,
	})
	if err != nil {
		return err
	}
	return a.makeDeliveryStreams()
}

// makeEgress reads what may be reached for others.
func (a *assembly) makeEgress() (err error) {
	a.egress, err = egress.New(egress.Options{Allow: a.cfg.Egress.Allow, Only: a.cfg.Egress.Only, Own: a.listensAt})
	return err
}

func (a *assembly) openQueues() (err error) {
	a.queues, err = queue.Open(a.store, a.clock.Steady, a.log)
	return err
}

func (a *assembly) openIngest() error {
	c := a.cfg.Ingest
	retention, most := time.Duration(c.Retention), int64(c.MaxBytes)
	err := a.store.Create(ingest.Stream, streams.Config{Shards: c.Shards, Retention: retention, MaxBytes: most})
	if errors.Is(err, streams.ErrExists) {
		err = a.store.Update(ingest.Stream, retention, most)
	}
	if err != nil {
		return err
	}
	a.ingest, err = ingest.New(a.store, ingest.Options{
		ThingRate: a.cfg.MQTT.MaxThingRate, ThingBytes: int(a.cfg.MQTT.MaxThingBytes), Log: a.log,
		Notices: &a.notices, Units: c.Units,
		Store: func(t string) bool {
			return slices.ContainsFunc(c.Store, func(f string) bool { return stored(f, t) })
		},
	})
	return err
}

// stored says whether filter names topic for the ingest log. "#" means all,
// reserved topics too, so that rules see shadows.
func stored(filter, name string) bool { return filter == "#" || topic.Match(filter, name) }

// makePublisher makes what the bridge's own services publish by, and whom that
// reaches.
func (a *assembly) makePublisher() error {
	a.subscribers = gateway.NewSubscribers(a.gatewayConfig())
	var b route.Broker // not a *broker.Broker that is nil
	if a.broker != nil {
		b = a.broker
	}
	a.publisher = route.NewPublisher(a.ingest, a.subscribers, b, &a.watchers, a.disk.Growth)
	return nil
}

// makeMessagePath makes what messages pass: the services that some are for, the
// router, the gateway before it, and the outboxes' way back.
func (a *assembly) makeMessagePath() error {
	sh := a.shadowOptions
	sh.MaxNamed, sh.MaxBytes, sh.Steady = a.cfg.Shadow.MaxNamed, int(a.cfg.Shadow.MaxBytes), a.clock.Steady
	a.shadow = service.New(indexedShadows{a.shadows, a.fleet}, a.publisher, sh)
	a.closes(func() error { a.shadow.Close(); return nil })
	a.lifecycle = events.NewLifecycle(a.publisher.Publish, a.log)
	a.registryEvents = events.NewRegistry(a.registry, a.cfg.Account, a.cfg.Region, a.publisher.PublishThen, a.log)
	a.router = route.New(route.Options{Publisher: a.publisher, Shadows: a.shadow, Private: a.provision, Time: a.time,
		Log: a.store, Room: a.disk.Data, OtherShadows: a.broker != nil && !a.cfg.Broker.Shadows})
	a.gateway = gateway.New(a.subscribers, gateway.Hooks{
		Authorizer: a.authorizer, Router: a.router, Adopts: a.authorizer.Adopts, Events: a.clientEvent,
		Wait: func(x gateway.Session) time.Duration { return a.ingest.Wait(x.Thing()) }, Denied: a.refusals.Denied,
		Room: a.disk.Data,
	})
	a.revoker = access.NewRevoker(a.gateway, a.log)
	var err error
	if a.senders, err = a.newSenders(); err != nil {
		return err
	}
	a.closes(a.senders.Close)
	a.drainer = action.NewDrainer(a.outboxes, action.Options{
		Objects: a.objects, Republish: a.router, Senders: a.senders.Senders(), Failed: a.rules.Fail,
		Tried: a.rules.Tried, GiveUp: time.Duration(a.cfg.Rules.GiveUp), Spread: a.topics,
		InUse:  func(stream string) bool { return a.rules.UsesOutbox(stream) || a.topics.Uses(stream) },
		Redact: a.secrets.Redact, Log: a.log,
	})
	return nil
}

// dataPlane is what AWS IoT's data plane works on.
func (a *assembly) dataPlane() *iotdata.Data {
	d := &iotdata.Data{Messages: a.router, Retained: a.subscribers.Retained(), Shadows: a.shadow,
		HasThing: a.registry.HasThing}
	if a.broker != nil {
		d.HasThing = nil
		if !a.cfg.Broker.Shadows {
			d.Shadows = nil
		}
	}
	return d
}

// makeAPIs makes the handler of the AWS APIs.
func (a *assembly) makeAPIs() error {
	a.aws = aws.New(aws.Options{
		Account: a.cfg.Account, Region: a.cfg.Region, Slot: listen.SlotOf, Log: a.log,
		Secret: a.authorizer.Secret, Key: keysOf(a.authorizer), Unsigned: unsignedOf(a.authorizer),
		Permissive: a.cfg.HTTPS.Permissive,
		Room:       a.disk.Data,
		MaxMemory:  int64(a.cfg.HTTPS.MaxMemory), MaxPayload: int(a.cfg.MQTT.MaxPayload),
		Rules: a.topicRules, Kinesis: a.kinesis, Queues: a.queues, Data: a.dataPlane(),
		Firehose: a.deliveries, Tables: a.tables,
		Objects: a.objects, Public: a.cfg.Objects.Public,
		Registry: a.registry, Authorizers: a.custom, Provision: a.provision, Issuer: a.pki, Fleet: a.fleet,
		Endpoint: func() (string, error) { return a.endpoint("") },
		Audit: &aws.Audit{Log: a.audit, Refused: a.auditDenied, Claimed: a.auditRefusals,
			Strayed: a.authorizer.RefusedRequest},
		Functions: a.functionService(),
	})
	return nil
}

// loadSessions loads the gateway's, and has the registry's changes take effect.
func (a *assembly) loadSessions() error {
	if err := a.gateway.Load(); err != nil {
		return fmt.Errorf("sessions: %w", err)
	}
	stop := a.registry.Watch(a.registryChanged)
	a.closes(func() error { stop(); return nil })
	return nil
}
