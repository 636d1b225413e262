package pebble

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// groupBytes bounds what one group commit writes, so that the first in the
// queue doesn't wait for the last of a flood.
const groupBytes = 4 << 20

// keptBatches is how many batches a group may have had, or runs a shard, for the
// lists to be used again: ten times gatherMost.
const keptBatches = 10 * gatherMost

// A group is what is written and synced together.
type group struct {
	seq     uint64
	batches []*pending
	bytes   int64
	db      *pebble.Batch // nil: nothing to write
	touched []touch
	keys    []string         // metadata
	end     streams.Position // of the store after the group
	records int
	began   time.Time
}

// A touch is what a group appends to one shard.
type touch struct {
	sh    *shard
	runs  []*streams.Run
	bytes int
	next  uint64 // offset after the group's last record
	cum   uint64 // of the shard after the group
	tail  []tailBlock
}

// Counters of a Store since it was opened.
type Counters struct {
	Batches uint64 // committed
	Groups  uint64 // syncs they needed
	Records uint64
	Bytes   uint64        // of blocks
	Waited  time.Duration // from write to synced, summed over groups
}

type counters struct {
	batches, groups, records, bytes atomic.Uint64
	waited                          atomic.Int64
}

// Counters returns what the store has committed since it was opened.
func (s *Store) Counters() Counters {
	c := &s.counts
	return Counters{
		Batches: c.batches.Load(), Groups: c.groups.Load(), Records: c.records.Load(),
		Bytes: c.bytes.Load(), Waited: time.Duration(c.waited.Load()),
	}
}

// Commit implements streams.Writer. Being written takes a sync, usually under a
// millisecond.
func (s *Store) Commit(ctx context.Context, b *streams.Batch) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p := &pending{b: b, ch: make(chan error, 1)}
	if err := s.queue.put(ctx, p); err != nil {
		return s.ended(err)
	}
	select {
	case err := <-p.ch:
		return err
	case <-ctx.Done():
		if s.queue.withdraw(p) {
			return ctx.Err()
		}
		return <-p.ch
	}
}

// CommitAsync implements streams.Writer: it blocks while more than Options.QueueBytes
// are queued, and b may wait for Options.Gather.
func (s *Store) CommitAsync(b *streams.Batch, done func(error)) {
	p := pendings.Get().(*pending)
	p.b, p.done = b, done
	if err := s.queue.put(context.Background(), p); err != nil {
		done(s.ended(err))
	}
}

// ended gives the failure of the store as the reason why it was closed.
func (s *Store) ended(err error) error {
	if failure := s.Err(); failure != nil && errors.Is(err, streams.ErrClosed) {
		return failure
	}
	return err
}

// commitLoop writes a group, waits until it is synced and answers for it; the
// next gathers in the queue meanwhile. To write the next one during the sync
// gains nothing: it has to wait for a sync of its own, and misses those who
// are about to be answered.
func (s *Store) commitLoop(ctx context.Context) {
	var seq uint64
	g := &group{}
	for stopping := false; ; {
		if !stopping {
			select {
			case <-s.queue.wake:
			case <-s.queue.timer.C:
			case <-ctx.Done():
				stopping = true
				s.queue.shut()
			case <-s.failed:
				stopping = true
				s.queue.shut()
			}
		}
		// Those who were woken by the last group may be about to queue again.
		runtime.Gosched()
		g.batches = s.queue.take(g.batches, groupBytes)
		if len(g.batches) == 0 {
			if stopping {
				return
			}
			continue
		}
		seq++
		g.seq = seq
		s.write(g)
		s.finish(g)
		g.reset()
	}
}

