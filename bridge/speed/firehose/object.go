package firehose

import (
	"compress/gzip"
	"context"
	"io"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Counts are what an object has, or a plan.
type counts struct{ objects, records, bytes, failed int64 }

// put writes the objects of a plan: that of its records, and one of those that
// could not be taken apart, if there are any.
func (d *stream) put(ctx context.Context, p *plan) (n counts, err error) {
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

// write puts the planned records into w, and those that could not be taken apart
// into failed.
func (d *stream) write(ctx context.Context, w, failed io.Writer, p *plan) (n counts, err error) {
	out := w
	var zw *gzip.Writer
	if p.Gzip {
		zw = gzip.NewWriter(w)
		out = zw
	}
	err = d.each(ctx, p.Range, func(r *streams.Record) error {
		parts, why := p.Split.Split(r.Data)
		if why != nil {
			n.failed++
			f := Failure{Attempts: 1, Arrived: r.Time, Code: codeSplit, Message: why.Error(), Ended: p.At, Raw: r.Data}
			if _, err := failed.Write(f.Append(nil)); err != nil {
				return err
			}
		}
		for _, part := range parts {
			if _, err := out.Write(part); err != nil {
				return err
			}
			if _, err := out.Write(p.Delim); err != nil {
				return err
			}
			n.records++
			n.bytes += int64(len(part) + len(p.Delim))
		}
		return nil
	})
	if err == nil && zw != nil {
		err = zw.Close()
	}
	return n, err
}
