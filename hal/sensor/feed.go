package sensor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/tidemill/tidemill/hal"
)

// feedQueue is how many readings wait for Next at most: some minutes of a broker's
// twenty devices, 100 KB.
const feedQueue = 256

// lostEach is after how many lost readings the log says it again.
const lostEach = 1000

// The pauses between two starts of a source that ends, and how long it must have
// lasted to be taken for well.
const (
	sourceMin  = time.Second
	sourceMax  = time.Minute
	sourceWell = time.Minute
)

// A feed makes a hal.Pusher of a source that speaks by itself. Its one goroutine runs
// the source from start to Close and starts it again when it ends.
type feed struct {
	name     string
	channels []hal.Channel // as Read gives them; nil: automatic
	cancel   context.CancelFunc
	ended    chan struct{} // closed when the goroutine has returned
	wake     chan struct{} // something below changed

	mu     sync.Mutex // guards all below
	queue  []hal.Push
	count  int64  // readings taken in all
	lost   uint64 // of them, pushed out of the queue
	up     bool   // the source runs
	err    error  // why it does not
	closed bool
}

// countChannel is what Read gives of a feed whose channels are only known by each
// reading.
var countChannel = []hal.Channel{{Name: "readings", Kind: hal.Int}}

// start runs source, which calls up once it is ready, puts readings and returns what
// ended it, at ctx's end too. start returns when it is up, or its first error.
func (f *feed) start(ctx context.Context, source func(ctx context.Context) error) error {
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	f.cancel, f.ended, f.wake = cancel, make(chan struct{}), make(chan struct{}, 1)
	go func() {
		defer close(f.ended)
		f.supervise(own, source)
	}()
	for {
		f.mu.Lock()
		up, err := f.up, f.err
		f.mu.Unlock()
		if !up && err == nil && ctx.Err() == nil {
			select {
			case <-f.wake:
			case <-ctx.Done():
			}
			continue
		}
		if up {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("%w: %w", hal.ErrNoDevice, ctx.Err())
		}
		_ = f.Close() // err says more
		return err
	}
}

// supervise runs source again and again, with growing pauses, until ctx ends.
func (f *feed) supervise(ctx context.Context, source func(ctx context.Context) error) {
	pause := backoff.NewExponentialBackOff(backoff.WithInitialInterval(sourceMin), backoff.WithMaxInterval(sourceMax),
		backoff.WithMultiplier(2), backoff.WithRandomizationFactor(0.2), backoff.WithMaxElapsedTime(0))
	for {
		began := time.Now()
		err := shielded(func() error { return source(ctx) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = fmt.Errorf("%w: it ended", hal.ErrNoDevice)
		}
		if time.Since(began) >= sourceWell {
			pause.Reset()
		}
		wait := pause.NextBackOff()
		f.set(false, fmt.Errorf("%w; tried again in %v", err, wait.Round(100*time.Millisecond)))
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// ready says that the source runs.
func (f *feed) ready() { f.set(true, nil) }

func (f *feed) set(up bool, err error) {
	f.mu.Lock()
	f.up, f.err = up, err
	f.mu.Unlock()
	f.signal()
}

func (f *feed) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// put hands a reading over. It never waits: the oldest goes when the queue is full.
func (f *feed) put(p hal.Push) {
	f.mu.Lock()
	full := len(f.queue) == feedQueue
	if full {
		f.queue = append(f.queue[:0], f.queue[1:]...)
		f.lost++
	}
	lost := f.lost
	f.queue = append(f.queue, p)
	f.count++
	f.mu.Unlock()
	if full && lost%lostEach == 1 {
		slog.Default().Warn("a source says more than is taken, its oldest readings go", "source", f.name, "lost", lost)
	}
	f.signal()
}

// Dropped is hal.Dropper's.
func (f *feed) Dropped() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lost
}

// Next is hal.Pusher's.
func (f *feed) Next(ctx context.Context) (hal.Push, error) {
	for {
		if err := ctx.Err(); err != nil {
			return hal.Push{}, fmt.Errorf("%s: %w", f.name, err)
		}
		f.mu.Lock()
		closed, err := f.closed, f.err
		if !closed && len(f.queue) > 0 {
			p := f.queue[0]
			f.queue = append(f.queue[:0], f.queue[1:]...)
			f.mu.Unlock()
			return p, nil
		}
		f.mu.Unlock()
		switch {
		case closed:
			return hal.Push{}, fmt.Errorf("%s: %w", f.name, os.ErrClosed)
		case err != nil:
			return hal.Push{}, fmt.Errorf("%s: %w", f.name, err)
		}
		select {
		case <-f.wake:
		case <-ctx.Done():
		}
	}
}

// Channels are those declared. Without any, there is one with the number of readings
// taken since Open, and each reading of Next has its own.
func (f *feed) Channels() []hal.Channel {
	if f.channels == nil {
		return countChannel
	}
	return f.channels
}

// Read waits for the next reading.
func (f *feed) Read(ctx context.Context) ([]hal.Value, error) {
	p, err := f.Next(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil, fmt.Errorf("%w: it said nothing: %w", ErrNotReady, err)
	}
	if err != nil {
		return nil, err
	}
	if f.channels == nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		return []hal.Value{hal.IntValue(f.count)}, nil
	}
	return p.Values, nil
}

// Close ends the source and waits for that.
func (f *feed) Close() error {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.cancel()
	<-f.ended
	f.signal()
	return nil
}
