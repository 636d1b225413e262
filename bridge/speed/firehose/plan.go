package firehose

import (
	"context"
	"crypto/sha1"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
)

// readBytes bounds what one read of the log brings into memory.
const readBytes = 1 << 20

// A plan is an object that was begun: records [From, To) under Bucket and Key.
type plan struct {
	delivery.Range
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Gzip   bool   `json:"gzip,omitempty"`
	Delim  []byte `json:"delim,omitempty"`

	Split    *Splitter `json:"split,omitempty"`     // takes records apart
	ErrorKey string    `json:"error_key,omitempty"` // of the object of those that it cannot
	At       int64     `json:"at_ms,omitempty"`     // when the plan was made, with Split
}

// Cut implements delivery.Work: it waits until the records from next on fill an object or the oldest of
// them is old enough, and plans it. It returns nil if ctx ended.
func (d *stream) Cut(ctx context.Context, next uint64) (delivery.Plan, error) {
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
func (d *stream) await(ctx context.Context, offset uint64) error {
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
func (d *stream) plan(c *Config, from, to uint64, oldest time.Time) (delivery.Plan, error) {
	sum := sha1.Sum([]byte(fmt.Sprintf("%s/%d/%d", d.state, from, to)))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80 // a version 5 UUID
	id := uuid.UUID(sum[:16]).String()
	v := Values{At: oldest, ErrorType: ProcessingFailed}
	o := &c.Objects
	key, err := o.Key(c.Name, c.Version, v, id)
	if err != nil {
		return nil, fmt.Errorf("object of %s: %w", c.Name, err)
	}
	p := &plan{Range: delivery.Range{From: from, To: to}, Bucket: o.Bucket, Key: key,
		Gzip: o.Compression == compress.Gzip, Delim: c.Processing.Delimiter}
	if c.Processing.Split != nil {
		p.Split, p.At = c.Processing.Split, time.Now().UnixMilli()
		if p.ErrorKey, err = o.ErrorKey(c.Name, c.Version, v, id); err != nil {
			return nil, fmt.Errorf("failures of %s: %w", c.Name, err)
		}
	}
	return p, nil
}
