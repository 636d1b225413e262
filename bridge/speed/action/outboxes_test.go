package action

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// An outbox of a rule that is gone ends when it is empty, or is dropped with what
// waits; one that is in use stays.
func TestOutboxesEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := pebbletest.Start(t)
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
		var wg sync.WaitGroup
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
			all := x.List()
			if len(all) != want {
				t.Fatalf("%+v, want %d", all, want)
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
		if got := positionKeys(t, store); len(got) != 0 { // of the new one nothing was done yet
			t.Errorf("outboxes that are gone left %q", got)
		}
	})
}

// An outbox that was to be dropped by somebody who left is drained on, for a rule of
// that name may be made again.
func TestDropGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := pebbletest.Start(t)
		gate := make(chan struct{})
		o := &objects{fail: func(string, int) error { <-gate; return nil }}
		boxes := NewOutboxes(store)
		x := NewDrainer(boxes, Options{Objects: o, Republish: nobody{}, Log: slog.New(slog.DiscardHandler),
			InUse:  func(string) bool { return false },
			Failed: func(*streams.Batch, *Delivery, error) {}})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = x.Run(ctx) })
		box := OutboxStream("r", "0")
		if err := boxes.Ensure(box); err != nil {
			t.Fatal(err)
		}
		b := store.NewBatch()
		b.Append(box, 0, streams.Record{Data: (&Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: "n"}).append(nil)})
		if err := store.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // its attempt is under way
		left, leave := context.WithCancel(ctx)
		leave()
		dropped := make(chan error, 1)
		go func() { _, err := x.Drop(left, "r", "0"); dropped <- err }()
		synctest.Wait()
		close(gate)
		if err := <-dropped; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		synctest.Wait()
		if all := x.List(); len(all) != 1 {
			t.Errorf("nobody drains it: %+v", all)
		}
		if n, err := x.Drop(ctx, "r", "0"); err != nil || len(x.List()) != 0 {
			t.Errorf("dropped %d: %v", n, err)
		}
		cancel()
		wg.Wait()
	})
}

func positionKeys(t *testing.T, store *pebble.Store) (all []string) {
	t.Helper()
	err := store.Scan([]byte(positionPrefix), func(key, _ []byte) bool {
		all = append(all, string(key))
		return true
	})
	if err != nil {
		t.Error(err)
	}
	return all
}

// An unreadable log is one of which positions cannot be read for a while.
type unreadable struct {
	*pebble.Store
	mu   sync.Mutex
	away bool
}

func (u *unreadable) Get(key []byte) ([]byte, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.away {
		return nil, errors.New("the disk does not answer")
	}
	return u.Store.Get(key)
}

// An outbox whose position cannot be read is shown with the error, and drained as soon
// as it can be. Positions of outboxes that are gone go at the start.
func TestOutboxIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := pebbletest.Start(t)
		store := &unreadable{Store: inner, away: true}
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		boxes, o := NewOutboxes(store), &objects{fail: func(string, int) error { return nil }}
		stream := OutboxStream("r", "0")
		if err := boxes.Ensure(stream); err != nil {
			t.Fatal(err)
		}
		b := store.NewBatch()
		b.Set([]byte(positionPrefix+"$outbox/gone/0/77"), []byte("12345678"))
		d := &Delivery{Kind: "s3", Rule: "r", Bucket: "b", Name: "k"}
		b.Append(stream, 0, streams.Record{Data: d.append(nil)})
		if err := store.Commit(ctx, b); err != nil {
			t.Fatal(err)
		}
		x := NewDrainer(boxes, Options{Objects: o, Republish: nobody{}, Log: slog.New(slog.DiscardHandler),
			Failed: func(*streams.Batch, *Delivery, error) {}})
		wg.Go(func() { _ = x.Run(ctx) })
		time.Sleep(10 * time.Minute)
		all := x.List()
		if len(all) != 1 || !all[0].Unknown || all[0].LastError != "the disk does not answer" || all[0].Down.IsZero() {
			t.Errorf("%+v", all)
		}
		if got := positionKeys(t, inner); len(got) != 0 {
			t.Errorf("positions of outboxes that are gone: %q", got)
		}
		store.mu.Lock()
		store.away = false
		store.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if all := x.List(); len(all) != 1 || all[0].Unknown || all[0].Next != 1 || len(o.puts) != 1 {
			t.Errorf("%+v, %d puts", all, len(o.puts))
		}
		cancel()
		wg.Wait()
	})
}
