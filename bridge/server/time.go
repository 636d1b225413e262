package server

import (
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
)

// time is what devices that ask are told.
func (a *assembly) time() (now time.Time, bound time.Duration, ok bool) {
	return a.tellable(kernel.Read())
}

// tellable is a reading of the clocks as devices are told it, with the bound of the kernel
// while a time service holds the clock, else of the operator; nothing where the operator
// vouches for nothing, nor, whoever holds the clock, after a jump that nobody has accepted:
// devices keep the time that they are told, and take none before it.
func (a *assembly) tellable(r kernel.Reading) (now time.Time, bound time.Duration, ok bool) {
	held := a.clock.Status().Held
	if r.Synced {
		return r.Wall, r.MaxError, !held
	}
	bound = time.Duration(a.cfg.Clock.MaxError)
	return r.Wall, bound, bound > 0 && !held
}
