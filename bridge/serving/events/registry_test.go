package events

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
)

// What was published when the bridge stops is waited for and forgotten, so that a
// clean restart repeats nothing.
func TestRegistryStops(t *testing.T) {
	r, err := registrytest.Open(filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	const n = pageSize + 1
	err = r.Update(func(tx *registry.Tx) error {
		if err := tx.SetEventConfig(map[registry.EventType]bool{registry.ThingEvent: true}); err != nil {
			return err
		}
		for i := range n {
			if err := tx.CreateThing(registry.Thing{Name: fmt.Sprint("t", i)}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	published := make(chan func(error), n)
	e := NewRegistry(r, "1", "r", func(_ string, _ []byte, done func(error)) { published <- done },
		slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	var waiting []func(error)
	for range pageSize {
		waiting = append(waiting, <-published)
	}
	stop()
	for _, done := range waiting {
		done(nil)
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	var left []registry.Change
	if err := r.View(func(tx *registry.Tx) (err error) { left, err = tx.StoredChanges(n); return err }); err != nil {
		t.Fatal(err)
	}
	if len(left) != n-pageSize || len(published) != 0 {
		t.Errorf("%d changes are left, of %d that were not published; %d more published", len(left), n-pageSize,
			len(published))
	}
}

// Messages that could not be made durable, or published before a crash, come
// again with the same id.
func TestRegistryTellsAgain(t *testing.T) {
	errSick := errors.New("the disk is sick")
	r, err := registrytest.Open(filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	err = r.Update(func(tx *registry.Tx) error {
		return errors.Join(tx.SetEventConfig(map[registry.EventType]bool{registry.ThingEvent: true}),
			tx.CreateThing(registry.Thing{Name: "a"}), tx.CreateThing(registry.Thing{Name: "b"}))
	})
	if err != nil {
		t.Fatal(err)
	}
	var ids [2][]string
	for i, answer := range []error{errSick, nil} {
		e := NewRegistry(r, "1", "r", func(_ string, text []byte, done func(error)) {
			var m struct{ EventID string }
			if err := json.Unmarshal(text, &m); err != nil {
				t.Error(err)
			}
			ids[i] = append(ids[i], m.EventID)
			done(answer)
		}, slog.New(slog.DiscardHandler))
		if n, err := e.publishOldest(t.Context()); !errors.Is(err, answer) || answer == nil && n != 2 {
			t.Errorf("%d, %v", n, err)
		}
		if n, err := e.publishOldest(t.Context()); answer == nil && (n != 0 || err != nil) {
			t.Errorf("told again: %d, %v", n, err)
		}
	}
	if len(ids[1]) != 2 || ids[0][0] != ids[1][0] || ids[0][1] != ids[1][1] || ids[0][0] == ids[0][1] {
		t.Error(ids)
	}
}
