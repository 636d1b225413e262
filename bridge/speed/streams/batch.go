package streams

import (
	"fmt"
)

// A Batch collects records and metadata that are committed together: after a
// crash all of it is there, or none. It is for one goroutine at a time, and
// must be left alone from Commit or CommitAsync until that is done.
type Batch struct {
	store *Store // nil in a zero Batch: then Put leaves it to the commit to find shards
	parts []part
	where []place // of each record
	metas []meta
	bytes int
	time  int64
	err   error // the first record that can't be stored

	routes  *lineage // of the stream that Put had last
	routing string
}

// A part is a run of encoded records for one shard, at most maxBlock bytes or
// one record.
type part struct {
	stream string
	shard  int
	buf    []byte
	count  uint32
	last   string // key of the last record
	routed bool   // by Put; hashes has one for each record
	routes *lineage
	hashes []Hash
	sh     *shard // set by the committer
	first  uint64 // offset given to the first record, by the committer
}

type place struct{ part, index uint32 }

type meta struct {
	key, value []byte // key with its tag
	unset      bool
	from       Source // says value and unset when the batch is written; nil: they are known
}

// A Source says what a metadata key holds, nil for nothing. Value is called by
// the committer as it writes the key, so it must neither block nor use the
// store; the key has no tag and may not be kept.
type Source interface{ Value(key []byte) []byte }

// lookBack is how many parts Append searches for one of the same shard. A
// batch over many shards that misses only stores a few more bytes.
const lookBack = 64

// NewBatch returns an empty batch.
func (s *Store) NewBatch() *Batch { return &Batch{store: s} }

// Append adds records to a shard of a stream, which must exist when the batch
// is committed. Record.Offset is ignored. The bytes are copied. A record that
// is too large makes the commit fail with ErrTooLarge.
func (b *Batch) Append(stream string, shard int, rs ...Record) {
	for i := range rs {
		b.add(stream, shard, Hash{}, false, &rs[i])
	}
}

// Put adds records to the shard of a stream that is open for hash key h when
// the batch is committed; Place says afterwards which that was. Else it is as
// Append.
func (b *Batch) Put(stream string, h Hash, rs ...Record) {
	if b.routing != stream || b.routes == nil {
		b.routing, b.routes = stream, nil
		if b.store != nil {
			if st, err := b.store.stream(stream); err == nil {
				b.routes = st.lineage.Load()
			}
		}
	}
	shard := -1 // the commit knows, or fails
	if b.routes != nil {
		shard = b.routes.route(h)
	}
	for i := range rs {
		b.add(stream, shard, h, true, &rs[i])
	}
}

// add encodes r for a shard, which b.routes have for h if it is routed.
func (b *Batch) add(stream string, shard int, h Hash, routed bool, r *Record) {
	if len(r.Key) > MaxKey || len(r.Data) > MaxData {
		if b.err == nil {
			b.err = fmt.Errorf("streams %s: key of %d, data of %d bytes: %w", stream, len(r.Key), len(r.Data), ErrTooLarge)
		}
		return
	}
	var routes *lineage
	if routed {
		routes = b.routes
	}
	i := b.find(stream, shard, routed, routes, len(r.Key)+len(r.Data))
	p := &b.parts[i]
	if routed {
		p.hashes = append(p.hashes, h)
	}
	before := len(p.buf)
	p.buf = appendRecord(p.buf, r, p.count == 0, p.last)
	p.last = r.Key
	b.bytes += len(p.buf) - before
	b.where = append(b.where, place{uint32(i), p.count})
	p.count++
}

// find returns the index of the part that takes size more bytes for the shard.
func (b *Batch) find(stream string, shard int, routed bool, routes *lineage, size int) int {
	for i := len(b.parts) - 1; i >= max(0, len(b.parts)-lookBack); i-- {
		p := &b.parts[i]
		if p.shard == shard && p.stream == stream {
			if len(p.buf)+size <= maxBlock && p.routed == routed && p.routes == routes {
				return i
			}
			break // a later part must follow, to keep the order
		}
	}
	if n := len(b.parts); n < cap(b.parts) {
		b.parts = b.parts[:n+1]
	} else {
		b.parts = append(b.parts, part{})
	}
	p := &b.parts[len(b.parts)-1]
	*p = part{stream: stream, shard: shard, routed: routed, routes: routes, buf: p.buf[:0], hashes: p.hashes[:0]}
	b.bytes += blockKeyLen + headerLen
	return len(b.parts) - 1
}

// Set sets a metadata key. The bytes are copied.
func (b *Batch) Set(key, value []byte) {
	b.metas = append(b.metas, meta{key: metaKey(key), value: append([]byte(nil), value...)})
	b.bytes += 1 + len(key) + len(value)
}

// Unset removes a metadata key.
func (b *Batch) Unset(key []byte) {
	b.metas = append(b.metas, meta{key: metaKey(key), unset: true})
	b.bytes += 1 + len(key)
}

// SetFrom sets a metadata key to what src says when the batch is written, or
// removes it. So, in whatever order batches reach the log that change the key of
// one and the same thing, none puts an older state of it over a newer one. size
// is about the value's, in bytes.
func (b *Batch) SetFrom(key []byte, src Source, size int) {
	b.metas = append(b.metas, meta{key: metaKey(key), from: src})
	b.bytes += 1 + len(key) + size
}

// Bytes is about what the batch will add to the log.
func (b *Batch) Bytes() int { return b.bytes }

// Len is the number of records in the batch.
func (b *Batch) Len() int { return len(b.where) }

// Offset returns the offset given to record i, counted from 0 in the order of
// appending, after the batch was committed.
func (b *Batch) Offset(i int) uint64 {
	w := b.where[i]
	return b.parts[w.part].first + uint64(w.index)
}

// Place returns the stream and shard of record i, counted as for Offset.
func (b *Batch) Place(i int) (stream string, shard int) {
	p := &b.parts[b.where[i].part]
	return p.stream, p.shard
}

// Time returns the epoch ms given to the records whose Time was 0, after the
// batch was committed.
func (b *Batch) Time() int64 { return b.time }

// Reset empties the batch for use again, keeping its memory.
func (b *Batch) Reset() {
	for i := range b.parts {
		b.parts[i].sh, b.parts[i].routes = nil, nil
	}
	b.parts = b.parts[:0]
	b.where = b.where[:0]
	clear(b.metas)
	b.metas = b.metas[:0]
	b.bytes, b.time, b.err = 0, 0, nil
	b.routes, b.routing = nil, ""
}
