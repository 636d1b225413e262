// Package server assembles the bridge: it opens the stores, wires the parts of
// bridge/speed and bridge/control to each other, and runs and stops them in
// order. The command line and the tests run whole bridges through it.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
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
	registry *registry.Registry
	store    *streams.Store
	objects  *sink.Dir
	shadows  *boltstore.Store

	shadow   *service.Service
	ingest   *ingest.Ingest
	rules    *rules.Engine
	outboxes *action.Outboxes
	firehose *firehose.Service
	gateway  *gateway.Server
	router   *router

	mqtt  net.Listener // both set by Listen
	admin net.Listener

	reloadMu sync.Mutex // one reload at a time
	closers  []func() error
}

// New opens, and at the first start makes, everything in the data directory.
// It listens to nothing and starts nothing; the caller must Close it.
func New(cfg *config.Config, log *slog.Logger, version string) (_ *Server, err error) {
	s := &Server{cfg: cfg, log: log, version: version}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := os.MkdirAll(cfg.DataDir, 0o700); err != nil {
		return nil, err
	}
	for _, folder := range []string{"streams", "delivery-streams", "rules"} {
		if err := os.MkdirAll(filepath.Join(cfg.BridgeD.Dir, folder), 0o700); err != nil {
			return nil, fmt.Errorf("bridge_d.dir: %w", err)
		}
	}
	at := func(name string) string { return filepath.Join(cfg.DataDir, name) }
	if s.pki, err = pki.Open(at("pki"), pki.Options{ServerNames: cfg.MQTT.ServerNames}); err != nil {
		return nil, err
	}
	if s.registry, err = registry.Open(at("registry.db")); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.registry.Close)
	if s.store, err = streams.Open(at("log"), streams.Options{Log: log}); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.store.Close)
	if s.objects, err = sink.OpenDir(cfg.Objects.Dir); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.objects.Close)
	if s.shadows, err = boltstore.Open(at("shadow.db"), boltstore.Options{}); err != nil {
		return nil, err
	}
	s.closers = append(s.closers, s.shadows.Close)
	return s, s.wire()
}

// wire makes the parts and ties them together.
func (s *Server) wire() error {
	s.router = &router{}
	s.firehose = firehose.New(s.store, s.objects, s.log)
	s.outboxes = action.NewOutboxes(s.store, action.Options{
		Objects: s.objects, Republish: s.router, Log: s.log,
		Failed: func(b *streams.Batch, d *action.Delivery, err error) { s.rules.Fail(b, d, err) },
	})
	s.rules = rules.New(s.store, rules.Options{Account: s.cfg.Account, Outbox: s.outboxes.Ensure, Log: s.log})
	err := s.store.Create(ingest.Stream, streams.Config{
		Shards: s.cfg.Ingest.Shards, Retention: time.Duration(s.cfg.Ingest.Retention), MaxBytes: int64(s.cfg.Ingest.MaxBytes)})
	if errors.Is(err, streams.ErrExists) {
		err = s.store.Update(ingest.Stream, time.Duration(s.cfg.Ingest.Retention), int64(s.cfg.Ingest.MaxBytes))
	}
	if err != nil {
		return err
	}
	s.ingest, err = ingest.New(s.store, ingest.Options{
		Deliver: s.router.deliver, Log: s.log,
		Store: func(t string) bool {
			return slices.ContainsFunc(s.cfg.Ingest.Store, func(f string) bool { return stored(f, t) })
		},
	})
	if err != nil {
		return err
	}
	s.shadow = service.New(s.shadows, s.router, service.Options{Log: s.log})
	s.closers = append(s.closers, func() error { s.shadow.Close(); return nil })
	s.gateway = gateway.New(s.gatewayConfig(), &authorizer{registry: s.registry, cfg: s.cfg, log: s.log}, s.router)
	s.router.ingest, s.router.shadow, s.router.gateway = s.ingest, s.shadow, s.gateway
	stop := s.registry.Watch(s.identityChanged)
	s.closers = append(s.closers, func() error { stop(); return nil })
	return nil
}

// identityChanged ends the connections of a certificate that may connect no
// more. Sessions see other changes by themselves.
func (s *Server) identityChanged(e registry.Event) {
	if e.Kind != registry.CertificateChanged {
		return
	}
	err := s.registry.View(func(tx *registry.Tx) error {
		c, err := tx.Certificate(e.Name)
		if err == nil && c.Status == registry.Active {
			return nil
		}
		n := s.gateway.Disconnect(func(c *gateway.Client) bool { return c.Session().Principal() == e.Name }, gateway.ReasonForbidden)
		s.log.Info("certificate may not connect any more", "certificate", e.Name, "status", c.Status, "disconnected", n)
		return nil
	})
	if err != nil {
		s.log.Error("registry cannot be read", "err", err)
	}
}

