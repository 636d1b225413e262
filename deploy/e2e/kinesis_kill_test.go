package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kinesis"
	"github.com/aws/aws-sdk-go-v2/service/kinesis/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"

	"github.com/tidemill/tidemill/deploy/rig"
)

const (
	producers     = 4
	keysEach      = 8  // partition keys of one producer
	recordsAtOnce = 40 // of one PutRecords
	mostOpen      = 10 // open shards; then only merges
)

// A numbered record is the n-th of its key, from 1.
type numbered struct {
	Key string `json:"k"`
	N   int    `json:"n"`
}

// A place is where an acknowledgement said that a record is.
type place struct{ shard, number string }

// TestKillStreams kills the bridge at random instants while producers put,
// shards are split and merged, and followers read through that. In the end
// every record that was acknowledged is where its answer said, each key's
// records are in order from parents to children, and each split or merge is
// done or not begun.
//
// TIDEMILL_TORTURE sets the number of kills (default 8); SEED repeats a run.
func TestKillStreams(t *testing.T) {
	kills, seed := torture(t, 8)
	rnd := rand.New(rand.NewPCG(seed, 0))
	f := newBridge(t, "", nil) // delay 0s: the next split need not wait
	c := f.aws().client(t, "http/1.1", func(o *kinesis.Options) { o.RetryMaxAttempts, o.Logger = 1, logging.Nop{} })
	s := newStream(t, f.ctx, c, "torn", 3)

	ctx, stop := context.WithCancel(f.ctx)
	var working, following sync.WaitGroup
	defer func() { stop(); working.Wait(); following.Wait() }()
	all := make([]*producer, producers)
	for i := range all {
		all[i] = &producer{stream: s, keys: make([]key, keysEach), rnd: rand.New(rand.NewPCG(seed, uint64(i)+2))}
		for j := range all[i].keys {
			all[i].keys[j].name = fmt.Sprintf("%d-%d", i, j)
		}
		working.Go(func() { all[i].run(ctx) })
	}
	r := &resharder{stream: s, rnd: rand.New(rand.NewPCG(seed, 1)), begins: make(chan struct{}, 1)}
	working.Go(func() { r.run(ctx) })
	reading, end := context.WithCancel(f.ctx)
	defer end()
	live := []*follower{newFollower(s), newFollower(s)}
	for _, l := range live {
		following.Go(func() { l.run(reading) })
	}

	for i := range kills {
		time.Sleep(time.Duration(50+rnd.IntN(350)) * time.Millisecond)
		if rnd.IntN(3) > 0 { // in the middle of a split or merge
			select {
			case <-r.begins:
			default:
			}
			select {
			case <-r.begins:
			case <-time.After(2 * time.Second):
			}
			time.Sleep(time.Duration(rnd.IntN(4000)) * time.Microsecond)
		}
		f.bridge.Kill()
		time.Sleep(time.Duration(rnd.IntN(100)) * time.Millisecond)
		f.must(f.bridge.Start())
		if rnd.IntN(4) > 0 { // else it is killed again while it starts
			f.must(f.bridge.Ready(f.ctx))
		}
		if i%20 == 19 {
			t.Logf("%d kills", i+1)
		}
	}
	f.must(f.bridge.Ready(f.ctx))
	enough, cancel := context.WithTimeout(f.ctx, 3*patience)
	defer cancel()
	f.must(rig.Until(enough, "enough records, splits and merges", func() (bool, error) {
		records := int64(0)
		for _, p := range all {
			records += p.stored.Load()
		}
		return records >= int64(kills*100) && r.changed.Load() >= int64(kills/2), nil
	}))
	stop()
	working.Wait()

	// Whoever has followed gets to the end of all open shards; one that begins
	// now sees the same.
	for _, l := range live {
		l.finish.Store(true)
	}
	following.Wait()
	late := newFollower(s)
	late.finish.Store(true)
	late.run(f.ctx)

	acked, retried := map[place]numbered{}, 0
	last := map[string]int{}
	for _, p := range all {
		retried += p.retried
		for _, k := range p.keys {
			last[k.name] = len(k.acked)
			for i, at := range k.acked {
				acked[at] = numbered{k.name, i + 1}
			}
		}
		for _, err := range p.wrong {
			t.Error(err)
		}
	}
	for i, l := range append(live, late) {
		l.check(t, fmt.Sprintf("follower %d", i), acked, last)
	}
	splits, merges := r.check(t)
	t.Logf("records: %d acknowledged, %d seen, of those %d twice; requests put again: %d", len(acked), late.records,
		late.twice, retried)
	t.Logf("splits: %d there, %d acknowledged; merges: %d there, %d acknowledged; without an answer: %d", splits,
		r.splits, merges, r.merges, r.unknown)
	f.must(f.bridge.Stop(patience))
}

