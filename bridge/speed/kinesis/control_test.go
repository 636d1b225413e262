package kinesis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"pgregory.net/rapid"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/conformance"
)

var bg = context.Background()

func ref(name string) StreamRef { return StreamRef{StreamName: &name} }

// shards lists the shards of a stream through a filter.
func (a API) shardsOf(t testing.TB, name string, f *ShardFilter) []Shard {
	t.Helper()
	var all []Shard
	in := &ListShardsInput{StreamRef: ref(name), ShardFilter: f, MaxResults: p[int32](3)}
	for {
		out, err := a.ListShards(bg, in)
		if err != nil {
			t.Fatal(err)
		}
		if all = append(all, out.Shards...); out.NextToken == nil {
			return all
		}
		in = &ListShardsInput{NextToken: out.NextToken, MaxResults: p[int32](3)}
	}
}

func ids(all []Shard) string {
	var s []string
	for _, sh := range all {
		s = append(s, strings.TrimLeft(sh.ShardId[len("shardId-"):len(sh.ShardId)-1], "0")+
			sh.ShardId[len(sh.ShardId)-1:])
	}
	return strings.Join(s, " ")
}

// Split and merge answer as the vectors say.
func TestReshardVectors(t *testing.T) {
	count := map[string]int{}
	for _, line := range conformance.Kind(t, "streams-hash.jsonl", "split", "merge") {
		var v struct {
			Kind, NewStartingHashKey, Error       string
			Parent, ShardToMerge, Adjacent, Child []string
			Children                              [][]string
		}
		if err := json.Unmarshal(line, &v); err != nil {
			t.Fatal(err)
		}
		count[v.Kind]++
		t.Run(fmt.Sprintf("%s/%d", v.Kind, count[v.Kind]), func(t *testing.T) {
			b := newBench(t, 1, Options{})
			pair := func(r streams.Range) []string { return []string{r.Start.String(), r.End.String()} }
			// id finds the shard of a range, cutting it out.
			id := func(want []string) string {
				for i, part := range []int{0, 1} {
					h, err := streams.ParseHash(want[part])
					if err != nil {
						t.Fatal(err)
					}
					if i == 1 {
						if h == streams.MaxHash {
							continue
						}
						h = plus(h, 1)
					}
					at, _ := streams.Route(b.store, "s", h)
					all, _ := streams.Shards(b.store, "s")
					if r := all[at].Range; r.Start != h {
						if _, err := b.store.Reshard("s", split(at, r, h)); err != nil {
							t.Fatal(err)
						}
					}
				}
				for _, sh := range b.s.open("s") {
					if slices.Equal(pair(sh.Range), want) {
						return shardID(sh.Index)
					}
				}
				t.Fatalf("no shard %v", want)
				return ""
			}
			want := v.Children
			var err error
			if v.Kind == "split" {
				parent := id(v.Parent)
				err = b.SplitShard(bg, &SplitShardInput{named, &parent, &v.NewStartingHashKey})
			} else {
				low, high := id(v.ShardToMerge), id(v.Adjacent)
				low = id(v.ShardToMerge) // it may have been cut again
				err = b.MergeShards(bg, &MergeShardsInput{named, &low, &high})
				want = [][]string{v.Child}
			}
			if v.Error != "" {
				wantError(t, err, v.Error, "")
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range want {
				if !slices.ContainsFunc(b.s.open("s"), func(sh streams.Shard) bool {
					return slices.Equal(pair(sh.Range), w)
				}) {
					t.Errorf("no shard %v", w)
				}
			}
		})
	}
	t.Logf("vectors: %v", count)
}

// What was asked for shows as a state for a while, and a name can be used
// again once the stream is gone.
func TestStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{Delay: 2 * time.Second})
		ctx, stop := context.WithCancel(bg)
		done := make(chan error, 1)
		go func() { done <- b.s.Run(ctx) }()
		status := func() string {
			out, err := b.DescribeStream(bg, &DescribeStreamInput{StreamRef: ref("x")})
			if err != nil {
				return "gone"
			}
			return fmt.Sprint(out.StreamDescription.StreamStatus, len(out.StreamDescription.Shards))
		}
		want := func(w string) {
			t.Helper()
			if got := status(); got != w {
				t.Errorf("%s, want %s", got, w)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		create := func() error {
			return b.CreateStream(bg, &CreateStreamInput{StreamName: p("x"), ShardCount: p[int32](2)})
		}
		must(create())
		want("CREATING0")
		wantError(t, create(), ResourceInUse, "Stream x under account 123456789012 already exists.")
		_, err := b.ListShards(bg, &ListShardsInput{StreamRef: ref("x")})
		wantError(t, err, ResourceInUse, "not ACTIVE, instead in state CREATING")
		_, err = b.PutRecord(bg, &PutRecordInput{StreamRef: ref("x"), PartitionKey: p("k"), Data: []byte{}})
		wantError(t, err, ResourceNotFound, "")
		time.Sleep(2 * time.Second)
		want("ACTIVE2")
		must(b.SplitShard(bg, &SplitShardInput{ref("x"), p("0"), p("1000")}))
		want("UPDATING4")
		if got := ids(b.shardsOf(t, "x", &ShardFilter{Type: p("AT_LATEST")})); got != "1 2 3" {
			t.Errorf("open while updating: %s", got)
		}
		wantError(t, b.MergeShards(bg, &MergeShardsInput{ref("x"), p("2"), p("3")}), ResourceInUse,
			"instead in state UPDATING")
		time.Sleep(2 * time.Second)
		wantError(t, b.SplitShard(bg, &SplitShardInput{ref("x"), p("0"), p("100")}), InvalidArgument,
			"already been merged or split")
		wantError(t, b.SplitShard(bg, &SplitShardInput{ref("x"), p("9"), p("100")}), ResourceNotFound,
			"Could not find shard shardId-000000000009")
		arn := b.streamARN("x")
		c, err := b.RegisterStreamConsumer(bg, &RegisterStreamConsumerInput{StreamARN: &arn, ConsumerName: p("c")})
		must(err)
		if c.Consumer.ConsumerStatus != creating {
			t.Errorf("consumer is %s", c.Consumer.ConsumerStatus)
		}
		wantError(t, b.DeleteStream(bg, &DeleteStreamInput{StreamRef: ref("x")}), ResourceInUse, "consumers")
		time.Sleep(2 * time.Second)
		must(b.DeregisterStreamConsumer(bg, &DeregisterStreamConsumerInput{ConsumerARN: &c.Consumer.ConsumerARN}))
		d, err := b.DescribeStreamConsumer(bg, &DescribeStreamConsumerInput{ConsumerARN: &c.Consumer.ConsumerARN})
		if err != nil || d.ConsumerDescription.ConsumerStatus != deleting {
			t.Errorf("%+v, %v", d, err)
		}
		time.Sleep(2 * time.Second)
		_, err = b.DescribeStreamConsumer(bg, &DescribeStreamConsumerInput{ConsumerARN: &c.Consumer.ConsumerARN})
		wantError(t, err, ResourceNotFound, "")
		must(b.DeleteStream(bg, &DeleteStreamInput{StreamRef: refer(&arn)}))
		want("DELETING4")
		wantError(t, create(), ResourceInUse, "already exists")
		time.Sleep(2*time.Second + time.Millisecond)
		synctest.Wait()
		if _, err := b.store.Describe("x"); !errors.Is(err, streams.ErrNotFound) {
			t.Errorf("the log still has it: %v", err)
		}
		want("gone")
		must(create())
		want("CREATING0")
		stop()
		must(<-done)
	})
}

