package firehose

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// attempts of delivery streams (Firehose developer guide, HTTP endpoint: a second,
// doubled up to two minutes, 15 % of jitter).
var attempts = delivery.Retry{First: time.Second, Most: 2 * time.Minute, Spread: 0.15}

// A stream is one running delivery stream: a delivery.Work. Its goroutine owns all
// but the atomics.
type stream struct {
	*delivery.Drain
	store   Log
	source  func(stream string) connector.Source
	opts    *Options
	log     *slog.Logger
	stream  string // of the log
	state   []byte // metadata key of the position
	config  atomic.Pointer[Config]
	changed chan struct{} // the configuration changed

	unfed atomic.Pointer[string] // why the source cannot be read; nil: it is, or its connector knows

	nObjects, nRecords, nBytes, nLost, nFailed atomic.Int64
	meters                                     meters

	driving sync.Mutex // of one Redrive at a time; held while it writes
	refused Failed     // the last that driveKept could not drive; under driving

	mu     sync.Mutex        // guards what follows
	failed map[string]Failed // what is kept, by its id
}

func (s *Service) open(c *Config, state []byte) (*stream, error) {
	d := &stream{
		store: s.store, source: s.opts.Source, opts: &s.opts, log: s.opts.Log.With("delivery_stream", c.Name),
		stream: StreamName(c.Name), state: state, changed: make(chan struct{}, 1), failed: map[string]Failed{},
	}
	d.config.Store(c)
	_, next, err := s.store.Bounds(d.stream, 0)
	if err != nil {
		return nil, err
	}
	d.meters.counted.Store(next) // what waits came before this process
	d.Drain = delivery.NewDrain(delivery.NewLine(attempts, d.log, nil), s.store, d.stream, state, true, d)
	return d, d.loadFailed()
}

func (d *stream) poke() {
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// Decode implements delivery.Work.
func (d *stream) Decode(raw []byte) (delivery.Plan, error) {
	var p plan
	err := json.Unmarshal(raw, &p)
	return &p, err
}

// Lost implements delivery.Work.
func (d *stream) Lost(from, to uint64) {
	d.nLost.Add(int64(to - from))
	d.log.Error("records left the log before they were delivered", "records", to-from, "from", from)
}

// Job implements delivery.Work.
func (d *stream) Job(ctx context.Context, planned delivery.Plan) (*delivery.Job, error) {
	p := planned.(*plan)
	c, err := p.as(d.config.Load())
	if err != nil {
		return nil, err
	}
	if c.Redshift != nil {
		return d.toWarehouse(ctx, c, p)
	}
	t, err := d.target(c)
	if err != nil {
		return nil, err
	}
	if t != nil {
		return d.toTarget(ctx, c, p, t)
	}
	return d.toObjects(ctx, c, p)
}

// settle moves the position, and notes what was kept or failed.
func (d *stream) settle(ctx context.Context, p *plan, n counts, outputs []output, kept []Failed) error {
	return d.settleWith(ctx, p, n, append(kept, d.ofOutputs(p, outputs, nil)...))
}

func (d *stream) settleWith(ctx context.Context, p *plan, n counts, kept []Failed) error {
	b := d.store.NewBatch()
	if err := d.register(b, kept); err != nil {
		return err
	}
	if err := d.Move(ctx, b, p.To, nil); err != nil {
		return err
	}
	d.registered(kept)
	d.nObjects.Add(n.objects)
	d.nRecords.Add(n.records)
	d.nBytes.Add(n.bytes)
	d.nFailed.Add(n.failed)
	d.meters.count(n.add)
	d.log.Info("delivered", "bucket", p.Bucket, "key", p.Key, "records", n.records, "bytes", n.bytes)
	if n.failed > 0 {
		d.log.Warn("records could not be processed", "bucket", p.Bucket, "key", p.ErrorKey, "records", n.failed)
	}
	return nil
}

// each calls f for the records of a range, read from the log piece by piece.
func (d *stream) each(ctx context.Context, r delivery.Range, f func(*streams.Record) error) error {
	for at := r.From; at < r.To; {
		if err := ctx.Err(); err != nil {
			return err
		}
		recs, err := d.store.Read(d.stream, 0, at, 1000, readBytes)
		if err != nil {
			return err
		}
		if len(recs) == 0 || recs[0].Offset != at {
			return fmt.Errorf("%s: record %d of a planned object is gone", d.stream, at)
		}
		for i := range recs {
			if recs[i].Offset >= r.To {
				break
			}
			if err := f(&recs[i]); err != nil {
				return err
			}
		}
		at = recs[len(recs)-1].Offset + 1
	}
	return nil
}
