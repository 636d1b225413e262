package pebble

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"

	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// importTable is the bytes after which Import begins another table: what a compaction
// later takes at once.
const importTable = 64 << 20

// Import makes a stream called as of the one that src calls name: records with their
// offsets, keys and times, shards, gaps and limits. Its attributes are those that change
// makes of src's, and its id is a new one. The stream is made as a whole or not at all, and
// durably: tables are written to the folder dir, which is empty, and then linked into the
// store by one write. They can be removed afterwards. Call it before Run of both.
func (s *Store) Import(src *Store, name, as, dir string, change func(*streams.Config) error) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := src.enter(); err != nil {
		return err
	}
	defer src.leave()
	if s.ran.Load() || src.ran.Load() {
		return errors.New("streams: Import after Run")
	}
	s.writes.Lock()
	defer s.writes.Unlock()
	if _, err := s.stream(as); err == nil {
		return fmt.Errorf("%w: %q", streams.ErrExists, as)
	}
	st, err := src.stream(name)
	if err != nil {
		return err
	}
	info := st.state()
	info.Name, info.ID = as, s.nextID
	if err := change(&info.Config); err != nil {
		return err
	}
	if err := info.Check(as); err != nil {
		return err
	}
	t := &tables{s: s, dir: dir}
	if err := errors.Join(t.fill(src, st.id, info), t.end()); err != nil {
		return fmt.Errorf("streams: import %s: %w", name, err)
	}
	if err := s.db.Ingest(context.Background(), t.paths); err != nil {
		return fmt.Errorf("streams: import %s: %w", name, err)
	}
	l, err := s.loadLineage(info)
	if err != nil {
		return fmt.Errorf("streams: import %s: %w", name, err)
	}
	s.nextID, s.stamped = info.ID+1, true
	s.mu.Lock()
	s.streams[as] = newStream(info, l)
	s.mu.Unlock()
	return nil
}

// tables are files of a database that are made apart from it. Keys come in order.
type tables struct {
	s     *Store
	dir   string
	w     *sstable.Writer // nil: the next key begins another
	paths []string
}

// fill writes all that makes the stream that src has under the id old.
func (t *tables) fill(src *Store, old uint32, info streamInfo) error {
	doc, err := info.doc()
	if err != nil {
		return err
	}
	err = errors.Join(
		t.set([]byte{tagNextID}, binary.BigEndian.AppendUint32(nil, info.ID+1)),
		t.set(streamKey(info.Name), doc),
		t.set([]byte{tagFormat}, binary.BigEndian.AppendUint32(nil, FormatNumber)))
	for _, tag := range []byte{tagShard, tagGap, tagTrim, tagBlock} {
		if err != nil {
			return err
		}
		if tag == tagBlock { // what overlaps with the rest of the store stays a small table
			err = t.end()
		}
		err = errors.Join(err, src.scanRaw(streamPrefix(tag, old), func(k, v []byte) error {
			to := append(streamPrefix(tag, info.ID), k[1+4:]...)
			return t.set(to, v)
		}))
	}
	return err
}

func (t *tables) set(k, v []byte) error {
	if t.w != nil && t.w.Raw().EstimatedSize() > importTable {
		if err := t.end(); err != nil {
			return err
		}
	}
	if t.w == nil {
		path := t.s.opts.FS.PathJoin(t.dir, fmt.Sprintf("%06d.sst", len(t.paths)))
		f, err := t.s.opts.FS.Create(path, vfs.WriteCategoryUnspecified)
		if err != nil {
			return err
		}
		o := t.s.pebbleOptions()
		o.EnsureDefaults()
		t.paths = append(t.paths, path)
		t.w = sstable.NewWriter(objstorageprovider.NewFileWritable(f), o.MakeWriterOptions(0, t.s.db.TableFormat()))
	}
	return t.w.Set(k, v)
}

// end finishes the table that is being written, and syncs it.
func (t *tables) end() error {
	if t.w == nil {
		return nil
	}
	w := t.w
	t.w = nil
	return w.Close()
}

// Names are the names of the streams of the store in dir, which no other process may
// have open. It changes nothing.
func Names(dir string) (names []string, err error) {
	s := &Store{opts: Options{FS: vfs.Default, MemTableSize: 32 << 20}, dir: dir, log: slog.New(slog.DiscardHandler)}
	o := s.pebbleOptions()
	o.ReadOnly = true
	if s.db, err = s.openDB(o); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.db.Close()) }()
	if err := s.checkFormat(s.db); err != nil {
		return nil, err
	}
	err = s.scanRaw([]byte{tagStream}, func(k, _ []byte) error {
		names = append(names, string(k[1:]))
		return nil
	})
	return names, err
}
