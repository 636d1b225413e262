package firehose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

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
	d, r := s.streams[name], s.running[name]
	delete(s.streams, name)
	delete(s.running, name)
	s.mu.Unlock()
	if r != nil {
		r.stop()
		r.wg.Wait()
	}
	err := s.store.Delete(StreamName(name))
	if errors.Is(err, streams.ErrNotFound) {
		err = nil
	}
	if err == nil && d != nil {
		err = s.forget(ctx, d.state)
	}
	if err != nil {
		return fmt.Errorf("delivery stream %s: %w", name, err)
	}
	return nil
}

// forget removes the keys of a delivery stream: its position and all below it.
func (s *Service) forget(ctx context.Context, state []byte) error {
	b := s.store.NewBatch()
	err := s.store.Scan(state, func(key, _ []byte) bool {
		if len(key) == len(state) || key[len(state)] == '/' {
			b.Unset(bytes.Clone(key))
		}
		return true
	})
	if err != nil {
		return err
	}
	return s.store.Commit(ctx, b)
}
