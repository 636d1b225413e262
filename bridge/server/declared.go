package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/declare"
	"github.com/tidemill/tidemill/bridge/serving/functions"
	"github.com/tidemill/tidemill/bridge/serving/lookup"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/connector/emit"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/hal/secretfile"
)

// openDeclared makes what bridge.d declares things in.
func (a *assembly) openDeclared() (err error) {
	services, err := a.services()
	if err != nil {
		return err
	}
	a.compiler = &rules.Compiler{Catalog: catalog{a.store, a.firehose, a.cfg, a.queues, a.disk}, Services: services}
	a.topicRules = declare.NewRules(declare.RulesOptions{Dir: a.cfg.RulesDir(), Compiler: a.compiler,
		Registry: a.registry, Engine: a.rules, Log: a.log})
	a.connectors = declare.NewConnectors(connector.Env{Store: a.store, API: a.kinesis.In(""), Emit: a.newEmitter,
		Log: a.log})
	a.declared, err = declare.OpenDir(declare.DirOptions{Path: a.cfg.BridgeD.Dir, Watch: a.cfg.BridgeD.Watch,
		Registry: a.registry, Seal: a.seal,
		Streams: a.kinesis, Tables: a.tables, DeliveryStreams: a.deliveries,
		Rules: a.topicRules, Connectors: a.connectors,
		Changed: a.declarationChanged, Log: a.log})
	if err != nil {
		err = fmt.Errorf("bridge_d.dir: %w", err)
	}
	return err
}

// services are what rules' statements may ask here. Rules are refused that use one
// that the configuration does not have: nobody may be asked whom the operator did not
// name.
func (a *assembly) services() (*iotsql.Services, error) {
	s := &iotsql.Services{
		Shadows:  lookup.NewShadows(a.shadows, a.shadowOptions.Now),
		Things:   lookup.Things{Registry: a.registry, Account: a.cfg.Account, Region: a.cfg.Region},
		Protobuf: lookup.Descriptors{Objects: a.objects},
		Secrets:  a.secrets,
		Failed:   a.failures.Failed,
	}
	if a.caller.Any() {
		s.Lambdas = functions.Statements{Caller: a.caller}
	}
	if _, ok := a.place("dynamoDB"); ok {
		s.Tables = a.asks()
	}
	if p := a.cfg.Predict; p.URL != "" {
		m := lookup.Models{URL: p.URL, HTTP: a.egress.Client()}
		a.closes(func() error { m.HTTP.CloseIdleConnections(); return nil })
		if p.TokenFile != "" {
			var err error
			if m.Token, err = secretfile.Line(p.TokenFile); err != nil {
				return nil, fmt.Errorf("predict.token_file: %w", err)
			}
		}
		s.Models = m
	}
	return s, nil
}

// Reload applies the files of bridge.d, all of them, as declare.Dir's Apply, and
// reads access keys and what is granted to them, and server certificates of files, again. Connections end that might
// not be made any more. It returns how many declarations of files hold.
func (s *Server) Reload() (holds int, err error) {
	holds, err = s.declared.Apply(true)
	err = errors.Join(err, s.keys.Load(), s.readPeers(), s.pki.ReloadServed(s.log))
	s.lookAtKeys()
	s.keys.Warn()
	s.revoker.Revoke()
	return holds, err
}

// newEmitter makes the emitters of connectors, which find the bridge's objects
// and streams.
func (a *assembly) newEmitter(kind string, doc json.RawMessage) (connector.Emitter, error) {
	return emit.New(kind, doc, emit.Env{Objects: a.objects,
		Append: func(ctx context.Context, stream, key string, data []byte) error {
			b := a.store.NewBatch()
			b.Put(stream, streams.HashOf(key), streams.Record{Key: key, Data: data})
			return a.store.Commit(ctx, b)
		}})
}
