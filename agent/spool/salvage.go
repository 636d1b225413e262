package spool

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"go.etcd.io/bbolt"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// renewed is the name's end of the file that a salvage writes. It takes the
// damaged one's place when it is complete, so that a power cut at any time
// loses nothing that could be read.
const renewed = ".renewed"

const (
	salvagePerCommit = 512         // batches that one commit of a salvage writes
	salvageEvery     = time.Minute // between tries that fail, but not for room
)

// A Salvage is what became of a damaged file, in readings.
type Salvage struct {
	Saved uint64
	Lost  uint64
	Known bool // Lost; else what the file held cannot be told
}

// A wait is for a damaged file that could not be salvaged: it stays in its place,
// untouched, and readings gather in memory as while a disk is full.
type wait struct {
	cause error     // what is wrong with the file
	err   error     // of the last try
	free  uint64    // the most bytes that were free when a try found no room
	next  time.Time // of the next try, where it was not for room
}

// over says whether another try may do better. For room it needs more than was
// free before: else a card that stays full would be written over and over.
func (w *wait) over(path string) bool {
	if errors.Is(w.err, syscall.ENOSPC) {
		return free(path) > w.free
	}
	return !time.Now().Before(w.next)
}

// free returns the bytes that are free where path is, 0 when that is unknown.
func free(path string) uint64 {
	var st syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &st); err != nil {
		return 0
	}
	return uint64(st.Bfree) * uint64(st.Bsize)
}

// renew puts a file with what can be read of the damaged one into its place and
// sets that one aside. known is the state, if the program has it, and gone are
// batches that were acknowledged meanwhile. When that fails nothing has changed:
// the damaged file is where it was, and s.waits says when to try again.
func (s *Spool) renew(cause error, known state, gone map[uint64]departure) (o opened, err error) {
	to := s.path + renewed
	found, st, told, err := s.search(known, gone)
	if err == nil {
		o, told, err = fill(s.path, to, found, st, told)
	}
	if err == nil {
		if err = boltfile.SetAside(s.path, cause, s.o.Log); err != nil {
			abandon(o.db, nil)
		}
	}
	if err != nil {
		_ = os.Truncate(to, 0) // there may be none; its room is free though a mapping stays
		_ = os.Remove(to)
		w := &wait{cause: cause, err: err, next: time.Now().Add(salvageEvery), free: free(s.path)}
		if s.waits != nil {
			w.free = max(w.free, s.waits.free)
		}
		s.waits = w
		return opened{}, w.failure()
	}
	s.waits = nil
	s.setAside.Add(1)
	lost := any("unknown")
	if told.Known {
		lost = told.Lost
	}
	s.o.Log.Error("spool: the damaged file is replaced by what could be read of it", "path", s.path,
		"saved_batches", o.st.batches, "saved_readings", told.Saved, "lost_readings", lost)
	s.salvaged.Store(&told)
	if s.o.Salvaged != nil {
		s.o.Salvaged(o.st.id, told)
	}
	if err := adopt(s.path); err != nil { // open will
		abandon(o.db, nil)
		return opened{}, err
	}
	return o, nil
}

func (w *wait) failure() error {
	return fmt.Errorf("the file is damaged (%v) and stays as it is until there is room beside it to save what it holds: %w",
		w.cause, w.err)
}

// adopt puts the file that a salvage wrote into the place of path, which is free.
func adopt(path string) error {
	if err := os.Rename(path+renewed, path); err != nil {
		return err
	}
	return durable.SyncFolder(filepath.Dir(path))
}

// A find is a sound batch somewhere in a damaged file.
type find struct {
	seq     uint64
	at      int64 // where its value is
	n       int   // the value's length
	flushed int64
	live    bool // it is in a page that the file's tree leads to
}

