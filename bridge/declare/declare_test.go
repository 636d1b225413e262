package declare

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/firehose/catalogue"
	"github.com/tidemill/tidemill/bridge/speed/firehose/control"
	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/rules"
	"github.com/tidemill/tidemill/bridge/speed/rules/rulestest"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

const patience = time.Minute // for what must come; no test waits so long

var errSick = errors.New("the disk is sick")

// A bridge has what files declare things in: real parts over a data directory.
// None of them runs.
type bridge struct {
	t        testing.TB
	path     string // of bridge.d
	registry *registry.Registry
	store    *pebble.Store
	kinesis  *kinesis.Service
	tables   *catalogue.Catalogue
	engine   *rules.Engine
	rules    *Rules
	dir      *Dir
	closers  []func() error
}

// open returns a bridge over the data directory.
func open(t testing.TB, data string) *bridge {
	t.Helper()
	return openWith(t, data, func(string) error { return nil })
}

// openWith is open with another way to make outboxes.
func openWith(t testing.TB, data string, outbox func(string) error) *bridge {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b := &bridge{t: t, tables: catalogue.New(), path: filepath.Join(data, "bridge.d")}
	t.Cleanup(b.close)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	var err error
	b.registry, err = registrytest.Open(filepath.Join(data, "registry.db"))
	must(err)
	b.closers = append(b.closers, b.registry.Close)
	b.store, err = pebble.Open(filepath.Join(data, "log"), pebble.Options{Log: log})
	must(err)
	b.closers = append(b.closers, b.store.Close)
	store, err := objects.Open(filepath.Join(data, "objects"), objects.Options{})
	must(err)
	b.closers = append(b.closers, store.Close)
	b.kinesis, err = kinesis.Open(b.store,
		kinesis.Options{Account: "000000000000", Region: "eu-local-1", Log: log, MaxShards: 500})
	must(err)
	deliveries := firehose.New(b.store, firehose.Options{Objects: store, Tables: b.tables, Log: log,
		Source: func(stream string) connector.Source {
			return connector.InProcess(b.store, b.kinesis.In(""), stream)
		}})
	b.engine = rules.New(b.store, rules.Options{Account: "000000000000", Outbox: outbox, Log: log})
	b.rules = NewRules(RulesOptions{Dir: filepath.Join(b.path, "rules"),
		Compiler: &rules.Compiler{Catalog: catalog{b.store}, Services: &iotsql.Services{}},
		Registry: b.registry, Engine: b.engine, Log: log})
	api, err := control.Open(deliveries, b.store, control.Options{Log: log})
	must(err)
	b.dir = b.openDir(true, api)
	return b
}

// openDir opens bridge.d.
func (b *bridge) openDir(watch bool, deliveries DeliveryStreams) *Dir {
	b.t.Helper()
	log := slog.New(slog.DiscardHandler)
	d, err := OpenDir(DirOptions{Path: b.path, Watch: watch, Registry: b.registry, Streams: b.kinesis,
		Tables: b.tables, DeliveryStreams: deliveries,
		Rules: b.rules, Connectors: NewConnectors(connector.Env{Store: b.store, Log: log}), Log: log})
	if err != nil {
		b.t.Fatal(err)
	}
	return d
}

// close closes the stores, once.
func (b *bridge) close() {
	b.t.Helper()
	for _, c := range slices.Backward(b.closers) {
		if err := c(); err != nil {
			b.t.Error(err)
		}
	}
	b.closers = nil
}

// catalog knows the streams of a store.
type catalog struct{ store *pebble.Store }

func (c catalog) Shard(stream string, h streams.Hash) (int, bool) {
	shard, err := streams.Route(c.store, stream, h)
	return shard, err == nil
}

func (catalog) HasDeliveryStream(string) bool                      { return false }
func (catalog) Remote(string) bool                                 { return false }
func (catalog) Channel(string, bool) error                         { return nil }
func (catalog) Queue(*streams.Batch, string, *queue.Message) error { return nil }

func (catalog) Room(string) error            { return nil }
func (catalog) Takes(*action.Delivery) error { return nil }

// write writes files of bridge.d.
func write(t testing.TB, data string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(data, "bridge.d", name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700),
			os.WriteFile(path, []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}

// sql is a statement whose results are told apart by n.
func sql(n int) string { return fmt.Sprintf("SELECT %d AS v FROM 'a'", n) }

// payload is a topic rule that sends what it selects to a stream.
func payload(sql, stream string) string {
	return fmt.Sprintf(`{"sql":%q,"awsIotSqlVersion":"2016-03-23","actions":[{"kinesis":{"streamName":%q,"partitionKey":"k"}}]}`,
		sql, stream)
}

func wrapped(name string, n int) string {
	return fmt.Sprintf(`{"ruleName":%q,"topicRulePayload":%s}`, name, payload(sql(n), "s"))
}

// inForce is rulestest.InForce.
func (b *bridge) inForce(want ...string) {
	b.t.Helper()
	rulestest.InForce(b.t, b.engine, b.rules, want...)
}
