package device

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
)

// recoverAgain is the least time between two tries to free one bus: clocks on a bus
// disturb what works on it.
const recoverAgain = 30 * time.Second

// A busRecovery says when buses that a chip holds may be freed.
type busRecovery struct {
	mu   sync.Mutex           // guards last
	last map[string]time.Time // tries, by bus
}

// may says whether the last try is long enough ago, and notes one.
func (f *busRecovery) may(bus string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := f.last[bus]; ok && time.Since(at) < recoverAgain {
		return false
	}
	if f.last == nil {
		f.last = map[string]time.Time{}
	}
	f.last[bus] = time.Now()
	return true
}

// freeBus frees the bus of a sensor that cannot be read; see sampler.Options.Recover.
func (a *Agent) freeBus(ctx context.Context, s sampler.Spec, bus string) bool {
	board, ok := a.board.(hal.Recoverer)
	if !ok {
		return false
	}
	if bus == "" {
		bus = sensor.BusOf(s.Driver, a.board, s.Options)
	}
	if bus == "" || !a.recovery.may(bus) {
		return false
	}
	did, err := board.RecoverBus(ctx, bus)
	if errors.Is(err, hal.ErrBusFree) {
		return false
	}
	if err != nil {
		a.log.Warn("the bus could not be freed", "bus", bus, "sensor", s.Name, "err", err)
		return false
	}
	a.log.Warn("the bus was freed", "bus", bus, "sensor", s.Name, "by", did)
	return true
}
