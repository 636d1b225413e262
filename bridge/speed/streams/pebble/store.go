// Package pebble is the log inside the bridge: a Store is a streams.Log, and has
// Keys, in one Pebble database.
//
// Writers put records into a Batch and Commit it; one committer goroutine, in
// Run, takes every batch that waits, writes them together and syncs once (group
// commit), so the cost of a sync is shared by all who wait for it. FORMAT.md has
// the layout of keys and blocks.
//
// Caveats:
//   - A failed sync is fatal: what the disk then holds is unknown, and asking
//     again may falsely succeed. Every later commit fails with the same error,
//     Ready is false, Run returns it, and the program has to start again. On a disk
//     without room, commits and Open wait until there is some, see patient.
//   - Retention works on whole blocks, a block being what one group commit
//     wrote to one shard.
package pebble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/notice"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Options of a Store. The zero value is good for use.
type Options struct {
	FS           vfs.FS           // nil: the operating system's
	Log          *slog.Logger     // nil: nothing is logged
	Now          func() time.Time // nil: time.Now
	Expiry       func() time.Time // by which retention by time goes, see bridge/clock; nil: Now
	MemTableSize uint64           // bytes; 0: 8 MiB. Up to four may be held while the disk is behind
	CacheSize    int64            // bytes of Pebble's block cache; 0: 32 MiB
	QueueBytes   int64            // batches that wait for the disk, after which commits block; 0: 32 MiB
	Gather       time.Duration    // how long CommitAsync may put off a sync for more to come; 0: not
	RetainEvery  time.Duration    // how often retention looks; 0: 30 s
	Took         func(bytes int)  // is told by the committer what each commit stores, and must be quick; nil: nobody

	// Compactions says when Pebble compacts, for this store alone; nil: Pebble's own, which
	// looks every 100 ms.
	Compactions pebble.CompactionScheduler
}

// A Store holds streams. Its methods may be called from several goroutines.
type Store struct {
	opts Options
	dir  string
	log  *slog.Logger
	now  func() time.Time
	db   *pebble.DB

	// Locks, in the order they may be taken: use, writes, mu, stream.mu,
	// shard.mu. queue.mu and inflight.mu are taken alone.

	use    sync.RWMutex // held for reading while db is used; Close writes closed
	closed bool

	// writes is held while something is written to db; over the sync, too, where
	// streams and shards are made, changed or dropped, but not for a group of batches.
	writes   sync.Mutex
	nextID   uint32
	lastTime int64 // of the last group; block times don't go back
	written  streams.Position
	stamped  bool     // the format's number is written
	missing  []uint64 // commits whose slots are

	position atomic.Pointer[streams.Position] // of what is synced

	mu      sync.RWMutex
	streams map[string]*stream

	queue    queue
	inflight inflight

	ran     atomic.Bool   // Run was called
	running atomic.Bool   // Run is at work
	stopped chan struct{} // closed when Run has ended or Close was called
	stop    sync.Once
	kick    chan struct{} // asks retention to look now

	failed   chan struct{} // closed after failure is set
	failOnce sync.Once
	failure  error

	unsynced atomic.Pointer[string] // folder of a checkpoint that is being made; nil: none

	followed atomic.Int64 // shards whose newest blocks are kept in memory
	counts   counters
	damages  damages
	notices  notice.Log // of background work that fails
	patience patience

	abandoned atomic.Bool // Pebble ended in the middle of something, see applyNoSyncWait
}

// A stream is one stream in memory; its shards are loaded at first use.
type stream struct {
	id   uint32
	name string

	mu     sync.Mutex
	info   streamInfo
	shards map[int]*shard
	gone   bool

	lineage atomic.Pointer[streams.Lineage] // written with writes held

	maxBytes atomic.Int64 // info.MaxBytes
	grown    atomic.Int64 // bytes written since retention last looked
}

// A streamInfo is what is stored of a stream.
type streamInfo struct {
	streams.Info      // Open is not
	resharded    bool // its shards have entries of their own
	nextShard    int  // the next shard's index is at least this
}

func newStream(info streamInfo, l *streams.Lineage) *stream {
	st := &stream{id: info.ID, name: info.Name, info: info, shards: map[int]*shard{}}
	st.lineage.Store(l)
	st.maxBytes.Store(info.MaxBytes)
	return st
}

