package rules

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// faulty is an action with a fault in it.
type faulty struct{}

func (faulty) Never() error                                               { return nil }
func (faulty) Kind() string                                               { return "faulty" }
func (faulty) Resource() string                                           { return "none" }
func (faulty) Outbox() string                                             { return "" }
func (faulty) Stage(context.Context, *streams.Batch, *action.Input) error { panic("a fault") }
func (faulty) Describe(context.Context, *action.Input) ([]action.Parameter, error) {
	panic("a fault")
}

func TestFaultInOneRuleLeavesTheOthers(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	good, err := (&Compiler{Catalog: r}).Parse("good", []byte(toOut("SELECT n FROM 'dt/#'")))
	if err != nil {
		t.Fatal(err)
	}
	bad, err := (&Compiler{Catalog: r}).Parse("bad", []byte(toOut("SELECT n FROM 'dt/#'")))
	if err != nil {
		t.Fatal(err)
	}
	bad.actions = []action.Target{faulty{}}
	if err := r.e.Set([]*Rule{bad, good}); err != nil {
		t.Fatal(err)
	}
	r.run()
	defer r.stop()
	r.publish("dt/a", `{"n":1}`)
	r.publish("dt/a", `{"n":2}`)
	if got := r.records("out", 2); !slices.Equal(got, []string{`{"n":1}`, `{"n":2}`}) {
		t.Errorf("out holds %q", got)
	}
	r.stats("bad", Stats{Matched: 2, Fired: 2, Errors: 2})
}

func TestMessagesThatLeftTheLogAreCounted(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	r.rules(map[string]string{"all": toOut("SELECT n FROM 'dt/#'")})
	r.run()
	defer func() { r.stop() }()
	r.publish("dt/a", `{"n":1}`)
	r.records("out", 1)
	shard := streams.ShardOf("dev-1", 2)
	w := newWorker(r.e, shard, []byte("another"), r.e.opts.Log)
	r.publish("dt/a", `{"n":2}`)
	if err := r.store.Trim(ingest.Stream, shard, 1); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan struct{})
	go func() { defer close(done); _ = w.run(ctx, func() { cancel() }) }()
	<-done
	if n := r.e.Skipped(); n != 1 {
		t.Errorf("skipped %d, want 1", n)
	}
}

func TestLoggedAfterTheClockWasSetBack(t *testing.T) {
	var loggedAt, unlogged atomic.Int64
	loggedAt.Store(time.Now().Add(time.Hour).UnixNano())
	unlogged.Store(4)
	if n, ok := mayLog(&loggedAt, &unlogged); n != 5 || !ok {
		t.Errorf("%d, %v", n, ok)
	}
	if _, ok := mayLog(&loggedAt, &unlogged); ok {
		t.Error("told twice at once")
	}
}
