// Package device puts the agent together: board, sampler, spool, uplink,
// shadow and health, in one Agent that a program, a test or a simulated fleet
// can run in its own process.
package device

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/budget"
	"github.com/tidemill/tidemill/agent/clock"
	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/agent/uplink"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/board"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
	"github.com/tidemill/tidemill/shadow/boltstore"
	shadowdevice "github.com/tidemill/tidemill/shadow/device"
)

// Deps are what a test or a simulation replaces. The zero value is a real
// device.
type Deps struct {
	Version string         // of the agent, for reports
	Log     *slog.Logger   // default: discarded
	Level   *slog.LevelVar // of Log, set by Reload; may be nil
	Board   hal.Board      // default: what board.kind says; closed by Run all the same
	Dial    func(ctx context.Context, network, addr string) (net.Conn, error)
	TLS     func() (*tls.Config, error) // default: the files that uplink.ca, cert and key name
	Clock   func() kernel.Reading       // default: the machine's
	Boot    string                      // name of the machine's boot, with Clock
	Ready   func()                      // called once when all parts run; may be nil
	// Renewed is called when a connection is about to be made with another identity than
	// the one before, which may have come with another deviceConfiguration: what Reload
	// is for. It must not block; may be nil.
	Renewed func()
	// NoSocket leaves the status sockets closed: a fleet in one process has
	// no use for them.
	NoSocket bool
}

// An Agent is made by New and works in Run, once.
type Agent struct {
	deps    Deps
	log     *slog.Logger
	boot    [16]byte
	started time.Time
	board   hal.Board
	sampler *sampler.Sampler
	setting sync.Mutex // held while a configuration becomes the sampler's
	spool   *spool.Spool
	clock   *clock.Clock
	queue   *timedQueue
	meter   *budget.Meter
	uplink  *uplink.Uplink
	store   *boltstore.Store     // nil: no shadow
	shadow  *shadowdevice.Device // nil: no shadow
	sockets []net.Listener

	writes writeCounter

	inventory *inventory
	watch     broadcast

	changed chan struct{} // there is something to report
	flushed atomic.Int64  // ns after started of the last flush tried, by the clock that does not jump

	refusals refusals
	guard    guard
	recovery busRecovery

	mu       sync.Mutex // guards the rest
	cfg      config.Config
	desired  map[string]map[string]any // of sensors' sampling by the shadow, over the configuration's
	refused  map[outputKey]hal.Value   // desired of outputs that do not take it
	reported map[string]bool           // sensors that reported holds
	unkept   unkept                    // why the reported state is not kept, or not whole
}

