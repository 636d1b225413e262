package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }

// inflight knows the metadata keys that are written but not yet synced.
type inflight struct {
	mu     sync.Mutex
	cond   sync.Cond
	keys   map[string]uint64 // the last group that writes it
	failed bool
}

// begin notes that group seq writes the keys; call it before the write.
func (f *inflight) begin(seq uint64, keys []string) {
	if len(keys) == 0 {
		return
	}
	f.mu.Lock()
	for _, k := range keys {
		f.keys[k] = seq
	}
	f.mu.Unlock()
}

// end notes that group seq is synced, or that the store failed.
func (f *inflight) end(seq uint64, keys []string, failed bool) {
	if len(keys) == 0 && !failed {
		return
	}
	f.mu.Lock()
	if failed {
		f.failed = true
	} else {
		for _, k := range keys {
			if f.keys[k] == seq {
				delete(f.keys, k)
			}
		}
	}
	f.mu.Unlock()
	f.cond.Broadcast()
}

// wait waits until key isn't in flight. It says whether it had to, and whether
// what is stored under the key is known to be synced.
func (f *inflight) wait(key []byte) (waited, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for {
		if _, busy := f.keys[string(key)]; !busy {
			return waited, true
		}
		if f.failed {
			return waited, false
		}
		waited = true
		f.cond.Wait()
	}
}

// NewBatch implements streams.Writer.
func (s *Store) NewBatch() *streams.Batch { return streams.NewBatch(s) }

// Get implements streams.Keys.
func (s *Store) Get(key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	k := metaKey(key)
	for {
		v, err := s.getRaw(k)
		if err != nil {
			return nil, fmt.Errorf("streams: get: %w", err)
		}
		// The group was noted before it was written, so if it isn't there now,
		// what we read was synced.
		waited, ok := s.inflight.wait(key)
		if !ok {
			return nil, s.Err()
		}
		if !waited {
			return v, nil
		}
	}
}

// Scan implements streams.Keys.
func (s *Store) Scan(prefix []byte, f func(key, value []byte) bool) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	errStop := errors.New("stop")
	err := s.scanRaw(metaKey(prefix), func(k, v []byte) error {
		if !f(k[1:], v) {
			return errStop
		}
		return nil
	})
	if err != nil && !errors.Is(err, errStop) {
		return fmt.Errorf("streams: scan: %w", err)
	}
	return nil
}

func (s *Store) getRaw(key []byte) ([]byte, error) {
	v, closer, err := s.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, s.named(err)
	}
	out := append([]byte{}, v...)
	return out, closer.Close()
}

func (s *Store) scanRaw(prefix []byte, f func(k, v []byte) error) (err error) {
	it, err := s.db.NewIter(&pebble.IterOptions{LowerBound: prefix, UpperBound: prefixEnd(prefix)})
	if err != nil {
		return err
	}
	defer func() { err = s.named(errors.Join(err, it.Close())) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if err := f(it.Key(), v); err != nil {
			return err
		}
	}
	return it.Error()
}
