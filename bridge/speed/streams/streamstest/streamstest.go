// Package streamstest is the suite that each engine of a log passes: what
// streams.Log and streams.Keys promise, as tests. An engine's own package calls
// Run; what is the engine's alone (blocks, tails, damage, speed) stays with its own
// tests.
package streamstest

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// An Engine is a log under test, with the place where it stores things. It is for
// one goroutine.
type Engine interface {
	// Start opens the log and runs it. Called again after Stop or Crash it finds
	// what was there. The suite uses no log after its Stop or Crash but for calls
	// that wait in it meanwhile.
	Start(t testing.TB) streams.Log

	// Stop ends the log in order: whoever waits in it is answered.
	Stop(t testing.TB)

	// Crash ends it as a kill or a power cut does: what is not durable may be lost.
	// Batches under way may be answered or not.
	Crash(t testing.TB)
}

// A Clock is an Engine whose time the suite can move. Without it retention by time
// is not tested.
type Clock interface {
	// Advance moves the time by d, and has retention look.
	Advance(d time.Duration)
}

// A Skipper is an Engine that can have its shards go on behind a gap, as a log does
// that comes from a backup. Without it that is not tested.
type Skipper interface {
	// Skip does so with the log, between a Stop and a Start.
	Skip(t testing.TB)
}

// Run runs the suite. fresh returns an engine that holds nothing; it may register
// its end with t.Cleanup.
func Run(t *testing.T, fresh func(t *testing.T) Engine) {
	for _, c := range []struct {
		name string
		test func(*fixture)
	}{
		{"Create", testCreate},
		{"Settings", testSettings},
		{"Delete", testDelete},
		{"Append", testAppend},
		{"Read", testRead},
		{"Own", testOwn},
		{"Across", testAcross},
		{"Refused", testRefused},
		{"Async", testAsync},
		{"Withdrawn", testWithdrawn},
		{"Ended", testEnded},
		{"Wait", testWait},
		{"WaitEnds", testWaitEnds},
		{"OffsetAt", testOffsetAt},
		{"Trim", testTrim},
		{"Retention", testRetention},
		{"Put", testPut},
		{"Reshard", testReshard},
		{"ReshardRefused", testReshardRefused},
		{"ReshardUnderBatch", testReshardUnderBatch},
		{"Keys", testKeys},
		{"KeysFrom", testKeysFrom},
		{"NoKeys", testNoKeys},
		{"Position", testPosition},
		{"Gap", testGap},
		{"GapAtEnd", testGapAtEnd},
		{"Restart", testRestart},
		{"Crash", testCrash},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fixture{T: t, engine: fresh(t)}
			f.start()
			c.test(f)
			f.engine.Stop(t)
		})
	}
}

// A fixture is a log that runs.
type fixture struct {
	*testing.T
	engine Engine
	running
}

// running is the log, under a name that T has no method of.
type running = streams.Log

func (f *fixture) start() { f.running = f.engine.Start(f) }

func (f *fixture) restart() {
	f.Helper()
	f.engine.Stop(f)
	f.start()
}

// patience is how long the suite waits for what must happen.
const patience = 30 * time.Second

// bounded is a context that ends with patience.
func (f *fixture) bounded() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	f.Cleanup(cancel)
	return ctx
}

// ok ends the test on an error.
func (f *fixture) ok(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

// is ends the test unless err is want.
func (f *fixture) is(err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Fatalf("error %v, want %v", err, want)
	}
}

func (f *fixture) create(name string, shards int) {
	f.Helper()
	f.ok(f.Create(name, streams.Config{Shards: shards}))
}

// commit commits what fill puts into a batch, and returns the batch.
func (f *fixture) commit(fill func(b *streams.Batch)) *streams.Batch {
	f.Helper()
	b := f.NewBatch()
	fill(b)
	f.ok(f.Commit(f.bounded(), b))
	return b
}

// put commits a batch of its own for each text, all to one shard.
func (f *fixture) put(stream string, shard int, texts ...string) (offsets []uint64) {
	f.Helper()
	for _, x := range texts {
		b := f.commit(func(b *streams.Batch) { b.Append(stream, shard, streams.Record{Key: "k", Data: []byte(x)}) })
		offsets = append(offsets, b.Offset(0))
	}
	return offsets
}

// all reads a shard from its oldest record to its tip, and checks that offsets
// grow and stay within the bounds.
func (f *fixture) all(stream string, shard int) (recs []streams.Record) {
	f.Helper()
	oldest, next, err := f.Bounds(stream, shard)
	f.ok(err)
	for at := oldest; ; {
		page, err := f.Read(stream, shard, at, 100, 1<<20)
		f.ok(err)
		if len(page) == 0 {
			return recs
		}
		for _, r := range page {
			if r.Offset < at || r.Offset >= next {
				f.Fatalf("%s/%d: offset %d, read from %d, bounds are %d to %d", stream, shard, r.Offset, at, oldest,
					next)
			}
			at = r.Offset + 1
		}
		recs = append(recs, page...)
	}
}

// holds ends the test unless a shard has exactly these texts.
func (f *fixture) holds(stream string, shard int, want ...string) {
	f.Helper()
	if got := texts(f.all(stream, shard)); fmt.Sprint(got) != fmt.Sprint(want) {
		f.Fatalf("%s/%d holds %q, want %q", stream, shard, got, want)
	}
}

// counts checks Count.
func (f *fixture) counts(stream string, shard int, from, want uint64) {
	f.Helper()
	if n, err := f.Count(stream, shard, from); n != want || err != nil {
		f.Errorf("%s/%d from %d on: %d records, %v; want %d", stream, shard, from, n, err, want)
	}
}

func texts(recs []streams.Record) []string {
	var all []string
	for _, r := range recs {
		all = append(all, string(r.Data))
	}
	return all
}