// New opens the files in cfg.DataDir, which it makes if need be, and the
// sockets. It starts nothing; Run or Close must follow.
func New(cfg config.Config, d Deps) (a *Agent, err error) {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	a = &Agent{deps: d, cfg: cfg, log: d.Log.With("thing", cfg.Thing), started: time.Now(), board: d.Board,
		changed: make(chan struct{}, 1), desired: map[string]map[string]any{},
		refused: map[outputKey]hal.Value{}, reported: map[string]bool{}}
	_, _ = rand.Read(a.boot[:]) // never fails
	a.refusals.log = a.log
	defer func() {
		if err != nil {
			a.Close()
			a = nil
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return a, fmt.Errorf("device: %w", err)
	}
	if a.board == nil {
		if a.board, err = OpenBoard(cfg, a.log); err != nil {
			return a, fmt.Errorf("device: %w", err)
		}
	}
	a.inventory = readInventory(cfg.DataDir, a.log)
	defer a.inventory.save()
	if err := a.openSpool(); err != nil {
		return a, err
	}
	a.openClock()
	a.openBudget()
	a.sampler = sampler.New(sampler.Options{Open: a.open, Sink: newSink(a.spool, a.clock, &a.watch),
		Changed: func(string) { a.poke() }, Kind: sensor.KindOf, Recover: a.freeBus, Log: a.log})
	var peer uplink.Peer
	if cfg.Shadow.Enabled {
		if err := a.openShadow(); err != nil {
			return a, err
		}
	}
	if a.shadow != nil {
		peer = shadowPeer{a.shadow, a.guard.lose}
	}
	a.uplink = uplink.New(a.queue, a.uplinkOptions(cfg, peer))
	if !d.NoSocket {
		return a, a.listen()
	}
	return a, nil
}

func (a *Agent) openSpool() (err error) {
	c := &a.cfg.Spool
	overflow := map[string]spool.Policy{config.DropNewest: spool.RefuseNew, config.RefuseNew: spool.RefuseNew,
		config.ThinOut: spool.ThinOut}[c.Overflow]
	path := filepath.Join(a.cfg.DataDir, "spool.db")
	a.writes = newWriteCounter("/proc/self/io", "/sys", a.cfg.DataDir)
	a.spool, err = spool.Open(path, spool.Options{
		FlushEvery: time.Duration(c.FlushEvery), MaxBytes: int64(c.MaxBytes), MaxAge: time.Duration(c.MaxAge),
		Overflow: overflow, Keep: a.events, MaxWrites: int64(c.MaxWrites),
		MaxLoss: time.Duration(c.MaxLoss), Written: a.writes.written, Boot: a.boot, Clock: a.stamp, Log: a.log,
		Salvaged: func(id [16]byte, s spool.Salvage) { a.inventory.salvaged(path, id, s) }})
	if err == nil {
		a.inventory.spool(path, a.spool.Stats())
	}
	return err
}

// openClock follows openSpool, whose newest batch says up to when the last run was.
func (a *Agent) openClock() {
	o := ClockOptions(a.cfg)
	o.Start, o.Read, o.BootID, o.Log = a.boot, a.deps.Clock, a.deps.Boot, a.log
	a.clock = clock.Open(o, a.spool.Last())
	if st := a.spool.Stats(); st.Batches == 0 && st.Failure == nil {
		a.clock.Forget()
	}
	a.queue = &timedQueue{spool: a.spool, clock: a.clock, wait: time.Duration(a.cfg.Clock.Wait)}
}

// openShadow opens the shadow and its file. Without room on the disk, or where it can't
// be written, there is none: readings matter more, and the spool holds them in memory.
func (a *Agent) openShadow() (err error) {
	c, path := &a.cfg.Shadow, filepath.Join(a.cfg.DataDir, "shadow.db")
	a.store, err = boltstore.Open(path, boltstore.Options{SetAside: true, Log: a.log})
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EROFS) {
		a.log.Error("the shadow's file cannot be written: the agent works without a shadow until it is started again",
			"path", path, "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	a.inventory.shadow(path, a.store.Fresh())
	a.shadow, err = shadowdevice.New(a.store, a.cfg.Thing, "", shadowdevice.Options{
		Log: a.log, Every: time.Duration(c.ReportEvery),
		LocalDesired: c.Desired == "device", CloudReported: c.Reported == "cloud", Synced: a.heard,
	})
	if err == nil {
		a.handle()
	}
	return err
}

// heard is called when the bridge has said what the shadow is.
func (a *Agent) heard() {
	a.guard.hear()
	a.hold()
	a.poke()
}

// listen opens the sockets of status and metrics.
func (a *Agent) listen() error {
	for _, path := range []string{a.cfg.Socket, a.cfg.Health.Metrics} {
		if path == "" {
			continue
		}
		l, err := health.Listen(path)
		if errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.ENOSPC) {
			a.log.Error("the disk has no place for a socket: there is none until the agent is started again",
				"path", path, "err", err)
			continue
		}
		if err != nil {
			return err
		}
		a.sockets = append(a.sockets, l)
	}
	return nil
}

// OpenBoard opens the board that cfg names.
func OpenBoard(cfg config.Config, log *slog.Logger) (hal.Board, error) {
	if cfg.Board.Kind == "sim" {
		seed := uint64(cfg.Board.Seed)
		o := sim.Options{Seed: seed, Air: sim.Room(seed)}
		for _, c := range cfg.Board.Chips {
			p, err := sim.ParsePlace(c)
			if err != nil {
				return nil, fmt.Errorf("board.chips: %w", err)
			}
			o.Chips = append(o.Chips, p)
		}
		return sim.New(o), nil
	}
	o := board.Options{Recover: map[string]board.BusRecovery{}}
	for bus, r := range cfg.Board.Recover {
		o.Recover[bus] = board.BusRecovery(r)
	}
	return board.Open(log, o)
}

func (a *Agent) open(ctx context.Context, s sampler.Spec) (hal.Sensor, error) {
	return sensor.OpenBy(ctx, s.Driver, a.board, s.Options, a.clock.CertTime)
}

func (a *Agent) uplinkOptions(cfg config.Config, peer uplink.Peer) uplink.Options {
	u := cfg.Uplink
	o := uplink.Options{
		Endpoint: u.Endpoint, ServerName: u.ServerName, ClientID: u.ClientID, TLS: a.deps.TLS, Dial: a.dial(),
		Topic: telemetry.Topic, NoticeTopic: telemetry.RefusedTopic, Notice: a.refusals.notice,
		TimeTopic: telemetry.TimeTopic, TimeAnswerTopic: telemetry.TimeAnswerTopic, Time: a.clock,
		Plain: telemetry.Plain, Retry: a.clock.Refused,
		PresenceTopic: u.PresenceTopic, Presence: a.presence, Peer: peer,
		KeepAlive: time.Duration(u.KeepAlive), KeepAliveMax: time.Duration(u.KeepAliveMax),
		ConnectTimeout: time.Duration(u.ConnectTimeout),
		AckTimeout:     time.Duration(u.AckTimeout),
		Inflight:       int(u.Inflight),
		BackoffMin:     time.Duration(u.BackoffMin), BackoffMax: time.Duration(u.BackoffMax),
		StableAfter: time.Duration(u.StableAfter), Drain: time.Duration(u.Drain), Log: a.log,
	}
	if u.User != "" {
		o.User, o.Password = u.User, func() (string, error) { return password(u.PasswordFile) }
	}
	if o.TLS == nil {
		o.TLS = func() (*tls.Config, error) { return identity(u) }
		if cfg.Provision.Template != "" {
			o.TLS = withRenewed(o.TLS, func() string { return certificate(cfg.DataDir) }, a.deps.Renewed)
			o.TLS = unlessBusy(o.TLS, func() bool { return provision.Busy(cfg.DataDir) }, time.Now)
		}
	}
	o.TLS = withTime(o.TLS, a.clock.CertTime)
	if u.Format == "json" {
		o.Expand, o.NoticeTopic, o.TimeAnswerTopic = expander(u.Topic), "", ""
	}
	return o
}

// presence is the retained message that says whether the device is there. The
// will has the time of the connection, when the broker was given it.
func (a *Agent) presence(online bool) []byte {
	state := "offline"
	if online {
		state = "online"
	}
	b, _ := json.Marshal(map[string]any{"state": state, "thing": a.config().Thing,
		"boot":    hex.EncodeToString(a.boot[:]),
		"version": a.deps.Version, "ts": a.now().UnixMilli()})
	return b
}

func (a *Agent) config() config.Config {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.cfg
}

// Close frees what New opened. Run does it too.
func (a *Agent) Close() {
	for _, l := range a.sockets {
		_ = l.Close()
	}
	if a.spool != nil {
		if err := a.spool.Close(); err != nil {
			a.log.Error("the spool did not close well", "err", err)
		}
	}
	if a.clock != nil {
		a.clock.Close()
	}
	if a.store != nil {
		if err := a.store.Close(); err != nil {
			a.log.Error("the shadow's store did not close well", "err", err)
		}
	}
	if a.board != nil {
		_ = a.board.Close()
	}
}

// A part is something that runs until it is stopped.
type part struct {
	name string
	run  func(context.Context) error
	stop context.CancelFunc
	done chan struct{}
}

// ErrPowerCut as the cause of a context that ends has Run end as the power does, for
// simulated devices: nothing is flushed or said goodbye to.
var ErrPowerCut = errors.New("device: the power was cut")

// Run works until ctx is done or a part fails that the agent cannot do
// without. It stops the sensors, flushes the spool, lets the uplink send what
// is left within uplink.drain, and then stops the shadow and closes the files.
// The error is ErrPowerCut if that is ctx's cause.
func (a *Agent) Run(ctx context.Context) error {
	defer a.Close()
	cfg := a.startSensors()
	a.flushed.Store(int64(time.Since(a.started)))
	var (
		mu     sync.Mutex
		errs   []error
		failed = make(chan struct{}, 1)
	)
	parts := a.parts()
	for _, p := range parts {
		var own context.Context
		own, p.stop = context.WithCancel(context.WithoutCancel(ctx))
		p.done = make(chan struct{})
		go func() {
			defer close(p.done)
			err := p.run(own)
			if err == nil && own.Err() == nil {
				err = errors.New("ended by itself")
			}
			if err != nil && !errors.Is(err, context.Canceled) {
				mu.Lock()
				errs = append(errs, fmt.Errorf("device: %s: %w", p.name, err))
				mu.Unlock()
				select {
				case failed <- struct{}{}:
				default:
				}
			}
		}()
	}
	if cfg.Remote.State == config.RemoteRefused {
		a.log.Error("the deviceConfiguration of provisioning is refused as a whole, the device runs without it",
			"errors", cfg.Remote.Errors)
	}
	a.log.Info("agent started", "version", a.deps.Version, "sensors", len(cfg.Sensors), "endpoint", cfg.Uplink.Endpoint,
		"boot", hex.EncodeToString(a.boot[:]))
	if a.deps.Ready != nil {
		a.deps.Ready()
	}
	select {
	case <-ctx.Done():
	case <-failed:
	}
	cut := a.powerCut(ctx)
	for _, p := range parts {
		p.stop()
		<-p.done
	}
	st := a.spool.Stats()
	a.log.Info("agent stopped", "batches_left", st.Batches, "readings_left", st.Readings)
	if cut {
		return ErrPowerCut
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(errs...)
}

// powerCut says whether ctx ended so, and has the spool end before anything is flushed.
func (a *Agent) powerCut(ctx context.Context) bool {
	if !errors.Is(context.Cause(ctx), ErrPowerCut) {
		return false
	}
	_ = a.spool.Abandon() // what it failed to close is not missed
	return true
}

// startSensors makes those of the configuration that holds what the sampler reads, in turn
// with Reload, which may have another.
func (a *Agent) startSensors() config.Config {
	a.setting.Lock()
	defer a.setting.Unlock()
	cfg := a.config()
	a.sampler.Set(a.specs(cfg))
	return cfg
}

// parts are what the agent runs, in the order in which they are stopped.
func (a *Agent) parts() []*part {
	all := []*part{
		{name: "sampler", run: a.sampler.Run},
		{name: "spool", run: a.spool.Run},
		{name: "uplink", run: a.uplink.Run},
		{name: "budget", run: a.keepBudget},
	}
	if a.shadow != nil {
		all = append(all, &part{name: "report", run: a.report}, &part{name: "shadow", run: a.shadow.Run},
			&part{name: "guard", run: a.watchBridge})
	}
	server := &health.Server{Status: func() any { return a.Status() }, Metrics: a.metrics, Alive: a.Alive,
		Watch: func(ctx context.Context, show func(any) error) error {
			return a.Watch(ctx, func(r Reading) error { return show(r) })
		}}
	return append(all, &part{name: "health", run: func(ctx context.Context) error {
		if len(a.sockets) == 0 {
			<-ctx.Done()
			return nil
		}
		return server.Serve(ctx, a.sockets...)
	}})
}

// Reload takes up what can change at run time: the log level, the flush
// interval and the sensors. The keys it returns changed too, but need a
// restart.
func (a *Agent) Reload(cfg config.Config) (restart []string) {
	a.setting.Lock()
	defer a.setting.Unlock()
	old := a.config()
	restart = needRestart(old, cfg)
	if a.deps.Level != nil {
		_ = a.deps.Level.UnmarshalText([]byte(cfg.Log.Level)) // checked by package config
	}
	keep := old
	keep.Log.Level, keep.Spool.FlushEvery, keep.Sensors = cfg.Log.Level, cfg.Spool.FlushEvery, cfg.Sensors
	keep.Remote = cfg.Remote
	a.mu.Lock()
	a.cfg = keep
	a.mu.Unlock()
	a.spool.SetFlushEvery(a.flushEvery())
	a.sampler.Set(a.specs(cfg))
	a.hold()
	a.poke()
	return restart
}

// ReadOnce says whether each sensor was read at least once, or could not be.
func (a *Agent) ReadOnce() bool {
	return !slices.ContainsFunc(a.sampler.Status(), func(s sampler.Status) bool {
		return s.Readings == 0 && s.Error == ""
	})
}

// Online says whether there is a connection to the broker.
func (a *Agent) Online() bool { return a.uplink.Status().State == uplink.Online }

// aliveFor is how long a flush may take before the spool counts as stuck.
const aliveFor = time.Minute

// Alive says whether sampling and flushing go on. Flushes that fail count as
// going on: a restart would only lose what is in memory.
func (a *Agent) Alive() bool {
	if !a.sampler.Alive() {
		return false
	}
	every := a.spool.Stats().Loss.Interval
	idle := time.Since(a.started) - time.Duration(a.flushed.Load())
	return a.spool.Stats().Unflushed == 0 || idle < max(aliveFor, 3*every)
}
