package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A tail reads a shard before what it was split into, and the records of a
// container by themselves.
func TestTailFollowsShards(t *testing.T) {
	cfg := configure(t)
	declareFiles(t, cfg, map[string]string{"streams/s.json": `{"StreamName":"s"}`})
	b := start(t, cfg)
	put := func(data []byte) {
		t.Helper()
		batch := b.store.NewBatch()
		batch.Put("s", streams.HashOf("k"), streams.Record{Key: "k", Data: data})
		if err := b.store.Commit(t.Context(), batch); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte(`1`))
	put(kpl.Pack([]kpl.Record{{Key: "k", Data: []byte(`2`)}, {Key: "k", Data: []byte(`3`)}}))
	if _, err := b.store.Reshard("s", streams.Change{Parents: []int{0}, Ranges: streams.Even(2)}); err != nil {
		t.Fatal(err)
	}
	put([]byte(`4`))
	var got string
	_, text := b.do("GET", "/v1/streams/records?name=s&from=oldest", "")
	for line := range strings.Lines(text) {
		var r StreamRecord
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		got += fmt.Sprintf("%d/%d.%d=%s ", min(r.Shard, 1), r.Offset, r.Sub, r.JSON)
	}
	if want := "0/0.0=1 0/1.0=2 0/1.1=3 1/0.0=4 "; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if info, err := b.streamInfo("s"); err != nil || info.Shards != 2 || info.Records != 3 {
		t.Errorf("%+v, %v", info, err)
	}
}