// search looks for sound batches in the damaged file, and for its state where
// known has none. The sequence numbers of st are above all that were given out.
func (s *Spool) search(known state, gone map[uint64]departure) (found []find, st state, told Salvage, err error) {
	f, err := os.Open(s.path)
	if err == nil {
		defer f.Close()
		var info fs.FileInfo
		if info, err = f.Stat(); err == nil {
			found, st = scan(f, info.Size(), scanWindow)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // somebody removed it: all is lost
		return nil, known, told, err
	}
	if known.id != [16]byte{} {
		// What is above was never committed: its readings are in memory.
		st, told.Known = known, true
		found = slices.DeleteFunc(found, func(b find) bool { return b.seq > st.seq })
	} else {
		var last uint64
		if len(found) > 0 {
			last = found[len(found)-1].seq
		}
		told.Known = st.id != [16]byte{} && st.seq >= last
	}
	found = slices.DeleteFunc(current(found, &st), func(b find) bool {
		d, left := gone[b.seq]
		return left && !d.bad
	})
	for _, d := range gone {
		if d.bad {
			st.dropped += d.readings
		} else {
			st.acked += d.readings
		}
	}
	if known.id == [16]byte{} {
		if len(found) > 0 {
			st.seq = max(st.seq, found[len(found)-1].seq)
		}
		if st.seq > 0 { // the file may have lost its last commits
			st.seq += seqSkip
		}
	}
	return found, st, told, nil
}

// current leaves out batches that were deleted: bbolt writes a page that changes
// to another place, so the old one is found too. The batches that the tree leads
// to stay, and of the others as many of the newest as the state says there are:
// deleted are the oldest, since the uplink acknowledges in order. Without a
// state all stay: what the bridge has already it knows by its number.
func current(found []find, st *state) []find {
	if st.id == [16]byte{} {
		return found
	}
	missing := st.batches
	for _, b := range found {
		if b.seq > st.seq {
			missing++
		}
	}
	for _, b := range found {
		if b.live {
			missing -= min(missing, 1)
		}
	}
	var keep []find
	for _, b := range slices.Backward(found) {
		if !b.live && missing == 0 {
			continue
		}
		if !b.live {
			missing--
		}
		keep = append(keep, b)
	}
	slices.Reverse(keep)
	return keep
}

// scanWindow is what scan reads at once.
const scanWindow = 1 << 20

// scan returns the batches of a file whose sum is right, in order, each once,
// and its newest state. It knows them by their own bytes, since nothing else of
// the file can be trusted: a page whose head is torn has whole batches still. It
// reads window bytes at a time, whole pages.
func scan(in io.ReaderAt, size, window int64) (found []find, newest state) {
	live := boltfile.Reach(in, size)
	buf := make([]byte, window+ahead)
	var b begun
	for base := int64(0); base < size; base += window {
		part := buf[:min(window+ahead, size-base)]
		if _, err := in.ReadAt(part, base); err != nil {
			for at := 0; at < len(part); at += pageSize { // a medium with holes
				page := part[at:min(at+pageSize, len(part))]
				if _, err := in.ReadAt(page, base+int64(at)); err != nil {
					clear(page)
				}
			}
		}
		for i := range min(int(window), len(part)) {
			at, c := base+int64(i), part[i]
			if c == 0 { // the first of a number's eight bytes
				if seq, ok := beginsBatch(part[i:]); ok {
					b = begin(part[i:], seq, at)
				}
			}
			if b.at != 0 && b.ends(c, at) {
				if f, ok := b.whole(in, at); ok {
					page := b.at / pageSize
					f.live = page < int64(len(live)) && live[page]
					found, b = append(found, f), begun{}
				}
			}
			if n := i + len(keyState); c == keyState[0] && bytes.HasPrefix(part[i:], keyState) && len(part) >= n+
				stateBytes {
				var st state
				if st.read(part[n:n+stateBytes]) == nil && st.after(&newest) {
					newest = st
				}
			}
		}
	}
	// A commit that a crash cut off may have left other readings under a number
	// that was given out again.
	slices.SortFunc(found, func(a, b find) int {
		switch {
		case a.seq != b.seq:
			return cmp.Compare(a.seq, b.seq)
		case a.live != b.live && a.live:
			return -1
		case a.live != b.live:
			return 1
		}
		return cmp.Compare(b.flushed, a.flushed)
	})
	return slices.CompactFunc(found, func(a, b find) bool { return a.seq == b.seq }), newest
}

// after says whether st was written after o.
func (st *state) after(o *state) bool {
	if st.seq != o.seq {
		return st.seq > o.seq
	}
	return st.acked+st.dropped >= o.acked+o.dropped
}

// fill makes a new file at to, of what was found in the one at from. Without a
// state of that one the batches say which spool they are of.
func fill(from, to string, found []find, st state, told Salvage) (o opened, _ Salvage, err error) {
	var in *os.File
	if len(found) > 0 { // else it need not be there
		if in, err = os.Open(from); err != nil {
			return o, told, err
		}
		defer in.Close()
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return o, told, err
	}
	value := func(b find) ([]byte, error) {
		v := make([]byte, b.n)
		_, err := in.ReadAt(v, b.at)
		return v, err
	}
	if len(found) > 0 && st.id == [16]byte{} {
		v, err := value(found[0])
		if err != nil {
			return o, told, err
		}
		if b, err := telemetry.Decode(v[headBytes:]); err == nil {
			st.id = b.Spool
		}
	}
	held := st.appended - min(st.appended, st.acked+st.dropped)
	st.batches, st.readings, st.bytes = 0, 0, 0
	if o, err = openAt(to, st); err != nil {
		return o, told, err
	}
	defer func() {
		if err != nil {
			abandon(o.db, err)
		}
	}()
	for part := range slices.Chunk(found, salvagePerCommit) {
		err := update(o.db, func(tx *bbolt.Tx) error {
			batches := tx.Bucket(bucketBatches)
			batches.FillPercent = 1
			for _, b := range part {
				v, err := value(b)
				if err != nil {
					return err
				}
				e := headOf(v)
				o.st.batches++
				o.st.readings += e.readings
				o.st.bytes += e.bytes
				if err := batches.Put(batchKey(b.seq), v); err != nil {
					return err
				}
			}
			o.oldest = oldestOf(batches)
			return tx.Bucket(bucketMeta).Put(keyState, o.st.append(nil))
		})
		if err != nil {
			return o, told, fmt.Errorf("write %s: %w", to, err)
		}
	}
	told.Saved = o.st.readings
	told.Lost = held - min(held, told.Saved)
	// The sums of the file keep their meaning: what is lost is dropped.
	o.st.dropped += told.Lost
	o.st.appended = max(o.st.appended, o.st.acked+o.st.dropped+o.st.readings)
	o.st.acked = o.st.appended - o.st.dropped - o.st.readings
	err = update(o.db, func(tx *bbolt.Tx) error { return tx.Bucket(bucketMeta).Put(keyState, o.st.append(nil)) })
	return o, told, err
}
