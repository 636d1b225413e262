package rules

import (
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Without room rules make nothing, and with room again all that came meanwhile takes
// effect once, in order.
func TestRulesWaitForRoom(t *testing.T) {
	r := newRig(t, vfs.NewMem())
	var full atomic.Bool
	asked := make(chan struct{}, 1)
	r.e.opts.Room = func() error {
		if !full.Load() {
			return nil
		}
		select {
		case asked <- struct{}{}:
		default:
		}
		return errors.New("full")
	}
	full.Store(true)
	r.run()
	defer r.stop()
	r.rules(map[string]string{"all": toOut("SELECT n FROM 'dt/#'")})
	for _, doc := range []string{`{"n":1}`, `{"n":2}`, `{"n":3}`} {
		r.publish("dt/a", doc)
	}
	for range 5 { // workers have looked again and again
		<-asked
	}
	if recs, err := r.store.Read("out", 0, 0, 10, 1<<20); err != nil || len(recs) > 0 {
		t.Errorf("%d outputs without room, %v", len(recs), err)
	}
	full.Store(false)
	want := []string{`{"n":1}`, `{"n":2}`, `{"n":3}`}
	if got := r.records("out", 3); !slices.Equal(got, want) {
		t.Errorf("out holds %q, want %q", got, want)
	}
}
