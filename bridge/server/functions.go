package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/access"
	"github.com/tidemill/tidemill/bridge/control/webhook"
	"github.com/tidemill/tidemill/bridge/lambda"
	"github.com/tidemill/tidemill/bridge/lambda/async"
	"github.com/tidemill/tidemill/bridge/lambda/bootstrap"
	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
	"github.com/tidemill/tidemill/bridge/lambda/store"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	awslambda "github.com/tidemill/tidemill/bridge/serving/aws/lambda"
	"github.com/tidemill/tidemill/bridge/serving/functions"
	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A functionParts runs functions; nil: they are switched off.
type functionParts struct {
	store   *store.Store
	manager *lambda.Manager
	queue   *async.Queue
	logs    *lambda.Logs
	box     *sandbox.Sandbox
	keys    *access.FunctionKeys
}

// openFunctions makes the parts that run functions, if the configuration wants them,
// and says what isolates them here.
func (a *assembly) openFunctions() (err error) {
	a.caller = &functions.Caller{Own: "arn:aws:lambda:" + a.cfg.Region + ":" + a.cfg.Account + ":"}
	if _, ok := a.place("lambda"); ok {
		a.caller.Remote = a.asks()
	}
	c := a.cfg.Lambda
	if !c.Enabled {
		return nil
	}
	f := &functionParts{}
	f.store, err = store.Open(store.Options{Dir: a.at("lambda"), Account: a.cfg.Account, Region: a.cfg.Region,
		Directories: c.Directories, MaxCode: int64(c.MaxCode), MaxFuncs: c.MaxFunctions,
		MaxMemory: int(c.MaxMemory >> 20), MaxTimeout: time.Duration(c.MaxTimeout)})
	if err != nil {
		return fmt.Errorf("functions: %w", err)
	}
	for name, err := range f.store.Damaged() {
		a.log.Error("a function cannot be read and is not served", "function", name, "err", err)
	}
	// Mounts are made by whole paths.
	root, err := filepath.Abs(f.store.Path("root"))
	if err != nil {
		return err
	}
	programs, err := filepath.Abs(f.store.Path("runtime"))
	if err != nil {
		return err
	}
	if err := bootstrap.Write(programs); err != nil {
		return err
	}
	if f.box, err = sandbox.Open(sandbox.Options{Dir: root, Log: a.log}); err != nil {
		return err
	}
	a.closes(f.box.Close)
	f.logs = lambda.NewLogs(f.store.Path("logs"))
	a.closes(f.logs.Close)
	o := lambda.Options{Functions: f.store, Sandbox: f.box, Unsafe: c.Unsafe, Region: a.cfg.Region, Runtime: programs,
		Concurrency: c.MaxConcurrency, Idle: time.Duration(c.Idle), Log: f.logs.Open, Slog: a.log}
	if c.Network {
		o.Outside = a.egress
	}
	f.keys = access.NewFunctionKeys(a.keys, a.pki, roleOf(f.store))
	o.Keys, o.API = functionKeys{f.keys}, a.functionAPI()
	f.manager = lambda.New(o)
	f.queue = async.New(async.Options{Log: &eventLog{store: a.store}, Caller: f.manager, Settings: f.settings,
		Send: func(ctx context.Context, arn, id string, depth int, record []byte) error {
			return a.destinations().Send(ctx, arn, id, depth, record)
		}, Slog: a.log})
	a.caller.Calls, a.caller.Queue, a.caller.Find = f.manager, f.queue, f.store
	a.functions = f
	return a.sayFunctions()
}

// destinations take the records of queued calls. Objects and queues are opened after functions.
func (a *assembly) destinations() *functions.Destinations {
	return &functions.Destinations{Caller: a.caller, Objects: a.objects, Queues: a.queues, Region: a.cfg.Region,
		Account: a.cfg.Account}
}

// sayFunctions logs what isolates functions.
func (a *assembly) sayFunctions() error {
	m := a.functions.box.Means()
	switch {
	case m.Isolated():
		a.log.Info("functions run, isolated", "by", m.String())
	case a.cfg.Lambda.Unsafe:
		a.log.Warn("functions run, and nothing isolates them: lambda.unsafe is set", "by", m.String())
	default:
		a.log.Warn("functions are refused, as nothing isolates them: lambda.unsafe = true runs them in spite of it",
			"by", m.String())
	}
	err := a.store.Create(eventStream, streams.Config{Shards: 1})
	if errors.Is(err, streams.ErrExists) {
		err = nil
	}
	return err
}

