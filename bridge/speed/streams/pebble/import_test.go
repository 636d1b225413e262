package pebble

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// open opens a store that does not run, and closes it at the end of the test.
func open(t *testing.T, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// A content is all that readers see of a stream.
type content struct {
	Shards  []streams.Shard
	Records [][]streams.Record
	Next    []uint64
	Size    streams.Size
}

func contentOf(t *testing.T, s *Store, stream string) (c content) {
	t.Helper()
	var err error
	if c.Shards, err = streams.Shards(s, stream); err != nil {
		t.Fatal(err)
	}
	for _, sh := range c.Shards {
		recs, err := s.Read(stream, sh.Index, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, next, err := s.Bounds(stream, sh.Index)
		if err != nil {
			t.Fatal(err)
		}
		c.Records, c.Next = append(c.Records, recs), append(c.Next, next)
	}
	if c.Size, err = s.Size(stream); err != nil {
		t.Fatal(err)
	}
	return c
}

// A stream that is imported is what it was in the other store, to the last record, after a
// restart too; what it has had before it has behind the gap, and other streams stay.
func TestImport(t *testing.T) {
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	s, stop := start(t, from, Options{})
	create(t, s, "even", streams.Config{Shards: 3, Retention: time.Hour, MaxBytes: 1 << 40, Attributes: []byte("x")})
	create(t, s, "split", streams.Config{Shards: 1})
	for i := range 300 {
		commit(t, s, func(b *streams.Batch) {
			b.Append("even", i%3, streams.Record{Key: strconv.Itoa(i), Time: int64(1000 + i), Data: []byte("old")})
			b.Put("split", streams.HashOf(strconv.Itoa(i)), rec(strconv.Itoa(i), strings.Repeat("y", 1000)))
		})
		if i == 100 {
			half := streams.Even(2)
			if _, err := s.Reshard("split", streams.Change{Parents: []int{0}, Ranges: half}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := s.Trim("even", 1, 20); err != nil {
		t.Fatal(err)
	}
	stop()
	src := open(t, from)
	if err := src.SkipAhead(); err != nil {
		t.Fatal(err)
	}
	o, stop := start(t, to, Options{})
	create(t, o, "other", streams.Config{Shards: 1})
	commit(t, o, func(b *streams.Batch) { b.Append("other", 0, rec("k", "v")) })
	stop()

	s = open(t, to)
	at, was := s.Position(), contentOf(t, s, "other")
	keep := func(*streams.Config) error { return nil }
	for _, name := range []string{"even", "split"} {
		tables := filepath.Join(dir, name)
		if err := os.Mkdir(tables, 0o700); err != nil {
			t.Fatal(err)
		}
		err := s.Import(src, name, "new-"+name, tables, func(c *streams.Config) error {
			c.Attributes = append(c.Attributes, '!')
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Import(src, "even", "other", dir, keep); !errors.Is(err, streams.ErrExists) {
		t.Errorf("over a stream that is there: %v", err)
	}
	if err := s.Import(src, "none", "none", dir, keep); !errors.Is(err, streams.ErrNotFound) {
		t.Errorf("of a stream that is not there: %v", err)
	}
	check := func(s *Store) {
		t.Helper()
		for _, name := range []string{"even", "split"} {
			want, got := contentOf(t, src, name), contentOf(t, s, "new-"+name)
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s differs: shards %v and %v, next %v and %v, size %+v and %+v", name, got.Shards,
					want.Shards, got.Next, want.Next, got.Size, want.Size)
			}
			w, _ := src.Describe(name)
			g, err := s.Describe("new-" + name)
			if err != nil || string(g.Attributes) != string(w.Attributes)+"!" || g.Retention != w.Retention ||
				g.MaxBytes != w.MaxBytes || !g.Created.Equal(w.Created) {
				t.Errorf("%+v, want %+v; %v", g, w, err)
			}
		}
		if got := contentOf(t, s, "other"); !reflect.DeepEqual(got, was) || s.Position() != at {
			t.Errorf("what was there changed: %+v, %+v; at %+v, %+v", got, was, s.Position(), at)
		}
	}
	check(s)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s, stop = start(t, to, Options{})
	defer stop()
	check(s)
	commit(t, s, func(b *streams.Batch) { b.Append("new-even", 0, rec("k", "new")) })
	recs, err := s.Read("new-even", 0, 100, 0, 0)
	if err != nil || len(recs) != 1 || recs[0].Offset < gapRecords {
		t.Errorf("behind the gap: %+v, %v", recs, err)
	}
	create(t, s, "later", streams.Config{Shards: 1})
	ids := map[uint32]string{}
	for _, i := range s.List() {
		if ids[i.ID] != "" {
			t.Errorf("%s and %s have the id %d", i.Name, ids[i.ID], i.ID)
		}
		ids[i.ID] = i.Name
	}
}