// A deletion that was acknowledged is finished when the bridge starts again.
func TestDeletionAfterRestart(t *testing.T) {
	b := newBench(t, 1, Options{Delay: time.Hour})
	if err := b.CreateStream(bg, &CreateStreamInput{StreamName: p("x"), ShardCount: p[int32](1)}); err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteStream(bg, &DeleteStreamInput{StreamRef: ref("x")}); err != nil {
		t.Fatal(err)
	}
	b.reopen()
	if _, err := b.store.Describe("x"); !errors.Is(err, streams.ErrNotFound) {
		t.Error(err)
	}
}

// Shards that are hot for a minute are split, once, and others are not.
func TestOnDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{MaxShards: 6, Log: slog.New(slog.DiscardHandler)})
		ctx, stop := context.WithCancel(bg)
		done := make(chan error, 1)
		go func() { done <- b.s.Run(ctx) }()
		mode := &StreamModeDetails{p(onDemand)}
		if err := b.CreateStream(bg, &CreateStreamInput{StreamName: p("x"), StreamModeDetails: mode}); err != nil {
			t.Fatal(err)
		}
		_, err := b.UpdateShardCount(bg, &UpdateShardCountInput{StreamRef: ref("x"), TargetShardCount: p[int32](5),
			ScalingType: p("UNIFORM_SCALING")})
		wantError(t, err, Validation, "On-Demand mode")
		wantError(t, b.SplitShard(bg, &SplitShardInput{ref("x"), p("0"), p("100")}), Validation, "On-Demand mode")
		load := func(seconds, n int) {
			for range seconds {
				batch := b.store.NewBatch()
				for i := range n {
					key := fmt.Sprint(i)
					// All go to the first shard, more to its lower part.
					h := streams.HashOf(key)
					h.Hi >>= 3
					batch.Put("x", h, streams.Record{Key: key})
				}
				if err := b.store.Commit(bg, batch); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Second)
			}
		}
		open := func() int { return len(b.s.open("x")) }
		load(120, 400)
		if n := open(); n != 4 {
			t.Fatalf("%d shards after a little load, want 4", n)
		}
		load(50, 700)
		if n := open(); n != 4 {
			t.Fatalf("%d shards after 50 s, want 4", n)
		}
		load(30, 700)
		if n := open(); n != 5 {
			t.Fatalf("%d shards after 80 s, want 5", n)
		}
		load(300, 3000) // the quota of all streams is 6, of which "s" has 1
		if n := open(); n != 5 {
			t.Fatalf("%d shards, want 5: no more than the quota", n)
		}
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	})
}

