package server

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/eclipse/paho.golang/paho"

	"github.com/tidemill/tidemill/bridge/clock"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/service"
)

// jumpy runs a bridge whose clock is ahead by what is stored, and whose
// retention looks all the time.
func jumpy(t *testing.T, cfg *config.Config, ahead *atomic.Int64) *bridge {
	t.Helper()
	b := &bridge{t: t, log: &lines{}}
	log := slog.New(slog.NewJSONHandler(b.log, nil))
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	var err error
	b.Server, err = open(Options{Config: cfg, Version: "test", Log: log},
		pebble.Options{Log: log, Now: now, RetainEvery: time.Millisecond}, service.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	return b.run(cfg)
}

// held counts what a stream holds.
func (b *bridge) held(stream string) uint64 {
	b.t.Helper()
	size, err := b.store.Size(stream)
	if err != nil {
		b.t.Fatal(err)
	}
	return size.Records
}

// looked waits until retention has looked at everything since now: it tells of
// a stream that is filled over its size after it.
func (b *bridge) looked() {
	b.t.Helper()
	b.eventually("retention looked", func() bool {
		batch := b.store.NewBatch()
		batch.Append("over", 0, streams.Record{Key: "k", Data: make([]byte, 1000)})
		if err := b.store.Commit(b.t.Context(), batch); err != nil {
			b.t.Fatal(err)
		}
		oldest, _, err := b.store.Bounds("over", 0)
		if err != nil {
			b.t.Fatal(err)
		}
		moved := oldest > b.oldest
		b.oldest = oldest
		return moved
	})
}

// A clock that is three days ahead for a while deletes nothing of a stream of 24
// hours, nor of the ingest log; the bridge says so while it lasts.
func TestClockJump(t *testing.T) {
	cfg := configure(t)
	ahead := new(atomic.Int64)
	b := jumpy(t, cfg, ahead)
	if err := b.store.Create("over", streams.Config{Shards: 1, MaxBytes: 2000}); err != nil {
		t.Fatal(err)
	}
	b.must("POST", "/v1/streams", `{"name":"day","shards":1,"retention_ns":86400000000000}`, nil)
	d := b.connect(b.thing("pump-1", all("", "")), "pump-1")
	const n = 50
	for range n {
		d.publish("dt/x", "21.5")
	}
	batch := b.store.NewBatch()
	for range n {
		batch.Append("day", 0, streams.Record{Key: "k", Data: []byte("x")})
	}
	if err := b.store.Commit(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	log := b.held("$ingest")
	all := func(when string) {
		t.Helper()
		b.looked()
		b.looked()
		if day, now := b.held("day"), b.held("$ingest"); day != n || now < log {
			t.Fatalf("%s: %d records of the stream, want %d; %d of the log, want %d\n%s", when, day, n, now, log, b.log)
		}
	}
	all("before")
	ahead.Store(int64(72 * time.Hour))
	all("three days ahead")
	var s clock.Status
	if b.must("GET", "/v1/clock", "", &s); !s.Held || s.Ahead < 71*time.Hour {
		t.Errorf("%+v", s)
	}
	if !strings.Contains(b.log.String(), "clock accept") {
		t.Errorf("nothing was told:\n%s", b.log)
	}
	ahead.Store(0)
	all("back")

	// After a start, too, in whatever way the clock is wrong.
	for _, wrong := range []time.Duration{72 * time.Hour, -20 * 365 * 24 * time.Hour, 30 * 365 * 24 * time.Hour} {
		ahead.Store(int64(wrong))
		stop(t, b)
		b = jumpy(t, cfg, ahead)
		all("started " + wrong.String() + " ahead")
		if b.must("GET", "/v1/clock", "", &s); !s.Held {
			t.Errorf("started %v ahead: %+v", wrong, s)
		}
		if text := b.metrics(); !strings.Contains(text, "tidemill_clock_held 1\n") {
			t.Error("no metric")
		}
		ahead.Store(0)
		stop(t, b)
		b = jumpy(t, cfg, ahead)
		all("started again")
	}

	// Who means it gets it.
	ahead.Store(int64(72 * time.Hour))
	all("ahead again")
	if b.must("POST", "/v1/clock/accept", "", &s); s.Held {
		t.Errorf("accepted: %+v", s)
	}
	b.eventually("the old records go", func() bool { return b.held("day") == 0 })
	stop(t, b)
}

// A message is of use for as long as its publisher said, whatever the clock does
// meanwhile: its end is known by the monotonic clock all the way to subscribers.
func TestExpiryUnderWrongClock(t *testing.T) {
	b := start(t, configure(t))
	c := b.connect5(b.thing("pump-1", all("", "")), "pump-1")
	hour := uint32(3600)
	_, err := c.Publish(t.Context(), &paho.Publish{Topic: "t", Payload: []byte("x"), QoS: 1, Retain: true,
		Properties: &paho.PublishProperties{MessageExpiry: &hour}})
	if err != nil {
		t.Fatal(err)
	}
	m, _, ok := b.gateway.Retained().Get("t")
	if !ok {
		t.Fatal("it has expired")
	}
	if left := time.Until(m.Expires); left > time.Hour || left < 50*time.Minute {
		t.Errorf("%v left, want an hour", left)
	}
	if !strings.Contains(m.Expires.String(), "m=") { // as package time shows a monotonic reading
		t.Errorf("expires at %v by the wall clock", m.Expires)
	}
}

// A directory without a note, of an earlier version, has its newest record.
func TestClockJumpWithoutNote(t *testing.T) {
	cfg := configure(t)
	ahead := new(atomic.Int64)
	b := jumpy(t, cfg, ahead)
	d := b.connect(b.thing("pump-1", all("", "")), "pump-1")
	d.publish("dt/x", "21.5")
	log := b.held("$ingest")
	stop(t, b)
	forget(t, cfg)
	ahead.Store(int64(72 * time.Hour))
	b = jumpy(t, cfg, ahead)
	if err := b.store.Create("over", streams.Config{Shards: 1, MaxBytes: 2000}); err != nil {
		t.Fatal(err)
	}
	b.looked()
	b.looked()
	if now := b.held("$ingest"); now < log {
		t.Errorf("%d records, want %d", now, log)
	}
	stop(t, b)
}

func stop(t *testing.T, b *bridge) {
	t.Helper()
	http.DefaultClient.CloseIdleConnections()
	if err := b.stop(); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// metrics is what the admin socket tells of them.
func (b *bridge) metrics() string {
	b.t.Helper()
	code, text := b.do("GET", "/metrics", "")
	if code != 200 {
		b.t.Fatal(code, text)
	}
	return text
}

// forget takes away what tells of the data directory, as an earlier version
// left it.
func forget(t *testing.T, cfg *config.Config) {
	t.Helper()
	for _, name := range []string{"note", "identity", "log/.identity", "pki/.identity", "objects/.identity"} {
		if err := os.Remove(filepath.Join(cfg.DataDir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"registry.db", "shadow.db"} {
		db, err := bolt.Open(filepath.Join(cfg.DataDir, name), 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("identity")) })
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}
