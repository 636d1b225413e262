package firehose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unsafe"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/firehose/blueprint"
	"github.com/tidemill/tidemill/bridge/speed/firehose/transform"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A piece is a record as it is delivered.
type piece struct {
	spreadItem
	offset uint64 // of the record in the log
	sub    int    // of the parts of that record
	raw    []byte // as it came
	named  string // its id, where it had one in a line; else it is made
	unit   string // of a line: that of the unit that it failed in; else ""
}

// id is the same as often as the part is delivered, and no other part's: prefix is
// the delivery stream's.
func (p *piece) id(prefix string) string {
	if p.named != "" {
		return p.named
	}
	if p.sub == 0 {
		return fmt.Sprintf("%s.%d", prefix, p.offset)
	}
	return fmt.Sprintf("%s.%d.%d", prefix, p.offset, p.sub)
}

// maxMade bounds what the records of a plan become before a function, in bytes: twice
// the largest buffer. A small record may be 16 MiB when it is decompressed, and
// many when it is taken apart.
const maxMade = 256 << 20

// pieceBytes is what a piece takes of memory beside its data.
const pieceBytes = int64(unsafe.Sizeof(piece{}))

// errMade says that no more records of a plan go into memory.
var errMade = errors.New("firehose: as much is made as may be")

// A made is what processing made of a range. It is in memory: a range has at most
// Buffer.Size bytes before processing, and what is made of it is at most maxMade and
// one record.
type made struct {
	parts  []piece
	failed map[string][]byte // lines, by error output type
	nFail  int64
	counts counts // of what was processed and converted
}

func (m *made) fail(kind string, f interface{ Append([]byte) []byte }) {
	if m.failed == nil {
		m.failed = map[string][]byte{}
	}
	m.failed[kind] = f.Append(m.failed[kind])
	m.nFail++
}

// make processes the records of a plan. Where they become more than may be in memory
// the plan ends before the first that is too much, for good: the rest is the next's.
func (d *stream) make(ctx context.Context, c *Config, p *plan) (*made, error) {
	m := &made{}
	first := c.Processing // of plans of before it may be another configuration's, but for Split
	first.Split = p.Split
	to, size := p.To, int64(0)
	err := d.each(ctx, p.Range, func(r *streams.Record) error {
		data, why := first.Prepare(r.Data)
		for i, one := range data {
			if i > 0 {
				size += pieceBytes // the buffer's size bounds the first ones
			}
			size += int64(len(one))
		}
		if size > d.opts.mostMade && r.Offset > p.From {
			to = r.Offset
			return errMade
		}
		if why != nil {
			m.fail(processingFailed, &failure{Attempts: 1, Arrived: r.Time, Code: why.Code, Message: why.Message,
				Ended: p.At, Raw: r.Data})
		}
		for i, one := range data {
			m.parts = append(m.parts, piece{spreadItem: spreadItem{Data: one, Arrived: time.UnixMilli(r.Time)},
				offset: r.Offset, sub: i, raw: r.Data})
		}
		return nil
	})
	if errors.Is(err, errMade) {
		p.To = to
		err = d.Replan(ctx, p)
	}
	if err == nil && c.Processing.Lambda != nil {
		err = d.transform(ctx, c, p, m)
	}
	return m, err
}

// transform has the function change the parts.
func (d *stream) transform(ctx context.Context, c *Config, p *plan, m *made) error {
	l := c.Processing.Lambda
	fn := &transform.Function{ARN: l.Function, Retries: l.Retries, Batch: int(l.Size), Stream: d.arn(c.Name),
		Source: c.Source.ARN, Region: d.opts.Region}
	records := make([]transform.Record, len(m.parts))
	for i := range m.parts {
		records[i] = transform.Record{ID: m.parts[i].id(p.ID), Arrived: m.parts[i].Arrived.UnixMilli(),
			Data: m.parts[i].Data}
	}
	began := time.Now()
	results, err := fn.Transform(ctx, meteredInvoker{d.opts.Invoker, &d.meters}, records)
	if err != nil {
		return err
	}
	if strings.HasPrefix(l.Function, blueprint.Prefix) {
		d.meters.call(began, true)
	}
	kept := m.parts[:0]
	for i, r := range results {
		one := m.parts[i]
		switch r.Status {
		case transform.Failed:
			m.fail(processingFailed, &failure{Attempts: r.Attempts, Arrived: records[i].Arrived, Code: r.Code,
				Message: r.Message, Ended: p.At, Raw: one.Data, Lambda: l.Function})
		case transform.Ok:
			one.Data, one.Lambda = r.Data, r.Keys
			m.counts.processed.add(1, int64(len(r.Data)))
			kept = append(kept, one)
		}
	}
	m.parts = kept
	return nil
}

func (d *stream) arn(name string) string {
	return arn.Of("firehose", d.opts.Region, d.opts.Account, "deliverystream/"+name)
}

// writeParts writes parts into an object.
func (p *plan) writeParts(w io.Writer, parts []piece) error {
	z := p.format().NewWriter(w)
	for i := range parts {
		if _, err := z.Write(parts[i].Data); err != nil {
			return err
		}
		if _, err := z.Write(p.Delim); err != nil {
			return err
		}
	}
	return z.Close()
}

// size are the bytes of parts, with what follows each.
func (p *plan) size(parts []piece) (n int64) {
	for i := range parts {
		n += int64(len(parts[i].Data) + len(p.Delim))
	}
	return n
}
