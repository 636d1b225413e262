package firehose

import (
	"context"
	"crypto/sha1"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/firehose/compress"
	"github.com/tidemill/tidemill/bridge/speed/firehose/partition"
	"github.com/tidemill/tidemill/bridge/speed/javatime"
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
	ErrorKey string    `json:"error_key,omitempty"` // of the object of what could not be processed
	At       int64     `json:"at_ms,omitempty"`     // when the plan was made

	ID        string            `json:"id,omitempty"`         // a UUID made of the range
	Format    compress.Format   `json:"format,omitempty"`     // beside gzip
	Errors    map[string]string `json:"errors,omitempty"`     // keys of what else failed, by error output type
	SourceKey string            `json:"source_key,omitempty"` // of the copy of the records as they came
	Parts     map[string]string `json:"parts,omitempty"`      // keys of partitions, by their id

	Place      *Place      `json:"place,omitempty"`      // of Bucket; nil: the configuration's, in plans of before
	Conversion *Conversion `json:"conversion,omitempty"` // with Place alone
	Source     *copyPlan   `json:"source,omitempty"`     // where SourceKey is; nil: the configuration's

	Processing *processed `json:"processing,omitempty"` // beside Split and Delim; nil: the configuration's
}

// processed is what happens to the records of a plan. It is that of the configuration
// that the plan was made with: another one may make other objects of them.
type processed struct {
	Decompress bool    `json:"decompress,omitempty"`
	LogEvents  bool    `json:"log_events,omitempty"`
	Lambda     *Lambda `json:"lambda,omitempty"`

	Partitioning *spreadPlan `json:"partitioning,omitempty"`
}

// A spreadPlan is how records are spread over partitions.
type spreadPlan struct {
	Query  string        `json:"query,omitempty"` // "": the function gives the keys
	Retry  time.Duration `json:"retry"`
	Prefix string        `json:"prefix"`
	Zone   string        `json:"zone"`
}

// processing is that of c.
func (c *Config) processing() *processed {
	p := &processed{Decompress: c.Processing.Decompress, LogEvents: c.Processing.LogEvents, Lambda: c.Processing.Lambda}
	if s := c.Partitioning; s != nil {
		prefix := &c.Objects.Prefix
		p.Partitioning = &spreadPlan{Retry: s.Retry, Prefix: prefix.text, Zone: prefix.zone.String()}
		if s.Query != nil {
			p.Partitioning.Query = s.Query.String()
		}
	}
	return p
}

// set gives c the processing of a plan.
func (p *processed) set(c *Config) (err error) {
	c.Processing.Decompress, c.Processing.LogEvents, c.Processing.Lambda = p.Decompress, p.LogEvents, p.Lambda
	s := p.Partitioning
	if c.Partitioning = nil; s == nil {
		return nil
	}
	c.Partitioning = &Partitioning{Retry: s.Retry}
	if s.Query != "" {
		if c.Partitioning.Query, err = partition.Compile(s.Query); err != nil {
			return fmt.Errorf("query of a plan: %w", err)
		}
	}
	zone, ok := javatime.Zone(s.Zone)
	if !ok {
		return fmt.Errorf("prefix of a plan: there is no time zone %.100q", s.Zone)
	}
	if c.Objects.Prefix, err = parseObjectPrefix(s.Prefix, zone); err != nil {
		return fmt.Errorf("prefix of a plan: %w", err)
	}
	return nil
}

// A copyPlan is the copy of the records as they came.
type copyPlan struct {
	Place  Place           `json:"place"`
	Bucket string          `json:"bucket"`
	Format compress.Format `json:"format,omitempty"`
}

// as is c with what p was planned with, which may have changed since.
func (p *plan) as(c *Config) (*Config, error) {
	if p.Place == nil {
		return c, nil
	}
	was := *c
	was.Processing.Split, was.Processing.Delimiter = p.Split, p.Delim
	was.Objects.Bucket, was.Conversion = p.Bucket, p.Conversion
	was.Objects.Region, was.Objects.EndpointURL = p.Place.Region, p.Place.EndpointURL
	if s := p.Source; s != nil {
		was.SourceBackup = &Objects{Bucket: s.Bucket, Compression: s.Format, Region: s.Place.Region,
			EndpointURL: s.Place.EndpointURL}
	}
	if p.Processing != nil {
		if err := p.Processing.set(&was); err != nil {
			return nil, fmt.Errorf("%w: %w", delivery.ErrAbandon, err)
		}
	}
	return &was, nil
}

