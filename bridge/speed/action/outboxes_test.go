package action

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// An outbox of a rule that is gone ends when it is empty, or is dropped with what
// waits; one that is in use stays.
func TestOutboxesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, err := pebble.Open("log", pebble.Options{FS: vfs.NewMem(), Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		used := map[string]bool{}
		var mu sync.Mutex
		use := func(stream string, in bool) {
			mu.Lock()
			defer mu.Unlock()
			used[stream] = in
		}
		away := true
		o := &objects{fail: func(string, int) error {
			mu.Lock()
			defer mu.Unlock()
			if away {
				return errors.New("away")
			}
			return nil
		}}
		boxes := NewOutboxes(store)
		x := NewDrainer(boxes, Options{Objects: o, Republish: nobody{}, Log: slog.New(slog.DiscardHandler),
			InUse:  func(stream string) bool { mu.Lock(); defer mu.Unlock(); return used[stream] },
			Failed: func(*streams.Batch, *Delivery, error) {}})
		ctx, cancel := context.WithCancel(t.Context())
		logCtx, cancelLog := context.WithCancel(t.Context())
		var wg, log sync.WaitGroup
		log.Go(func() { _ = store.Run(logCtx) })
		wg.Go(func() { _ = x.Run(ctx) })
		b := store.NewBatch()
		for _, slot := range []string{"0", "1", "2"} {
			box := OutboxStream("r", slot)
			if err := boxes.Ensure(box); err != nil {
				t.Fatal(err)
			}
			use(box, true)
			if slot != "2" {
				d := &Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: slot}
				b.Append(box, 0, streams.Record{Data: d.append(nil)})
			}
		}
		if err := store.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		list := func(want int) []OutboxInfo {
			t.Helper()
			all, err := x.List()
			if err != nil || len(all) != want {
				t.Fatalf("%+v, %v, want %d", all, err, want)
			}
			return all
		}
		first := list(3)[0]
		if first.Records != 1 || first.LastError != "away" || first.Oldest.IsZero() || first.Unused {
			t.Errorf("%+v", first)
		}
		if _, err := x.Drop(ctx, "r", "0"); !errors.Is(err, ErrInUse) {
			t.Errorf("dropped what is in use: %v", err)
		}
		for _, slot := range []string{"0", "1", "2"} {
			use(OutboxStream("r", slot), false)
		}
		time.Sleep(time.Hour) // the third one is empty
		if all := list(2); !all[1].Unused {
			t.Errorf("%+v", all)
		}
		if n, err := x.Drop(ctx, "r", "0"); err != nil || n != 1 {
			t.Errorf("dropped %d: %v", n, err)
		}
		mu.Lock()
		away = false
		mu.Unlock()
		tries := len(o.puts)
		if err := x.Retry("r", "1"); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if len(o.puts) != tries+1 {
			t.Errorf("%d attempts at once, want one", len(o.puts)-tries)
		}
		time.Sleep(time.Hour)
		list(0)
		if err := x.Retry("r", "1"); !errors.Is(err, streams.ErrNotFound) {
			t.Error(err)
		}
		if err := boxes.Ensure(OutboxStream("r", "1")); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		list(1)
		cancel()
		wg.Wait()
		cancelLog()
		log.Wait()
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}