func TestListShardsFilters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 2, Options{})
		made := time.Now()
		time.Sleep(time.Hour)
		if err := b.SplitShard(bg, &SplitShardInput{named, p("shardId-0"), p("1000")}); err != nil {
			t.Fatal(err)
		}
		cut := time.Now()
		for _, c := range []struct {
			kind string
			at   time.Time
			want string
		}{
			{"AT_LATEST", time.Time{}, "1 2 3"},
			{"AT_TRIM_HORIZON", time.Time{}, "0 1"},
			{"FROM_TRIM_HORIZON", time.Time{}, "0 1 2 3"},
			{"AT_TIMESTAMP", made.Add(-time.Hour), "0 1"}, // taken as the beginning
			{"AT_TIMESTAMP", made.Add(time.Minute), "0 1"},
			{"AT_TIMESTAMP", cut, "1 2 3"},
			{"FROM_TIMESTAMP", made, "0 1 2 3"},
			{"FROM_TIMESTAMP", cut, "0 1 2 3"},
			{"FROM_TIMESTAMP", cut.Add(time.Millisecond), "1 2 3"},
		} {
			f := &ShardFilter{Type: &c.kind}
			if !c.at.IsZero() {
				f.Timestamp = &c.at
			}
			if got := ids(b.shardsOf(t, "s", f)); got != c.want {
				t.Errorf("%s %v: %s, want %s", c.kind, c.at.Sub(made), got, c.want)
			}
		}
		if got := ids(b.shardsOf(t, "s",
			&ShardFilter{Type: p("AFTER_SHARD_ID"), ShardId: p("shardId-000000000001")})); got != "2 3" {
			t.Errorf("AFTER_SHARD_ID: %s", got)
		}
		out, err := b.ListShards(bg, &ListShardsInput{StreamRef: named, MaxResults: p[int32](1)})
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.ListShards(bg, &ListShardsInput{})
		wantError(t, err, InvalidArgument, "Either NextToken or StreamName should be provided.")
		_, err = b.ListShards(bg, &ListShardsInput{StreamRef: named, NextToken: out.NextToken})
		wantError(t, err, InvalidArgument, "NextToken and StreamName cannot be provided together.")
		_, err = b.ListShards(bg, &ListShardsInput{NextToken: p("AAAA")})
		wantError(t, err, InvalidArgument, "NextToken is invalid")
		time.Sleep(301 * time.Second)
		_, err = b.ListShards(bg, &ListShardsInput{NextToken: out.NextToken})
		wantError(t, err, ExpiredNextToken, "")
		time.Sleep(24 * time.Hour)
		for _, kind := range []string{"AT_TRIM_HORIZON", "FROM_TRIM_HORIZON"} {
			if got := ids(b.shardsOf(t, "s", &ShardFilter{Type: &kind})); got != "1 2 3" {
				t.Errorf("%s a day later: %s", kind, got)
			}
		}
	})
}

