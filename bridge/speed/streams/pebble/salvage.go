package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/format"
)

// Verify reads all that the store in dir holds and changes nothing. It calls
// lost for each piece that cannot be read, whose error names the file, and read
// with the bytes of each that can. It returns how far the store has got and how
// many commits, about, are missing before that. The error is that of a store that
// cannot be opened at all. No other process may have it open.
func Verify(dir string, read func(bytes int), lost func(error)) (at streams.Position, missing int, err error) {
	return walkStore(dir, func(_, v []byte) error { read(len(v)); return nil }, lost)
}

// Salvage is Verify that writes what can be read into a new store in the
// directory to. Shards keep their offsets, so positions of readers stay good;
// what is lost is missing between them.
func Salvage(dir, to string, read func(bytes int), lost func(error)) (at streams.Position, missing int, err error) {
	s := &Store{opts: Options{FS: vfs.Default}, dir: to, log: slog.New(slog.DiscardHandler)}
	db, err := s.openDB(s.pebbleOptions())
	if err != nil {
		return at, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	b := db.NewBatch()
	flush := func() error {
		err := b.Commit(pebble.Sync)
		b = db.NewBatch()
		return err
	}
	at, missing, err = walkStore(dir, func(k, v []byte) error {
		read(len(v))
		if err := b.Set(k, v, nil); err != nil {
			return err
		}
		if b.Len() > groupBytes {
			return flush()
		}
		return nil
	}, lost)
	return at, missing, errors.Join(err, flush(), db.Flush())
}

// walkStore calls f for each key of the store in dir that can be read, and lost
// for what cannot.
func walkStore(dir string, f func(k, v []byte) error, lost func(error)) (at streams.Position, missing int, err error) {
	s := &Store{opts: Options{FS: vfs.Default, MemTableSize: 32 << 20}, dir: dir, log: slog.New(slog.DiscardHandler)}
	o := s.pebbleOptions()
	o.ReadOnly = true
	db, err := s.openDB(o)
	if err != nil {
		return at, 0, err
	}
	if err := s.checkFormat(db); errors.Is(err, format.ErrNewer) { // what cannot be read is told by the walk
		return at, 0, errors.Join(err, db.Close())
	}
	w := walker{s: s, db: db, f: f, lost: lost, tally: tally{found: map[uint64]bool{}}}
	err = errors.Join(w.walk(), db.Close())
	return w.tally.at, len(w.tally.missing()) * perSlot, err
}

// A walker reads a database around its damage.
type walker struct {
	s    *Store
	db   *pebble.DB
	f    func(k, v []byte) error
	lost func(error)

	tally tally
}

func (w *walker) walk() error {
	for from := []byte{0}; from != nil; {
		next, err := w.run(from)
		if err != nil {
			return err
		}
		from = next
	}
	return nil
}

// run reads from a key on until something cannot be read, and returns where to
// go on, nil at the end.
func (w *walker) run(from []byte) (next []byte, err error) {
	it, err := w.db.NewIter(&pebble.IterOptions{LowerBound: from})
	if err != nil {
		return nil, err
	}
	defer it.Close() // its error is told
	for ok := it.First(); ok; ok = it.Next() {
		from = append(bytes.Clone(it.Key()), 0)
		v, err := it.ValueAndErr()
		if err != nil {
			w.lost(fmt.Errorf("%s: %w", keyName(it.Key()), w.s.named(err)))
			return from, nil
		}
		if err := w.check(it.Key(), v); err != nil {
			w.lost(fmt.Errorf("%s: %w", keyName(it.Key()), err))
			continue
		}
		if err := w.f(it.Key(), v); err != nil {
			return nil, err
		}
	}
	if err := it.Error(); err != nil {
		w.lost(fmt.Errorf("after %s: %w", keyName(from), w.s.named(err)))
		return w.beyond(from), nil
	}
	return nil, nil
}

// check reads a block as readers do, and takes down a position.
func (w *walker) check(k, v []byte) error {
	switch {
	case k[0] == tagPosition:
		return w.tally.add(v)
	case len(k) == blockKeyLen && k[0] == tagBlock:
		_, _, _, err := appendBlock(nil, v, true, blockFirst(k), 0, math.MaxInt, math.MaxInt)
		return err
	}
	return nil
}

// readable says whether the first key from k on can be found.
func (w *walker) readable(k []byte) bool {
	it, err := w.db.NewIter(&pebble.IterOptions{LowerBound: k})
	if err != nil {
		return false
	}
	it.First()
	return errors.Join(it.Error(), it.Close()) == nil
}

// beyond returns a key behind what cannot be read from k on, the first if only
// one piece is damaged, or nil if nothing follows. It takes keys for numbers and
// halves the interval.
func (w *walker) beyond(k []byte) []byte {
	const width = blockKeyLen + 3
	lo := append(bytes.Clone(k), make([]byte, max(0, width-len(k)))...)[:width]
	hi := bytes.Repeat([]byte{0xff}, width)
	if !w.readable(hi) {
		return nil
	}
	for range 8 * width {
		mid := halfway(lo, hi)
		if bytes.Equal(mid, lo) {
			break
		}
		if w.readable(mid) {
			hi = mid
		} else {
			lo = mid
		}
	}
	return hi
}

// halfway is (a+b)/2 of two numbers of the same width.
func halfway(a, b []byte) []byte {
	sum, carry := make([]byte, len(a)), 0
	for i := len(a) - 1; i >= 0; i-- {
		n := int(a[i]) + int(b[i]) + carry
		sum[i], carry = byte(n), n>>8
	}
	for i := range sum {
		n := carry<<8 | int(sum[i])
		sum[i], carry = byte(n>>1), n&1
	}
	return sum
}

// keyName tells a key to people.
func keyName(k []byte) string {
	switch {
	case len(k) >= blockKeyLen && k[0] == tagBlock:
		return fmt.Sprintf("stream %d shard %d, records from %d on", be32(k[1:]), be32(k[5:]),
			binary.BigEndian.Uint64(k[9:]))
	case len(k) > 0 && k[0] == tagStream:
		return fmt.Sprintf("stream %q", k[1:])
	}
	return fmt.Sprintf("key %.40q", k)
}
