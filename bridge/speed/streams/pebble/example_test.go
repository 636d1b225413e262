package pebble_test

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// Records that are committed are on disk, here one in memory, and can be read.
func Example() {
	log, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem()})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- log.Run(ctx) }()

	fmt.Println(log.Create("readings", streams.Config{Shards: 1}))
	b := log.NewBatch()
	b.Append("readings", 0, streams.Record{Key: "pi-1", Data: []byte("21.5")},
		streams.Record{Key: "pi-1", Data: []byte("22")})
	fmt.Println(log.Commit(ctx, b))
	records, err := log.Read("readings", 0, 0, 10, 1<<20)
	for _, r := range records {
		fmt.Println(r.Offset, r.Key, string(r.Data))
	}
	fmt.Println(err)

	stop()
	fmt.Println(<-ended, log.Close())
	// Output:
	// <nil>
	// <nil>
	// 0 pi-1 21.5
	// 1 pi-1 22
	// <nil>
	// <nil> <nil>
}