// settings are how a function's queued calls are made again.
func (f *functionParts) settings(function, qualifier string) (async.Settings, error) {
	c, _, err := f.store.Async(function, qualifier)
	return async.Settings{Retries: c.Retries, MaxAge: time.Duration(c.MaxAge) * time.Second, OnFailure: c.OnFailure,
		OnSuccess: c.OnSuccess, ARN: f.store.ARN(function, cmp.Or(qualifier, store.Latest))}, err
}

// functionService are the operations of the AWS API; nil: functions are switched off.
func (a *assembly) functionService() *awslambda.Options {
	f := a.functions
	if f == nil {
		return nil
	}
	return &awslambda.Options{Store: f.store, Functions: f.manager, Queue: f.queue,
		Concurrency: a.cfg.Lambda.MaxConcurrency, Right: a.destinations().Right, Granted: f.keys.Granted,
		Object: func(ctx context.Context, bucket, key string, most int) ([]byte, error) {
			data, _, err := a.objects.Get(ctx, bucket, key, most)
			return data, err
		}}
}

// adminFunctions are those that the command line asks about; nil: switched off.
func (s *Server) adminFunctions() *admin.Functions {
	f := s.functions
	if f == nil {
		return nil
	}
	return &admin.Functions{Store: f.store, Calls: f.manager, Logs: f.logs}
}

// ownFunctions are those that hooks and authorizers may name.
func (s *Server) ownFunctions() webhook.Functions {
	if !s.caller.Any() {
		return webhook.None{}
	}
	return functions.Asked{Caller: s.caller}
}

// functionStages run functions: they stop after all that calls them, and what queues
// calls before the functions.
func (s *Server) functionStages() [][]part {
	if s.functions == nil {
		return nil
	}
	return [][]part{{{"functions", s.functions.manager.Run}},
		{{"queued calls of functions", s.unheld(hold.Functions, s.functions.queue.Run)}}}
}

// eventStream has the calls of functions that nobody waits for.
const eventStream = "$lambda"

// eventPosition is the key of which of them were not made.
var eventPosition = []byte("lambda/position")

// An eventLog is a stream of the bridge's log. It implements async.Log.
type eventLog struct {
	store interface {
		streams.Writer
		streams.Reader
		streams.Trimmer
		streams.Keys
	}
	trimmed atomic.Uint64 // before that nothing is left
}

// Append implements async.Log.
func (l *eventLog) Append(ctx context.Context, record []byte) error {
	b := l.store.NewBatch()
	b.Append(eventStream, 0, streams.Record{Data: record})
	return l.store.Commit(ctx, b)
}

// maxEvents and maxEventBytes bound one read: a record has at most 1 MiB of event.
const (
	maxEvents     = 256
	maxEventBytes = 4 << 20
)

// Read implements async.Log.
func (l *eventLog) Read(ctx context.Context, from uint64) ([]async.Record, error) {
	if err := l.store.Wait(ctx, eventStream, 0, from); err != nil {
		return nil, err
	}
	records, err := l.store.Read(eventStream, 0, from, maxEvents, maxEventBytes)
	all := make([]async.Record, len(records))
	for i, r := range records {
		all[i] = async.Record{Offset: r.Offset, Data: r.Data}
	}
	return all, err
}

// At implements async.Log.
func (l *eventLog) At(offset uint64) ([]byte, error) {
	records, err := l.store.Read(eventStream, 0, offset, 1, maxEventBytes)
	if err != nil {
		return nil, err
	}
	if len(records) == 0 || records[0].Offset != offset {
		return nil, fmt.Errorf("stream %s has no record %d", eventStream, offset)
	}
	return records[0].Data, nil
}

// Position implements async.Log.
func (l *eventLog) Position() (async.Position, error) {
	value, err := l.store.Get(eventPosition)
	if err != nil {
		return async.Position{}, err
	}
	return async.ParsePosition(value)
}

// Done implements async.Log.
func (l *eventLog) Done(ctx context.Context, p async.Position, records [][]byte) error {
	b := l.store.NewBatch()
	b.Set(eventPosition, p.Encode())
	for _, data := range records {
		b.Append(eventStream, 0, streams.Record{Data: data})
	}
	return l.store.Commit(ctx, b)
}

// Trim implements async.Log, in steps.
func (l *eventLog) Trim(before uint64) error {
	if before < l.trimmed.Load()+maxEvents {
		return nil
	}
	if err := l.store.Trim(eventStream, 0, before); err != nil {
		return err
	}
	l.trimmed.Store(before)
	return nil
}