// Open opens the store in dir, making it when absent. On a disk without room it
// waits for room, saying so in the log. It starts nothing but
// Pebble's own flushes: commits wait until Run runs, while Create, Delete,
// Update and reads work.
func Open(dir string, o Options) (*Store, error) {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Expiry == nil {
		o.Expiry = o.Now
	}
	if o.MemTableSize == 0 {
		// Two are in memory under a steady load, one that fills and one that is used
		// again. With 32 MiB that was 40 MB more, for 2 % fewer bytes written (TestCost)
		// and 6 % more messages in an overload.
		o.MemTableSize = 8 << 20
	}
	if o.CacheSize == 0 {
		o.CacheSize = 32 << 20
	}
	if o.QueueBytes == 0 {
		o.QueueBytes = 32 << 20
	}
	if o.RetainEvery == 0 {
		o.RetainEvery = 30 * time.Second
	}
	s := &Store{
		opts:    o,
		dir:     dir,
		log:     o.Log,
		now:     o.Now,
		streams: map[string]*stream{},
		stopped: make(chan struct{}),
		kick:    make(chan struct{}, 1),
		failed:  make(chan struct{}),
	}
	s.queue.limit = o.QueueBytes
	s.queue.wake = make(chan struct{}, 1)
	s.queue.gather = o.Gather
	s.queue.timer = time.NewTimer(time.Hour)
	s.queue.timer.Stop()
	s.inflight.keys = map[string]uint64{}
	s.inflight.cond.L = &s.inflight.mu
	s.patience = patience{log: o.Log, over: make(chan struct{})}
	db, err := s.openDB(s.pebbleOptions())
	if err != nil {
		return nil, fmt.Errorf("streams: open %s: %w", dir, err)
	}
	s.db = db
	if err = s.checkFormat(db); err == nil {
		err = s.loadStreams()
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("streams: open %s: %w", dir, err), db.Close())
	}
	return s, nil
}

func (s *Store) pebbleOptions() *pebble.Options {
	po := &pebble.Options{
		FS:                 patient{s.opts.FS, &s.patience},
		FormatMajorVersion: pebble.FormatNewest,
		MemTableSize:       s.opts.MemTableSize,
		CacheSize:          s.opts.CacheSize,
		// A log is written in bursts: rather more files wait for compaction
		// than writers wait for it. Pebble's defaults (2 and 12) suit many
		// point reads, of which we have few.
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       64,
		Logger:                      pebbleLog{s},
		EventListener: &pebble.EventListener{
			BackgroundError: s.background,
			DataCorruption:  s.damaged,
			WriteStallBegin: func(i pebble.WriteStallBeginInfo) {
				s.log.Warn("writes wait for the disk", "reason", i.Reason)
			},
		},
	}
	// Values in files of their own are not written again by most compactions:
	// for each byte of records 1.9 bytes are written in all, of which 1.03 are
	// the log's, instead of 2.9 (TestCost, 5.2 GB over 16 shards, as the kernel
	// counts them).
	po.Experimental.CompactionScheduler = s.opts.Compactions
	po.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: 256, MaxBlobReferenceDepth: 1000, RewriteMinimumAge: time.Minute,
			TargetGarbageRatio: 0.5,
		}
	}
	return po
}

// repeatAfter is how long Pebble's background work waits where it failed: on a full
// disk it is tried again thousands of times in a second.
const repeatAfter = 20 * time.Millisecond

// background is told of Pebble's failed flushes and compactions, which it
// repeats by itself. Commits go on as long as memory has room, and then wait.
func (s *Store) background(err error) {
	// Pebble tries again at once. It holds a lock of its own meanwhile, which
	// only those need who wait for this work anyway, and now and then others.
	time.Sleep(repeatAfter)
	s.notices.Happened("background", func(n uint64) {
		s.log.Error("the log cannot tidy up its disk, will retry", "err", err, "count", n)
	})
}

// Close implements streams.Runner. It is an error while Run runs.
func (s *Store) Close() error {
	if s.running.Load() {
		return errors.New("streams: Close while Run is running")
	}
	s.end()
	s.use.Lock()
	defer s.use.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.patience.end()
	if s.abandoned.Load() {
		return s.Err()
	}
	if err := s.db.Close(); err != nil {
		return fmt.Errorf("streams: close: %w", err)
	}
	return nil
}

