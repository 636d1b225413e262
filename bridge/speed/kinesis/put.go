package kinesis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// What a PutRecords may hold in all, keys included.
const (
	maxRequest   = 10 << 20
	smallRequest = 5 << 20 // until 2025
)

// keepBatch is the most a batch may have held to be used again.
const keepBatch = 2 << 20

// batches of the puts of one Service.
type batches struct{ pool sync.Pool }

func (p *batches) get(store streams.Log) *streams.Batch {
	if b, ok := p.pool.Get().(*streams.Batch); ok {
		return b
	}
	return store.NewBatch()
}

func (p *batches) put(b *streams.Batch) {
	if b.Bytes() <= keepBatch {
		b.Reset()
		p.pool.Put(b)
	}
}

// PutRecord stores one record; it is synced when PutRecord returns.
func (a API) PutRecord(ctx context.Context, in *PutRecordInput) (*PutRecordOutput, error) {
	src, err := a.source(in.StreamRef)
	if err != nil {
		return nil, err
	}
	key, err := src.key(in.PartitionKey, "partitionKey")
	if err != nil {
		return nil, err
	}
	size := len(in.Data) + len(key)
	if size > src.maxRecord {
		return nil, tooLong("data", src.maxRecord)
	}
	hash, err := src.hash(in.ExplicitHashKey, key)
	if err != nil {
		return nil, err
	}
	if in.SequenceNumberForOrdering != nil && !a.past(src, *in.SequenceNumberForOrdering) {
		return nil, errorf(InvalidArgument,
			"ExclusiveMinimumSequenceNumber %s used in PutRecord on stream %s under account %s is invalid.",
			*in.SequenceNumberForOrdering, src.name, a.s.opts.Account)
	}
	if dry(in.DryRun) {
		return nil, errDryRun
	}
	if src.emulate {
		if err := a.admit(src, hash, size); err != nil {
			return nil, err
		}
	}
	b := a.s.batches.get(a.s.store)
	defer a.s.batches.put(b)
	b.Put(src.name, hash, streams.Record{Key: key, Data: in.Data})
	if err := a.s.store.Commit(ctx, b); err != nil {
		return nil, a.noStream(src.name, err)
	}
	sh, q, err := a.stored(src, b, 0)
	if err != nil {
		return nil, err
	}
	sh.count.inRecords.Add(1)
	sh.count.inBytes.Add(int64(size))
	return &PutRecordOutput{ShardId: sh.id, SequenceNumber: q, EncryptionType: src.encryption}, nil
}

// PutRecords stores records in order, all in one write that is synced when
// PutRecords returns. Only where limits are enforced some may be refused.
func (a API) PutRecords(ctx context.Context, in *PutRecordsInput) (*PutRecordsOutput, error) {
	src, err := a.source(in.StreamRef)
	if err != nil {
		return nil, err
	}
	keys := make([]string, len(in.Records))
	for i := range in.Records {
		if keys[i], err = src.key(in.Records[i].PartitionKey,
			fmt.Sprintf("records.%d.member.partitionKey", i+1)); err != nil {
			return nil, err
		}
	}
	if err := a.checkSizes(in.Records, keys, src.maxRecord); err != nil {
		return nil, err
	}
	b := a.s.batches.get(a.s.store)
	defer a.s.batches.put(b)
	out := &PutRecordsOutput{
		FailedRecordCount: new(int32),
		Records:           make([]PutRecordsResultEntry, len(in.Records)),
		EncryptionType:    src.encryption,
	}
	// A wrong hash key fails the call: nothing may be charged before.
	hashes := make([]streams.Hash, len(in.Records))
	for i := range in.Records {
		r := &in.Records[i]
		if hashes[i], err = src.hash(r.ExplicitHashKey, keys[i]); err != nil {
			return nil, err
		}
	}
	if dry(in.DryRun) {
		return nil, errDryRun
	}
	for i := range in.Records {
		r := &in.Records[i]
		if src.emulate {
			err := a.admit(src, hashes[i], len(r.Data)+len(keys[i]))
			var refused *Error
			switch {
			case errors.As(err, &refused) && refused.Code == ThroughputExceeded:
				out.Records[i].ErrorCode, out.Records[i].ErrorMessage = &refused.Code, &refused.Message
				*out.FailedRecordCount++
				continue
			case err != nil:
				return nil, err
			}
		}
		b.Put(src.name, hashes[i], streams.Record{Key: keys[i], Data: r.Data})
	}
	if b.Len() == 0 {
		return out, nil
	}
	if err := a.s.store.Commit(ctx, b); err != nil {
		return nil, a.noStream(src.name, err)
	}
	at := 0
	for i := range in.Records {
		e := &out.Records[i]
		if e.ErrorCode != nil {
			continue
		}
		sh, q, err := a.stored(src, b, at)
		if err != nil {
			return nil, err
		}
		at++
		e.ShardId, e.SequenceNumber = &sh.id, q
		sh.count.inRecords.Add(1)
		sh.count.inBytes.Add(int64(len(in.Records[i].Data) + len(keys[i])))
	}
	return out, nil
}

