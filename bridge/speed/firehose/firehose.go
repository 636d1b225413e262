// Package firehose is the delivery streams: records buffered in a stream of
// the log until a size or an age is reached, then written as one object.
//
// The log is the only buffer. Delivery walks the stream counting bytes, and
// when an object is due the range of records and the object's name are made
// durable before a byte is written (a plan). A crash at any point repeats the
// same range under the same name, so the object is overwritten and never
// doubled. The read position moves, and the records are trimmed, once the
// object is on disk.
package firehose

import (
	"compress/gzip"
	"context"
	"crypto/sha1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// MaxRecord is the largest record, 1,000 KiB (Firehose quotas).
const MaxRecord = 1000 << 10

// readBytes bounds what one read of the log brings into memory.
const readBytes = 1 << 20

// StreamName is the stream that buffers a delivery stream. Whoever commits a
// record there has put it.
func StreamName(name string) string { return "$firehose/" + name }

// Stats counts since the start of the process.
type Stats struct {
	Objects, Records, Bytes, Failures int64 // Bytes before compression
	Lost                              int64 // records that left the log undelivered, see skip
	Failed                            int64 // records that could not be taken apart, under ErrorOutputPrefix
}

// A Log is what delivery streams need of the bridge's log: a stream each to read
// and trim, and their state that is stored with it.
type Log interface {
	streams.Reader
	streams.Writer
	Create(name string, c streams.Config) error
	Describe(name string) (streams.Info, error)
	Size(name string) (streams.Size, error)
	Trim(stream string, shard int, before uint64) error
	streams.Keys
}

// A Service runs delivery streams.
type Service struct {
	store   Log
	source  func(stream string) connector.Source
	objects sink.Objects
	log     *slog.Logger

	mu      sync.Mutex // guards what follows
	streams map[string]*delivery
	start   func(*delivery) // set while Run runs
}

// New returns a service over store. source reads data streams of store, for
// delivery streams that have one as their source. New starts nothing.
func New(store Log, source func(stream string) connector.Source, objects sink.Objects, log *slog.Logger) *Service {
	return &Service{store: store, source: source, objects: objects, log: log, streams: map[string]*delivery{}}
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
	d := &delivery{
		store: s.store, source: s.source, objects: s.objects, log: s.log.With("delivery_stream", c.Name),
		stream: StreamName(c.Name), state: []byte(fmt.Sprintf("firehose/%s/%d", c.Name, info.ID)),
		changed: make(chan struct{}, 1),
	}
	d.config.Store(c)
	s.streams[c.Name] = d
	if s.start != nil {
		s.start(d)
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
		all[name] = Stats{d.nObjects.Load(), d.nRecords.Load(), d.nBytes.Load(), d.nFailures.Load(), d.nLost.Load(),
			d.nFailed.Load()}
	}
	return all
}

// Run delivers until ctx ends. What is buffered then stays in the log for the
// next start; an object under way is given up and its plan repeated.
func (s *Service) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	s.mu.Lock()
	s.start = func(d *delivery) {
		wg.Go(func() { d.run(ctx) })
		if !d.config.Load().Source.Direct() {
			wg.Go(func() { d.feed(ctx) })
		}
	}
	for _, d := range s.streams {
		s.start(d)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.start = nil
	s.mu.Unlock()
	wg.Wait()
	return nil
}

// A delivery is one running delivery stream; its goroutine owns all but the
// atomics.
type delivery struct {
	store   Log
	source  func(stream string) connector.Source
	objects sink.Objects
	log     *slog.Logger
	stream  string
	state   []byte // metadata key of the position
	config  atomic.Pointer[Config]
	changed chan struct{} // the configuration changed

	nObjects, nRecords, nBytes, nFailures, nLost, nFailed atomic.Int64
}

// A position is what is durable of a delivery stream: records below Next are
// delivered, Plan is the object under way. FORMAT.md describes it.
type position struct {
	Next uint64 `json:"next"`
	Plan *plan  `json:"plan,omitempty"`
}

// A plan is an object that was begun: records [From, To) under Bucket and Key.
type plan struct {
	From   uint64 `json:"from"`
	To     uint64 `json:"to"`
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Gzip   bool   `json:"gzip,omitempty"`
	Delim  []byte `json:"delim,omitempty"`

	Split    *Splitter `json:"split,omitempty"`     // takes records apart
	ErrorKey string    `json:"error_key,omitempty"` // of the object of those that it cannot
	At       int64     `json:"at_ms,omitempty"`     // when the plan was made, with Split
}

func (d *delivery) poke() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// run retries whatever fails, for as long as it takes: undelivered records
// stay in the log.
func (d *delivery) run(ctx context.Context) {
	retry := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Second), backoff.WithMaxInterval(2*time.Minute), backoff.WithMaxElapsedTime(0))
	for ctx.Err() == nil {
		err := d.deliverNext(ctx, retry.Reset)
		if err == nil || ctx.Err() != nil {
			continue
		}
		d.nFailures.Add(1)
		wait := retry.NextBackOff()
		level := slog.LevelWarn
		if errors.Is(err, sink.ErrName) || errors.Is(err, streams.ErrCorrupt) {
			level = slog.LevelError // it does not mend itself
		}
		d.log.Log(ctx, level, "delivery failed, will retry", "err", err, "in", wait)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
		}
	}
}

