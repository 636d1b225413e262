package hold

import (
	"errors"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

func openLog(t *testing.T) *pebble.Store {
	t.Helper()
	return pebbletest.Start(t)
}

func TestHold(t *testing.T) {
	log, ctx := openLog(t), t.Context()
	for _, name := range []string{"$outbox/hot/0", "$firehose/f", "$lambda", "user", "$ingest"} {
		if err := log.Create(name, streams.Config{Shards: 1}); err != nil {
			t.Fatal(err)
		}
	}
	session := "gw/q/id\x00lifelife\x00\x00\x00\x00\x00\x00\x00\x07"
	b := log.NewBatch()
	b.Append("$outbox/hot/0", 0, streams.Record{Data: []byte("x")})
	b.Set([]byte(session), []byte("message"))
	if err := log.Commit(ctx, b); err != nil {
		t.Fatal(err)
	}
	if err := All(ctx, log, "b1", time.Now()); err != nil {
		t.Fatal(err)
	}
	all, err := List(log)
	if err != nil {
		t.Fatal(err)
	}
	waiting := map[string]uint64{}
	for _, h := range all {
		if h.Backup != "b1" || h.Since.IsZero() {
			t.Errorf("%+v", h)
		}
		waiting[h.Name] = h.Waiting
	}
	want := map[string]uint64{"outbox/hot/0": 1, "firehose/f": 0, Functions: 0, Connectors: 0, Sessions: 1}
	for name, n := range want {
		if got, ok := waiting[name]; !ok || got != n || len(waiting) != len(want) {
			t.Fatalf("held: %v, want %v", waiting, want)
		}
	}
	if v, err := log.Get([]byte(session)); v != nil || err != nil {
		t.Errorf("the session has %q, %v", v, err)
	}

	done, held := make(chan error, 1), make(chan bool)
	go func() { done <- Wait(ctx, log, "outbox/hot/0", func() { close(held) }) }()
	<-held
	if err := Release(ctx, log, "outbox/hot/0"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if err := Release(ctx, log, "outbox/hot/0"); !errors.Is(err, ErrNotHeld) {
		t.Errorf("released twice: %v", err)
	}
	if err := Release(ctx, log, Sessions); err != nil {
		t.Fatal(err)
	}
	behind := []byte("gw/q/id\x00lifelife\x80\x00\x00\x00\x00\x00\x00\x07")
	if v, err := log.Get(behind); string(v) != "message" || err != nil {
		t.Errorf("the session has %q, %v", v, err)
	}
	if err := Wait(ctx, log, "firehose/other", nil); err != nil {
		t.Errorf("what is not held waits: %v", err)
	}
}
