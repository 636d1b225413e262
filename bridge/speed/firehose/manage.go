package firehose

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A runner is the goroutines of one delivery stream.
type runner struct {
	stop context.CancelFunc
	wg   sync.WaitGroup
}

// Config returns the configuration of a delivery stream that runs; nil: there is
// none.
func (s *Service) Config(name string) *Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := s.streams[name]; d != nil {
		return d.config.Load()
	}
	return nil
}

// Names returns those of all delivery streams, sorted.
func (s *Service) Names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.streams))
}

// Remove ends a delivery stream and deletes what it has buffered and knows. It
// waits for the attempt that is under way, which is given up. One that is not there
// is removed already.
func (s *Service) Remove(ctx context.Context, name string) error {
	s.mu.Lock()
	r := s.running[name]
	delete(s.streams, name)
	delete(s.running, name)
	s.mu.Unlock()
	if r != nil {
		r.stop()
		r.wg.Wait()
	}
	// The stream last: one that is still there is removed again after a crash.
	info, err := s.store.Describe(StreamName(name))
	if err == nil {
		err = s.forget(ctx, stateKey(name, info.ID))
	}
	if err == nil {
		err = s.store.Delete(StreamName(name))
	}
	if err != nil && !errors.Is(err, streams.ErrNotFound) {
		return fmt.Errorf("delivery stream %s: %w", name, err)
	}
	return nil
}

// statePrefix begins the keys of all delivery streams; names have no slash.
const statePrefix = "firehose/"

// stateKey is the key of a delivery stream's position. All else that it keeps is below.
func stateKey(name string, id uint32) []byte {
	return fmt.Appendf(nil, "%s%s/%d", statePrefix, name, id)
}

// forget removes the keys of a delivery stream, and the objects that are kept for it.
func (s *Service) forget(ctx context.Context, state []byte) error {
	return s.forgetAll(ctx, state, func(key []byte) bool {
		return len(key) == len(state) || key[len(state)] == '/'
	})
}

// sweep removes what delivery streams left that are not there any more: a crash may
// come in the middle of a removal, and earlier versions left keys.
func (s *Service) sweep(ctx context.Context) error {
	gone := map[string]bool{}
	return s.forgetAll(ctx, []byte(statePrefix), func(key []byte) bool {
		name, rest, _ := strings.Cut(string(key[len(statePrefix):]), "/")
		id, _, _ := strings.Cut(rest, "/")
		if _, err := strconv.ParseUint(id, 10, 32); err != nil {
			return false // none of a delivery stream
		}
		is, known := gone[name+"/"+id]
		if !known {
			info, err := s.store.Describe(StreamName(name))
			is = errors.Is(err, streams.ErrNotFound) || err == nil && fmt.Sprint(info.ID) != id
			gone[name+"/"+id] = is
		}
		return is
	})
}

// forgetAll removes the keys with a prefix that remove is true of.
func (s *Service) forgetAll(ctx context.Context, prefix []byte, remove func(key []byte) bool) error {
	b := s.store.NewBatch()
	var keys [][]byte
	var files []string
	err := s.store.Scan(prefix, func(key, value []byte) bool {
		if !remove(key) {
			return true
		}
		keys = append(keys, bytes.Clone(key))
		var f Failed
		if bytes.Contains(key, []byte("/failed/")) && json.Unmarshal(value, &f) == nil && f.File != "" {
			files = append(files, f.File)
		}
		return true
	})
	if err != nil || len(keys) == 0 {
		return err
	}
	// The files first: who repeats it finds them by the keys alone.
	for _, f := range files {
		if s.opts.Kept == nil {
			break
		}
		if err := s.opts.Kept.Delete(keptBucket, f, objects.Condition{}); err != nil {
			return fmt.Errorf("file %s that is kept: %w", f, err)
		}
	}
	for _, k := range keys {
		b.Unset(k)
	}
	return s.store.Commit(ctx, b)
}