// A key is a partition key with the places of its records 1, 2, 3, …
type key struct {
	name  string
	acked []place
}

// A producer puts records of its keys and repeats a request until it is
// acknowledged, so that no record overtakes an earlier one of its key.
type producer struct {
	*stream
	keys    []key
	rnd     *rand.Rand
	stored  atomic.Int64 // records
	retried int
	wrong   []error
}

func (p *producer) run(ctx context.Context) {
	for ctx.Err() == nil {
		in := &kinesis.PutRecordsInput{StreamName: &p.name}
		of := make([]int, recordsAtOnce) // which key each is of
		ahead := make([]int, len(p.keys))
		for i := range of {
			k := p.rnd.IntN(len(p.keys))
			of[i] = k
			ahead[k]++
			data, _ := json.Marshal(numbered{p.keys[k].name, len(p.keys[k].acked) + ahead[k]})
			in.Records = append(in.Records, types.PutRecordsRequestEntry{Data: data, PartitionKey: &p.keys[k].name})
		}
		for {
			// To its end: a request that was sent may have been stored.
			sent, done := context.WithTimeout(p.ctx, 10*time.Second)
			out, err := p.c.PutRecords(sent, in)
			done()
			if err == nil {
				if *out.FailedRecordCount != 0 || len(out.Records) != len(of) {
					p.wrong = append(p.wrong, fmt.Errorf("PutRecords: %d failed, %d of %d answers",
						*out.FailedRecordCount, len(out.Records), len(of)))
					return
				}
				for i, r := range out.Records {
					k := &p.keys[of[i]]
					k.acked = append(k.acked, place{*r.ShardId, *r.SequenceNumber})
				}
				p.stored.Add(int64(len(of)))
				break
			}
			if answered(err) {
				p.wrong = append(p.wrong, fmt.Errorf("PutRecords: %w", err))
			}
			p.retried++
			time.Sleep(20 * time.Millisecond)
		}
		time.Sleep(time.Duration(p.rnd.IntN(60)) * time.Millisecond)
	}
}

// answered says whether the bridge made the error, as the link did not.
func answered(err error) bool {
	var a interface{ ErrorCode() string }
	var cut *smithy.DeserializationError // the bridge was killed in the middle of it
	return errors.As(err, &a) && !errors.As(err, &cut)
}

// A resharder splits and merges shards at random.
type resharder struct {
	*stream
	rnd    *rand.Rand
	begins chan struct{} // when a request is about to be sent

	changed                 atomic.Int64 // splits and merges
	splits, merges, unknown int
	acked, asked            []change
}

// A change is a split or a merge: its parents, and a split's hash.
type change struct{ parent, adjacent, at string }

func (r *resharder) run(ctx context.Context) {
	for ctx.Err() == nil {
		r.once()
		time.Sleep(time.Duration(20+r.rnd.IntN(80)) * time.Millisecond)
	}
}

