package firehose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Counts are what a delivery has.
type counts struct {
	objects, records, bytes, failed    int64
	processed, converted, notConverted Amount
	backup                             *Amount // grows while copies are written; nil: there are none
}

// add adds what Metrics have of a delivery.
func (n *counts) add(m *Metrics) {
	m.Processed.add(n.processed.Records, n.processed.Bytes)
	m.Converted.add(n.converted.Records, n.converted.Bytes)
	m.NotConverted.add(n.notConverted.Records, n.notConverted.Bytes)
	if n.backup != nil {
		m.Backup.add(n.backup.Records, n.backup.Bytes)
	}
}

// An output is an object to write. write may be called more than once.
type output struct {
	place   Place
	bucket  string
	key     string
	write   func(ctx context.Context, w io.Writer) error
	done    bool
	kind    string // error output type; "" for what is delivered
	backup  bool   // it is a copy of what is delivered, or of what a destination did not take
	records int64
	bytes   int64
}

// A Place is where objects are: both members empty, the bridge's own.
type Place struct{ Region, EndpointURL string }

func (o *Objects) place() Place { return Place{o.Region, o.EndpointURL} }

// put writes what is not written of outputs, in their order.
func (d *stream) put(ctx context.Context, outputs []output) error {
	for i := range outputs {
		o := &outputs[i]
		if o.done {
			continue
		}
		store, err := d.objectsAt(o.place)
		if err == nil {
			err = store.Put(ctx, o.bucket, o.key, func(w io.Writer) error { return o.write(ctx, w) })
		}
		if o.backup {
			d.meters.count(func(m *Metrics) {
				m.BackupAttempts++
				if err != nil {
					m.BackupFailures++
				}
			})
		}
		if err != nil {
			return err
		}
		o.done = true
	}
	return nil
}

// putPlanned is put of a plan's. What cannot be written is planned again where no
// retry mends it: for a name that cannot be, or where the configuration has objects
// elsewhere by now.
func (d *stream) putPlanned(ctx context.Context, p *plan, outputs []output) error {
	err := d.put(ctx, outputs)
	if errors.Is(err, sink.ErrName) || err != nil && ctx.Err() != context.Canceled && p.moved(d.config.Load()) {
		err = fmt.Errorf("%w: %w", delivery.ErrAbandon, err)
	}
	return err
}

// objectsAt is the store of a place.
func (d *stream) objectsAt(at Place) (sink.Objects, error) {
	if at == (Place{}) {
		return d.opts.Objects, nil
	}
	if d.opts.S3 == nil {
		return nil, errors.New("no other object stores than the bridge's own are to be had")
	}
	return d.opts.S3(at)
}

// toObjects delivers to S3: the object, or one for each partition, and what failed
// before. What cannot be written for a day is kept, and driven again later.
func (d *stream) toObjects(ctx context.Context, c *Config, p *plan) (*delivery.Job, error) {
	outputs, n, err := d.outputs(ctx, c, p)
	if err != nil {
		return nil, err
	}
	return &delivery.Job{
		Items: 1, OutagesCount: true,
		Send: func(ctx context.Context, _ []int) ([]sink.Refusal, error) {
			return nil, d.putPlanned(ctx, p, outputs)
		},
		Enough: func(_ int, f *delivery.Failing) bool { return time.Since(f.Since) >= retryS3 },
		Settle: func(ctx context.Context, _ int, given []sink.Refusal) error {
			var kept []Failed
			if len(given) > 0 {
				if kept, err = d.keep(ctx, p, outputs, given[0].Err); err != nil {
					return err
				}
			}
			if err := d.settle(ctx, p, n(), outputs, kept); err != nil {
				return err
			}
			if len(given) == 0 {
				d.driveKept(ctx)
			}
			return nil
		},
	}, nil
}

// outputs are the objects of a plan, and what counts them when they are written.
func (d *stream) outputs(ctx context.Context, c *Config, p *plan) (all []output, n func() counts, err error) {
	var copied *Amount
	if p.SourceKey != "" && c.SourceBackup != nil {
		copied = new(Amount)
		all = append(all, d.sourceCopy(c.SourceBackup, p, copied))
	}
	if p.Split == nil && len(c.errorTypes()) == 0 {
		one, n := d.streamed(c, p)
		return append(all, one), func() counts { now := n(); now.backup = copied; return now }, nil
	}
	m, err := d.make(ctx, c, p)
	if err != nil {
		return nil, nil, err
	}
	var made []output
	if c.Partitioning != nil {
		made, err = d.partitions(ctx, c, p, m)
	} else if len(m.parts) > 0 {
		made, err = p.object(c, p.Key, m.parts, m)
	}
	if err != nil {
		return nil, nil, err
	}
	done := m.counts
	done.backup = copied
	for _, o := range made {
		done.records, done.bytes = done.records+o.records, done.bytes+o.bytes
	}
	made = append(made, d.failures(c, p, m)...)
	done.failed, done.objects = m.nFail, int64(len(made))
	return append(all, made...), func() counts { return done }, nil
}