// enter holds the store open; the caller must call leave if it returns nil.
func (s *Store) enter() error {
	s.use.RLock()
	if s.closed {
		s.use.RUnlock()
		return streams.ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.use.RUnlock() }

// Expiry implements streams.Trimmer.
func (s *Store) Expiry() time.Time { return s.opts.Expiry() }

// Ready implements streams.Runner.
func (s *Store) Ready() bool { return s.running.Load() && s.Err() == nil }

// Err implements streams.Runner.
func (s *Store) Err() error {
	select {
	case <-s.failed:
		return s.failure
	default:
		return nil
	}
}

// fail makes the store refuse all further writes.
func (s *Store) fail(err error) {
	s.failOnce.Do(func() {
		s.failure = fmt.Errorf("streams: the disk failed, nothing more is stored: %w", err)
		close(s.failed)
		s.log.Error("the log's disk failed; nothing more is stored until a restart", "err", err)
	})
}

// end stops the queue; all who wait for room or for records are told.
func (s *Store) end() {
	s.stop.Do(func() { close(s.stopped) })
	for _, p := range s.queue.end() {
		p.answer(s.ended(streams.ErrClosed))
	}
}

// Run implements streams.Runner. It can be called once.
func (s *Store) Run(ctx context.Context) error {
	if !s.ran.CompareAndSwap(false, true) {
		return errors.New("streams: Run was called before")
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.running.Store(true)
	defer s.running.Store(false)

	var wg sync.WaitGroup
	defer context.AfterFunc(ctx, func() { time.AfterFunc(lastPatience, s.patience.end) })()
	wg.Go(func() { s.commitLoop(ctx) })
	wg.Go(func() { s.retainLoop(ctx) })
	wg.Wait()
	s.end()
	return s.Err()
}

// streamDoc is a stream's entry in the database.
type streamDoc struct {
	ID         uint32 `json:"id"`
	Created    int64  `json:"created_ms"`
	Shards     int    `json:"shards"`
	Retention  int64  `json:"retention_ms"`
	MaxBytes   int64  `json:"max_bytes"`
	Resharded  bool   `json:"resharded,omitempty"`
	NextShard  int    `json:"next_shard,omitempty"`
	Attributes []byte `json:"attributes,omitempty"`
}

func (i streamInfo) doc() ([]byte, error) {
	return json.Marshal(streamDoc{
		ID: i.ID, Created: i.Created.UnixMilli(), Shards: i.Shards,
		Retention: i.Retention.Milliseconds(), MaxBytes: i.MaxBytes, Resharded: i.resharded, NextShard: i.nextShard,
		Attributes: i.Attributes,
	})
}

func (s *Store) loadStreams() error {
	if err := s.loadPosition(); err != nil {
		return err
	}
	s.nextID = 1
	v, err := s.getRaw([]byte{tagNextID})
	if err != nil {
		return err
	}
	if v != nil {
		if len(v) != 4 {
			return fmt.Errorf("%w: next id", streams.ErrCorrupt)
		}
		s.nextID = be32(v)
	}
	return s.scanRaw([]byte{tagStream}, func(k, v []byte) error {
		var d streamDoc
		if err := json.Unmarshal(v, &d); err != nil {
			return fmt.Errorf("stream %q: %w", k[1:], err)
		}
		name := string(k[1:])
		info := streamInfo{resharded: d.Resharded, nextShard: d.NextShard, Info: streams.Info{
			Name: name, ID: d.ID, Created: time.UnixMilli(d.Created),
			Config: streams.Config{
				Shards: d.Shards, Retention: time.Duration(d.Retention) * time.Millisecond, MaxBytes: d.MaxBytes,
				Attributes: d.Attributes,
			},
		}}
		l, err := s.loadLineage(info)
		if err != nil {
			return fmt.Errorf("stream %q: %w", name, err)
		}
		s.streams[name] = newStream(info, l)
		return nil
	})
}

var _ interface {
	streams.Log
	streams.Keys
	streams.Runner
} = (*Store)(nil)
