package connector

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
)

// A Config is what a connector does. What is zero has its default.
type Config struct {
	Name   string
	Source Source
	Start  Position // of shards that were never read; default TrimHorizon
	Stages []Stage  // transforms and filters, in order

	Records int           // that fill the buffer; default 1,000 (connector library)
	Bytes   int           // likewise; default 1 MiB (connector library)
	Age     time.Duration // of the first in the buffer, when it is emitted all the same; default 60 s

	// attempts after the first, for items that were refused; default 3 (connector library); below 0 none
	Retries   int
	RetryWait time.Duration // before the first of them, doubled at each; default 1 s (connector library: always 10 s)
	RetryMost time.Duration // longest wait; default 60 s

	Emitter Emitter
	Dead    DeadLetters // nil: a shard with an item that cannot be delivered waits
	Leases  Leases
	Workers int // in this process; default 1

	Failover  time.Duration // after which the lease of a silent worker is taken; default 10 s (client library)
	SyncEvery time.Duration // how often new shards are looked for; default 60 s (client library)
	FlushTime time.Duration // for the last delivery when it stops; default 10 s

	Log *slog.Logger // nil: nothing is logged
}

// A Connector moves the records of one stream, once Run runs.
type Connector struct {
	Config
	log     *slog.Logger
	board   board
	closers []func() error
}

// New returns a connector. It starts nothing.
func New(c Config) *Connector {
	c.Start.Sequence = cmp.Or(c.Start.Sequence, TrimHorizon)
	c.Records = cmp.Or(c.Records, 1000)
	c.Bytes = cmp.Or(c.Bytes, 1<<20)
	c.Age = cmp.Or(c.Age, 60*time.Second)
	c.Retries = cmp.Or(c.Retries, 3)
	c.RetryWait = cmp.Or(c.RetryWait, time.Second)
	c.RetryMost = cmp.Or(c.RetryMost, max(c.RetryWait, time.Minute))
	c.Workers = cmp.Or(c.Workers, 1)
	c.Failover = cmp.Or(c.Failover, 10*time.Second)
	c.SyncEvery = cmp.Or(c.SyncEvery, time.Minute)
	c.FlushTime = cmp.Or(c.FlushTime, 10*time.Second)
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return &Connector{Config: c, log: c.Log.With("connector", c.Name), board: board{shards: map[string]ShardStatus{}}}
}

// Run moves records until ctx ends; what is buffered is then emitted, for at
// most FlushTime, and the leases are released. Whatever fails is tried again
// for as long as it takes. Run may be called once.
func (c *Connector) Run(ctx context.Context) {
	host, _ := os.Hostname()
	var wg sync.WaitGroup
	for range c.Workers {
		w := &worker{
			Connector: c, id: host + ":" + rand.Text(),
			kick: make(chan struct{}, 1), held: map[string]*held{}, seen: map[string]sighting{},
		}
		wg.Go(func() { w.run(ctx) })
	}
	wg.Wait()
}

// retry is how attempts are repeated: after half of a wait to all of it.
func (c *Connector) retry() delivery.Retry {
	return delivery.Retry{First: c.RetryWait * 3 / 4, Most: c.RetryMost * 3 / 4, Spread: 1.0 / 3}
}
