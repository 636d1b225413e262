package send

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/kafka"
)

// recordsTogether is how many records one Send has.
const recordsTogether = 500

// maxClusters bounds the connections: how many setups of producers are kept.
const maxClusters = 16

func addKafka(o *Options, add adding) *brokers {
	b := &brokers{dial: o.Dial, open: map[string]*kafka.Producer{}, produce: o.Produce}
	if b.dial == nil {
		b.dial = new(net.Dialer).DialContext
	}
	add("kafka", recordsTogether, 4*kafka.MaxRecord, b.send)
	return b
}

var errClusters = never(fmt.Errorf("rules name more than %d clusters", maxClusters))

// brokers are the producers of all setups that rules name.
type brokers struct {
	dial    kafka.Dial
	produce func(context.Context, kafka.Properties, []kafka.Record) []error // for tests; nil: producers do

	mu   sync.Mutex // guards open
	open map[string]*kafka.Producer
}

func (b *brokers) send(ctx context.Context, ds deliveries) []error {
	return runs(ds, setupOf, recordsTogether, 4*kafka.MaxRecord, func(run deliveries) []error {
		records := make([]kafka.Record, len(run))
		for i, d := range run {
			records[i] = record(d)
		}
		set := kafka.Properties{}
		for _, p := range run[0].Inner("clientProperties") {
			set[p.Name] = p.Value
		}
		if b.produce != nil {
			return b.produce(ctx, set, records)
		}
		p, err := b.producer(setupOf(run[0]), set)
		if err != nil {
			return each(len(run), err)
		}
		return p.Produce(ctx, records)
	})
}

// setupOf is the same of deliveries to one cluster.
func setupOf(d *action.Delivery) string {
	var b strings.Builder
	for _, p := range d.Inner("clientProperties") {
		b.WriteString(p.Name + "=" + p.Value + "\n")
	}
	return b.String()
}

// record is a delivery's. Its id is a header, by which a reader knows one that a
// restart made twice.
func record(d *action.Delivery) kafka.Record {
	r := kafka.Record{Topic: d.Parameter("topic"), Value: d.Data, Partition: -1}
	if n, err := strconv.ParseInt(d.Parameter("partition"), 10, 32); err == nil {
		r.Partition = int32(n)
	}
	if key := d.Parameter("key"); key != "" {
		r.Key = []byte(key)
	}
	for _, h := range d.Inner("headers") {
		r.Headers = append(r.Headers, kafka.Header{Key: h.Name, Value: []byte(h.Value)})
	}
	if d.ID != "" {
		r.Headers = append(r.Headers, kafka.Header{Key: "tidemill-id", Value: []byte(d.ID)})
	}
	return r
}

// producer returns the one of a setup. Where too many are open, those that others
// use go on until they are closed with the rest.
func (b *brokers) producer(setup string, set kafka.Properties) (*kafka.Producer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p := b.open[setup]; p != nil {
		return p, nil
	}
	if len(b.open) >= maxClusters {
		return nil, errClusters
	}
	p, err := kafka.Open(set, b.dial, nil)
	if err == nil {
		b.open[setup] = p
	}
	return p, err
}

func (b *brokers) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, setup := range slices.Collect(maps.Keys(b.open)) {
		b.open[setup].Close()
		delete(b.open, setup)
	}
}
