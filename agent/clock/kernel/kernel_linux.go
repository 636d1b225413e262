package kernel

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Tries and the time that one may take: the two clocks are read one after the
// other, and a process may be held up between.
const (
	maxTries = 5
	closely  = time.Millisecond
)

// Read reads the clocks. adjtimex(2) tells the wall clock and its state in one, and
// may be asked without rights.
func Read() (r Reading) {
	var apart time.Duration
	for range maxTries {
		before := sinceBoot()
		var t unix.Timex
		state, err := unix.Adjtimex(&t)
		after := sinceBoot()
		r = Reading{Boot: before + (after-before)/2}
		if err != nil {
			r.Wall = time.Now().Round(0)
			return r
		}
		fraction := int64(t.Time.Usec) * int64(time.Microsecond)
		if t.Status&unix.STA_NANO != 0 {
			fraction = int64(t.Time.Usec)
		}
		r.Wall = time.Unix(int64(t.Time.Sec), fraction)
		r.Synced = state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0
		r.MaxError = time.Duration(t.Maxerror) * time.Microsecond
		if apart = (after - before) / 2; apart < closely {
			break
		}
	}
	if !r.Synced {
		r.MaxError = 0
		return r
	}
	r.MaxError += apart
	return r
}

func sinceBoot() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) != nil {
		return time.Since(started) // a kernel before 2.6.39, or a sandbox
	}
	return time.Duration(t.Nano())
}

var started = time.Now()

// BootID names the boot of the machine that Reading.Boot counts from, "" where
// there is no name: then it counts from the start of this process, or cannot be
// told from another boot.
func BootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}
