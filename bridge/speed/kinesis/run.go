package kinesis

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

const (
	scaleEvery = 10 * time.Second // how often on-demand streams are looked at
	retryAfter = time.Second      // a deletion that failed
)

// Run does the background work until ctx ends: it ends deletions, and splits
// hot shards of on-demand streams.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(scaleEvery)
	defer tick.Stop()
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-due.C:
			due.Reset(s.settle())
		case <-s.wake:
			due.Reset(s.settle())
		case <-tick.C:
			s.scale()
		case <-ctx.Done():
			return nil
		}
	}
}

// settle removes the streams that were seen as DELETING for long enough, and
// returns when to look again.
func (s *Service) settle() time.Duration {
	next := time.Duration(math.MaxInt64)
	s.controls.Range(func(_, v any) bool {
		ctl := v.(*control)
		if !ctl.doc.Load().Deleting {
			return true
		}
		if wait := time.Duration(ctl.until.Load() - s.now().UnixNano()); wait > 0 {
			next = min(next, wait)
			return true
		}
		if _, err := s.look(ctl.name); err != nil && !errors.Is(err, streams.ErrNotFound) {
			s.log.Error("a deleted stream could not be removed, will retry", "stream", ctl.name, "err", err)
			next = min(next, retryAfter)
		}
		return true
	})
	return next
}
