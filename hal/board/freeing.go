package board

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A freeing is one call of RecoverBus.
type freeing struct {
	bus   *bus
	held  bool         // no transfer runs
	doing atomic.Value // an error: why it has not ended, if it has not
}

// Both have one type, as atomic.Value wants it.
var (
	errHangs = errors.New("a transfer hangs in the bus")
	errKept  = errors.New("the kernel does not let go of the bus: is another program using it?")
)

// enter keeps transfers away. One that runs is waited for, up to transferEnd:
// what hangs then hangs in the bus, and may come back once that is free.
func (f *freeing) enter(ctx context.Context) error {
	if f.held {
		return nil
	}
	t := time.NewTimer(transferEnd)
	defer t.Stop()
	select {
	case f.bus.wire <- struct{}{}:
		f.held = true
		return nil
	case <-t.C:
		return errHangs
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errHangs, ctx.Err())
	}
}

func (f *freeing) leave() {
	if f.held {
		<-f.bus.wire
	}
}

// nobody is an address that no chip may have (UM10204, table 3), and that none is
// known to answer.
const nobody = 0x7F

// errAcknowledged is what a data line that is low makes of a controller that does
// not look at it before it begins. The Raspberry Pi's is thought to be one: it
// knows no other master (a guess, not measured).
var errAcknowledged = errors.New("an address that nobody has is acknowledged: SDA is low")

// probe reads from nobody. On a free bus that is not acknowledged.
func (f *freeing) probe(ctx context.Context) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	err := f.bus.transfer(nobody, nil, make([]byte, 1))
	switch {
	case errors.Is(err, hal.ErrNoDevice):
		return nil
	case err == nil:
		return errAcknowledged
	}
	return err
}

// clocking says whether the bus was held, if it is not now. A transfer that is
// acknowledged by nobody is 18 clocks, of which a chip needs nine at most.
func (f *freeing) clocking(ctx context.Context) (held bool, err error) {
	if err := f.probe(ctx); !errors.Is(err, errAcknowledged) {
		return false, err
	}
	return true, f.probe(ctx)
}
