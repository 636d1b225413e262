package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"reflect"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Log is what a connector needs of the bridge's log: shards as a source, streams
// as a target, and leases that are stored with what was delivered.
type Log interface {
	sourceLog
	leaseLog
	Describe(name string) (streams.Info, error)
}

// An Env is what a connector of a file runs in.
type Env struct {
	Store Log         // nil: there is no bridge in this process
	API   kinesis.API // over Store
	Emit  NewEmitter
	Log   *slog.Logger
}

// emitter makes the file's emitter. Stream with no more than a name is the
// runtime's own, inside a bridge.
func (f *File) emitter(env Env, inside bool) (Emitter, error) {
	for kind, doc := range f.Emit { // one
		if to, ok := localTarget(kind, doc); ok && inside {
			if !nameForm.MatchString(to) {
				return nil, fmt.Errorf("Emit.Stream.StreamName: %q, want 1 to 128 of a-z A-Z 0-9 _ . -", to)
			}
			if !f.Source.remote() && to == f.Source.StreamName {
				return nil, fmt.Errorf("Emit.Stream.StreamName: %s is the source; its records would go round for ever",
					to)
			}
			return ToLog(env.Store, to), nil
		}
		e, err := env.Emit(kind, doc)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", "Emit."+kind, err)
		}
		return e, nil
	}
	return nil, errors.New("nothing to emit to")
}

// localTarget is the stream that an emitter of kind Stream names with a name
// alone.
func localTarget(kind string, doc []byte) (string, bool) {
	var to struct{ StreamName string }
	if kind != "Stream" || len(decode("", doc, reflect.ValueOf(&to).Elem())) > 0 {
		return "", false
	}
	return to.StreamName, true
}

// Open makes the connector of a file that ParseFile found right. It starts nothing,
// asks no store but the log and the lease file, and reads credentials. The
// caller must Close the connector.
func (f *File) Open(ctx context.Context, env Env) (_ *Connector, err error) {
	c := Config{
		Name: f.ConnectorName, Log: env.Log, Workers: f.Workers,
		Start:   Position{Sequence: f.Source.StartingPosition, Time: f.Source.StartingTimestamp},
		Records: f.Buffer.Records, Bytes: f.Buffer.Bytes, Age: seconds(f.Buffer.Seconds),
		RetryWait: seconds(f.Retry.Seconds), Stages: f.stages(),
	}
	if l := f.Retry.Limit; l != nil {
		if c.Retries = *l; *l == 0 {
			c.Retries = -1
		}
	}
	var closers []func() error
	defer func() {
		if err != nil {
			for _, f := range closers {
				err = errors.Join(err, f())
			}
		}
	}()
	if c.Emitter, err = f.emitter(env, env.Store != nil); err != nil {
		return nil, err
	}
	closers = append(closers, c.Emitter.Close)

	var id string
	if c.Source, id, err = f.source(ctx, env); err != nil {
		return nil, fmt.Errorf("Source: %w", err)
	}
	if c.Dead, err = f.deadLetters(ctx, env); err != nil {
		return nil, fmt.Errorf("DeadLetter: %w", err)
	}
	if c.Leases, err = f.leases(ctx, env, id); err != nil {
		return nil, fmt.Errorf("Leases: %w", err)
	}
	if l, ok := c.Leases.(*fileLeases); ok {
		closers = append(closers, l.Close)
	}
	conn := New(c)
	conn.closers = closers
	return conn, nil
}

// source opens where records come from. id names it for leases: another stream has
// another.
func (f *File) source(ctx context.Context, env Env) (from Source, id string, err error) {
	if f.Source.remote() || env.Store == nil {
		at, err := f.Source.place().Config(ctx)
		if err != nil {
			return nil, "", err
		}
		id = fmt.Sprintf("%s %s %s", f.Source.EndpointURL, f.Source.Region, f.Source.stream())
		return Remote(at, f.Source.stream()), id, nil
	}
	info, err := env.Store.Describe(f.Source.StreamName)
	if err != nil {
		return nil, "", err
	}
	return InProcess(env.Store, env.API, f.Source.StreamName), fmt.Sprintf("stream %d", info.ID), nil
}

// deadLetters opens where records go that cannot be delivered; nil: nowhere.
func (f *File) deadLetters(ctx context.Context, env Env) (DeadLetters, error) {
	d := f.DeadLetter
	switch {
	case d == nil:
		return nil, nil
	case d.remote() || env.Store == nil:
		return remoteDeadLetters(ctx, d.place(), d.stream())
	}
	return localDeadLetters(env.Store, d.StreamName), nil
}

// leases opens where is kept how far the source that id names was read.
func (f *File) leases(ctx context.Context, env Env, id string) (Leases, error) {
	switch l := f.Leases; {
	case l.DynamoDB != nil:
		at := awsapi.Place{Region: l.DynamoDB.Region, EndpointURL: l.DynamoDB.EndpointURL}
		return inDynamoDB(ctx, at, cmp.Or(l.DynamoDB.TableName, f.ConnectorName))
	case l.File != nil:
		leases, err := inFile(l.File.Path, id)
		if err != nil { // not a Leases of a nil pointer
			return nil, err
		}
		return leases, nil
	case env.Store != nil:
		return InLog(env.Store, fmt.Sprintf("connector/%s/%s/", f.ConnectorName, url.PathEscape(id)))
	}
	return nil, errors.New("missing")
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func (f *File) stages() []Stage {
	var all []Stage
	if f.Filter.JSON != "" {
		all = append(all, onlyJSON(f.Filter.JSON == "drop"))
	}
	if f.sql != nil {
		all = append(all, sql(f.Source.stream(), f.sql))
	}
	if f.Transform.AppendNewline {
		all = append(all, newline())
	}
	return all
}

// Close closes the emitter, and what else Open opened. Run must have returned.
func (c *Connector) Close() error {
	var errs []error
	for _, f := range c.closers {
		errs = append(errs, f())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// Describe is the file in short, for people: where from and where to.
func (f *File) Describe() (from, to string) {
	for kind, doc := range f.Emit {
		if s, ok := localTarget(kind, doc); ok {
			return f.Source.stream(), "Stream " + s
		}
		to = kind
	}
	return f.Source.stream(), to
}
