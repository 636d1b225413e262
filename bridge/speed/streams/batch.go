package streams

import (
	"bytes"
	"fmt"
)

// A Batch collects records and keys that are committed together: after a
// crash all of it is there, or none. It is for one goroutine at a time, and
// must be left alone from Commit or CommitAsync until that is done.
type Batch struct {
	// Awaited says that who made the batch does nothing more until it is durable.
	// CommitAsync then puts it off less for others to come.
	Awaited bool

	router Router // nil in a zero Batch: then Put leaves it to the commit to find shards
	runs   []Run
	where  []place // of each record
	keys   []KeyChange
	bytes  int
	time   int64
	err    error // the first record that can't be stored

	routes  *Lineage // of the stream that Put had last
	routing string
}

type place struct{ run, index uint32 }

// A Source says what a key holds, nil for nothing. Value is called by
// the committer as it writes the key, so it must neither block nor use the
// log; the key may not be kept.
type Source interface{ Value(key []byte) []byte }

// lookBack is how many runs Append searches for one of the same shard. A
// batch over many shards that misses only stores a few more bytes.
const lookBack = 64

// runBytes is about what a run costs beside its records.
const runBytes = 38

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
		if b.router != nil {
			if l, err := b.router.Lineage(stream); err == nil {
				b.routes = l
			}
		}
	}
	shard := -1 // the commit knows, or fails
	if b.routes != nil {
		shard = b.routes.Route(h)
	}
	for i := range rs {
		b.add(stream, shard, h, true, &rs[i])
	}
}

// add encodes r for a shard, which b.routes have for h if it is routed.
func (b *Batch) add(stream string, shard int, h Hash, routed bool, r *Record) {
	if len(r.Key) > MaxKey || len(r.Data) > MaxData {
		if b.err == nil {
			b.err = fmt.Errorf("streams %s: key of %d, data of %d bytes: %w", stream, len(r.Key), len(r.Data),
				ErrTooLarge)
		}
		return
	}
	var routes *Lineage
	if routed {
		routes = b.routes
	}
	i := b.find(stream, shard, routed, routes, len(r.Key)+len(r.Data))
	p := &b.runs[i]
	if routed {
		p.hashes = append(p.hashes, h)
	}
	before := len(p.Records)
	p.Records = AppendRecord(p.Records, r, p.Count == 0, p.last)
	p.last = r.Key
	b.bytes += len(p.Records) - before
	b.where = append(b.where, place{uint32(i), p.Count})
	p.Count++
}

// find returns the index of the run that takes size more bytes for the shard.
func (b *Batch) find(stream string, shard int, routed bool, routes *Lineage, size int) int {
	for i := len(b.runs) - 1; i >= max(0, len(b.runs)-lookBack); i-- {
		p := &b.runs[i]
		if p.Shard == shard && p.Stream == stream {
			if len(p.Records)+size <= MaxRun && p.routed == routed && p.routes == routes {
				return i
			}
			break // a later run must follow, to keep the order
		}
	}
	if n := len(b.runs); n < cap(b.runs) {
		b.runs = b.runs[:n+1]
	} else {
		b.runs = append(b.runs, Run{})
	}
	p := &b.runs[len(b.runs)-1]
	*p = Run{Stream: stream, Shard: shard, routed: routed, routes: routes, Records: p.Records[:0], hashes: p.hashes[:0]}
	b.bytes += runBytes
	return len(b.runs) - 1
}

// Set sets a key. The bytes are copied.
func (b *Batch) Set(key, value []byte) {
	b.keys = append(b.keys, KeyChange{Key: bytes.Clone(key), value: append([]byte(nil), value...)})
	b.bytes += 1 + len(key) + len(value)
}

// Unset removes a key.
func (b *Batch) Unset(key []byte) {
	b.keys = append(b.keys, KeyChange{Key: bytes.Clone(key), unset: true})
	b.bytes += 1 + len(key)
}

// SetFrom sets a key to what src says when the batch is written, or
// removes it. So, in whatever order batches reach the log that change the key of
// one and the same thing, none puts an older state of it over a newer one. size
// is about the value's, in bytes.
func (b *Batch) SetFrom(key []byte, src Source, size int) {
	b.keys = append(b.keys, KeyChange{Key: bytes.Clone(key), from: src})
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
	return b.runs[w.run].First + uint64(w.index)
}

// Place returns the stream and shard of record i, counted as for Offset.
func (b *Batch) Place(i int) (stream string, shard int) {
	p := &b.runs[b.where[i].run]
	return p.Stream, p.Shard
}

// Time returns the epoch ms given to the records whose Time was 0, after the
// batch was committed.
func (b *Batch) Time() int64 { return b.time }

// Reset empties the batch for use again, keeping its memory.
func (b *Batch) Reset() {
	for i := range b.runs {
		b.runs[i].Engine, b.runs[i].routes = nil, nil
	}
	b.runs = b.runs[:0]
	b.where = b.where[:0]
	clear(b.keys)
	b.keys = b.keys[:0]
	b.bytes, b.time, b.err = 0, 0, nil
	b.routes, b.routing, b.Awaited = nil, "", false
}
