// Package spool keeps readings on the device until the bridge has them: a
// Spool takes readings, writes them as telemetry batches to one bbolt file, and
// hands out the batches in order until each is acknowledged. FORMAT.md has the
// file's layout.
//
// Append only fills memory. Run, or a call of Flush, writes what gathered in
// one transaction, with what was acknowledged since: one commit per FlushEvery
// and none when nothing changed. So kill -9 or a power cut loses at most the
// readings of one interval, and a batch whose acknowledgement was not yet
// written is sent again, under the same sequence number.
//
// A full spool drops its oldest batches, halves their resolution or refuses new
// readings, and counts them. A batch that fails its checksum is dropped, counted and logged. A file
// that bbolt can't use is renamed to NAME.corrupt-TIME, of which two are kept,
// with an Error in the log. A new file takes its place, with every batch of the
// old one that passes its checksum, under the same spool id and numbers: the
// bridge knows which of them it has already. Without room for it the damaged file
// stays where it is, and readings wait in memory until there is room.
//
// The age limit never acts on a clock that is known to be wrong: see MaxAge.
//
// One kind of damage still ends the process, once: when a commit fails (disk
// full, input/output error) and the file turns out damaged while bbolt rolls
// back, in a goroutine that nobody can recover. The next Open sets it aside.
package spool

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// Errors of this package; match with errors.Is.
var (
	// errFull is Append's answer when a reading has no room: the spool is at
	// its limit under RefuseNew, or the memory is full and the file can't be
	// written. The reading is lost and counted; later ones may be taken again.
	errFull = errors.New("spool: full")
	// errClosed follows Close.
	errClosed = errors.New("spool: closed")
	// errLocked means that another process has the file.
	errLocked = errors.New("spool: in use by another process")
)

// Policy says what gives way when the spool is full.
type Policy uint8

// The policies.
const (
	DropOldest Policy = iota // the oldest batches, acknowledged or not
	RefuseNew                // new readings: Append returns errFull
	ThinOut                  // every second reading of the oldest batches that were not sent, again and again
)

// The defaults and bounds of Options.
const (
	defaultFlushEvery = 5 * time.Second
	defaultMaxBytes   = 64 << 20
	minMaxBytes       = telemetry.MaxBytes

	// maxBytes32 bounds the file on 32-bit machines, where bbolt maps the
	// whole of it into 2 or 3 GiB of address space, twice while it grows.
	maxBytes32 = 256 << 20

	// maxBuilders bounds the memory: so many batches of at most
	// telemetry.MaxBytes gather before Append flushes by itself. From half of
	// that on Run flushes early.
	maxBuilders = 8

	// seqSkip is left out after bbolt fell back to the commit before the last,
	// since the bridge may know the sequence numbers of the lost one, and would
	// take other batches under them for copies.
	seqSkip = 1 << 16

	dropLogEvery = 10 * time.Minute
)

// Options of a Spool. The zero value is usable.
type Options struct {
	// FlushEvery is the time between commits: 0 means defaultFlushEvery.
	FlushEvery time.Duration
	// MaxBytes limits the payload bytes in the file: 0 means defaultMaxBytes,
	// the least is minMaxBytes, on 32-bit machines the most is 256 MiB. The
	// file itself gets up to 2.3 times as large (measured, batches of 1 KB), since
	// bbolt writes whole pages, and never shrinks.
	MaxBytes int64
	// MaxAge drops batches flushed longer ago: 0 means no limit. It acts while
	// Clock tells Now, and on batches that were flushed so.
	MaxAge   time.Duration
	Overflow Policy
	// MaxWrites is how many bytes the process may write in a day: where FlushEvery
	// would write more, the time between commits is longer, up to MaxLoss, 0 meaning
	// ten minutes. Written counts them, the process's own, all of them; false: not
	// known now. 0 or no Written: no bound.
	MaxWrites int64
	MaxLoss   time.Duration
	Written   func() (int64, bool)
	// Keep names sensors whose readings ThinOut leaves, each a change or an event; nil:
	// none. It is called in a flush and must not call the Spool.
	Keep  func(sensor string) bool
	Boot  [16]byte     // for the batches' headers
	Clock func() Stamp // called at each flush; nil: times are epoch ms, and age goes by the wall
	Log   *slog.Logger // nil: slog.Default
	// Salvaged is called for each damaged file that was replaced, with the id of
	// the new one, in Open or in a call that found the damage. It must not call
	// the Spool. nil: nobody is told.
	Salvaged func(id [16]byte, s Salvage)
}

