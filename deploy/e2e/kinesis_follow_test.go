package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
)

// A follower reads a whole stream as KCL does: a shard after its parents, and
// the children that the answer at its end names. It keeps an iterator through
// restarts of the bridge.
type follower struct {
	*stream
	finish atomic.Bool // run returns when it is at the tip of all shards

	iterators map[string]*string  // of shards being read; nil until there is one
	waiting   map[string][]string // parents of shards not begun
	ended     map[string]bool     // shards read to their end
	number    map[string]*big.Int // the last of each shard
	seen      map[place]numbered  // all records
	next      map[string]int      // of each key, the highest n so far, plus one
	newest    map[string]*big.Int // of each key, the number of its last record
	wrong     []error

	records, twice int
}

func newFollower(s *stream) *follower {
	f := &follower{stream: s, iterators: map[string]*string{}, waiting: map[string][]string{}, ended: map[string]bool{},
		number: map[string]*big.Int{}, seen: map[place]numbered{}, next: map[string]int{},
		newest: map[string]*big.Int{}}
	for _, shard := range s.shards() {
		if shard.ParentShardId == nil {
			f.iterators[*shard.ShardId] = nil
		}
	}
	return f
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		finishing := f.finish.Load() // nothing is put from here on
		atTip := true
		for id := range f.iterators {
			tip, err := f.read(ctx, id)
			if err != nil {
				if answered(err) {
					f.complain("%s: %v", id, err)
				}
				time.Sleep(20 * time.Millisecond)
			}
			atTip = atTip && tip
		}
		if finishing && (atTip || len(f.wrong) > 0) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// read takes one answer of a shard, and says whether it is open and at its
// tip.
func (f *follower) read(ctx context.Context, id string) (tip bool, err error) {
	it := f.iterators[id]
	if it == nil {
		if it, err = f.iterator(id, ""); err != nil {
			return false, err
		}
		f.iterators[id] = it
	}
	out, err := f.c.GetRecords(ctx, &kinesis.GetRecordsInput{ShardIterator: it})
	if err != nil {
		return false, err
	}
	for _, r := range out.Records {
		f.take(id, r)
	}
	if out.NextShardIterator != nil {
		if len(out.ChildShards) > 0 {
			f.complain("%s has children before its end", id)
		}
		f.iterators[id] = out.NextShardIterator
		return len(out.Records) == 0 && aws.ToInt64(out.MillisBehindLatest) == 0, nil
	}
	delete(f.iterators, id)
	f.ended[id] = true
	if len(out.ChildShards) == 0 {
		f.complain("%s ends without children", id)
	}
	for _, child := range out.ChildShards {
		f.waiting[*child.ShardId] = child.ParentShards
	}
	for child, parents := range f.waiting {
		if !slices.ContainsFunc(parents, func(p string) bool { return !f.ended[p] }) {
			delete(f.waiting, child)
			f.iterators[child] = nil
		}
	}
	return false, nil
}

// take checks a record against those before it.
func (f *follower) take(shard string, r types.Record) {
	var rec numbered
	if err := json.Unmarshal(r.Data, &rec); err != nil || rec.Key != *r.PartitionKey {
		f.complain("%s: key %s, data %q", shard, *r.PartitionKey, r.Data)
		return
	}
	n := number(f.t, *r.SequenceNumber)
	if last := f.number[shard]; last != nil && n.Cmp(last) <= 0 {
		f.complain("%s: %s comes after %s", shard, n, last)
	}
	f.number[shard] = n
	if last := f.newest[rec.Key]; last != nil && n.Cmp(last) <= 0 {
		f.complain("%s: key %s has %s after %s", shard, rec.Key, n, last)
	}
	f.newest[rec.Key] = n
	f.records++
	f.seen[place{shard, *r.SequenceNumber}] = rec
	// A request that was put again may have been stored before, in whole or up
	// to some record; a record is never before the one ahead of it.
	switch want := f.next[rec.Key] + 1; {
	case rec.N > want:
		f.complain("%s: record %d of %s before %d", shard, rec.N, rec.Key, want)
	case rec.N < want:
		f.twice++
	default:
		f.next[rec.Key] = rec.N
	}
}

func (f *follower) complain(format string, args ...any) {
	if len(f.wrong) < 10 {
		f.wrong = append(f.wrong, fmt.Errorf(format, args...))
	}
}

// check compares what was seen with what was acknowledged.
func (f *follower) check(t *testing.T, who string, acked map[place]numbered, last map[string]int) {
	t.Helper()
	for _, err := range f.wrong {
		t.Errorf("%s: %v", who, err)
	}
	if len(f.waiting) > 0 {
		t.Errorf("%s: shards never begun: %v", who, f.waiting)
	}
	missing := 0
	for at, rec := range acked {
		if got := f.seen[at]; got != rec {
			if missing++; missing <= 5 {
				t.Errorf("%s: %v holds %+v, want %+v", who, at, got, rec)
			}
		}
	}
	for key, n := range last {
		if f.next[key] < n {
			t.Errorf("%s: %s ends with %d, want %d", who, key, f.next[key], n)
		}
	}
	t.Logf("%s: %d records, %d acknowledged ones missing", who, f.records, missing)
}

func byStart(shards []types.Shard) {
	slices.SortFunc(shards, func(a, b types.Shard) int {
		x, _ := new(big.Int).SetString(*a.HashKeyRange.StartingHashKey, 10)
		y, _ := new(big.Int).SetString(*b.HashKeyRange.StartingHashKey, 10)
		return x.Cmp(y)
	})
}
