package sampler

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// An arrival is what a source gave by itself, or how it failed.
type arrival struct {
	hal.Push
	err error
}

// pushPause is how long a source that failed is left alone before it is asked again.
const pushPause = time.Second

// listen waits for the readings of a source that speaks by itself, in a goroutine that
// stop ends and waits for. The channel is nil for a sensor that is read.
func (v *openSensor) listen(ctx context.Context) (pushes chan arrival, stop func()) {
	if v.pusher == nil {
		return nil, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	pushes, done := make(chan arrival), make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			p, err := v.hear(ctx)
			if ctx.Err() != nil {
				return
			}
			select {
			case pushes <- arrival{p, err}:
			case <-ctx.Done():
				return
			}
			if err == nil {
				continue
			}
			select {
			case <-time.After(pushPause):
			case <-ctx.Done():
			}
		}
	}()
	return pushes, func() {
		cancel()
		<-done
	}
}

// hear waits for the source. A panic is an error.
func (v *openSensor) hear(ctx context.Context) (p hal.Push, err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fmt.Errorf("next: the driver panicked: %v", what)
		}
	}()
	return v.pusher.Next(ctx)
}

// heard takes one of them.
func (v *openSensor) heard(p arrival) {
	v.countDropped()
	r := v.r
	now := time.Now()
	if p.err == nil && len(p.Values) != len(p.Channels) {
		p.err = errors.New("the source gave another number of values than of channels")
	}
	if p.err != nil {
		if !answers(r.kindOf(p.err)) {
			v.fails++
		}
		r.failed()
		r.note(p.err)
		return
	}
	v.implausible = nil
	way := v.pipelines.of(p.Channels)
	var err error
	if left := v.clean(way, p.Values); left > 0 || v.implausible == nil {
		err = v.put(way, now, p.At, p.Values)
	}
	if v.fails > 0 {
		v.fails = 0
		r.freshPause()
	}
	if err == nil {
		err = v.implausible
	} else {
		r.failed()
	}
	r.note(err)
	v.next = now.Add(v.pipelines.s.Every)
}

// countDropped takes over what the source has dropped since the last look.
func (v *openSensor) countDropped() {
	d, ok := v.pusher.(hal.Dropper)
	if !ok {
		return
	}
	n := d.Dropped()
	v.r.mu.Lock()
	v.r.st.Dropped += n - v.dropped
	v.r.mu.Unlock()
	v.dropped = n
}
