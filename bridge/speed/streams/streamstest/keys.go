package streamstest

import (
	"errors"
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// keys returns the keys of an engine that has them.
func (f *fixture) keys() streams.Keys {
	k, ok := f.running.(streams.Keys)
	if !ok {
		f.Skip("the engine has no keys")
	}
	return k
}

func (f *fixture) key(key string) string {
	f.Helper()
	v, err := f.keys().Get([]byte(key))
	f.ok(err)
	if v == nil {
		return "none"
	}
	return "=" + string(v)
}

// Keys change with the records of their batch, and with nothing that is refused.
func testKeys(f *fixture) {
	f.keys()
	f.create("a", 1)
	f.commit(func(b *streams.Batch) {
		k, v := []byte("k/1"), []byte("one")
		b.Set(k, v)
		k[0], v[0] = 'x', 'x' // they are copied
		b.Set([]byte("k/2"), nil)
		b.Set([]byte("k/3"), []byte("first"))
		b.Set([]byte("k/3"), []byte("then"))
		b.Set([]byte("j"), []byte("beside"))
		b.Set([]byte("k0"), []byte("behind"))
		b.Set([]byte("k/4"), []byte("gone"))
		b.Unset([]byte("k/4"))
		b.Unset([]byte("never"))
		b.Append("a", 0, streams.Record{Data: []byte("with")})
	})
	bad := f.NewBatch()
	bad.Set([]byte("k/1"), []byte("lost"))
	bad.Unset([]byte("k/2"))
	bad.Append("none", 0, streams.Record{})
	f.is(f.Commit(f.bounded(), bad), streams.ErrNotFound)
	for range 2 {
		for key, want := range map[string]string{
			"k/1": "=one", "k/2": "=", "k/3": "=then", "k/4": "none", "never": "none", "x/1": "none",
		} {
			if got := f.key(key); got != want {
				f.Errorf("%s %s, want %s", key, got, want)
			}
		}
		var found []string
		f.ok(f.keys().Scan([]byte("k/"), func(k, v []byte) bool {
			found = append(found, fmt.Sprintf("%s=%s", k, v))
			return true
		}))
		if got := fmt.Sprint(found); got != "[k/1=one k/2= k/3=then]" {
			f.Errorf("scanned %s", got)
		}
		n := 0
		f.ok(f.keys().Scan(nil, func(k, v []byte) bool { n++; return n < 2 }))
		if n != 2 {
			f.Errorf("%d keys, want to stop at 2", n)
		}
		f.restart()
	}
	// What Get gave is the caller's.
	v, err := f.keys().Get([]byte("k/1"))
	f.ok(err)
	copy(v, "xxx")
	if got := f.key("k/1"); got != "=one" {
		f.Errorf("k/1 %s", got)
	}
}

// A source says what a key holds when it is written: an older state never comes
// over a newer one, in whatever order batches are committed.
func testKeysFrom(f *fixture) {
	f.keys()
	f.create("a", 1)
	now := source{}
	first, second := f.NewBatch(), f.NewBatch()
	now["k"] = "old"
	first.SetFrom([]byte("k"), now, 3)
	now["k"] = "new"
	second.SetFrom([]byte("k"), now, 3)
	f.ok(f.Commit(f.bounded(), second))
	f.ok(f.Commit(f.bounded(), first))
	if got := f.key("k"); got != "=new" {
		f.Errorf("k %s", got)
	}
	delete(now, "k")
	f.commit(func(b *streams.Batch) { b.SetFrom([]byte("k"), now, 0) })
	if got := f.key("k"); got != "none" {
		f.Errorf("k %s, its source has none", got)
	}
}

// A source holds a value for some keys.
type source map[string]string

func (s source) Value(key []byte) []byte {
	if v, ok := s[string(key)]; ok {
		return append([]byte{}, v...)
	}
	return nil
}

// An engine without keys takes no batch that changes one.
func testNoKeys(f *fixture) {
	if _, ok := f.running.(streams.Keys); ok {
		f.Skip("the engine has keys")
	}
	f.create("a", 1)
	b := f.NewBatch()
	b.Append("a", 0, streams.Record{})
	b.Set([]byte("k"), nil)
	f.is(f.Commit(f.bounded(), b), errors.ErrUnsupported)
	f.holds("a", 0)
}
