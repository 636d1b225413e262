package firehose

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/connector"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A delivery stream may have a data stream as its source (KinesisStreamAsSource)
// instead of being put to: a connector takes the data stream's records over into
// the buffer, those in containers of the producer library one by one, in one
// commit with how far it has read. So a record is in the buffer once, whenever
// the bridge was killed. It begins with what came after the delivery stream was
// made, and waits where the buffer is full: the records stay in the data stream
// for its retention.

// lookAgain is how often a source is looked for that is not there, or may have
// been deleted and made again.
const lookAgain = 5 * time.Second

// minRoom is what a buffer that is fed holds at least, in bytes.
const minRoom = 64 << 20

// feed takes over the records of the source until ctx ends.
func (d *stream) feed(ctx context.Context) {
	logged := false
	for ctx.Err() == nil {
		src := d.config.Load().Source
		name, err := src.Stream, error(nil)
		if src.own() {
			var info streams.Info
			if info, err = d.store.Describe(name); err == nil {
				logged = false
				d.unfed.Store(nil)
				err = d.feedFrom(ctx, name, info.ID)
			} else if errors.Is(err, streams.ErrNotFound) {
				err = fmt.Errorf("there is no stream %s: make it, or delete the delivery stream: %w", name, err)
			}
		} else {
			err = d.feedRemote(ctx, src)
		}
		if err != nil {
			d.unfed.Store(new(err.Error()))
		}
		if err != nil && !logged {
			logged = true
			d.log.Warn("the source of a delivery stream cannot be read, will retry", "stream", name, "err", err, "in",
				lookAgain)
		}
		pause(ctx, lookAgain)
	}
}

func pause(ctx context.Context, t time.Duration) {
	select {
	case <-time.After(t):
	case <-ctx.Done():
	}
}

// feedFrom takes over records until ctx ends, or the source is another stream of
// the same name.
func (d *stream) feedFrom(ctx context.Context, name string, id uint32) error {
	c, err := d.taker(d.source(name), fmt.Sprintf("%s/source/%s/%d/", d.state, url.PathEscape(name), id))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		d.take(ctx, c)
	}()
	defer func() { <-done }()
	defer cancel()
	for ctx.Err() == nil {
		pause(ctx, lookAgain)
		if info, err := d.store.Describe(name); errors.Is(err, streams.ErrNotFound) || err == nil && info.ID != id {
			return fmt.Errorf("stream %s: %w: it was deleted", name, streams.ErrNotFound)
		}
	}
	return nil
}

// feedRemote takes over records of Kinesis, or of a bridge elsewhere, until ctx ends.
func (d *stream) feedRemote(ctx context.Context, src Source) error {
	at, err := awsapi.Place{Region: src.Region, EndpointURL: src.EndpointURL}.Config(ctx)
	if err != nil {
		return err
	}
	if d.opts.HTTP != nil {
		at.HTTPClient = d.opts.HTTP
	}
	from := connector.Remote(at, src.Stream)
	where := url.PathEscape(src.EndpointURL + " " + src.Region + " " + src.Stream)
	c, err := d.taker(from, fmt.Sprintf("%s/source/%s/remote/", d.state, where))
	if err != nil {
		return err
	}
	d.take(ctx, c)
	return nil
}

// A taker is the connector that takes records over.
type taker struct{ *connector.Connector }

// unfedFor is why the source cannot be read, "" if it can.
func (d *stream) unfedFor() string {
	if why := d.unfed.Load(); why != nil {
		return *why
	}
	if t := d.meters.feeding.Load(); t != nil {
		s := t.Status()
		if s.Trouble != "" {
			return s.Trouble
		}
		for i := range s.Shards {
			if why := s.Shards[i].Trouble; why != "" {
				return why
			}
		}
	}
	return ""
}

// behind is how far the shard that is furthest behind is.
func (t *taker) behind() (most time.Duration) {
	for _, s := range t.Status().Shards {
		most = max(most, s.Behind)
	}
	return most
}

// take runs a taker until ctx ends.
func (d *stream) take(ctx context.Context, c *connector.Connector) {
	t := &taker{c}
	d.meters.feeding.Store(t)
	defer d.meters.feeding.CompareAndSwap(t, nil)
	c.Run(ctx)
}

// taker is the connector that takes records over, with its leases below prefix.
func (d *stream) taker(from connector.Source, prefix string) (*connector.Connector, error) {
	buffer, err := d.store.Describe(d.stream)
	if err != nil {
		return nil, err
	}
	leases, err := connector.InLog(d.store, prefix)
	if err != nil {
		return nil, err
	}
	return connector.New(connector.Config{
		Name: buffer.Name, Source: boundedSource{from, d}, Emitter: connector.ToLog(d.store, d.stream),
		Leases: leases,
		Start:  connector.Position{Sequence: connector.AtTimestamp, Time: buffer.Created},
		Stages: []connector.Stage{keyless},
		Age:    time.Second, Log: d.log, // as often as AWS reads
	}), nil
}

// keyless takes the partition key off an item, which no object has. In a
// container it may be longer than the log takes.
func keyless(_ context.Context, it *connector.Item) (bool, error) {
	it.Key = ""
	return true, nil
}

// A boundedSource gives nothing while the buffer of its delivery stream is full.
type boundedSource struct {
	connector.Source
	d *stream
}

// Read implements connector.Source.
func (r boundedSource) Read(shard string, from connector.Position) connector.Reader {
	return &boundedReader{r.Source.Read(shard, from), r.d}
}

type boundedReader struct {
	connector.Reader
	d *stream
}

// Next implements connector.Reader.
func (r *boundedReader) Next(ctx context.Context) (connector.Page, error) {
	for {
		size, err := r.d.store.Size(r.d.stream)
		if err != nil {
			return connector.Page{}, err
		}
		if size.Bytes <= max(minRoom, 4*r.d.config.Load().Size) {
			return r.Reader.Next(ctx)
		}
		pause(ctx, time.Second)
		if ctx.Err() != nil {
			return connector.Page{}, context.Cause(ctx)
		}
	}
}
