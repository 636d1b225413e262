package server

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/disk"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/action/send"
	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/metric"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A catalogLog is what a catalog needs of the log.
type catalogLog interface {
	streams.Router
	Ready() bool
	List() []streams.Info
	Create(stream string, c streams.Config) error
	Describe(stream string) (streams.Info, error)
	Size(stream string) (streams.Size, error)
}

// A catalog tells rule actions of what there is to send to.
type catalog struct {
	store    catalogLog
	firehose *firehose.Service
	config   *config.Config
	queues   *queue.Service
	disk     *disk.Meter
}

// Shard implements action.Catalog.
func (c catalog) Shard(stream string, h streams.Hash) (shard int, ok bool) {
	if !kinesis.IsName(stream) {
		return 0, false
	}
	shard, err := streams.Route(c.store, stream, h)
	return shard, err == nil
}

// HasDeliveryStream implements action.Catalog. Where no bridge runs, no file
// is applied; the buffer tells then that there was one.
func (c catalog) HasDeliveryStream(name string) bool {
	if c.firehose.Has(name) || c.store.Ready() {
		return c.firehose.Has(name)
	}
	_, err := c.store.Describe(firehose.StreamName(name))
	return err == nil
}

// Room implements action.Catalog.
func (c catalog) Room(stream string) error {
	size, err := c.store.Size(stream)
	if most := int64(c.config.Rules.MaxBacklog); err == nil && size.Bytes > most {
		err = fmt.Errorf("%s is full: %d bytes wait, rules.max_backlog is %d", stream, size.Bytes, most)
	}
	if err == nil && strings.HasPrefix(stream, streamParts[1].prefix) {
		err = c.disk.Full(partOutboxes)
	}
	return err
}

// Remote implements action.Catalog.
func (c catalog) Remote(kind string) bool { return c.config.Elsewhere(kind) }

// Takes implements action.Catalog.
func (c catalog) Takes(d *action.Delivery) error {
	switch d.Kind {
	case "postgres", "timestream":
		if c.config.Postgres.URL == "" {
			return errors.New("no database is configured: [postgres] url says where it is")
		}
	case "sns":
		if target := d.Parameter("targetArn"); target != "" {
			return c.takesTopic(target)
		}
	case "cloudwatchMetric":
		if ns := d.Parameter("metricNamespace"); ns != "" && !c.config.Elsewhere(d.Kind) {
			if err := metric.CheckName(ns, d.Parameter("metricName"), d.Parameter("metricUnit")); err != nil {
				return fmt.Errorf("metricNamespace: %w", err)
			}
		}
	}
	return nil
}

// takesTopic says which topics there are, if the one of an ARN is not among them and
// nothing says that there are others at SNS.
func (c catalog) takesTopic(target string) error {
	var names []string
	for _, t := range c.config.Topics {
		names = append(names, t.Name)
	}
	at := slices.ContainsFunc(c.config.Actions, func(a config.Action) bool { return a.Kind == "sns" })
	if err := send.NoTopic(target, names, at); err != nil {
		return fmt.Errorf("targetArn: %w", err)
	}
	return nil
}

// Queue implements action.Catalog.
func (c catalog) Queue(b *streams.Batch, name string, m *queue.Message) error {
	q, err := c.queues.Get(name)
	if err != nil {
		return err
	}
	return q.Stage(b, m)
}

// Channel implements action.Catalog.
func (c catalog) Channel(name string, create bool) error {
	stream := action.ChannelStream(name)
	_, err := c.store.Describe(stream)
	if !errors.Is(err, streams.ErrNotFound) {
		return err
	}
	n := 0
	for _, info := range c.store.List() {
		if action.IsChannel(info.Name) {
			n++
		}
	}
	b := c.config.Channel
	if n >= b.Max {
		return fmt.Errorf("channel %s would be one too many, channels.max is %d", name, b.Max)
	}
	if !create {
		return nil
	}
	err = c.store.Create(stream, streams.Config{Shards: 1, Retention: time.Duration(b.Retention),
		MaxBytes: int64(b.MaxBytes)})
	if errors.Is(err, streams.ErrExists) {
		return nil
	}
	return err
}
