package connector

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/kinesis"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/deploy/await"
)

// Who waits at the tip of a shard is told at once when it is split, also if
// it never had a record.
func TestIdleEndsWithTheShard(t *testing.T) {
	store, err := pebble.Open(t.TempDir(), pebble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Create("s", streams.Config{Shards: 1}); err != nil {
		t.Fatal(err)
	}
	service, err := kinesis.Open(store, kinesis.Options{Account: "000000000000", Region: "eu-local-1"})
	if err != nil {
		t.Fatal(err)
	}
	l := &local{store, service.In(""), "s"}
	waited := make(chan error, 1)
	go func() { waited <- l.idle(t.Context(), "shardId-000000000000", &Page{}, 0) }()
	if _, err := store.Reshard("s", streams.Change{Parents: []int{0}, Ranges: streams.Even(2)}); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-waited:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(await.Patience):
		t.Error("still waiting")
	}
}
