package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/registrytest"
)

// A book is a log in memory over a registry.
type book struct {
	*Log
	registry *registry.Registry
	all      []Record
	fails    error
}

func newBook(t *testing.T) *book {
	t.Helper()
	r, err := registrytest.Open(filepath.Join(t.TempDir(), "registry.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	b := &book{registry: r}
	b.Log = &Log{Append: func(_ context.Context, all ...[]byte) error {
		if b.fails != nil {
			return b.fails
		}
		for _, text := range all {
			var r Record
			if err := json.Unmarshal(text, &r); err != nil {
				return err
			}
			b.all = append(b.all, r)
		}
		return nil
	}}
	b.Mover = NewMover(r, b.Log, slog.New(slog.DiscardHandler))
	return b
}

// do makes a change of the registry and ends it.
func (b *book) do(t *testing.T, action string, f func(*registry.Tx) error) error {
	c := &Change{Record: Record{Source: SourceAdmin, Action: action}, Asked: json.RawMessage(`{"asked":true}`)}
	return b.End(t.Context(), c, Update(With(t.Context(), c), b.registry, f))
}

// waiting is how many records the registry keeps.
func (b *book) waiting(t *testing.T) (n int) {
	t.Helper()
	if err := b.registry.View(func(tx *registry.Tx) error {
		n = len(tx.Records(0, 1000))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return n
}

// A change has one record, with what was before and after in its own transaction;
// what is refused changes nothing and is recorded; what cannot be recorded is not
// changed, and what the log cannot take waits in the registry.
func TestChange(t *testing.T) {
	b := newBook(t)
	create := func(tx *registry.Tx) error { return tx.CreateThing(registry.Thing{Name: "t"}) }
	if err := errors.Join(b.do(t, "Create", create), b.do(t, "Create", create),
		b.do(t, "Update", func(tx *registry.Tx) error {
			return tx.UpdateThing("t", 0, func(th *registry.Thing) error {
				th.Attributes = map[string]string{"a": "b"}
				return nil
			})
		})); err != nil {
		t.Fatal(err)
	}
	if err := b.do(t, "Delete", func(tx *registry.Tx) error {
		return errors.Join(tx.DeleteThing("t", 0), tx.DeleteThing("none", 0))
	}); !errors.Is(err, registry.ErrNotFound) {
		t.Fatal(err)
	}
	if len(b.all) != 4 {
		t.Fatalf("%+v", b.all)
	}
	for i, want := range []struct{ target, before, after, err string }{
		{"things/t", "", `{"things/t":{`, ""},
		{"", "", `{"asked":true}`, ""}, // it was so already
		{"things/t", `{"things/t":{`, `"a":"b"`, ""},
		{"", "", `{"asked":true}`, "not found"},
	} {
		r := b.all[i]
		if r.Target != want.target || !strings.Contains(string(r.Before), want.before) ||
			!strings.Contains(string(r.After), want.after) || (want.err == "") != (r.Error == "") ||
			(want.before == "") != (r.Before == nil) || !strings.Contains(r.Error, want.err) || r.ID == "" {
			t.Errorf("%d: %+v, before %s, after %s", i, r, r.Before, r.After)
		}
	}
	if err := b.registry.View(func(tx *registry.Tx) error { _, err := tx.Thing("t"); return err }); err != nil {
		t.Errorf("refused, and gone: %v", err)
	}

	b.fails = errors.New("the disk is full")
	if err := b.do(t, "Create", func(tx *registry.Tx) error {
		return tx.CreateThing(registry.Thing{Name: "u"})
	}); err != nil {
		t.Errorf("a change whose record is safe: %v", err)
	}
	if err := b.do(t, "Delete", func(tx *registry.Tx) error { return tx.DeleteThing("none", 0) }); !errors.Is(err,
		b.fails) || !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("%v", err)
	}
	c := &Change{Record: Record{Source: SourceAdmin, Action: "Reload"}}
	if err := b.End(t.Context(), c, nil); !errors.Is(err, b.fails) {
		t.Errorf("done, and not recorded: %v", err)
	}
	b.fails = nil
	if err := b.Mover.Move(t.Context()); err != nil || len(b.all) != 5 || b.all[4].Target != "things/u" {
		t.Errorf("%v %+v", err, b.all)
	}
	if err := b.registry.ForgetRecords(); err != nil || b.waiting(t) != 0 {
		t.Errorf("%v, %d records wait", err, b.waiting(t))
	}
}

// Records that the log has are forgotten with the next change, and no others.
func TestForget(t *testing.T) {
	b := newBook(t)
	make := func(name string) {
		t.Helper()
		if err := b.do(t, "Create", func(tx *registry.Tx) error {
			return tx.CreateThing(registry.Thing{Name: name})
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a", "b", "c"} {
		make(name)
		if n := b.waiting(t); n != 1 {
			t.Errorf("%d records wait after %s", n, name)
		}
	}
	b.fails = errors.New("not now")
	make("d")
	make("e")
	if n := b.waiting(t); n != 2 {
		t.Errorf("%d records wait", n)
	}
	b.fails = nil
	make("f")
	for i, name := range []string{"a", "b", "c", "d", "e", "f"} {
		if len(b.all) != 6 || b.all[i].Target != "things/"+name {
			t.Fatalf("%d: %+v", i, b.all)
		}
	}
}

// What one caller is refused again and again has so many records, and the rest is
// counted; what it changes has all.
func TestRefusedAreBounded(t *testing.T) {
	b := newBook(t)
	b.Bound = NewRefusals(b, slog.New(slog.DiscardHandler))
	const n = 3 * mostEnded
	for i := range n {
		if err := b.do(t, "Delete", func(tx *registry.Tx) error {
			return tx.DeleteThing("none", 0)
		}); !errors.Is(err, registry.ErrNotFound) {
			t.Fatal(err)
		}
		if err := b.do(t, "Create", func(tx *registry.Tx) error {
			return tx.CreateThing(registry.Thing{Name: fmt.Sprint("t", i)})
		}); err != nil {
			t.Fatal(err)
		}
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	_ = b.Bound.Run(over)
	refused, made, left := 0, 0, uint64(0)
	for _, r := range b.all {
		if r.Error == "" {
			made++
			continue
		}
		refused++
		left += r.Left
	}
	if made != n || refused > 2*mostEnded || uint64(refused)+left != n {
		t.Errorf("%d changes of %d, %d records of refusals and %d more", made, n, refused, left)
	}
}