// moved says that c has objects elsewhere than p was planned to write them.
func (p *plan) moved(c *Config) bool {
	if p.Place == nil {
		return false
	}
	s, b := p.Source, c.SourceBackup
	return *p.Place != c.Objects.place() || p.Bucket != c.Objects.Bucket ||
		s != nil && (b == nil || s.Place != b.place() || s.Bucket != b.Bucket)
}

func (p *plan) format() compress.Format {
	if p.Gzip {
		return compress.Gzip
	}
	return p.Format
}

// errorKey is where lines of an error output type go.
func (p *plan) errorKey(kind string) string {
	if kind == processingFailed {
		return p.ErrorKey
	}
	return p.Errors[kind]
}

// Cut implements delivery.Work: it waits until the records from next on fill an
// object or the oldest of them is old enough, and plans it.
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
			d.meters.came(r.Offset, len(r.Data))
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

// plan names the objects of records [from, to). A name ends in an id made of the
// stream's incarnation and the range.
func (d *stream) plan(c *Config, from, to uint64, oldest time.Time) (delivery.Plan, error) {
	o := &c.Objects
	id := d.id(from, to)
	v := Values{At: oldest}
	p := &plan{Range: delivery.Range{From: from, To: to}, Bucket: o.Bucket, ID: id, At: time.Now().UnixMilli(),
		Gzip: o.Compression == compress.Gzip, Delim: c.Processing.Delimiter, Split: c.Processing.Split,
		Place: new(o.place()), Processing: c.processing()}
	if !p.Gzip {
		p.Format = o.Compression
	}
	var err error
	if p.Conversion, err = c.Conversion.with(d.opts.Tables); err != nil {
		return nil, err
	}
	if c.Partitioning == nil {
		if p.Key, err = o.Key(c.Name, c.Version, v, id); err != nil {
			return nil, fmt.Errorf("object of %s: %w", c.Name, err)
		}
	}
	if b := c.SourceBackup; b != nil {
		if p.SourceKey, err = b.Key(c.Name, c.Version, v, id); err != nil {
			return nil, fmt.Errorf("copy of %s: %w", c.Name, err)
		}
		p.Source = &copyPlan{b.place(), b.Bucket, b.Compression}
	}
	for _, kind := range c.errorTypes() {
		v.ErrorType = kind
		key, err := o.errorKey(c.Name, c.Version, v, id)
		switch {
		case err != nil:
			return nil, fmt.Errorf("failures of %s: %w", c.Name, err)
		case kind == processingFailed:
			p.ErrorKey = key
		case p.Errors == nil:
			p.Errors = map[string]string{kind: key}
		default:
			p.Errors[kind] = key
		}
	}
	return p, nil
}

func (d *stream) id(from, to uint64) string {
	sum := sha1.Sum(fmt.Appendf(nil, "%s/%d/%d", d.state, from, to))
	sum[6], sum[8] = sum[6]&0x0f|0x50, sum[8]&0x3f|0x80 // a version 5 UUID
	return uuid.UUID(sum[:16]).String()
}

// errorTypes are those that lines of c may have.
func (c *Config) errorTypes() (kinds []string) {
	if p := &c.Processing; p.Decompress || p.LogEvents || p.Split != nil || p.Lambda != nil {
		kinds = append(kinds, processingFailed)
	}
	if c.Partitioning != nil {
		kinds = append(kinds, partitioningFailed)
	}
	if c.Conversion != nil {
		kinds = append(kinds, conversionFailed)
	}
	switch {
	case c.Search != nil:
		kinds = append(kinds, c.Search.FailedType)
	case c.Endpoint != nil:
		kinds = append(kinds, endpointFailed)
	case c.Splunk != nil:
		kinds = append(kinds, splunkFailed)
	}
	return kinds
}