// Whatever was done to shards, also by Declare and after restarts: the open
// ones have all hash keys, children cover their parents, each moment has one
// shard for each hash key, and UpdateShardCount leaves even ranges.
func TestReshardModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		synctest.Test(t, func(*testing.T) { reshardModel(t, rt) })
	})
}

func reshardModel(t *testing.T, rt *rapid.T) {
	n := rapid.IntRange(1, 5).Draw(rt, "shards")
	b := newBench(t, n, Options{})
	defer func() { b.stop(); b.stop = func() {} }()
	for range rapid.IntRange(1, 12).Draw(rt, "steps") {
		open := b.s.open("s")
		at := rapid.IntRange(0, len(open)-1).Draw(rt, "at")
		var err error
		switch rapid.SampledFrom([]string{"split", "merge", "count", "declare", "restart", "wait"}).Draw(rt, "op") {
		case "split":
			h := middle(open[at].Range)
			if err = b.SplitShard(bg, &SplitShardInput{named, p(shardID(open[at].Index)), p(h.String())}); err == nil &&
				len(b.s.open("s")) != len(open)+1 {
				t.Fatal("not one shard more")
			}
		case "merge":
			if at+1 < len(open) {
				err = b.MergeShards(bg, &MergeShardsInput{named, p(shardID(open[at].Index)),
					p(shardID(open[at+1].Index))})
			}
		case "count":
			want := rapid.IntRange((len(open)+1)/2, 2*len(open)).Draw(rt, "count")
			_, err = b.UpdateShardCount(bg, &UpdateShardCountInput{named, p(int32(want)), p("UNIFORM_SCALING")})
			if err == nil {
				evenly(t, b, want)
			} else if e := new(Error); errors.As(err, &e) && e.Code == LimitExceeded {
				err = nil
			}
		case "declare":
			was, _ := b.find(named)
			want := rapid.IntRange(1, 9).Draw(rt, "declared")
			if err = b.s.Declare(Declaration{StreamName: "s", ShardCount: p(int32(want))}); err == nil &&
				(was.Declared != want && was.Declared != 0 || was.Declared == 0 && want != n) {
				evenly(t, b, want)
			}
		case "restart":
			before, _ := json.Marshal(b.shardsOf(t, "s", nil))
			b.reopen()
			if after, _ := json.Marshal(b.shardsOf(t, "s", nil)); string(before) != string(after) {
				t.Fatalf("after a restart: %s, before %s", after, before)
			}
		case "wait":
			time.Sleep(time.Duration(rapid.IntRange(1, 7200).Draw(rt, "s")) * time.Second)
		}
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		lineage(t, b)
	}
}

func evenly(t *testing.T, b *bench, n int) {
	t.Helper()
	var got []streams.Range
	for _, sh := range b.s.open("s") {
		got = append(got, sh.Range)
	}
	if !slices.Equal(got, streams.Even(n)) {
		t.Fatalf("%v, want %d even ranges", got, n)
	}
}