// check fills in the defaults and reports all that is wrong.
func (o *Options) check() error {
	var errs []error
	if o.FlushEvery == 0 {
		o.FlushEvery = defaultFlushEvery
	}
	if o.FlushEvery < 0 {
		errs = append(errs, fmt.Errorf("spool.flush_every: %v, want more than 0", o.FlushEvery))
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = defaultMaxBytes
	}
	if o.MaxBytes < minMaxBytes {
		errs = append(errs, fmt.Errorf("spool.max_bytes: %d, want at least %d", o.MaxBytes, minMaxBytes))
	}
	if strconv.IntSize == 32 && o.MaxBytes > maxBytes32 {
		errs = append(errs, fmt.Errorf("spool.max_bytes: %d, want at most %d on a 32-bit machine", o.MaxBytes,
			maxBytes32))
	}
	if o.MaxLoss == 0 {
		o.MaxLoss = defaultMaxLoss
	}
	if o.MaxWrites < 0 || o.MaxLoss < 0 {
		errs = append(errs, fmt.Errorf("spool.max_writes, spool.max_loss: %d, %v, want 0 or more", o.MaxWrites,
			o.MaxLoss))
	}
	if o.MaxAge < 0 {
		errs = append(errs, fmt.Errorf("spool.max_age: %v, want 0 or more", o.MaxAge))
	}
	if o.Overflow > ThinOut {
		errs = append(errs, fmt.Errorf("spool.overflow: policy %d is unknown", o.Overflow))
	}
	if o.Clock == nil {
		o.Clock = wallClock
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return errors.Join(errs...)
}

// A Spool is safe for use by several goroutines.
type Spool struct {
	path string
	o    Options

	// flushing serialises what writes or replaces the file. It is taken before
	// mu, and mu never while a transaction is being opened.
	flushing sync.Mutex
	value    []byte // scratch of flush
	waits    *wait  // the file is damaged and not yet salvaged; db is nil
	dropLog  struct {
		next     time.Time
		readings uint64
	}

	mu      sync.Mutex // guards all below
	db      *bbolt.DB
	st      state
	thin    thinning
	wanted  uint64 // the number up to which batches are to be lent
	waiters int    // calls of Next that wait for a batch
	oldest  int64  // head time of the oldest batch in the file, 0 for none
	gone    map[uint64]departure
	full    []*telemetry.Builder // oldest first, not yet written
	cur     *telemetry.Builder   // takes new readings
	writing int                  // builders that a flush has taken
	pending int                  // readings in all of them
	idle    []*telemetry.Builder
	changed chan struct{} // closed and replaced when batches were written
	every   time.Duration
	budget  budget
	loss    Loss     // but for Every
	failure *failure // of the last flush; nil: it succeeded
	closed  bool
	flushes uint64
	stored  uint64 // readings written since Open
	refused uint64
	corrupt uint64

	setAside atomic.Uint64
	salvaged atomic.Pointer[Salvage] // of the last file set aside

	kick   chan struct{} // Run: flush early
	retime chan struct{} // Run: every has changed
}

// A failure is a time in which the file can't be written.
type failure struct {
	since   time.Time
	err     string
	refused uint64 // Spool.refused when it began
	told    bool   // that the memory is full
}

// A departure is a batch that the next flush deletes.
type departure struct {
	entry
	bad bool // it failed its checksum
}

// Open opens or makes the spool file at path, mode 0600; its directory must
// exist. A damaged file is set aside, and what can be read of it is kept; where
// that has no room, or the disk is read-only, full or fails, the file stays as it
// is, Stats has a Failure, and each flush looks whether that is over. Errors are those of Options, of the file
// system, and errLocked when another process has the file, after a second.
// Open reads all that the file holds; it starts no goroutine.
func Open(path string, o Options) (*Spool, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("spool: %w", err)
	}
	s := &Spool{
		path: path, o: o,
		every:   o.FlushEvery,
		budget:  budget{perDay: o.MaxWrites, written: o.Written},
		loss:    Loss{Interval: o.FlushEvery},
		gone:    make(map[uint64]departure),
		cur:     new(telemetry.Builder),
		changed: make(chan struct{}),
		kick:    make(chan struct{}, 1),
		retime:  make(chan struct{}, 1),
	}
	file, err := s.open(state{}, nil)
	if s.waits != nil || mayHeal(err) {
		s.note(err)
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("spool %s: %w", path, err)
	}
	s.db, s.st, s.thin, s.oldest = file.db, file.st, file.thin, file.oldest
	return s, nil
}

