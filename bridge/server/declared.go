package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/declare"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/connector/emit"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// openDeclared makes what bridge.d declares things in.
func (s *Server) openDeclared(now func() time.Time) (err error) {
	s.compiler = &rules.Compiler{Catalog: catalog{s.store, s.firehose, int64(s.cfg.Rules.MaxBacklog)}, Services: s.services(now)}
	s.topicRules = declare.NewRules(declare.RulesOptions{Dir: s.cfg.RulesDir(), Compiler: s.compiler, Registry: s.registry, Engine: s.rules, Log: s.log})
	s.connectors = declare.NewConnectors(connector.Env{Store: s.store, API: s.kinesis.In(""), Emit: s.newEmitter, Log: s.log})
	s.declared, err = declare.OpenDir(declare.DirOptions{Path: s.cfg.BridgeD.Dir, Watch: s.cfg.BridgeD.Watch, Registry: s.registry,
		Streams: s.kinesis, DeliveryStreams: s.firehose, Rules: s.topicRules, Connectors: s.connectors, Log: s.log})
	if err != nil {
		err = fmt.Errorf("bridge_d.dir: %w", err)
	}
	return err
}

// Reload applies the files of bridge.d, all of them, as declare.Dir's Apply, and
// reads access keys and what is granted to them, and server certificates of files, again. Connections end that might
// not be made any more. It returns how many declarations of files hold.
func (s *Server) Reload() (holds int, err error) {
	holds, err = s.declared.Apply(true)
	err = errors.Join(err, s.keys.Load(), s.pki.ReloadServed(s.log))
	s.keys.Warn()
	s.revoker.Revoke()
	return holds, err
}

// newEmitter makes the emitters of connectors, which find the bridge's objects
// and streams.
func (s *Server) newEmitter(kind string, doc json.RawMessage) (connector.Emitter, error) {
	return emit.New(kind, doc, emit.Env{Objects: s.objects, Append: func(ctx context.Context, stream, key string, data []byte) error {
		b := s.store.NewBatch()
		b.Put(stream, streams.HashOf(key), streams.Record{Key: key, Data: data})
		return s.store.Commit(ctx, b)
	}})
}
