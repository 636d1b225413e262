package streamstest

import (
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func testCreate(f *fixture) {
	c := streams.Config{Shards: 3, Retention: time.Hour, MaxBytes: 1 << 30, Attributes: []byte("mine")}
	f.ok(f.Create("b", c))
	f.is(f.Create("b", c), streams.ErrExists)
	f.create("a", 1)
	f.create("~!", 1)
	for _, name := range []string{"", "a b", "ä", strings.Repeat("x", streams.MaxName+1)} {
		if f.Create(name, streams.Config{Shards: 1}) == nil {
			f.Errorf("a stream has the name %.20q", name)
		}
	}
	f.create(strings.Repeat("x", streams.MaxName), 1)
	for _, c := range []streams.Config{
		{}, {Shards: -1}, {Shards: streams.MaxShards + 1}, {Shards: 1, Retention: -1}, {Shards: 1, MaxBytes: -1},
	} {
		if f.Create("bad", c) == nil {
			f.Errorf("created with %+v", c)
		}
	}
	var names []string
	for _, d := range f.List() {
		names = append(names, d.Name[:1])
	}
	if got := strings.Join(names, ""); got != "abx~" {
		f.Errorf("streams by name: %s", got)
	}
	d, err := f.Describe("b")
	f.ok(err)
	if d.Name != "b" || d.Shards != 3 || d.Open != 3 || d.Retention != time.Hour || d.MaxBytes != 1<<30 ||
		string(d.Attributes) != "mine" || d.ID == 0 {
		f.Errorf("described as %+v", d)
	}
	if age := time.Since(d.Created); age.Abs() > 24*time.Hour || d.Created.Nanosecond()%int(time.Millisecond) != 0 {
		f.Errorf("created %v", d.Created)
	}
	_, err = f.Describe("none")
	f.is(err, streams.ErrNotFound)
	l, err := f.Lineage("b")
	f.ok(err)
	f.ok(l.Check())
	for i, s := range l.All() {
		want := streams.Even(3)[i]
		if s.Index != i || s.Range != want || !s.Open() || len(s.Parents) > 0 || !s.Created.Equal(d.Created) {
			f.Errorf("shard %d is %+v", i, s)
		}
	}
	_, err = f.Lineage("none")
	f.is(err, streams.ErrNotFound)
}

func testSettings(f *fixture) {
	f.create("a", 1)
	f.ok(f.Update("a", 2*time.Hour, 1<<20))
	f.ok(f.SetAttributes("a", []byte("x")))
	for range 2 {
		d, err := f.Describe("a")
		f.ok(err)
		if d.Retention != 2*time.Hour || d.MaxBytes != 1<<20 || string(d.Attributes) != "x" {
			f.Errorf("described as %+v", d)
		}
		f.restart()
	}
	if f.Update("a", -1, 0) == nil || f.Update("a", 0, -1) == nil {
		f.Error("a limit is negative")
	}
	f.is(f.Update("none", 0, 0), streams.ErrNotFound)
	f.is(f.SetAttributes("none", nil), streams.ErrNotFound)
}

// A stream that is made again is another one, which holds nothing of the first.
func testDelete(f *fixture) {
	f.create("a", 2)
	f.create("b", 1)
	f.put("a", 1, "old")
	f.put("b", 0, "kept")
	was, err := f.Describe("a")
	f.ok(err)
	f.ok(f.Delete("a"))
	f.is(f.Delete("a"), streams.ErrNotFound)
	_, err = f.Read("a", 1, 0, 0, 0)
	f.is(err, streams.ErrNotFound)
	_, _, err = f.Bounds("a", 1)
	f.is(err, streams.ErrNotFound)
	_, err = f.Size("a")
	f.is(err, streams.ErrNotFound)
	b := f.NewBatch()
	b.Append("a", 1, streams.Record{})
	f.is(f.Commit(f.bounded(), b), streams.ErrNotFound)
	f.create("a", 2)
	now, err := f.Describe("a")
	f.ok(err)
	if now.ID == was.ID {
		f.Errorf("both have the id %d", now.ID)
	}
	for range 2 {
		f.holds("a", 1)
		f.holds("b", 0, "kept")
		f.restart()
	}
	if at := f.put("a", 1, "new"); at[0] != 0 {
		f.Errorf("the first offset is %d", at[0])
	}
}
