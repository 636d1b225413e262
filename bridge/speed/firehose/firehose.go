// Package firehose is the delivery streams: records buffered in a stream of
// the log until a size or an age is reached, then written as one object.
//
// The log is the only buffer, and package delivery moves it: a Drain walks the
// stream counting bytes, and when a delivery is due the range of records and the
// name are made durable before a byte is written (a plan). A crash at any point
// repeats the same range under the same name, so that an object is overwritten and
// never doubled.
package firehose

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// MaxRecord is the largest record, 1,000 KiB (Firehose quotas).
const MaxRecord = 1000 << 10

// StreamName is the stream that buffers a delivery stream. Whoever commits a
// record there has put it.
func StreamName(name string) string { return "$firehose/" + name }

// Stats counts since the start of the process.
type Stats struct {
	Objects  int64 `json:"objects"`
	Records  int64 `json:"records"` // delivered
	Bytes    int64 `json:"bytes"`   // in them, before compression
	Failures int64 `json:"attempts_failed"`
	Lost     int64 `json:"lost"`   // records that left the log undelivered, or that an endpoint will never take
	Failed   int64 `json:"failed"` // records that could not be processed or delivered, under ErrorOutputPrefix
}

// A Log is what delivery streams need of the bridge's log: a stream each to read
// and trim, and their state that is stored with it.
type Log interface {
	delivery.Log
	Create(name string, c streams.Config) error
	Delete(name string) error
	Describe(name string) (streams.Info, error)
	Size(name string) (streams.Size, error)
	Scan(prefix []byte, f func(key, value []byte) bool) error
}

// A Service runs delivery streams.
type Service struct {
	store Log
	opts  Options

	mu      sync.Mutex // guards what follows
	streams map[string]*stream
	running map[string]*runner    // those of streams that Run runs
	start   func(string, *stream) // set while Run runs
}

// Options of a Service.
type Options struct {
	// Source reads data streams of the log, for delivery streams that have one as their
	// source.
	Source  func(stream string) connector.Source
	Objects sink.Objects // the bridge's own

	// S3 finds other stores of objects, AWS services that requests are signed for. nil:
	// there are none.
	S3  func(Place) (sink.Objects, error)
	AWS AWS
	// Invoker calls functions; nil: there are blueprints alone.
	Invoker transform.Invoker
	// Tables is the catalogue that conversions find their schema in; nil: there is none.
	Tables Tables
	// Kept has what S3 did not take; nil: that waits in the log.
	Kept *objects.Store
	// HTTP and Dial reach what delivery streams may reach; Dial is for databases.
	HTTP *http.Client
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	Account, Region string // of ARNs
	Log             *slog.Logger

	mostMade int64 // 0: maxMade
}

// New returns a service over store. It starts nothing.
func New(store Log, o Options) *Service {
	if o.Invoker == nil {
		o.Invoker = noFunctions{}
	}
	o.mostMade = cmp.Or(o.mostMade, maxMade)
	return &Service{store: store, opts: o, streams: map[string]*stream{}, running: map[string]*runner{}}
}

// noFunctions is the Invoker where there are none.
type noFunctions struct{}

// Invoke implements transform.Invoker.
func (noFunctions) Invoke(context.Context, string, []byte) ([]byte, string, error) {
	return nil, "", transform.ErrNotFound
}

// ErrSource says that a delivery stream gets its records from a data stream, and
// nowhere else (Firehose API, InvalidSourceException).
var ErrSource = errors.New("delivery stream has another source")

// Apply creates a delivery stream, or gives a running one a new configuration
// from its next object on. Its source stays what it was, else ErrSource.
func (s *Service) Apply(c *Config) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.streams[c.Name]; d != nil {
		if old := d.config.Load().Source; old != c.Source {
			return fmt.Errorf("delivery stream %s: %w: %q, and that does not change", c.Name, ErrSource, old.Stream)
		}
		d.config.Store(c)
		d.poke()
		return nil
	}
	// No retention: a record leaves when the object that holds it is on disk.
	if err := s.store.Create(StreamName(c.Name), streams.Config{Shards: 1}); err != nil &&
		!errors.Is(err, streams.ErrExists) {
		return fmt.Errorf("delivery stream %s: %w", c.Name, err)
	}
	info, err := s.store.Describe(StreamName(c.Name))
	if err != nil {
		return fmt.Errorf("delivery stream %s: %w", c.Name, err)
	}
	d, err := s.open(c, stateKey(c.Name, info.ID))
	if err != nil {
		return fmt.Errorf("delivery stream %s: %w", c.Name, err)
	}
	s.streams[c.Name] = d
	if s.start != nil {
		s.start(c.Name, d)
	}
	return nil
}

