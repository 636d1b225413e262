package server

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/firehose"
	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const fedDelivery = `{"DeliveryStreamName":"fed","DeliveryStreamType":"KinesisStreamAsSource",
	"KinesisStreamSourceConfiguration":{"KinesisStreamARN":"arn:aws:kinesis:eu-local-1:000000000000:stream/in","RoleARN":"arn:aws:iam::000000000000:role/any"},
	"ExtendedS3DestinationConfiguration":{"BucketARN":"arn:aws:s3:::fed","BufferingHints":{"SizeInMBs":1,"IntervalInSeconds":0},
	"ProcessingConfiguration":{"Enabled":true,"Processors":[{"Type":"AppendDelimiterToRecord"}]}}}`

// lines counts the lines of all objects of a bucket.
func (b *bridge) lines(bucket string) map[string]int {
	b.t.Helper()
	all := map[string]int{}
	root := filepath.Join(b.objects.Path(), bucket)
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil // it is being made
		}
		text, err := os.ReadFile(path)
		for line := range strings.Lines(string(text)) {
			all[strings.TrimSpace(line)]++
		}
		return err
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return all
}

// A delivery stream takes the records of its data stream over from when it was
// made, those in containers one by one, through a split and starts of the
// bridge: each once.
func TestDeliveryFromStream(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/in.json": `{"StreamName":"in","ShardCount":2}`})
	b := start(t, cfg)
	commit := func(put func(*streams.Batch)) {
		t.Helper()
		batch := b.store.NewBatch()
		put(batch)
		if err := b.store.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	plain := func(names ...string) {
		t.Helper()
		commit(func(batch *streams.Batch) {
			for _, n := range names {
				batch.Put("in", streams.HashOf(n), streams.Record{Key: n, Data: []byte(n)})
			}
		})
	}
	plain("before")
	declareFiles(t, cfg, map[string]string{"delivery-streams/fed.json": fedDelivery})
	b.must("POST", "/v1/reload", "", nil)
	want := map[string]int{}
	some := func(round int) {
		t.Helper()
		lineage, err := streams.Shards(b.store, "in")
		if err != nil {
			t.Fatal(err)
		}
		var open []streams.Range
		for _, s := range lineage {
			if s.Open() {
				open = append(open, s.Range)
			}
		}
		a := kpl.NewAggregator(open, 1<<20)
		var puts []kpl.Put
		for i := range 40 {
			name := fmt.Sprintf("r%d-%d", round, i)
			want[name] = 1
			if i%2 == 0 {
				plain(name)
			} else {
				puts = append(puts, a.Add(name, nil, []byte(name))...)
			}
		}
		for _, p := range append(puts, a.Flush()...) {
			commit(func(batch *streams.Batch) {
				batch.Put("in", p.Hash, streams.Record{Key: p.Key, Data: p.Data})
			})
		}
	}
	some(0)
	b = b.again(cfg)
	some(1)
	if _, err := b.store.Reshard("in", streams.Change{Parents: []int{0}, Ranges: streams.Even(4)[:2]}); err != nil {
		t.Fatal(err)
	}
	some(2)
	b = b.again(cfg)
	some(3)
	b.eventually("all in objects", func() bool { return len(b.lines("fed")) >= len(want) })
	for line, n := range b.lines("fed") {
		if want[line] != n {
			t.Errorf("%q is there %d times", line, n)
		}
	}

	// It is not put to, and its source stays.
	if b.compiler.Catalog.(catalog).HasDeliveryStream("fed") {
		t.Error("rules may put to it")
	}
	declareFiles(t, cfg, map[string]string{"delivery-streams/fed.json": strings.Replace(fedDelivery, "stream/in",
		"stream/other", 1)})
	if code, text := b.do("POST", "/v1/reload", ""); code == 200 ||
		!strings.Contains(text, firehose.ErrSource.Error()) {
		t.Error(code, text)
	}
}

// A record in a container may have a longer partition key than the log takes:
// the object has it, and what is behind it.
func TestDeliveryOfLongKeys(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/in.json": `{"StreamName":"in","ShardCount":1}`,
		"delivery-streams/fed.json": fedDelivery})
	b := start(t, cfg)
	long := strings.Repeat("k", streams.MaxKey+1)
	batch := b.store.NewBatch()
	for _, data := range [][]byte{kpl.Pack([]kpl.Record{{Key: long, Data: []byte("packed")}}), []byte("behind")} {
		batch.Put("in", streams.HashOf("k"), streams.Record{Key: "k", Data: data})
	}
	if err := b.store.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.eventually("both in objects", func() bool { return len(b.lines("fed")) == 2 })
	for _, line := range []string{"packed", "behind"} {
		if n := b.lines("fed")[line]; n != 1 {
			t.Errorf("%q is there %d times", line, n)
		}
	}
}

// A source that is not there is told, also in the list, until it is made.
func TestSourceMissing(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"delivery-streams/fed.json": fedDelivery})
	b := start(t, cfg)
	trouble := func() string {
		i, err := b.firehose.Info("fed")
		if err != nil {
			t.Fatal(err)
		}
		return i.SourceTrouble
	}
	b.eventually("it is told", func() bool { return strings.Contains(trouble(), "there is no stream in: make it") })
	if err := b.store.Create("in", streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is over", func() bool { return trouble() == "" })
	if err := b.store.Delete("in"); err != nil {
		t.Fatal(err)
	}
	b.eventually("it is told again", func() bool { return strings.Contains(trouble(), "there is no stream in") })
}
