package audit

import (
	"context"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
)

// What a record costs a change of the registry, whose disk is synced: a thing is
// made, by eight at a time. The record goes with it, and the one before it away.
func BenchmarkUpdate(b *testing.B) {
	for _, recorded := range []bool{false, true} {
		b.Run(fmt.Sprint("recorded=", recorded), func(b *testing.B) {
			tables, err := bolt.Open(filepath.Join(b.TempDir(), "registry.db"), bolt.Options{})
			if err != nil {
				b.Fatal(err)
			}
			r, err := registry.New(tables, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			defer r.Close()
			var n atomic.Int64
			b.SetParallelism(8)
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					ctx := context.Background()
					if recorded {
						ctx = With(ctx, &Change{Record: Record{Source: SourceProvisioning, Action: "RegisterThing",
							Who: "certificate", From: "192.0.2.1"}})
					}
					i := n.Add(1)
					err := Update(ctx, r, func(tx *registry.Tx) error {
						return tx.CreateThing(registry.Thing{Name: fmt.Sprint("pump-", i)})
					})
					if err != nil {
						b.Error(err)
						return
					}
					r.RecordsTaken(uint64(max(0, i-8))) // as the mover does, a little later
				}
			})
		})
	}
}
