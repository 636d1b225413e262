// Package registrytest is the suite that each engine of the registry passes: what
// package table promises, as tests. It also opens registries for tests of others.
package registrytest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/control/registry/table"
)

// Open returns the registry in the file at path, made if it is not there. The
// caller closes it.
func Open(path string) (*registry.Registry, error) {
	e, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		return nil, err
	}
	return registry.New(e, nil)
}

// Run runs the suite. open returns an engine over the place of the test, in which at
// first nothing is; the suite closes it before it asks for the next one.
func Run(t *testing.T, open func(t *testing.T) (reopen func() table.Engine)) {
	for name, test := range map[string]func(t *testing.T, reopen func() table.Engine){
		"Tables":     testTables,
		"Order":      testOrder,
		"Rollback":   testRollback,
		"Views":      testViews,
		"OneByOne":   testOneByOne,
		"Number":     testNumber,
		"Model":      testModel,
		"Registries": testRegistry,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

var one, two = []byte("one"), []byte("two")

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// with makes a table in a new engine.
func with(t *testing.T, e table.Engine) table.Engine {
	t.Helper()
	ok(t, e.Update(func(tx table.Tx) error { return tx.Create(one) }))
	return e
}

func testTables(t *testing.T, reopen func() table.Engine) {
	e := reopen()
	if e.Name() == "" {
		t.Error("the engine has no name")
	}
	ok(t, e.Update(func(tx table.Tx) error {
		if tx.Has(one) || !tx.Writable() {
			t.Error("not empty, or not an update")
		}
		if err := errors.Join(tx.Drop(one), tx.Create(one), tx.Create(one), tx.Create(two)); err != nil {
			return err
		}
		a := tx.Table(one)
		if !tx.Has(one) || a.Get([]byte("k")) != nil || a.Sequence() != 0 {
			t.Error("a new table has something")
		}
		if err := errors.Join(a.Put([]byte("k"), []byte("v")), a.Put([]byte("empty"), nil),
			a.Put([]byte("gone"), one), a.Delete([]byte("gone")),
			a.Delete([]byte("never")), tx.Table(two).Put([]byte("k"), two), a.SetSequence(7),
			tx.Create(one)); err != nil {
			return err
		}
		if n, err := a.NextSequence(); n != 8 || err != nil {
			t.Errorf("sequence %d, %v", n, err)
		}
		return nil
	}))
	for range 2 {
		ok(t, e.View(func(tx table.Tx) error {
			a := tx.Table(one)
			if v := a.Get([]byte("empty")); v == nil || len(v) > 0 {
				t.Errorf("an empty value is %v", v)
			}
			if string(a.Get([]byte("k"))) != "v" || a.Get([]byte("gone")) != nil || a.Sequence() != 8 ||
				string(tx.Table(two).Get([]byte("k"))) != "two" {
				t.Error("not what was put")
			}
			if tx.Writable() || tx.Create([]byte("three")) == nil || a.Put([]byte("x"), nil) == nil ||
				a.Delete([]byte("k")) == nil || a.SetSequence(1) == nil || tx.Drop(one) == nil {
				t.Error("a view writes")
			}
			return nil
		}))
		ok(t, e.Close())
		e = reopen()
	}
	ok(t, e.Update(func(tx table.Tx) error {
		err := errors.Join(tx.Drop(one), tx.Create(one))
		if a := tx.Table(one); a.Get([]byte("k")) != nil || a.Sequence() != 0 {
			t.Error("a table was dropped and has something")
		}
		return err
	}))
	long := bytes.Repeat([]byte{'k'}, 32<<10)
	big := bytes.Repeat([]byte{'v'}, 3<<20)
	ok(t, e.Update(func(tx table.Tx) error { return tx.Table(one).Put(long, big) }))
	ok(t, e.View(func(tx table.Tx) error {
		if !bytes.Equal(tx.Table(one).Get(long), big) {
			t.Error("a long key, or its value")
		}
		return nil
	}))
	ok(t, e.Close())
}

// Keys are in the order of their bytes.
func testOrder(t *testing.T, reopen func() table.Engine) {
	e := with(t, reopen())
	keys := []string{"\x00", "\x00\x01", "a", "a\x00", "a\x00b", "ab", "b", "\xff", "\xff\xff"}
	ok(t, e.Update(func(tx table.Tx) error {
		var errs []error
		for i := range keys {
			k := []byte(keys[(i*4)%len(keys)])
			errs = append(errs, tx.Table(one).Put(k, k))
		}
		return errors.Join(errs...)
	}))
	ok(t, e.View(func(tx table.Tx) error {
		var got []string
		err := table.Each(tx.Table(one), func(k, v []byte) error {
			if !bytes.Equal(k, v) {
				t.Errorf("%q has %q", k, v)
			}
			got = append(got, string(k))
			return nil
		})
		if !slices.Equal(got, keys) {
			t.Errorf("keys %q", got)
		}
		for seek, want := range map[string]string{
			"": "\x00", "a": "a", "a\x00\x00": "a\x00b", "aa": "ab", "c": "\xff", "\xff\xff\xff": "",
		} {
			c := tx.Table(one).Cursor()
			k, v := c.Seek([]byte(seek))
			if string(k) != want || !bytes.Equal(k, v) {
				t.Errorf("seek %q: %q, want %q", seek, k, want)
			}
			next := ""
			if i := slices.Index(keys, want) + 1; want != "" && i < len(keys) {
				next = keys[i]
			}
			if want != "" {
				if k, _ = c.Next(); string(k) != next {
					t.Errorf("after %q: %q, want %q", want, k, next)
				}
			}
		}
		stop := errors.New("stop")
		if err := table.Each(tx.Table(one), func(_, _ []byte) error { return stop }); !errors.Is(err, stop) {
			t.Errorf("each: %v", err)
		}
		return err
	}))
	ok(t, e.Close())
}

// What an update did that fails is not there, whatever it was.
func testRollback(t *testing.T, reopen func() table.Engine) {
	e := with(t, reopen())
	ok(t, e.Update(func(tx table.Tx) error {
		return errors.Join(tx.Table(one).Put(one, one), tx.Table(one).SetSequence(3))
	}))
	no := errors.New("no")
	err := e.Update(func(tx table.Tx) error {
		a := tx.Table(one)
		err := errors.Join(a.Put(one, two), a.Put(two, two), a.SetSequence(9), tx.Create(two))
		if err := errors.Join(err, tx.Table(two).Put(one, one)); err != nil {
			return err
		}
		if string(a.Get(one)) != "two" || a.Sequence() != 9 {
			t.Error("an update does not see what it did")
		}
		return no
	})
	if !errors.Is(err, no) {
		t.Errorf("error %v", err)
	}
	for range 2 {
		ok(t, e.View(func(tx table.Tx) error {
			a := tx.Table(one)
			if string(a.Get(one)) != "one" || a.Get(two) != nil || a.Sequence() != 3 || tx.Has(two) {
				t.Error("something of the update is there")
			}
			return nil
		}))
		ok(t, e.Close())
		e = reopen()
	}
	ok(t, e.Close())
}

// A view sees one state, whatever is updated meanwhile.
func testViews(t *testing.T, reopen func() table.Engine) {
	e := with(t, reopen())
	done := make(chan error, 1)
	const last = "99"
	go func() {
		var errs []error
		for i := range 100 {
			errs = append(errs, e.Update(func(tx table.Tx) error {
				v := fmt.Append(nil, i)
				return errors.Join(tx.Table(one).Put(one, v), tx.Table(one).Put(two, v))
			}))
		}
		done <- errors.Join(errs...)
	}()
	for seen := ""; seen != last; {
		ok(t, e.View(func(tx table.Tx) error {
			a, id := tx.Table(one), tx.ID()
			seen = string(a.Get(one))
			time.Sleep(100 * time.Microsecond)
			if again := string(a.Get(one)); again != seen || string(a.Get(two)) != seen || tx.ID() != id {
				return fmt.Errorf("a view saw %q, then %q", seen, again)
			}
			return nil
		}))
	}
	ok(t, <-done)
	ok(t, e.Close())
}

// Updates run one after the other.
func testOneByOne(t *testing.T, reopen func() table.Engine) {
	e := with(t, reopen())
	const n = 8
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for range n {
				err := e.Update(func(tx table.Tx) error {
					a := tx.Table(one)
					return a.Put(one, append(slices.Clone(a.Get(one)), '.'))
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	ok(t, e.View(func(tx table.Tx) error {
		if got := len(tx.Table(one).Get(one)); got != n*n {
			t.Errorf("%d updates had an effect, of %d", got, n*n)
		}
		return nil
	}))
	ok(t, e.Close())
}

// Updates are numbered, ascending, over restarts too; a view has the number of the
// last that it sees.
func testNumber(t *testing.T, reopen func() table.Engine) {
	e := with(t, reopen())
	var last uint64
	for i := range 6 {
		var id, seen uint64
		ok(t, e.Update(func(tx table.Tx) error {
			id = tx.ID()
			return tx.Table(one).Put(one, fmt.Append(nil, i))
		}))
		if i%3 == 2 {
			ok(t, e.Close())
			e = reopen()
		}
		ok(t, e.View(func(tx table.Tx) error { seen = tx.ID(); return nil }))
		if id <= last || seen != id {
			t.Errorf("update %d after %d, a view sees %d", id, last, seen)
		}
		last = id
	}
	ok(t, e.Close())
}

// A random run does what plain maps do.
func testModel(t *testing.T, reopen func() table.Engine) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	e := with(t, reopen())
	model := map[string]string{}
	undone := errors.New("undone")
	for range 200 {
		next := maps.Clone(model)
		fails := r.IntN(4) == 0
		err := e.Update(func(tx table.Tx) error {
			a := tx.Table(one)
			for range r.IntN(20) {
				k := fmt.Sprint(r.IntN(100))
				var err error
				if r.IntN(3) == 0 {
					delete(next, k)
					err = a.Delete([]byte(k))
				} else {
					next[k] = fmt.Sprint(r.Uint64())
					err = a.Put([]byte(k), []byte(next[k]))
				}
				if err != nil {
					return err
				}
			}
			if fails {
				return undone
			}
			return nil
		})
		if fails != errors.Is(err, undone) || !fails && err != nil {
			t.Fatal(err)
		}
		if !fails {
			model = next
		}
		if r.IntN(20) == 0 {
			ok(t, e.Close())
			e = reopen()
		}
		got := map[string]string{}
		ok(t, e.View(func(tx table.Tx) error {
			return table.Each(tx.Table(one), func(k, v []byte) error { got[string(k)] = string(v); return nil })
		}))
		if !maps.Equal(got, model) {
			t.Fatalf("the table has %v, want %v", got, model)
		}
	}
	ok(t, e.Close())
}

// A registry over the engine keeps its things, tells who watches, and numbers its
// changes.
func testRegistry(t *testing.T, reopen func() table.Engine) {
	open := func() *registry.Registry {
		r, err := registry.New(reopen(), nil)
		ok(t, err)
		return r
	}
	r := open()
	var told []registry.Event
	r.Watch(func(e registry.Event) { told = append(told, e) })
	was := r.Revision()
	ok(t, r.Update(func(tx *registry.Tx) error { return tx.CreateThing(registry.Thing{Name: "pump-1"}) }))
	if len(told) != 1 || told[0] != (registry.Event{Kind: registry.ThingChanged, Name: "pump-1"}) ||
		r.Revision() <= was {
		t.Errorf("told %v, revision from %d to %d", told, was, r.Revision())
	}
	err := r.Update(func(tx *registry.Tx) error { return tx.DeleteThing("pump-2", 0) })
	if !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a thing that never was is deleted: %v", err)
	}
	ok(t, r.Close())
	r = open()
	ok(t, r.View(func(tx *registry.Tx) error {
		th, err := tx.Thing("pump-1")
		if th.Version != 1 {
			t.Errorf("%+v", th)
		}
		return err
	}))
	ok(t, r.Close())
}