// reset makes g ready for the next group, and keeps its lists' memory unless they
// were unusually long.
func (g *group) reset() {
	if len(g.batches) > keptBatches {
		*g = group{}
		return
	}
	for i := range g.touched {
		runs := g.touched[i].runs
		if clear(runs); len(runs) > keptBatches {
			runs = nil
		}
		g.touched[i] = touch{runs: runs[:0]}
	}
	clear(g.batches)
	clear(g.keys)
	*g = group{batches: g.batches[:0], touched: g.touched[:0], keys: g.keys[:0]}
}

// finish waits until a group is synced, shows its records to readers and
// answers its writers.
func (s *Store) finish(g *group) {
	err := s.Err()
	if g.db != nil && err == nil {
		if e := g.db.SyncWait(); e != nil {
			s.fail(e)
			err = s.Err()
		}
		// After an error the batch may still be referred to by Pebble.
		if err == nil {
			err = g.db.Close()
		}
	}
	if err == nil {
		for i := range g.touched {
			g.touched[i].sh.advance(s, &g.touched[i])
		}
		if g.db != nil {
			end := g.end
			s.position.Store(&end)
		}
		s.count(g)
	}
	s.inflight.end(g.seq, g.keys, err != nil)
	for _, p := range g.batches {
		p.answer(cmp.Or(p.err, err))
		p.recycle()
	}
	s.queue.release(len(g.batches), g.bytes)
}

func (s *Store) count(g *group) {
	c := &s.counts
	c.batches.Add(uint64(len(g.batches)))
	if g.db == nil {
		return
	}
	if s.opts.Took != nil {
		s.opts.Took(int(g.bytes))
	}
	c.groups.Add(1)
	c.records.Add(uint64(g.records))
	for i := range g.touched {
		c.bytes.Add(uint64(g.touched[i].bytes))
	}
	c.waited.Add(int64(time.Since(g.began)))
}

// write gives offsets to the group's records and writes them, without waiting
// for the sync.
func (s *Store) write(g *group) {
	for _, p := range g.batches {
		g.bytes += p.size
	}
	if s.Err() != nil {
		return // finish tells them
	}
	s.writes.Lock()
	defer s.writes.Unlock()

	size, content := 0, false
	for _, p := range g.batches {
		if p.err = s.resolve(p.b); p.err != nil {
			continue
		}
		size += p.b.Bytes()
		runs := p.b.Runs()
		content = content || len(runs)+len(p.b.KeyChanges()) > 0
		for i := range runs {
			g.touch(&runs[i])
		}
	}
	if !content {
		return
	}
	s.lastTime = max(s.lastTime, s.now().UnixMilli())
	db := s.db.NewBatchWithSize(size + size/8 + 1024)
	for i := range g.touched {
		g.records += g.touched[i].write(db, s.lastTime)
		s.grew(g.touched[i].sh, g.touched[i].bytes)
	}
	s.written.Commits++
	s.written.Records += uint64(g.records)
	g.end = s.written
	err := errors.Join(s.stamp(db), db.Set(positionKey(g.end.Commits), positionValue(g.end), nil))
	for _, p := range g.batches {
		if p.err != nil {
			continue
		}
		p.b.Committed(s.lastTime)
		changes := p.b.KeyChanges()
		for i := range changes {
			g.keys = append(g.keys, string(changes[i].Key))
			err = errors.Join(err, writeKey(db, &changes[i]))
		}
	}
	s.inflight.begin(g.seq, g.keys)
	g.began = time.Now()
	if err == nil {
		err = s.applyNoSyncWait(db)
	}
	if err != nil {
		s.fail(err)
	}
	// Pebble tells a failed write to its log by Fatalf, see pebbleLog; then
	// nobody would end SyncWait.
	if s.Err() == nil {
		g.db = db
	}
}

// applyNoSyncWait is the database's. Where there is no patience any more, Pebble panics
// if it has no room for a new file of its log, and holds its locks from then on: the
// program is about to end, and Close leaves the database alone.
func (s *Store) applyNoSyncWait(db *pebble.Batch) (err error) {
	defer func() {
		if r := recover(); r != nil {
			cause, ok := r.(error)
			if !ok || !full(cause) {
				panic(r)
			}
			s.abandoned.Store(true)
			err = cause
		}
	}()
	return s.db.ApplyNoSyncWait(db, pebble.Sync)
}

