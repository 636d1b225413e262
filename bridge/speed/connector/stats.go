package connector

import (
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// Counts of a connector since its start.
type Counts struct {
	Records   int64 `json:"records"`    // user records read
	Filtered  int64 `json:"filtered"`   // passed over by a filter
	Emitted   int64 `json:"emitted"`    // items written
	Bytes     int64 `json:"bytes"`      // in them
	Batches   int64 `json:"batches"`    // done
	Failed    int64 `json:"failed"`     // items refused, each time they were
	Retries   int64 `json:"retries"`    // attempts after the first, for items that were refused
	Outages   int64 `json:"outages"`    // attempts that failed as a whole
	Dead      int64 `json:"dead"`       // items that went to the dead letters
	Lost      int64 `json:"lost"`       // shards that went before they were read to the end
	ReadFails int64 `json:"read_fails"` // reads that failed
}

// ShardStatus is how one shard goes, as a worker sees it.
type ShardStatus struct {
	Shard      string        `json:"shard"`
	Owner      string        `json:"owner,omitempty"`
	Checkpoint string        `json:"checkpoint"`
	Pending    string        `json:"pending,omitempty"` // range of the delivery under way
	Behind     time.Duration `json:"behind_ns"`         // the tip, when last read
	Buffered   int           `json:"buffered"`          // items
	BufferedB  int           `json:"buffered_bytes"`
	Trouble    string        `json:"trouble,omitempty"` // why it stands still
}

// Status is how a connector goes.
type Status struct {
	Name   string `json:"name"`
	Stream string `json:"stream"`
	Counts
	Shards  []ShardStatus `json:"shards"`
	Trouble string        `json:"trouble,omitempty"` // why shards or leases cannot be had
}

// Info describes a connector of a file.
type Info struct {
	Status
	To   string `json:"to"` // the emitter
	File string `json:"file"`
}

// A board is where all parts of a connector write how they go.
type board struct {
	mu      sync.Mutex // guards what follows
	counts  Counts
	shards  map[string]ShardStatus // of leases, as last listed, and of consumers
	trouble string
}

func (b *board) count(f func(*Counts)) {
	b.mu.Lock()
	f(&b.counts)
	b.mu.Unlock()
}

func (b *board) shard(id string, f func(*ShardStatus)) {
	b.mu.Lock()
	s := b.shards[id]
	s.Shard = id
	f(&s)
	b.shards[id] = s
	b.mu.Unlock()
}

// leases notes what was listed.
func (b *board) leases(all []Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	next := make(map[string]ShardStatus, len(all))
	for _, l := range all {
		s := b.shards[l.Shard]
		s.Shard, s.Owner, s.Checkpoint, s.Pending = l.Shard, l.Owner, l.Checkpoint.String(), ""
		if l.Pending != nil {
			s.Pending = l.Pending.First.String() + "-" + l.Pending.Last.String()
		}
		next[l.Shard] = s
	}
	b.shards = next
}

func (b *board) say(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trouble = ""; err != nil {
		b.trouble = err.Error()
	}
}

// Status says how the connector goes. It can be asked at any time.
func (c *Connector) Status() Status {
	b := &c.board
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{Name: c.Name, Stream: c.Source.Name(), Counts: b.counts, Trouble: b.trouble, Shards: []ShardStatus{}}
	for _, id := range slices.Sorted(maps.Keys(b.shards)) {
		s.Shards = append(s.Shards, b.shards[id])
	}
	return s
}

// jitter is between half of d and d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }
