package send

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/kafka"
)

// recordsTogether is how many records one Send has.
const recordsTogether = 500

// maxClusters bounds the connections: how many setups have producers at a time.
const maxClusters = 16

func addKafka(o *Options, add adding) *brokers {
	b := &brokers{dial: o.Dial, open: newKept[*producer](maxClusters), produce: o.Produce}
	if b.dial == nil {
		b.dial = new(net.Dialer).DialContext
	}
	add("kafka", recordsTogether, 4*kafka.MaxRecord, b.send)
	return b
}

// errClusters passes: a cluster that is away holds its producer for kafka.Timeout.
var errClusters = fmt.Errorf("rules write to %d clusters at this time, and no more at once", maxClusters)

// brokers are the producers of all setups that rules name.
type brokers struct {
	dial    kafka.Dial
	produce func(context.Context, kafka.Properties, []kafka.Record) []error // for tests; nil: producers do

	mu   sync.Mutex // guards open
	open *kept[*producer]
}

// A producer writes to one cluster.
type producer struct {
	*kafka.Producer
	users int // Sends that are under way
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
		p, err := b.acquire(setupOf(run[0]), set)
		if err != nil {
			return each(len(run), err)
		}
		defer b.release(p)
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

// acquire returns the producer of a setup, to be released. Where there are too many,
// the one that was used least recently of those that nobody uses is closed.
func (b *brokers) acquire(setup string, set kafka.Properties) (*producer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.open.get(setup)
	if !ok {
		made, err := kafka.Open(set, b.dial, nil)
		if err != nil {
			return nil, err
		}
		if b.open.full() {
			old, ok := b.open.dropOldest(func(p *producer) bool { return p.users == 0 })
			if !ok {
				made.Close()
				return nil, errClusters
			}
			old.Close() // nothing is under way that it would wait for
		}
		p = &producer{Producer: made}
		b.open.put(setup, p)
	}
	p.users++
	return p, nil
}

func (b *brokers) release(p *producer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p.users--
}

func (b *brokers) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for setup, p := range b.open.of {
		p.Close()
		b.open.drop(setup)
	}
}
