package kinesis

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// split splits a shard of the stream in the middle.
func (b *bench) split(shard string) {
	b.t.Helper()
	err := b.SplitShard(bg, &SplitShardInput{StreamRef: named, ShardToSplit: &shard,
		NewStartingHashKey: p("170141183460469231731687303715884105728")})
	if err != nil {
		b.t.Fatal(err)
	}
}

func childText(kids []ChildShard) string {
	var all []string
	for _, k := range kids {
		all = append(all, k.ShardId[len(k.ShardId)-1:]+" of "+strings.Join(k.ParentShards, "+")+" "+
			k.HashKeyRange.StartingHashKey+"-"+k.HashKeyRange.EndingHashKey)
	}
	return strings.ReplaceAll(strings.Join(all, ", "), "shardId-00000000000", "")
}

// A shard that was split or merged is read to its end, which names its
// children; before, and after a restart too.
func TestShardEnd(t *testing.T) {
	b := newBench(t, 1, Options{})
	ahead := b.from("0", "LATEST")
	out := b.put("k#0:a", "k#"+max128+":b")
	b.split("0")
	b.put("k#0:c", "k#"+max128+":d")
	if err := b.MergeShards(bg, &MergeShardsInput{StreamRef: named, ShardToMerge: p("1"),
		AdjacentShardToMerge: p("2")}); err != nil {
		t.Fatal(err)
	}
	b.put("k#0:e", "k#"+max128+":f")
	const halves = "1 of 0 0-170141183460469231731687303715884105727, 2 of 0 170141183460469231731687303715884105728-" +
		max128
	const whole = "3 of 1+2 0-" + max128
	check := func(t *testing.T) {
		first := b.get(b.from("0", "TRIM_HORIZON"), 1)
		if texts(first.Records) != "k:a" || first.NextShardIterator == nil || len(first.ChildShards) != 0 ||
			*first.MillisBehindLatest == 0 {
			t.Errorf("%+v", first)
		}
		for name, c := range map[string]struct {
			it         *string
			want, kids string
		}{
			"first":         {b.from("0", "TRIM_HORIZON"), "k:a k:b", halves},
			"first, on":     {first.NextShardIterator, "k:b", halves},
			"first, ahead":  {ahead, "k:a k:b", halves},
			"first, latest": {b.from("0", "LATEST"), "", halves},
			"left":          {b.from("1", "TRIM_HORIZON"), "k:c", whole},
			"right":         {b.from("2", "TRIM_HORIZON"), "k:d", whole},
		} {
			got := b.get(c.it, 10)
			if texts(got.Records) != c.want || childText(got.ChildShards) != c.kids || got.NextShardIterator != nil ||
				*got.MillisBehindLatest != 0 {
				t.Errorf("%s: %q, %q, next %v", name, texts(got.Records), childText(got.ChildShards),
					got.NextShardIterator)
			}
		}
		if got := b.get(b.from("3", "TRIM_HORIZON"), 10); texts(got.Records) != "k:e k:f" ||
			got.NextShardIterator == nil || len(got.ChildShards) != 0 {
			t.Errorf("open: %+v", got)
		}
		shards, err := streams.Shards(b.store, "s")
		if err != nil {
			t.Fatal(err)
		}
		closing := lastSequence(&shards[0])
		if closing.Compare(out.Records[1].SequenceNumber) <= 0 {
			t.Errorf("closing number %s is not after %s", closing, out.Records[1].SequenceNumber)
		}
		for _, kind := range []string{"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"} {
			it, err := b.GetShardIterator(bg, &GetShardIteratorInput{StreamRef: named, ShardId: p("0"),
				ShardIteratorType: &kind, StartingSequenceNumber: p(closing.String())})
			if err != nil {
				t.Fatal(err)
			}
			if got := b.get(it.ShardIterator, 10); len(got.Records) != 0 || childText(got.ChildShards) != halves {
				t.Errorf("%s the closing number: %+v", kind, got)
			}
		}
	}
	t.Run("now", check)
	b.reopen()
	t.Run("after a restart", check)
}

// Records older than the stream's retention are not read, though the log still
// has them.
func TestRetentionIsExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 1, Options{})
		b.put("k:a")
		time.Sleep(time.Hour)
		b.put("k:b")
		read := func() string {
			t.Helper()
			out := b.get(b.from("0", "TRIM_HORIZON"), 1)
			return texts(append(out.Records, b.get(out.NextShardIterator, 9).Records...))
		}
		for _, c := range []struct {
			after time.Duration
			want  string
		}{
			{23 * time.Hour, "k:a k:b"}, // a is exactly as old as the period
			{time.Millisecond, "k:b"},
			{time.Hour - time.Millisecond, "k:b"},
			{time.Millisecond, ""},
		} {
			time.Sleep(c.after)
			if got := read(); got != c.want {
				t.Errorf("after %s more: %q, want %q", c.after, got, c.want)
			}
		}
		if oldest, next, _ := b.store.Bounds("s", 0); oldest != 0 || next != 2 {
			t.Fatalf("the log trimmed to %d of %d: the test tests nothing", oldest, next)
		}
		b.put("k:c")
		if got := read(); got != "k:c" {
			t.Errorf("then %q", got)
		}
		// Closed, with nothing left: its end is told.
		b.split("0")
		time.Sleep(25 * time.Hour)
		if out := b.get(b.from("0", "TRIM_HORIZON"), 1); len(out.Records) != 0 || len(out.ChildShards) != 2 ||
			out.NextShardIterator != nil {
			t.Errorf("%+v", out)
		}
	})
}