// covers says whether shards have all hash keys, each once.
func covers(all []Shard) bool {
	var rs []streams.Range
	for _, sh := range all {
		from, _ := streams.ParseHash(sh.HashKeyRange.StartingHashKey)
		to, _ := streams.ParseHash(sh.HashKeyRange.EndingHashKey)
		rs = append(rs, streams.Range{Start: from, End: to})
	}
	slices.SortFunc(rs, func(a, b streams.Range) int { return a.Start.Compare(b.Start) })
	at := streams.Hash{}
	for _, r := range rs {
		if r.Start != at {
			return false
		}
		at = plus(r.End, 1)
	}
	return len(rs) > 0 && at == streams.Hash{}
}

func lineage(t *testing.T, b *bench) {
	t.Helper()
	if !covers(b.shardsOf(t, "s", &ShardFilter{Type: p("AT_LATEST")})) {
		t.Fatal("the open shards do not have all hash keys")
	}
	if !covers(b.shardsOf(t, "s", &ShardFilter{Type: p("AT_TRIM_HORIZON")})) {
		t.Fatal("the shards at the horizon do not have all hash keys")
	}
	all := b.shardsOf(t, "s", nil)
	kids := map[string]int{}
	for i := range all {
		for _, parent := range []*string{all[i].ParentShardId, all[i].AdjacentParentShardId} {
			if parent != nil {
				kids[*parent]++
				if *parent >= all[i].ShardId {
					t.Fatalf("%s is a child of the younger %s", all[i].ShardId, *parent)
				}
			}
		}
	}
	inner, _ := streams.Shards(b.store, "s")
	for i := range all {
		closed := all[i].SequenceNumberRange.EndingSequenceNumber != nil
		if closed != (kids[all[i].ShardId] > 0) {
			t.Fatalf("%s: closed %v, with %d children", all[i].ShardId, closed, kids[all[i].ShardId])
		}
	}
	for i := range inner { // at each moment at which something changed, and just before
		for _, at := range []time.Time{inner[i].Created, inner[i].Created.Add(-time.Millisecond)} {
			if !covers(b.shardsOf(t, "s", &ShardFilter{Type: p("AT_TIMESTAMP"), Timestamp: &at})) {
				t.Fatalf("the shards at %v do not have all hash keys", at)
			}
		}
	}
}