func (r *resharder) once() {
	open, err := listShards(r.ctx, r.c, &kinesis.ListShardsInput{StreamName: &r.name,
		ShardFilter: &types.ShardFilter{Type: types.ShardFilterTypeAtLatest}})
	if err != nil || len(open) == 0 {
		return
	}
	byStart(open)
	i := r.rnd.IntN(len(open))
	split := len(open) < 2 || len(open) < mostOpen && r.rnd.IntN(2) == 0
	ch := change{parent: *open[i].ShardId}
	if split {
		from, to := bounds(r.t, open[i])
		width := new(big.Int).Sub(to, from)
		if width.BitLen() < 16 {
			return
		}
		at := new(big.Int).Rsh(width, uint(1+r.rnd.IntN(2)))
		ch.at = at.Add(at, from).String()
	} else {
		i = min(i, len(open)-2)
		ch = change{parent: *open[i].ShardId, adjacent: *open[i+1].ShardId}
	}
	r.asked = append(r.asked, ch)
	select {
	case r.begins <- struct{}{}:
	default:
	}
	if split {
		_, err = r.c.SplitShard(r.ctx, &kinesis.SplitShardInput{StreamName: &r.name, ShardToSplit: &ch.parent,
			NewStartingHashKey: &ch.at})
	} else {
		_, err = r.c.MergeShards(r.ctx, &kinesis.MergeShardsInput{StreamName: &r.name, ShardToMerge: &ch.parent,
			AdjacentShardToMerge: &ch.adjacent})
	}
	switch {
	case err != nil && answered(err):
		var busy *types.ResourceInUseException
		if !errors.As(err, &busy) {
			r.t.Errorf("%+v: %v", ch, err)
		}
	case err != nil:
		r.unknown++
	default:
		r.changed.Add(1)
		if r.acked = append(r.acked, ch); split {
			r.splits++
		} else {
			r.merges++
		}
	}
}

// check compares the lineage with what was asked for, and counts.
func (r *resharder) check(t *testing.T) (splits, merges int) {
	t.Helper()
	there := map[change]bool{}
	children := map[string][]types.Shard{}
	byID := map[string]types.Shard{}
	var open []types.Shard
	for _, s := range r.shards() {
		byID[*s.ShardId] = s
		for _, p := range []*string{s.ParentShardId, s.AdjacentParentShardId} {
			if p != nil {
				children[*p] = append(children[*p], s)
			}
		}
		if s.SequenceNumberRange.EndingSequenceNumber == nil {
			open = append(open, s)
		}
	}
	byStart(open)
	covers(t, "open shards", open, new(big.Int), new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 128), big.NewInt(1)))
	for id, s := range byID {
		of := children[id]
		closed := s.SequenceNumberRange.EndingSequenceNumber
		if (closed != nil) != (len(of) > 0) {
			t.Errorf("%s is closed: %v, and has %d children", id, closed != nil, len(of))
			continue
		}
		if closed == nil {
			continue
		}
		from, to := bounds(t, s)
		byStart(of)
		switch {
		case len(of) == 2:
			covers(t, "children of "+id, of, from, to)
			there[change{parent: id, at: *of[1].HashKeyRange.StartingHashKey}] = true
			splits++
		case *of[0].ParentShardId == id && of[0].AdjacentParentShardId != nil:
			other := byID[*of[0].AdjacentParentShardId]
			_, end := bounds(t, other)
			covers(t, "child of a merge", of, from, end)
			there[change{parent: id, adjacent: *other.ShardId}] = true
			merges++
		case of[0].AdjacentParentShardId == nil || *of[0].AdjacentParentShardId != id:
			t.Errorf("%s has one child, %s, of no merge", id, *of[0].ShardId)
		}
	}
	for _, ch := range r.acked {
		if !there[ch] {
			t.Errorf("acknowledged and not there: %+v", ch)
		}
	}
	for _, ch := range r.asked {
		delete(there, ch)
	}
	for ch := range there {
		t.Errorf("there and not asked for: %+v", ch)
	}
	return splits, merges
}

// covers asserts that shards, in order, are exactly from to to.
func covers(t *testing.T, what string, shards []types.Shard, from, to *big.Int) {
	t.Helper()
	at := new(big.Int).Set(from)
	for _, s := range shards {
		first, last := bounds(t, s)
		if first.Cmp(at) != 0 {
			t.Errorf("%s: %s begins at %s, want %s", what, *s.ShardId, first, at)
		}
		at.Add(last, big.NewInt(1))
	}
	if end := at.Sub(at, big.NewInt(1)); end.Cmp(to) != 0 {
		t.Errorf("%s end at %s, want %s", what, end, to)
	}
}

func bounds(t testing.TB, s types.Shard) (first, last *big.Int) {
	return number(t, aws.ToString(s.HashKeyRange.StartingHashKey)),
		number(t, aws.ToString(s.HashKeyRange.EndingHashKey))
}
