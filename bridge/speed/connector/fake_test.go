package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A stream in memory, to which records are put and whose shards are split and
// merged. It is a Source.
type fakeStream struct {
	mu     sync.Mutex
	shards []*fakeShard
	next   int // sequence number; it grows by a digit under way
	page   int // records of a page; 0: all
	broken error
}

type fakeShard struct {
	Shard
	open    bool
	records []Record
	trimmed bool
}

func newFakeStream(shards int) *fakeStream {
	f := &fakeStream{next: 90}
	for _, r := range streams.Even(shards) {
		f.add(r)
	}
	return f
}

func (f *fakeStream) add(r streams.Range, parents ...string) {
	f.shards = append(f.shards, &fakeShard{Shard: Shard{ID: fmt.Sprintf("shardId-%012d", len(f.shards)),
		Parents: parents, Range: r}, open: true})
}

func (f *fakeStream) put(key string, data []byte) { f.putAt(streams.HashOf(key), key, data) }

func (f *fakeStream) putAt(h streams.Hash, key string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.shards {
		if s.open && s.Range.Contains(h) {
			f.next++
			s.records = append(s.records, Record{strconv.Itoa(f.next), key, time.Now(), data})
			return
		}
	}
	panic("no shard")
}

// putPacked puts a container for the shard of hash h.
func (f *fakeStream) putPacked(h streams.Hash, recs []kpl.Record) { f.putAt(h, "a", kpl.Pack(recs)) }

func (f *fakeStream) open() []*fakeShard {
	var all []*fakeShard
	for _, s := range f.shards {
		if s.open {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b *fakeShard) int { return a.Range.Start.Compare(b.Range.Start) })
	return all
}

func (f *fakeStream) split(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.open()[i]
	mid := streams.Hash{Hi: s.Range.Start.Hi/2 + s.Range.End.Hi/2}
	if mid.Compare(s.Range.Start) <= 0 || mid.Compare(s.Range.End) >= 0 {
		return
	}
	s.open = false
	f.add(streams.Range{Start: s.Range.Start, End: streams.Hash{Hi: mid.Hi - 1, Lo: 1<<64 - 1}}, s.ID)
	f.add(streams.Range{Start: mid, End: s.Range.End}, s.ID)
}

func (f *fakeStream) merge(i int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.open()
	a, b := all[i], all[i+1]
	a.open, b.open = false, false
	f.add(streams.Range{Start: a.Range.Start, End: b.Range.End}, a.ID, b.ID)
}

func (f *fakeStream) Name() string { return "in" }

func (f *fakeStream) Shards(context.Context) ([]Shard, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []Shard
	for _, s := range f.shards {
		if !s.trimmed {
			all = append(all, s.Shard)
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all, f.broken
}

func (f *fakeStream) Read(shard string, from Position) Reader {
	return &fakeReader{f: f, shard: shard, at: from}
}

type fakeReader struct {
	f     *fakeStream
	shard string
	at    Position
	next  int
	begun bool
}

func (r *fakeReader) Next(ctx context.Context) (Page, error) {
	for {
		if ctx.Err() != nil {
			return Page{}, context.Cause(ctx)
		}
		p, err, tell := r.try()
		if tell || err != nil {
			return p, err
		}
		if err := sleep(ctx, 100*time.Millisecond); err != nil {
			return Page{}, err
		}
	}
}

func (r *fakeReader) try() (p Page, err error, tell bool) {
	r.f.mu.Lock()
	defer r.f.mu.Unlock()
	if r.f.broken != nil {
		return p, r.f.broken, true
	}
	i := slices.IndexFunc(r.f.shards, func(s *fakeShard) bool { return s.ID == r.shard })
	s := r.f.shards[i]
	if s.trimmed {
		return p, errGone, true
	}
	first := !r.begun
	if first {
		r.begun = true
		switch {
		case r.at.isNumber():
			for r.next < len(s.records) && s.records[r.next].position().compare(r.at.whole()) < 0 {
				r.next++
			}
		case r.at.Sequence == AtTimestamp:
			for r.next < len(s.records) && s.records[r.next].Time.Before(r.at.Time) {
				r.next++
			}
		case r.at.Sequence != TrimHorizon:
			return p, errors.New("no such position: " + r.at.Sequence), true
		}
	}
	end := min(len(s.records), r.next+cmp.Or(r.f.page, len(s.records)))
	p.Records = slices.Clone(s.records[r.next:end])
	r.next = end
	if end < len(s.records) {
		p.Behind = time.Since(s.records[end].Time) + 1
	}
	p.End = !s.open && end == len(s.records)
	return p, nil, first || p.End || len(p.Records) > 0
}

// objects is an emitter that writes each batch under its name.
type objects struct {
	mu     sync.Mutex
	named  map[string][]Item
	order  []Item // first writes
	writes int
	fail   func(b *Batch) ([]Failure, error)
	bad    string // what went wrong
}

func (o *objects) Emit(_ context.Context, b *Batch) ([]Failure, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	var failed []Failure
	if o.fail != nil {
		var err error
		if failed, err = o.fail(b); err != nil {
			return nil, err
		}
	}
	refused := map[int]bool{}
	for _, f := range failed {
		refused[f.Index] = true
	}
	name := b.Shard + "/" + b.First + "-" + b.Last
	if o.named == nil {
		o.named = map[string][]Item{}
	}
	was, there := o.named[name]
	if len(failed) == 0 && there && !sameItems(was, b.Items) {
		o.bad = fmt.Sprintf("%s was written with %d items and then with %d others", name, len(was), len(b.Items))
	}
	o.writes++
	for i, it := range b.Items {
		if !refused[i] && !there {
			o.order = append(o.order, it)
		}
	}
	if !there {
		o.named[name] = slices.Clone(b.Items)
	}
	return failed, nil
}

func sameItems(a, b []Item) bool {
	return slices.EqualFunc(a, b, func(x, y Item) bool {
		return x.Sequence == y.Sequence && x.Sub == y.Sub && string(x.Data) == string(y.Data)
	})
}

func (o *objects) Close() error { return nil }

func (o *objects) data() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for _, it := range o.order {
		all = append(all, string(it.Data))
	}
	return all
}

func (o *objects) written() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.writes
}

func (o *objects) names() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var all []string
	for n := range sorted(o.named) {
		all = append(all, n)
	}
	return all
}
