package server

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tidemill/tidemill/bridge/listen"
	"github.com/tidemill/tidemill/bridge/serving/admin"
)

// Handler returns the administration API, which also works before Run, for what
// only the stores are needed for. It tells the addresses of now.
func (s *Server) Handler() http.Handler {
	return admin.New(admin.Options{
		Info: s.info(), Status: s.status, Backups: s.backups,
		Holds: holder{s}, Revocations: s.revocations,
		Account: s.cfg.Account, Region: s.cfg.Region,
		People: s.people, Declared: s.keys.Declared, Peers: s.peers,
		Registry: s.registry, Issuer: s.pki, Clients: s.gateway, Endpoint: s.endpoint, Expiries: s.expiries,
		Broker: s.broker != nil,
		Store:  s.store, DataStreams: s.kinesis, DeliveryStreams: s.firehose, Outboxes: s.drainer,
		Connectors: s.connectors,
		Alarms:     s.adminAlarms(),
		Objects:    s.objects,
		Functions:  s.adminFunctions(),
		Secrets:    s.secrets,
		TopicRules: s.topicRules, Engine: s.rules, Compiler: s.compiler,
		Declarations: s.declared, Reload: s.Reload, Drain: s.beginDrain,
		Clock: notedClock{s.clock, s.note}, Disk: s.disk, Audit: s.audit,
		Metrics: s.metricsHandler(), Watch: &s.watchers, Log: s.log,
	})
}

func (s *Server) info() admin.Info {
	return admin.Info{Version: s.version, Data: s.cfg.DataDir, MQTT: address(s.mqtt), HTTPS: s.httpsAddr(),
		Admin: address(s.admin)}
}

// adminAlarms is nil where alarms are elsewhere.
func (s *Server) adminAlarms() admin.Alarms {
	if s.alarms == nil {
		return nil
	}
	return s.alarms
}

// publicHandler serves what the admin listener shows: nothing that changes
// anything or tells of data, and to no page that had its own name resolve to
// this machine.
func (s *Server) publicHandler() http.Handler {
	mux := admin.Health(s.ready)
	mux.Handle("GET /metrics", s.metricsHandler())
	return listen.OnlyKnownHosts(s.cfg.MQTT.ServerNames, mux)
}

// ready returns why the bridge cannot take data, nil if it can.
func (s *Server) ready() error {
	if why := s.stopping.Load(); why != nil {
		return errors.New(*why)
	}
	if !s.store.Ready() {
		err := s.store.Err()
		if err == nil {
			err = errors.New("it does not run")
		}
		return fmt.Errorf("the log takes no data: %w", err)
	}
	if err := s.disk.Refuses(); err != nil {
		return fmt.Errorf("new data is refused: %w", err)
	}
	if missing := s.declared.Missing(); len(missing) > 0 {
		return errors.New("declarations are wrong, and there are none of before; mend or remove: " +
			strings.Join(missing, ", "))
	}
	if s.broker != nil {
		if err := s.broker.Ready(); err != nil {
			return fmt.Errorf("no connection to the broker: %w", err)
		}
	}
	return nil
}

// adminServer serves the admin socket, and knows who asks.
func adminServer() *http.Server {
	srv := listen.Within(0)
	srv.ConnContext = admin.WithPeer
	return srv
}