// object is one of parts, or none where no part can be in it.
func (p *plan) object(c *Config, key string, parts []piece, m *made) ([]output, error) {
	if c.Conversion == nil {
		return []output{p.joined(c, key, parts)}, nil
	}
	o, ok, err := p.converted(c, key, parts, m)
	if err != nil || !ok {
		return nil, err
	}
	return []output{o}, nil
}

// joined is an object of parts one after the other.
func (p *plan) joined(c *Config, key string, parts []piece) output {
	return output{place: c.Objects.place(), bucket: p.Bucket, key: key, records: int64(len(parts)),
		bytes: p.size(parts), write: func(_ context.Context, w io.Writer) error { return p.writeParts(w, parts) }}
}

// streamed is the object of records that nothing is done with: they are read from
// the log piece by piece while it is written.
func (d *stream) streamed(c *Config, p *plan) (output, func() counts) {
	var n counts
	write := func(ctx context.Context, w io.Writer) error {
		n = counts{objects: 1}
		z := p.format().NewWriter(w)
		err := d.each(ctx, p.Range, func(r *streams.Record) error {
			n.records++
			n.bytes += int64(len(r.Data) + len(p.Delim))
			if _, err := z.Write(r.Data); err != nil {
				return err
			}
			_, err := z.Write(p.Delim)
			return err
		})
		if err == nil {
			err = z.Close()
		}
		return err
	}
	return output{place: c.Objects.place(), bucket: p.Bucket, key: p.Key, write: write}, func() counts { return n }
}

// sourceCopy is the records as they came.
func (d *stream) sourceCopy(o *Objects, p *plan, n *Amount) output {
	write := func(ctx context.Context, w io.Writer) error {
		*n = Amount{}
		z := o.Compression.NewWriter(w)
		err := d.each(ctx, p.Range, func(r *streams.Record) error {
			n.add(1, int64(len(r.Data)))
			_, err := z.Write(r.Data)
			return err
		})
		if err == nil {
			err = z.Close()
		}
		return err
	}
	return output{place: o.place(), bucket: o.Bucket, key: p.SourceKey, backup: true, write: write}
}

// partitions are the objects of dynamic partitioning. Their keys are durable in the
// plan before the first is written.
func (d *stream) partitions(ctx context.Context, c *Config, p *plan, m *made) (all []output, err error) {
	items := make([]spreadItem, len(m.parts))
	for i := range m.parts {
		items[i] = m.parts[i].spreadItem
	}
	spread, order, refused := newSpread(c).Add(items)
	if err := d.nameParts(ctx, c, p, spread, order); err != nil {
		return nil, err
	}
	for _, id := range order {
		parts := make([]piece, 0, len(spread[id].Items))
		for _, i := range spread[id].Items {
			parts = append(parts, m.parts[i])
		}
		one, err := p.object(c, p.Parts[id], parts, m)
		if err != nil {
			return nil, err
		}
		all = append(all, one...)
	}
	for i, r := range items {
		if why := refused[i]; why != nil {
			m.fail(partitioningFailed, &failure{Attempts: 1, Arrived: r.Arrived.UnixMilli(), Code: why.Code,
				Message: why.Message, Ended: p.At, Raw: m.parts[i].raw})
		}
	}
	return all, nil
}

// nameParts names the objects of partitions that have no name in the plan yet.
func (d *stream) nameParts(ctx context.Context, c *Config, p *plan, spread map[string]*prefixGroup,
	order []string) (err error) {
	named, fresh := map[string]string{}, false
	maps.Copy(named, p.Parts)
	for n, id := range order {
		if named[id] != "" {
			continue
		}
		fresh = true
		named[id], err = c.Objects.Key(c.Name, c.Version, spread[id].Values, fmt.Sprintf("%s-%d", p.ID, n))
		if err != nil {
			return err
		}
	}
	if !fresh {
		return nil
	}
	p.Parts = named
	return d.Replan(ctx, p)
}

// failures are the objects of lines.
func (d *stream) failures(c *Config, p *plan, m *made) (all []output) {
	for _, kind := range c.errorTypes() {
		if lines := m.failed[kind]; len(lines) > 0 {
			all = append(all, output{place: c.Objects.place(), bucket: p.Bucket, key: p.errorKey(kind), kind: kind,
				records: countLines(lines), bytes: int64(len(lines)),
				write: func(_ context.Context, w io.Writer) error { _, err := w.Write(lines); return err }})
		}
	}
	return all
}

func countLines(lines []byte) (n int64) {
	for _, c := range lines {
		if c == '\n' {
			n++
		}
	}
	return n
}