// mayHeal says whether an error is the disk's and may pass: it is read-only (as Linux
// makes a file system that has an error), full or does not answer.
func mayHeal(err error) bool {
	for _, e := range []error{syscall.EROFS, syscall.ENOSPC, syscall.EDQUOT, syscall.EIO} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// opened is a file that is open, and what it says of itself.
type opened struct {
	db     *bbolt.DB
	st     state
	thin   thinning
	oldest int64 // head time of the oldest batch, 0 for none
	older  bool  // it may be the commit before the last
}

// open opens the file, or makes a new one. A damaged one is set aside, and what
// can be read of it is in the new one. known is the state, if the program has it,
// and gone are batches to be deleted. s.db is nil, and flushing is held.
func (s *Spool) open(known state, gone map[uint64]departure) (opened, error) {
	if w := s.waits; w != nil {
		if !w.over(s.path) {
			return opened{}, w.failure()
		}
		return s.renew(w.cause, known, gone)
	}
	if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
		// A salvage was at its last step when the power went, or there is none.
		err := adopt(s.path)
		switch none := errors.Is(err, fs.ErrNotExist); {
		case none && known.id != [16]byte{}: // somebody removed it
			return s.renew(err, known, gone)
		case err != nil && !none:
			return opened{}, err
		}
	}
	o, err := openAt(s.path, known)
	if errors.Is(err, errDamaged) {
		return s.renew(err, known, gone)
	}
	if o.older {
		o.st.seq += seqSkip
		o.thin.lent = o.st.seq
		s.o.Log.Warn("spool: one of two meta pages is damaged; the last commit before the crash may be lost", "path",
			s.path)
	}
	return o, err
}

// openAt opens the file at path and reads its state, or makes a new one with
// the state fresh; without an id it gets one.
func openAt(path string, fresh state) (o opened, err error) {
	o.db, o.older, err = openFile(path, false)
	if err != nil {
		return opened{}, err
	}
	err = guard(func() error {
		o.st, o.thin, o.oldest, err = load(o.db)
		if err != nil || o.st.id != [16]byte{} {
			return err
		}
		o.st, o.thin.lent = fresh, fresh.seq
		if o.st.id == [16]byte{} {
			rand.Read(o.st.id[:]) // never fails (crypto/rand)
		}
		return o.db.Update(func(tx *bbolt.Tx) error {
			if _, err := tx.CreateBucket(bucketBatches); err != nil {
				return err
			}
			b, err := tx.CreateBucket(bucketMeta)
			if err != nil {
				return err
			}
			return b.Put(keyState, o.st.append(nil))
		})
	})
	if err != nil {
		abandon(o.db, err)
		return opened{}, err
	}
	return o, nil
}

// load reads the state; its id is zero in a new file.
func load(db *bbolt.DB) (st state, thin thinning, oldest int64, err error) {
	err = db.View(func(tx *bbolt.Tx) error {
		meta, batches := tx.Bucket(bucketMeta), tx.Bucket(bucketBatches)
		if meta == nil && batches == nil {
			if k, _ := tx.Cursor().First(); k != nil {
				return damaged("no spool: it has a bucket %.20q", k)
			}
			return nil
		}
		if meta == nil || batches == nil {
			return damaged("a bucket is missing")
		}
		if err := st.read(meta.Get(keyState)); err != nil {
			return err
		}
		if k, _ := batches.Cursor().Last(); k != nil && (len(k) != 8 || string(k) > string(batchKey(st.seq))) {
			return damaged("batch %x above the last, %d", k, st.seq)
		}
		thin, oldest = readThinning(meta.Get(keyThin), &st), oldestOf(batches)
		return nil
	})
	return st, thin, oldest, err
}

func oldestOf(batches *bbolt.Bucket) int64 {
	_, v := batches.Cursor().First()
	return headOf(v).at
}

// abandon closes db, but not after a panic inside of bbolt: its locks may be
// held then, so that Close would wait for ever. The mapping and the descriptor,
// which are the renamed file's, stay until the process ends.
func abandon(db *bbolt.DB, cause error) {
	if !errors.Is(cause, errPanic) {
		_ = guard(db.Close)
	}
}

