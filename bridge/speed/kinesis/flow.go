package kinesis

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A flow is what passes through a stream: what the data plane remembers of
// its shards, by index. Counters and limits begin anew with the program.
type flow struct {
	name string
	id   uint32 // of the stream's incarnation

	mu     sync.Mutex // for those who add shards
	shards atomic.Pointer[[]*shardFlow]
}

// A shardFlow is that of one shard. It costs about 300 bytes.
type shardFlow struct {
	id    string        // shardId-000000000000
	shard streams.Shard // as it was when it was first used: whether it is closed is asked elsewhere
	limit limits
	count counts
}

// flows of a Service, by the stream's id.
type flows struct{ byID sync.Map }

// of returns the flow of a stream, making it at first use.
func (f *flows) of(store streams.Log, name string, id uint32) *flow {
	if v, ok := f.byID.Load(id); ok {
		return v.(*flow)
	}
	// Streams come seldom: a good moment to forget those that went.
	f.byID.Range(func(k, v any) bool {
		if info, err := store.Describe(v.(*flow).name); err != nil || info.ID != k {
			f.byID.Delete(k)
		}
		return true
	})
	v, _ := f.byID.LoadOrStore(id, &flow{name: name, id: id})
	return v.(*flow)
}

// list returns the shards seen so far; some may be nil.
func (f *flow) list() []*shardFlow {
	if p := f.shards.Load(); p != nil {
		return *p
	}
	return nil
}

// shard returns the flow of a shard, or nil if the stream has none of that
// index.
func (f *flow) shard(store streams.Log, index int) (*shardFlow, error) {
	if all := f.list(); index < len(all) && all[index] != nil {
		return all[index], nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	shards, err := streams.Shards(store, f.name)
	if err != nil {
		return nil, err
	}
	old := f.list()
	n := len(old)
	for i := range shards {
		n = max(n, shards[i].Index+1)
	}
	all := append(make([]*shardFlow, 0, n), old...)[:n]
	for i := range shards {
		if sh := &shards[i]; all[sh.Index] == nil {
			all[sh.Index] = &shardFlow{id: shardID(sh.Index), shard: *sh}
		}
	}
	f.shards.Store(&all)
	if index >= n {
		return nil, nil
	}
	return all[index], nil
}

// shardID is the name of a shard.
func shardID(index int) string { return fmt.Sprintf("shardId-%012d", index) }

// shardIndex reads the name of a shard: any text whose part after the first
// "-", or all of it, is a number.
func shardIndex(id string) (int, bool) {
	if _, after, ok := strings.Cut(id, "-"); ok {
		id, _, _ = strings.Cut(after, "-")
	}
	for _, c := range []byte(id) {
		if c < '0' || c > '9' {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(id, 10, 31)
	return int(n), err == nil
}

// counts are what passed through a shard.
type counts struct {
	inRecords, inBytes, outRecords, outBytes atomic.Int64
	putThrottled, getThrottled               atomic.Int64 // records, calls
	behind                                   atomic.Int64 // ms, of the last read
}

// Counts of a shard or stream since the program began. Bytes are of data and
// partition keys.
type Counts struct {
	InRecords, InBytes   int64
	OutRecords, OutBytes int64
	PutThrottled         int64 // records refused
	GetThrottled         int64 // calls refused
}

// ShardStats is what passed through one shard.
type ShardStats struct {
	ShardId string
	Index   int
	Counts

	// Behind is the age of the last record that was read last, the iterator's
	// age: 0 at the tip.
	Behind time.Duration
}

// StreamStats is what passed through a stream's shards that were in use.
type StreamStats struct {
	Name   string
	ID     uint32
	Shards []ShardStats // by index
}

// Stats returns what passed through the streams since the program began, by
// calls of the API; records that the bridge itself puts into streams are not
// in it.
func (s *Service) Stats() []StreamStats {
	var all []StreamStats
	for _, info := range s.store.List() {
		if v, ok := s.flows.byID.Load(info.ID); ok {
			all = append(all, v.(*flow).stats())
		}
	}
	return all
}

func (f *flow) stats() StreamStats {
	st := StreamStats{Name: f.name, ID: f.id}
	for i, sh := range f.list() {
		if sh == nil {
			continue
		}
		c := &sh.count
		st.Shards = append(st.Shards, ShardStats{
			ShardId: sh.id, Index: i,
			Counts: Counts{
				c.inRecords.Load(), c.inBytes.Load(), c.outRecords.Load(), c.outBytes.Load(),
				c.putThrottled.Load(), c.getThrottled.Load(),
			},
			Behind: time.Duration(c.behind.Load()) * time.Millisecond,
		})
	}
	return st
}
