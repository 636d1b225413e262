package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/tidemill/tidemill/shadow/format"
)

const (
	// pageSize is bbolt's page in our files: 4 KiB on every machine, also
	// where the kernel's is 16 KiB (Raspberry Pi 5), since each commit writes
	// two or three whole pages.
	pageSize = 4096

	lockTimeout = time.Second

	formatNumber = 1
	stateBytes   = 1 + 16 + 7*8 + 4
	headBytes    = 8 + 4 + 4
)

var (
	bucketMeta    = []byte("meta")
	bucketBatches = []byte("batches")
	keyState      = []byte("state")

	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// state is what meta/state holds: the file's name and its sums.
type state struct {
	id       [16]byte
	seq      uint64 // of the last batch written
	appended uint64 // readings written
	acked    uint64 // readings acknowledged and deleted
	dropped  uint64 // readings deleted for want of room, for age or damage
	batches  uint64 // in the file
	readings uint64 // in them
	bytes    uint64 // of their payloads
}

func (st *state) append(b []byte) []byte {
	start := len(b)
	b = append(append(b, formatNumber), st.id[:]...)
	for _, v := range []uint64{st.seq, st.appended, st.acked, st.dropped, st.batches, st.readings, st.bytes} {
		b = binary.BigEndian.AppendUint64(b, v)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b[start:], castagnoli))
}

func (st *state) read(b []byte) error {
	n := len(b) - 4
	if n < 1 || crc32.Checksum(b[:n], castagnoli) != binary.BigEndian.Uint32(b[n:]) {
		return damaged("state of %d bytes", len(b))
	}
	if err := format.Check(uint64(b[0]), formatNumber); err != nil {
		return err
	}
	if b[0] != formatNumber || len(b) != stateBytes {
		return damaged("state of %d bytes and format %d", len(b), b[0])
	}
	copy(st.id[:], b[1:])
	for i, v := range []*uint64{&st.seq, &st.appended, &st.acked, &st.dropped, &st.batches, &st.readings, &st.bytes} {
		*v = binary.BigEndian.Uint64(b[17+8*i:])
	}
	return nil
}

// remove takes a batch off the sums. They saturate: a damaged head may lie.
func (st *state) remove(readings, bytes uint64) {
	st.batches -= min(st.batches, 1)
	st.readings -= min(st.readings, readings)
	st.bytes -= min(st.bytes, bytes)
}

func batchKey(seq uint64) []byte { return binary.BigEndian.AppendUint64(nil, seq) }

// sealBatch fills in the head of value, the payload being there already.
func sealBatch(value []byte, seq uint64, at int64, readings int) {
	binary.BigEndian.PutUint64(value, uint64(at))
	binary.BigEndian.PutUint32(value[8:], uint32(readings))
	binary.BigEndian.PutUint32(value[12:], batchSum(value, seq))
}

func batchSum(value []byte, seq uint64) uint32 {
	sum := crc32.Update(0, castagnoli, batchKey(seq))
	sum = crc32.Update(sum, castagnoli, value[:12])
	return crc32.Update(sum, castagnoli, value[headBytes:])
}

// An entry is what the head of a stored batch says.
type entry struct {
	at       int64 // when flushed, epoch ms; 0 when the clock was not to be trusted
	readings uint64
	bytes    uint64 // of the payload
}

// headOf reads the head and does not check the sum.
func headOf(value []byte) entry {
	if len(value) < headBytes {
		return entry{}
	}
	return entry{
		at:       int64(binary.BigEndian.Uint64(value)),
		readings: uint64(binary.BigEndian.Uint32(value[8:])),
		bytes:    uint64(len(value) - headBytes),
	}
}

// openBatch checks a stored batch against its sum and key.
func openBatch(key, value []byte) (seq uint64, payload []byte, ok bool) {
	if len(key) != 8 {
		return 0, nil, false
	}
	seq = binary.BigEndian.Uint64(key)
	if len(value) < headBytes || batchSum(value, seq) != binary.BigEndian.Uint32(value[12:]) {
		return seq, nil, false
	}
	return seq, value[headBytes:], true
}

// guard runs fn, which uses the mapped file, and turns a panic and a fault
// (the medium fails, or the file was truncated under us) into errDamaged.
func guard(fn func() error) (err error) {
	old := debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(old)
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %v", errPanic, p)
		}
	}()
	return fn()
}

// update is db.Update without its rollback after a panic: that would look for
// the free pages in the file that has just shown to be damaged, in a goroutine
// of bbolt's whose panic nobody can recover. The db is to be abandoned then.
func update(db *bbolt.DB, fn func(*bbolt.Tx) error) error {
	return guard(func() error {
		tx, err := db.Begin(true)
		if err != nil {
			return err
		}
		err = fn(tx)
		switch {
		case err == nil:
			return tx.Commit() // rolls back by itself
		case errors.Is(err, errDamaged):
			return fmt.Errorf("%w: %w", errPanic, err)
		}
		return errors.Join(err, tx.Rollback())
	})
}

// openFile opens path as a spool, new or old. errDamaged means that the file
// is to be set aside; all other errors are about the machine, not the file.
func openFile(path string, readOnly bool) (db *bbolt.DB, lastLost bool, err error) {
	if lastLost, err = checkFile(path, readOnly); err != nil {
		return nil, false, err
	}
	err = guard(func() error {
		db, err = bbolt.Open(path, 0o600, &bbolt.Options{
			Timeout:  lockTimeout,
			ReadOnly: readOnly,
			PageSize: pageSize,
			// A stored free list is a page more in each commit, and 128 KiB
			// more after an outage has filled and drained 64 MiB. The price is
			// one more walk over the pages in use at open.
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
			NoStatistics:   true,
		})
		return err
	})
	var number syscall.Errno
	var pathErr *fs.PathError
	switch {
	case err == nil:
		db.AllocSize = 1 << 20 // grow by so much, not by 16 MiB
		return db, lastLost, nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, false, fmt.Errorf("%w: %s", errLocked, path)
	case errors.Is(err, errDamaged), errors.As(err, &number), errors.As(err, &pathErr):
		return nil, false, err
	}
	return nil, false, damaged("%v", err)
}

// checkFile runs check on path while it holds the lock that bbolt uses, so as
// not to judge a file that another process is writing.
func checkFile(path string, readOnly bool) (lastLost bool, err error) {
	flag, how := os.O_RDWR, syscall.LOCK_EX
	if readOnly {
		flag, how = os.O_RDONLY, syscall.LOCK_SH
	}
	f, err := os.OpenFile(path, flag, 0)
	if errors.Is(err, fs.ErrNotExist) && !readOnly {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	for start := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		if err = syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB); err == nil {
			break
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return false, fmt.Errorf("lock %s: %w", path, err)
		}
		if time.Since(start) >= lockTimeout {
			return false, fmt.Errorf("%w: %s", errLocked, path)
		}
	}
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return false, err
	}
	if !readOnly && info.Mode().Perm() != 0o600 {
		if err := f.Chmod(0o600); err != nil {
			return false, err
		}
	}
	return check(f, info.Size())
}
