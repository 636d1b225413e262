package pebble

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Create implements streams.Catalog.
func (s *Store) Create(name string, c streams.Config) error {
	if err := c.Check(name); err != nil {
		return err
	}
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.writes.Lock()
	defer s.writes.Unlock()
	if _, err := s.stream(name); err == nil {
		return fmt.Errorf("%w: %q", streams.ErrExists, name)
	}
	id := s.nextID
	c.Attributes = bytes.Clone(c.Attributes)
	info := streamInfo{Info: streams.Info{Name: name, ID: id, Config: c, Created: time.UnixMilli(s.now().UnixMilli())}}
	st := newStream(info, streams.EvenLineage(c.Shards, info.Created))
	doc, err := st.info.doc()
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	err = errors.Join(
		b.Set([]byte{tagNextID}, binary.BigEndian.AppendUint32(nil, id+1), nil),
		b.Set(streamKey(name), doc, nil),
		s.apply(b, pebble.Sync))
	if err != nil {
		return fmt.Errorf("streams: create %s: %w", name, err)
	}
	s.nextID = id + 1
	s.mu.Lock()
	s.streams[name] = st
	s.mu.Unlock()
	return nil
}

// Update implements streams.Catalog.
func (s *Store) Update(name string, retention time.Duration, maxBytes int64) error {
	if retention < 0 || maxBytes < 0 {
		return fmt.Errorf("streams: update %s: negative limit", name)
	}
	return s.update(name, func(c *streams.Config) { c.Retention, c.MaxBytes = retention, maxBytes })
}

// SetAttributes implements streams.Catalog.
func (s *Store) SetAttributes(name string, attributes []byte) error {
	return s.update(name, func(c *streams.Config) { c.Attributes = bytes.Clone(attributes) })
}

func (s *Store) update(name string, change func(*streams.Config)) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.writes.Lock()
	defer s.writes.Unlock()
	st, err := s.stream(name)
	if err != nil {
		return err
	}
	info := st.state()
	change(&info.Config)
	doc, err := info.doc()
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := errors.Join(b.Set(streamKey(name), doc, nil), s.apply(b, pebble.Sync)); err != nil {
		return fmt.Errorf("streams: update %s: %w", name, err)
	}
	st.mu.Lock()
	st.info = info
	st.mu.Unlock()
	st.maxBytes.Store(info.MaxBytes)
	s.look()
	return nil
}

// Delete implements streams.Catalog.
func (s *Store) Delete(name string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	s.writes.Lock()
	defer s.writes.Unlock()
	st, err := s.stream(name)
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	err = b.Delete(streamKey(name), nil)
	for _, tag := range []byte{tagShard, tagGap, tagTrim, tagBlock} {
		lower, upper := streamRange(tag, st.id)
		err = errors.Join(err, b.DeleteRange(lower, upper, nil))
	}
	if err := errors.Join(err, s.apply(b, pebble.Sync)); err != nil {
		return fmt.Errorf("streams: delete %s: %w", name, err)
	}
	s.mu.Lock()
	delete(s.streams, name)
	s.mu.Unlock()
	st.end(s)
	return nil
}

// end wakes all who wait for records of a stream that was deleted.
func (st *stream) end(s *Store) {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.gone = true
	for _, sh := range st.shards {
		sh.remove(s)
	}
}

func (st *stream) state() streamInfo {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.info
}

func (st *stream) describe() streams.Info {
	info := st.state().Info
	info.Open = len(st.lineage.Load().Open())
	return info
}

// all returns the streams by name.
func (s *Store) all() []*stream {
	s.mu.RLock()
	defer s.mu.RUnlock()
	list := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		list = append(list, st)
	}
	slices.SortFunc(list, func(a, b *stream) int { return strings.Compare(a.name, b.name) })
	return list
}

// List implements streams.Catalog.
func (s *Store) List() []streams.Info {
	all := s.all()
	infos := make([]streams.Info, len(all))
	for i, st := range all {
		infos[i] = st.describe()
	}
	return infos
}

// Describe implements streams.Catalog.
func (s *Store) Describe(name string) (streams.Info, error) {
	st, err := s.stream(name)
	if err != nil {
		return streams.Info{}, err
	}
	return st.describe(), nil
}

// Size implements streams.Catalog.
func (s *Store) Size(name string) (streams.Size, error) {
	if err := s.enter(); err != nil {
		return streams.Size{}, err
	}
	defer s.leave()
	st, err := s.stream(name)
	if err != nil {
		return streams.Size{}, err
	}
	var sum streams.Size
	for _, d := range st.lineage.Load().All() {
		sh, err := st.shard(s, d.Index)
		if errors.Is(err, streams.ErrShard) {
			continue // dropped just now
		}
		if err != nil {
			return streams.Size{}, err
		}
		n := sh.size()
		sum.Records += n.Records
		sum.Bytes += n.Bytes
		sum.Ever += n.Ever
	}
	return sum, nil
}