// stored says whether filter names topic for the ingest log. "#" means all,
// reserved topics too, so that rules see shadows.
func stored(filter, name string) bool { return filter == "#" || topic.Match(filter, name) }

func (s *Server) gatewayConfig() gateway.Config {
	m := s.cfg.MQTT
	return gateway.Config{
		ConnectTimeout: time.Duration(m.ConnectTimeout), MaxPayload: int(m.MaxPayload), MaxConnections: m.MaxConnections,
		InFlight: m.MaxInflight, OutBytes: int(m.MaxQueue), Log: s.log,
	}
}

// Close closes the stores, the last opened first.
func (s *Server) Close() error {
	var errs []error
	for _, c := range slices.Backward(s.closers) {
		errs = append(errs, c())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Listen opens the listeners, so that addresses are known before Run.
func (s *Server) Listen(ctx context.Context) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", s.cfg.MQTT.Listen)
	if err != nil {
		return fmt.Errorf("mqtt.listen: %w", err)
	}
	s.mqtt = tls.NewListener(l, s.pki.MQTTConfig())
	if s.cfg.Admin.Listen != "" {
		if s.admin, err = lc.Listen(ctx, "tcp", s.cfg.Admin.Listen); err != nil {
			return errors.Join(fmt.Errorf("admin.listen: %w", err), s.mqtt.Close())
		}
	}
	return nil
}

// MQTTAddr is where devices connect, once Listen returned.
func (s *Server) MQTTAddr() net.Addr { return s.mqtt.Addr() }

// Run serves until ctx ends, then stops in order: listeners and connections,
// rules, sinks, and last the log. Listen comes first.
func (s *Server) Run(ctx context.Context) error {
	if _, err := s.Reload(); err != nil {
		s.log.Error("some declarations were refused", "err", err)
	}
	socket, err := listenSocket(s.cfg.Admin.Socket)
	if err != nil {
		return errors.Join(err, s.closeListeners())
	}
	// From the last to stop to the first.
	log := s.stage(s.store.Run)
	sinks := s.stage(s.outboxes.Run, s.firehose.Run)
	engine := s.stage(s.rules.Run)
	handler := s.Handler()
	front := s.stage(
		func(ctx context.Context) error { return s.gateway.Serve(ctx, s.mqtt) },
		func(ctx context.Context) error { return serveHTTP(ctx, socket, handler) },
		func(ctx context.Context) error { return serveHTTP(ctx, s.admin, s.publicHandler()) },
	)
	s.log.Info("bridge is up", "version", s.version, "mqtt", s.mqtt.Addr().String(), "data", s.cfg.DataDir)
	select {
	case <-ctx.Done():
	case <-front.failed:
	case <-engine.failed:
	case <-sinks.failed:
	case <-log.failed:
	}
	return errors.Join(front.stop(), engine.stop(), sinks.stop(), log.stop())
}

// A stage is a set of parts that run and stop together.
type stage struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed chan struct{} // closed when a part ended with an error

	mu   sync.Mutex // guards errs
	errs []error
}

func (s *Server) stage(parts ...func(context.Context) error) *stage {
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{cancel: cancel, failed: make(chan struct{})}
	for _, run := range parts {
		st.wg.Go(func() {
			err := run(ctx)
			if err == nil || ctx.Err() != nil && errors.Is(err, ctx.Err()) {
				return
			}
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

func (st *stage) stop() error {
	st.cancel()
	st.wg.Wait()
	st.mu.Lock()
	defer st.mu.Unlock()
	return errors.Join(st.errs...)
}

func (s *Server) closeListeners() error {
	var errs []error
	for _, l := range []net.Listener{s.mqtt, s.admin} {
		if l != nil {
			errs = append(errs, l.Close())
		}
	}
	return errors.Join(errs...)
}

// listenSocket opens the admin socket, replacing one that a killed process
// left. Only its owner may use it.
func listenSocket(path string) (net.Listener, error) {
	if c, err := net.Dial("unix", path); err == nil {
		return nil, errors.Join(fmt.Errorf("admin.socket: %s: another bridge answers there", path), c.Close())
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin.socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("admin.socket: %w", err), l.Close())
	}
	return l, nil
}

// serveHTTP serves h on l until ctx ends; a nil l serves nothing.
func serveHTTP(ctx context.Context, l net.Listener, h http.Handler) error {
	if l == nil {
		return nil
	}
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx }}
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped // requests under way have ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
