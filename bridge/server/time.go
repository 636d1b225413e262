package server

import (
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
)

// time is what devices that ask are told, with the bound of the kernel while a time
// service holds the clock, else of the operator; nothing after a jump that nobody
// has accepted, or where the operator vouches for nothing.
func (a *assembly) time() (now time.Time, bound time.Duration, ok bool) {
	r := kernel.Read()
	if r.Synced {
		return r.Wall, r.MaxError, true
	}
	bound = time.Duration(a.cfg.Clock.MaxError)
	return r.Wall, bound, bound > 0 && !a.clock.Status().Held
}
