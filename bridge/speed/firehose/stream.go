package firehose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
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
	objects sink.Objects
	log     *slog.Logger
	stream  string // of the log
	state   []byte // metadata key of the position
	config  atomic.Pointer[Config]
	changed chan struct{} // the configuration changed

	nObjects, nRecords, nBytes, nLost, nFailed atomic.Int64
}

func (s *Service) open(c *Config, state []byte) *stream {
	d := &stream{
		store: s.store, source: s.source, objects: s.objects, log: s.log.With("delivery_stream", c.Name),
		stream: StreamName(c.Name), state: state, changed: make(chan struct{}, 1),
	}
	d.config.Store(c)
	d.Drain = delivery.NewDrain(delivery.NewLine(attempts, d.log, nil), s.store, d.stream, state, true, d)
	return d
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

// Job implements delivery.Work: one object, and one of what failed before.
func (d *stream) Job(_ context.Context, planned delivery.Plan) (*delivery.Job, error) {
	p := planned.(*plan)
	var n counts
	return &delivery.Job{
		Items: 1,
		Send: func(ctx context.Context, _ []int) (_ []sink.Refusal, err error) {
			n, err = d.put(ctx, p)
			if errors.Is(err, sink.ErrName) {
				// No retry mends the name, and nothing can be seen under it.
				err = fmt.Errorf("%w: %w", delivery.ErrAbandon, err)
			}
			return nil, err
		},
		Settle: func(ctx context.Context, _ int, _ []sink.Refusal) error { return d.settle(ctx, p, n) },
	}, nil
}

func (d *stream) settle(ctx context.Context, p *plan, n counts) error {
	if err := d.Move(ctx, d.store.NewBatch(), p.To); err != nil {
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