// deliverNext waits for an object to be due and writes it.
func (d *delivery) deliverNext(ctx context.Context, progress func()) error {
	pos, err := d.load()
	if err != nil {
		return err
	}
	if err := d.skip(ctx, &pos); err != nil {
		return err
	}
	if pos.Plan == nil {
		if pos.Plan, err = d.due(ctx, pos.Next); err != nil || pos.Plan == nil {
			return err
		}
		if err := d.save(ctx, pos); err != nil {
			return err
		}
	}
	p := pos.Plan
	n, err := d.put(ctx, p)
	if errors.Is(err, sink.ErrName) {
		// No retry mends the name, and nothing can be seen under it: plan
		// again, with the configuration that is in force then.
		return errors.Join(err, d.save(ctx, position{Next: pos.Next}))
	}
	if err != nil {
		return err
	}
	if err := d.save(ctx, position{Next: p.To}); err != nil {
		return err
	}
	if err := d.store.Trim(d.stream, 0, p.To); err != nil {
		return err
	}
	d.nObjects.Add(n.objects)
	d.nRecords.Add(n.records)
	d.nBytes.Add(n.bytes)
	d.nFailed.Add(n.failed)
	if n.records > 0 {
		d.log.Info("object delivered", "bucket", p.Bucket, "key", p.Key, "records", n.records, "bytes", n.bytes)
	}
	if n.failed > 0 {
		d.log.Warn("records could not be taken apart", "bucket", p.Bucket, "key", p.ErrorKey, "records", n.failed)
	}
	progress()
	return nil
}

// skip moves pos past records that are no longer in the log. Nobody but this
// delivery trims the stream, so that is a fault; the records that are left
// must not wait behind it for ever.
func (d *delivery) skip(ctx context.Context, pos *position) error {
	oldest, _, err := d.store.Bounds(d.stream, 0)
	if err != nil || oldest <= pos.Next {
		return err
	}
	from := pos.Next
	pos.Next = oldest
	if p := pos.Plan; p != nil && p.To <= oldest {
		pos.Plan = nil
	} else if p != nil {
		p.From = oldest
	}
	if err := d.save(ctx, *pos); err != nil {
		return err
	}
	d.nLost.Add(int64(oldest - from))
	d.log.Error("records left the log before they were delivered", "records", oldest-from, "from", from)
	return nil
}

func (d *delivery) load() (position, error) {
	var p position
	raw, err := d.store.Get(d.state)
	if err != nil || raw == nil {
		return p, err
	}
	if err := json.Unmarshal(raw, &p); err != nil {
		return p, fmt.Errorf("position of %s: %w", d.stream, err)
	}
	return p, nil
}

// save makes p durable.
func (d *delivery) save(ctx context.Context, p position) error {
	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	b := d.store.NewBatch()
	b.Set(d.state, raw)
	return d.store.Commit(ctx, b)
}

// due waits until the records from next on fill an object or the oldest of
// them is old enough, and plans it. It returns nil if ctx ended.
func (d *delivery) due(ctx context.Context, next uint64) (*plan, error) {
	var (
		at     = next // records [next, at) are counted
		size   int64
		oldest time.Time
		seen   time.Time // when oldest was read: bounds the wait where the clock was set back
	)
	for {
		c := d.config.Load()
		recs, err := d.store.Read(d.stream, 0, at, 1000, readBytes)
		if err != nil {
			return nil, err
		}
		for _, r := range recs {
			n := int64(len(r.Data) + len(c.Processing.Delimiter))
			if size > 0 && size+n > c.Size {
				return d.plan(c, next, at, oldest)
			}
			if size == 0 && at == next {
				oldest, seen = time.UnixMilli(r.Time), time.Now()
			}
			size += n
			at = r.Offset + 1
		}
		if size >= c.Size {
			return d.plan(c, next, at, oldest)
		}
		if len(recs) > 0 {
			continue // there may be more to count
		}
		wait, cancel := ctx, context.CancelFunc(func() {})
		if at > next {
			left := min(time.Until(oldest.Add(c.Interval)), time.Until(seen.Add(c.Interval)))
			if left <= 0 {
				return d.plan(c, next, at, oldest)
			}
			wait, cancel = context.WithTimeout(ctx, left)
		}
		err = d.await(wait, at)
		cancel()
		if ctx.Err() != nil {
			return nil, nil
		}
		if err != nil && wait.Err() == nil {
			return nil, err
		}
	}
}