// Append adds one reading to the memory: durable at the next flush. t is in ms of
// the clock that Options.Clock is about. See telemetry.Builder.Add for the arguments
// and ErrInvalid; errFull and errClosed are this package's. It keeps neither slice.
//
// It does not block but for memory that is full before its time, at eight
// batches' worth: then it flushes first. While the file can't be written, full
// memory is errFull at once.
func (s *Spool) Append(sensor string, chs []telemetry.Channel, t int64, vals []telemetry.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	if s.o.Overflow == RefuseNew && s.waitingBytes() >= uint64(s.o.MaxBytes) {
		s.refused++
		return fmt.Errorf("%w: %d bytes wait to be sent", errFull, s.waitingBytes())
	}
	err := s.cur.Add(sensor, chs, t, vals)
	if errors.Is(err, telemetry.ErrTooLarge) && s.cur.Readings() > 0 {
		if err = s.seal(); err != nil {
			return err
		}
		err = s.cur.Add(sensor, chs, t, vals)
	}
	if err != nil {
		s.refused++
		return fmt.Errorf("spool: %w", err)
	}
	if s.pending == 0 {
		s.loss.Since = time.Now()
	}
	s.pending++
	return nil
}

// seal puts the current builder, which is full, in line and takes a new one.
// It is called with mu held and gives it up while it flushes.
func (s *Spool) seal() error {
	if 1+len(s.full)+s.writing >= maxBuilders {
		if s.failure == nil {
			s.mu.Unlock()
			_ = s.Flush() // says itself in the log
			s.mu.Lock()
		}
		switch {
		case s.closed:
			return errClosed
		case s.cur.Readings() == 0:
			return nil // the flush took it
		case s.failure != nil || 1+len(s.full)+s.writing >= maxBuilders:
			s.refused++
			if f := s.failure; f != nil && !f.told {
				f.told = true
				s.o.Log.Error("spool: memory is full too: new readings are refused until the file can be written",
					"path", s.path, "readings", s.pending)
			}
			return fmt.Errorf("%w: %d readings in memory can't be written", errFull, s.pending)
		}
	}
	s.full = append(s.full, s.cur)
	s.cur = s.builder()
	if len(s.full) >= maxBuilders/2 {
		select {
		case s.kick <- struct{}{}:
		default:
		}
	}
	return nil
}

// builder returns an empty builder. mu is held.
func (s *Spool) builder() *telemetry.Builder {
	if n := len(s.idle); n > 0 {
		b := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return b
	}
	return new(telemetry.Builder)
}

// Run flushes every FlushEvery, or later as MaxWrites asks, and earlier when the memory fills, until ctx
// ends. It then flushes once more and returns that flush's error. After other
// errors it tries again at the next interval.
func (s *Spool) Run(ctx context.Context) error {
	timer := time.NewTimer(s.plan())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return s.Flush()
		case <-s.retime:
			timer.Reset(s.plan())
			continue
		case <-timer.C:
		case <-s.kick:
		}
		if err := s.Flush(); errors.Is(err, errClosed) {
			return err
		}
		timer.Reset(s.plan())
	}
}

// SetFlushEvery changes the time between commits, from now on; 0 or less means
// defaultFlushEvery.
func (s *Spool) SetFlushEvery(d time.Duration) {
	if d <= 0 {
		d = defaultFlushEvery
	}
	s.mu.Lock()
	s.every = d
	s.mu.Unlock()
	select {
	case s.retime <- struct{}{}:
	default:
	}
}

// Close flushes, closes the file and wakes Next; later calls do nothing. It
// waits for calls that use the file.
func (s *Spool) Close() error {
	err := s.Flush()
	if errors.Is(err, errClosed) {
		return nil
	}
	return errors.Join(err, s.Abandon())
}

// Abandon is Close without the flush, for simulated power cuts: the file is left as
// the last flush made it, and what is in memory is lost.
func (s *Spool) Abandon() error {
	s.flushing.Lock()
	defer s.flushing.Unlock()
	s.mu.Lock()
	db, closed := s.db, s.closed
	s.closed = true
	if !closed {
		close(s.changed)
	}
	s.mu.Unlock()
	if closed || db == nil {
		return nil
	}
	return guard(db.Close)
}
