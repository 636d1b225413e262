package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
)

// A part is what a stage runs: until its context ends, or something fails.
type part struct {
	name string
	run  func(context.Context) error
}

// A stage is a set of parts that run and stop together.
type stage struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex // guards errs
	errs []error
}

// startStage starts the parts. When one ends by itself, failed is told why; it has room
// for one.
func startStage(log *slog.Logger, failed chan<- error, parts ...part) *stage {
	ctx, cancel := context.WithCancel(context.Background())
	st := &stage{cancel: cancel}
	for _, p := range parts {
		st.wg.Go(func() {
			err := p.run(ctx)
			switch {
			case ctx.Err() != nil && (err == nil || errors.Is(err, ctx.Err())):
				return
			case err == nil:
				err = errors.New("ended by itself")
			}
			err = fmt.Errorf("%s: %w", p.name, err)
			log.Error("a part of the bridge failed", "err", err)
			st.mu.Lock()
			defer st.mu.Unlock()
			st.errs = append(st.errs, err)
			select {
			case failed <- err:
			default:
			}
		})
	}
	return st
}

// stop ends the parts, waits for them and returns what failed.
func (st *stage) stop() error {
	st.cancel()
	st.wg.Wait()
	st.mu.Lock()
	defer st.mu.Unlock()
	return errors.Join(st.errs...)
}
