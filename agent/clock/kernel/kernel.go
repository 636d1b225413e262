// Package kernel reads the machine's clocks: the wall clock with what the kernel
// says of it, and the one that counts from boot. Agent and bridge share it.
package kernel

import "time"

// A Reading is both clocks at one moment.
type Reading struct {
	Wall time.Time     // without a monotonic reading
	Boot time.Duration // since the machine's boot, also while it was suspended; never stepped
	// Synced: the kernel says that a time service holds the wall clock. Setting the
	// clock by hand ends that, and so do about nine hours without the service, in
	// which the kernel's own bound grows to 16 s (NTP_PHASE_LIMIT, 500 ppm).
	Synced bool
	// MaxError is how far off the wall clock is at most, as the kernel states it,
	// and what reading the two clocks one after the other adds. 0 unless Synced.
	MaxError time.Duration
}