// writeKey adds the change of a key to db.
func writeKey(db *pebble.Batch, c *streams.KeyChange) error {
	value, ok := c.Value()
	if !ok {
		op := db.DeleteDeferred(1 + len(c.Key))
		putMetaKey(op.Key, c.Key)
		return op.Finish()
	}
	op := db.SetDeferred(1+len(c.Key), len(value))
	putMetaKey(op.Key, c.Key)
	copy(op.Value, value)
	return op.Finish()
}

// resolve finds the shards of b's runs; writes is held.
func (s *Store) resolve(b *streams.Batch) error {
	if err := b.Err(); err != nil {
		return err
	}
	if err := b.Reroute(s); err != nil {
		return err
	}
	runs := b.Runs()
	for i := range runs {
		r := &runs[i]
		if i > 0 && runs[i-1].Stream == r.Stream && runs[i-1].Shard == r.Shard {
			r.Engine = runs[i-1].Engine
			continue
		}
		sh, err := s.shard(r.Stream, r.Shard)
		if err != nil {
			return err
		}
		if sh.closed {
			return fmt.Errorf("%w: %s shard %d", streams.ErrShardClosed, r.Stream, r.Shard)
		}
		r.Engine = sh
		s.lastTime = max(s.lastTime, sh.lastTime)
	}
	return nil
}

// touch adds a run to what the group appends to its shard.
func (g *group) touch(r *streams.Run) {
	sh := r.Engine.(*shard)
	if sh.group != g.seq {
		sh.group, sh.touched = g.seq, len(g.touched)
		if len(g.touched) < cap(g.touched) { // with the memory for runs that a group before had
			g.touched = g.touched[:len(g.touched)+1]
		} else {
			g.touched = append(g.touched, touch{})
		}
		g.touched[sh.touched].sh = sh
	}
	t := &g.touched[sh.touched]
	t.runs = append(t.runs, r)
	r.First = sh.assigned
	sh.assigned += uint64(r.Count)
}

// write adds the shard's blocks to db and returns the number of records.
func (t *touch) write(db *pebble.Batch, now int64) (records int) {
	sh := t.sh
	followed := sh.followed.Load()
	for i := 0; i < len(t.runs); {
		h := header{time: now, cum: sh.written}
		first, size := t.runs[i].First, headerLen
		j := i
		for ; j < len(t.runs) && (j == i || size+len(t.runs[j].Records) <= maxBlock); j++ {
			size += len(t.runs[j].Records)
			h.count += t.runs[j].Count
		}
		op := db.SetDeferred(blockKeyLen, size)
		putBlockKey(op.Key, sh.stream.id, sh.index, first)
		h.put(op.Value)
		at := headerLen
		for ; i < j; i++ {
			at += copy(op.Value[at:], t.runs[i].Records)
		}
		if followed {
			t.tail = append(t.tail, tailBlock{first, bytes.Clone(op.Value)})
		}
		_ = op.Finish() // fails only for an indexed batch
		sh.written += uint64(size)
		t.bytes += size
		records += int(h.count)
	}
	sh.lastTime = now
	t.next, t.cum = sh.assigned, sh.written
	return records
}

// apply writes a small batch now and syncs it; writes is held.
func (s *Store) apply(b *pebble.Batch, o *pebble.WriteOptions) error {
	if err := s.Err(); err != nil {
		return err
	}
	if err := s.db.Apply(b, o); err != nil {
		s.fail(err)
	}
	if err := s.Err(); err != nil { // see pebbleLog.Fatalf
		return err
	}
	if err := b.Close(); err != nil {
		return fmt.Errorf("streams: %w", err)
	}
	return nil
}