// await returns when a record at or past offset is there, the configuration
// changed, or ctx ended.
func (d *delivery) await(ctx context.Context, offset uint64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		select {
		case <-d.changed:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := d.store.Wait(ctx, d.stream, 0, offset)
	cancelled := ctx.Err() != nil
	cancel()
	<-stop
	if cancelled {
		return nil
	}
	return err
}

// plan names the object of records [from, to). The name ends in an id made of
// the stream's incarnation and the range.
func (d *delivery) plan(c *Config, from, to uint64, oldest time.Time) (*plan, error) {
	sum := sha1.Sum([]byte(fmt.Sprintf("%s/%d/%d", d.state, from, to)))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80 // a version 5 UUID
	id := uuid.UUID(sum[:16]).String()
	v := Values{At: oldest, ErrorType: ProcessingFailed}
	o := &c.Objects
	key, err := o.Key(c.Name, c.Version, v, id)
	if err != nil {
		return nil, fmt.Errorf("object of %s: %w", c.Name, err)
	}
	p := &plan{From: from, To: to, Bucket: o.Bucket, Key: key, Gzip: o.Compression == compress.Gzip,
		Delim: c.Processing.Delimiter}
	if c.Processing.Split != nil {
		p.Split, p.At = c.Processing.Split, time.Now().UnixMilli()
		if p.ErrorKey, err = o.ErrorKey(c.Name, c.Version, v, id); err != nil {
			return nil, fmt.Errorf("failures of %s: %w", c.Name, err)
		}
	}
	return p, nil
}

// Counts are what an object has, or a plan.
type counts struct{ objects, records, bytes, failed int64 }

// put writes the objects of a plan: that of its records, and one of those that
// could not be taken apart, if there are any.
func (d *delivery) put(ctx context.Context, p *plan) (n counts, err error) {
	if p.Split != nil { // what is written has to be known first: no object is empty
		if n, err = d.write(ctx, io.Discard, io.Discard, p); err != nil {
			return n, err
		}
	}
	if p.Split == nil || n.records > 0 {
		if err := d.objects.Put(ctx, p.Bucket, p.Key, func(w io.Writer) (err error) {
			n, err = d.write(ctx, w, io.Discard, p)
			return err
		}); err != nil {
			return n, err
		}
		n.objects++
	}
	if n.failed > 0 {
		if err := d.objects.Put(ctx, p.Bucket, p.ErrorKey, func(w io.Writer) error {
			_, err := d.write(ctx, io.Discard, w, p)
			return err
		}); err != nil {
			return n, err
		}
		n.objects++
	}
	return n, nil
}

// write puts the planned records into w, read from the log piece by piece, and
// those that could not be taken apart into failed.
func (d *delivery) write(ctx context.Context, w, failed io.Writer, p *plan) (n counts, err error) {
	out := w
	var zw *gzip.Writer
	if p.Gzip {
		zw = gzip.NewWriter(w)
		out = zw
	}
	for at := p.From; at < p.To; {
		if err := ctx.Err(); err != nil {
			return n, err
		}
		recs, err := d.store.Read(d.stream, 0, at, 1000, readBytes)
		if err != nil {
			return n, err
		}
		if len(recs) == 0 || recs[0].Offset != at {
			return n, fmt.Errorf("%s: record %d of a planned object is gone", d.stream, at)
		}
		for _, r := range recs {
			if r.Offset >= p.To {
				break
			}
			parts, why := p.Split.Split(r.Data)
			if why != nil {
				n.failed++
				if err := writeFailure(failed, r.Data, r.Time, p.At, why); err != nil {
					return n, err
				}
			}
			for _, part := range parts {
				if _, err := out.Write(part); err != nil {
					return n, err
				}
				if _, err := out.Write(p.Delim); err != nil {
					return n, err
				}
				n.records++
				n.bytes += int64(len(part) + len(p.Delim))
			}
		}
		at = recs[len(recs)-1].Offset + 1
	}
	if zw != nil {
		err = zw.Close()
	}
	return n, err
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

// Waiting returns how many records of a delivery stream are put and not yet in
// an object.
func (s *Service) Waiting(name string) (uint64, error) {
	s.mu.Lock()
	d := s.streams[name]
	s.mu.Unlock()
	if d == nil {
		return 0, fmt.Errorf("delivery stream %s: %w", name, streams.ErrNotFound)
	}
	pos, err := d.load()
	if err != nil {
		return 0, err
	}
	oldest, next, err := s.store.Bounds(d.stream, 0)
	if err != nil {
		return 0, err
	}
	return next - max(pos.Next, oldest), nil
}