// After a power cut at any write each operation that was acknowledged is there,
// and one that was not is either done or not begun.
func TestControlPowerCut(t *testing.T) {
	ops := func(a API) []func() error {
		count := func(n int32) func() error {
			return func() error {
				_, err := a.UpdateShardCount(bg, &UpdateShardCountInput{ref("x"), &n, p("UNIFORM_SCALING")})
				return err
			}
		}
		arn := a.streamARN("x")
		return []func() error{
			func() error {
				return a.CreateStream(bg, &CreateStreamInput{StreamName: p("x"), ShardCount: p[int32](2)})
			},
			func() error { return a.SplitShard(bg, &SplitShardInput{ref("x"), p("0"), p("1000")}) },
			count(5),
			func() error {
				return a.AddTagsToStream(bg, &AddTagsToStreamInput{ref("x"), map[string]string{"a": "b"}})
			},
			func() error {
				_, err := a.RegisterStreamConsumer(bg,
					&RegisterStreamConsumerInput{StreamARN: &arn, ConsumerName: p("c")})
				return err
			},
			func() error {
				return a.IncreaseStreamRetentionPeriod(bg, &IncreaseStreamRetentionPeriodInput{ref("x"), p[int32](48)})
			},
			count(3),
			func() error {
				return a.StartStreamEncryption(bg, &StartStreamEncryptionInput{ref("x"), p("KMS"), p("k")})
			},
			func() error { // another mode and more shards at once
				return a.UpdateStreamMode(bg, &UpdateStreamModeInput{StreamARN: &arn,
					StreamModeDetails: &StreamModeDetails{p(onDemand)}, WarmThroughputMiBps: p[int32](6)})
			},
			func() error { return a.DeleteStream(bg, &DeleteStreamInput{ref("x"), p(true)}) },
		}
	}
	// state is what a client can see, but for times.
	state := func(a API) string {
		sum, err := a.DescribeStreamSummary(bg, &DescribeStreamSummaryInput{ref("x")})
		if err != nil {
			return "none"
		}
		d := sum.StreamDescriptionSummary
		tags, _ := a.ListTagsForStream(bg, &ListTagsForStreamInput{StreamRef: ref("x")})
		return fmt.Sprint(d.OpenShardCount, d.RetentionPeriodHours, *d.ConsumerCount, *d.EncryptionType,
			*d.StreamModeDetails.StreamMode, len(tags.Tags), ids(a.shardsOf(t, "x", nil)))
	}
	start := func(fs vfs.FS) (API, *pebble.Store, error) {
		store, err := pebble.Open("db", pebble.Options{FS: fs})
		if err != nil {
			return API{}, nil, err
		}
		s, err := Open(store, Options{Account: "123456789012", Region: "eu-central-1",
			Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			return API{}, store, err
		}
		return s.In(""), store, nil
	}
	var want []string // the state after so many operations
	a, store, err := start(vfs.NewMem())
	if err != nil {
		t.Fatal(err)
	}
	want = append(want, state(a))
	for _, op := range ops(a) {
		if err := op(); err != nil {
			t.Fatal(err)
		}
		want = append(want, state(a))
	}
	store.Close()
	cuts := 0
	for n := 0; ; n++ {
		mem := vfs.NewCrashableMem()
		if _, store, err := start(mem); err != nil {
			t.Fatal(err)
		} else if err := store.Close(); err != nil {
			t.Fatal(err)
		}
		// After n writes, syncs and the like nothing reaches the disk.
		var mu sync.Mutex // guards left and image
		left := n
		var image vfs.FS
		whole := func() bool {
			mu.Lock()
			defer mu.Unlock()
			return image == nil
		}
		inject := errorfs.InjectorFunc(func(op errorfs.Op) error {
			mu.Lock()
			defer mu.Unlock()
			if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && image == nil {
				if left--; left < 0 {
					image = mem.CrashClone(vfs.CrashCloneCfg{})
				}
			}
			return nil
		})
		var acked, at int
		func() {
			a, store, err := start(errorfs.Wrap(mem, inject))
			if store != nil {
				defer store.Close()
			}
			if err != nil {
				t.Fatal(err)
			}
			for i, op := range ops(a) {
				if whole() {
					at = i
				}
				if err := op(); err != nil {
					t.Fatal(err)
				}
				if whole() {
					acked = i + 1
				}
			}
		}()
		if whole() {
			break
		}
		cuts++
		a, store, err := start(image)
		if err != nil {
			t.Fatalf("cut %d: %v", n, err)
		}
		got := state(a)
		if got != want[acked] && (at+1 >= len(want) || got != want[at+1]) {
			t.Errorf("cut at write %d, after operation %d: %s, want %s or %s", n, acked, got, want[acked],
				want[min(at+1, len(want)-1)])
		}
		store.Close()
	}
	if cuts < 9 {
		t.Errorf("%d cuts, want one for each operation at least", cuts)
	}
	t.Logf("%d power cuts", cuts)
}

// Whatever redeem accepts is of the operation and was issued no longer ago
// than a token lives.
func FuzzToken(f *testing.F) {
	s := &Service{now: time.Now}
	f.Add(*s.In("x").issue(token{Op: "ListShards", Stream: "s", ID: 1, After: "a"}))
	f.Add("")
	f.Fuzz(func(t *testing.T, in string) {
		got, err := s.In("x").redeem("ListShards", in)
		if err == nil && (got.Op != "ListShards" || time.Since(time.UnixMilli(got.Issued)).Abs() > tokenLife+
			time.Second) {
			t.Fatalf("%q: %+v", in, got)
		}
	})
}
