package kinesis

import (
	"context"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// What one GetRecords returns at most.
const (
	maxGetRecords = 10_000
	maxGetBytes   = 10 << 20
)

// GetRecords reads on from an iterator.
func (a API) GetRecords(ctx context.Context, in *GetRecordsInput) (*GetRecordsOutput, error) {
	it, err := parseIterator(*in.ShardIterator)
	if err != nil {
		return nil, err
	}
	if err := it.check(a.s.now()); err != nil {
		return nil, err
	}
	if in.StreamARN != nil {
		if name, err := a.name(StreamRef{StreamARN: in.StreamARN}); err != nil {
			return nil, err
		} else if name != it.name {
			return nil, errIterator
		}
	}
	src, err := a.source(StreamRef{StreamName: &it.name})
	if err != nil || src.flow.id != it.stream {
		return nil, a.noShard(it.name, it.shard)
	}
	sh, err := src.shard(a.s.store, it.shard)
	if err != nil || sh == nil {
		return nil, a.noShard(it.name, it.shard)
	}
	if dry(in.DryRun) {
		return nil, errDryRun
	}
	if src.emulate && !sh.limit.ask(a.s.now()) {
		sh.count.getThrottled.Add(1)
		return nil, a.rateExceeded(src, sh.id)
	}
	limit := maxGetRecords
	if in.Limit != nil {
		limit = int(*in.Limit)
	}
	p, err := a.read(src, sh, it.position, limit, maxGetBytes)
	if err != nil {
		return nil, err
	}
	if src.emulate {
		sh.limit.gave(p.bytes)
	}
	behind := p.behind.Milliseconds()
	out := &GetRecordsOutput{Records: p.records, MillisBehindLatest: &behind, ChildShards: p.children}
	if !p.end {
		it.issued, it.position = a.s.now().UnixMilli(), p.next
		s := it.String()
		out.NextShardIterator = &s
	}
	return out, nil
}

// A page is what was read of a shard at once.
type page struct {
	records  []Record
	bytes    int           // of their data and keys
	next     uint64        // the offset after them
	last     int64         // epoch ms of the last of them, if any
	behind   time.Duration // 0 at the tip
	end      bool          // the shard is closed and has no more
	children []ChildShard  // at its end
}

// read returns records of a shard from an offset on, as long as they are not
// older than the stream's retention.
func (a API) read(src *source, sh *shardFlow, from uint64, maxRecords, maxBytes int) (page, error) {
	now := a.s.now()
	index := sh.shard.Index
	recs, err := a.s.store.Read(src.name, index, from, maxRecords, maxBytes)
	if err != nil {
		return page{}, a.gone(src.name, index, err)
	}
	// The log drops whole blocks, now and then. Here the period is kept to.
	if src.retention > 0 && len(recs) > 0 && recs[0].Time < now.Add(-src.retention).UnixMilli() {
		kept, err := a.s.store.OffsetAt(src.name, index, now.Add(-src.retention))
		if err != nil {
			return page{}, a.gone(src.name, index, err)
		}
		if kept > recs[0].Offset {
			from = max(from, kept)
			if recs, err = a.s.store.Read(src.name, index, from, maxRecords, maxBytes); err != nil {
				return page{}, a.gone(src.name, index, err)
			}
		}
	}
	oldest, tip, err := a.s.store.Bounds(src.name, index)
	if err != nil {
		return page{}, a.gone(src.name, index, err)
	}
	p := page{next: max(from, oldest), records: make([]Record, len(recs))}
	if n := len(recs); n > 0 {
		p.next, p.last = recs[n-1].Offset+1, recs[n-1].Time
		p.fill(src, &sh.shard, recs)
	}
	if len(recs) == 0 && p.next < tip {
		// Behind a gap is no record either: the reader is at the tip.
		waiting, err := a.s.store.Count(src.name, index, p.next)
		if err != nil {
			return page{}, a.gone(src.name, index, err)
		}
		if waiting == 0 {
			p.next = tip
		}
	}
	if p.next < tip && len(recs) > 0 {
		p.behind = max(time.Millisecond, now.Sub(time.UnixMilli(p.last)))
	}
	sh.count.outRecords.Add(int64(len(recs)))
	sh.count.outBytes.Add(int64(p.bytes))
	sh.count.behind.Store(p.behind.Milliseconds())
	if p.next >= tip {
		err = a.finish(src, index, &p)
	}
	return p, err
}

func (p *page) fill(src *source, sh *streams.Shard, recs []streams.Record) {
	for i := range recs {
		r := &recs[i]
		p.records[i] = Record{
			SequenceNumber:              sequenceOf(sh, r.Offset, r.Time),
			ApproximateArrivalTimestamp: time.UnixMilli(r.Time),
			Data:                        r.Data,
			PartitionKey:                r.Key,
			EncryptionType:              src.encryption,
		}
		p.bytes += len(r.Key) + len(r.Data)
	}
}

// finish notes the end of the shard on a page that reaches the tip, when it
// has one.
func (a API) finish(src *source, index int, p *page) error {
	sh, err := a.shardNow(src, index)
	if err != nil || sh.Open() || p.next < sh.End {
		return err
	}
	p.end = true
	p.children, err = a.children(src, index)
	return err
}

// children returns the shards that were made of one.
func (a API) children(src *source, index int) ([]ChildShard, error) {
	all, err := streams.Shards(a.s.store, src.name)
	if err != nil {
		return nil, a.gone(src.name, index, err)
	}
	var kids []ChildShard
	for i := range all {
		sh := &all[i]
		for _, p := range sh.Parents {
			if p != index {
				continue
			}
			kid := ChildShard{ShardId: shardID(sh.Index),
				HashKeyRange: HashKeyRange{sh.Range.Start.String(), sh.Range.End.String()}}
			for _, p := range sh.Parents {
				kid.ParentShards = append(kid.ParentShards, shardID(p))
			}
			kids = append(kids, kid)
		}
	}
	return kids, nil
}
