package server

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A catalogLog is what a catalog needs of the log.
type catalogLog interface {
	streams.Router
	Ready() bool
	Describe(stream string) (streams.Info, error)
	Size(stream string) (streams.Size, error)
}

// A catalog tells rule actions of what there is to send to.
type catalog struct {
	store      catalogLog
	firehose   *firehose.Service
	maxBacklog int64 // bytes that may wait in one stream
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
	if err == nil && size.Bytes > c.maxBacklog {
		err = fmt.Errorf("%s is full: %d bytes wait, rules.max_backlog is %d", stream, size.Bytes, c.maxBacklog)
	}
	return err
}

// Remote implements action.Catalog.
func (c catalog) Remote(kind string) bool { return false }