// Has says whether a delivery stream of that name exists that records are put
// to.
func (s *Service) Has(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.streams[name]
	return d != nil && d.config.Load().Source.Direct()
}

// Stats returns the counters of each delivery stream.
func (s *Service) Stats() map[string]Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]Stats, len(s.streams))
	for name, d := range s.streams {
		all[name] = d.stats()
	}
	return all
}

// An Info says how a delivery stream goes.
type Info struct {
	Name   string `json:"name"`
	To     string `json:"to"`               // S3, Redshift, AmazonOpenSearchService, HttpEndpoint or Splunk
	Source string `json:"source,omitempty"` // data stream; "": records are put
	Stats
	delivery.Backlog
	delivery.Status
	FailedObjects int    `json:"failed_objects"` // of what waits to be driven again
	Incoming      uint64 `json:"incoming"`       // records that ever came, or were taken over from the source

	SourceTrouble string `json:"source_trouble,omitempty"` // why the source cannot be read; "": it is, or there is none
}

// Info describes a delivery stream.
func (s *Service) Info(name string) (i Info, err error) {
	d, err := s.stream(name)
	if err != nil {
		return i, err
	}
	c := d.config.Load()
	i = Info{Name: name, To: c.to(), Source: c.Source.Stream, Status: d.Status(), Stats: d.stats(),
		FailedObjects: len(d.listFailed())}
	if !c.Source.Direct() {
		i.SourceTrouble = d.unfedFor()
	}
	if i.Backlog, err = d.Backlog(s.store.Size); err == nil {
		var size streams.Size
		size, err = s.store.Size(d.stream)
		i.Incoming = size.Ever
	}
	return i, err
}

// List describes all delivery streams, by name.
func (s *Service) List() (all []Info, err error) {
	s.mu.Lock()
	names := slices.Sorted(maps.Keys(s.streams))
	s.mu.Unlock()
	for _, name := range names {
		i, err := s.Info(name)
		if err != nil {
			return nil, err
		}
		all = append(all, i)
	}
	return all, nil
}

// to is the destination as AWS's metrics name it.
func (c *Config) to() string {
	switch c.Kind {
	case ToRedshift, ToEndpoint, ToSplunk:
		return string(c.Kind)
	case Elasticsearch, OpenSearch:
		return "AmazonOpenSearchService"
	}
	return "S3"
}

func (d *stream) stats() Stats {
	return Stats{d.nObjects.Load(), d.nRecords.Load(), d.nBytes.Load(), d.Status().Failures, d.nLost.Load(),
		d.nFailed.Load()}
}

// Run delivers until ctx ends. What is buffered then stays in the log for the
// next start; an object under way is given up and its plan repeated.
func (s *Service) Run(ctx context.Context) error {
	if err := s.sweep(ctx); err != nil && ctx.Err() == nil {
		s.opts.Log.Warn("what deleted delivery streams left cannot be removed", "err", err)
	}
	var wg sync.WaitGroup
	s.mu.Lock()
	s.start = func(name string, d *stream) {
		ctx, stop := context.WithCancel(ctx)
		r := &runner{stop: stop}
		s.running[name] = r
		r.wg.Go(func() { d.Run(ctx) })
		if !d.config.Load().Source.Direct() {
			r.wg.Go(func() { d.feed(ctx) })
		}
		wg.Go(r.wg.Wait)
	}
	for name, d := range s.streams {
		s.start(name, d)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.start = nil
	for _, r := range s.running {
		r.stop()
	}
	s.mu.Unlock()
	wg.Wait()
	return nil
}

// Kept returns the members of a delivery stream's configuration that have no
// effect, as they were given.
func (s *Service) Kept(name string) map[string]json.RawMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.streams[name]; d != nil {
		return d.config.Load().Kept
	}
	return nil
}