// checkSizes holds a request to its limits.
func (a API) checkSizes(rs []PutRecordsRequestEntry, keys []string, maxRecord int) error {
	limit := maxRequest
	if a.s.opts.SmallRequests {
		limit = smallRequest
	}
	sum := 0
	for i := range rs {
		n := len(rs[i].Data) + len(keys[i])
		if n > maxRecord {
			return tooLong(fmt.Sprintf("records.%d.member.data", i+1), maxRecord)
		}
		sum += n
	}
	if sum > limit {
		return errorf(InvalidArgument, "Records size exceeds %d MB limit", limit>>20)
	}
	return nil
}

func tooLong(member string, limit int) *Error {
	return errorf(Validation, "1 validation error detected: Value at '%s' failed to satisfy constraint: "+
		"Member must have length less than or equal to %d", member, limit)
}

// key is a record's partition key, which it may lack where the stream distributes
// records by itself.
func (src *source) key(key *string, member string) (string, error) {
	switch {
	case key != nil:
		return *key, nil
	case src.auto:
		return "", nil
	}
	return "", errorf(Validation, "1 validation error detected: Value null at '%s' failed to satisfy constraint: "+
		"Member must not be null",
		member)
}

// hash is where a record belongs.
func (src *source) hash(explicit *string, key string) (h streams.Hash, err error) {
	switch {
	case explicit != nil:
		if h, err = streams.ParseHash(*explicit); err != nil {
			return h, errorf(InvalidArgument,
				"Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. "+
					"Specified value was %s", *explicit)
		}
	case !src.auto:
		return streams.HashOf(key), nil
	}
	if src.auto {
		h = streams.Hash{Hi: rand.Uint64(), Lo: rand.Uint64()}
	}
	return h, nil
}

// admit says why the shard that is open for hash refuses a record of size
// bytes, where limits are enforced; or nil.
func (a API) admit(src *source, hash streams.Hash, size int) error {
	index, err := streams.Route(a.s.store, src.name, hash)
	if err != nil {
		return a.noStream(src.name, err)
	}
	sh, err := src.shard(a.s.store, index)
	switch {
	case err != nil:
		return a.noStream(src.name, err)
	case sh == nil:
		return a.noShard(src.name, index)
	case sh.limit.admit(a.s.now(), size):
		return nil
	}
	sh.count.putThrottled.Add(1)
	return a.rateExceeded(src, sh.id)
}

// stored returns where record i of a committed batch is, and its number.
func (a API) stored(src *source, b *streams.Batch, i int) (*shardFlow, Sequence, error) {
	_, index := b.Place(i)
	sh, err := src.shard(a.s.store, index)
	if err != nil {
		return nil, Sequence{}, a.noStream(src.name, err)
	}
	if sh == nil {
		return nil, Sequence{}, fmt.Errorf("kinesis: %s has no shard %d any more", src.name, index)
	}
	return sh, sequenceOf(&sh.shard, b.Offset(i), b.Time()), nil
}

// past says whether a number may be one of a record stored before now.
func (a API) past(src *source, number string) bool {
	q, err := parseSequence(number)
	if err != nil || int64(q.seconds) > a.s.now().Unix() || q.counter == lastCounter {
		return false
	}
	sh, err := src.shard(a.s.store, int(q.shard))
	if err != nil || sh == nil || unix(sh.shard.Created) != q.created {
		return true // of a shard that is gone, for all we know
	}
	_, next, err := a.s.store.Bounds(src.name, int(q.shard))
	return err != nil || q.counter <= next
}
