package devices

import (
	"fmt"
	"time"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/uplink"
)

// Totals are the sums over a fleet. Counts are of this run, but for Spooled, which may
// have been there before.
type Totals struct {
	Time    time.Time `json:"time"`
	Devices int       `json:"devices"`
	Up      int       `json:"up"`     // whose agent runs
	Online  int       `json:"online"` // that are connected

	Readings uint64  `json:"readings"`        // taken
	Acked    uint64  `json:"acknowledged"`    // that the bridge has
	Batches  uint64  `json:"batches"`         // that the bridge has
	Spooled  uint64  `json:"spooled"`         // that wait on the devices, in memory or on disk
	Dropped  uint64  `json:"dropped"`         // for want of room
	Lost     uint64  `json:"lost"`            // in memory at power cuts
	Lag      float64 `json:"lag_seconds"`     // age of the oldest batch that waits
	Connects uint64  `json:"connects"`        // connections that the bridge accepted
	Offline  uint64  `json:"offline_periods"` // faults so far
	Reboots  uint64  `json:"reboots"`
	Cuts     uint64  `json:"power_cuts"`
	Jumps    uint64  `json:"clock_jumps"`
	Errors   uint64  `json:"errors"` // agents that failed, identities not made, readings that failed
	Error    string  `json:"error,omitempty"`
}

// counts are what a device has done in the boots before this one, or did at all.
type counts struct {
	readings, batches, lost, connects, errors uint64
	offline, reboots, cuts, jumps             uint64
	acked, dropped                            uint64 // of the spool, at the start of the run; see seen
	seen                                      bool
	error                                     string
}

// now is a device at the moment of the last look.
type now struct {
	up bool
	st device.Status
}

func (t *Totals) add(c *counts, n *now) {
	t.Readings += c.readings
	t.Batches += c.batches
	t.Lost += c.lost
	t.Connects += c.connects
	t.Errors += c.errors
	t.Offline += c.offline
	t.Reboots += c.reboots
	t.Cuts += c.cuts
	t.Jumps += c.jumps
	if c.error != "" {
		t.Error = c.error
	}
	if c.seen {
		t.Acked += n.st.Spool.Acked - min(c.acked, n.st.Spool.Acked)
		t.Dropped += n.st.Spool.Dropped - min(c.dropped, n.st.Spool.Dropped)
		t.Spooled += n.st.Spool.Readings + uint64(n.st.Spool.Unflushed)
	}
	if at := n.st.Spool.Oldest; !at.IsZero() {
		t.Lag = max(t.Lag, t.Time.Sub(at).Seconds())
	}
	if !n.up {
		return
	}
	t.Up++
	if n.st.Link.State == uplink.Online {
		t.Online++
	}
	r, e := readings(&n.st)
	t.Readings += r
	t.Errors += e
	t.Batches += n.st.Link.Acked
	t.Connects += n.st.Link.Connects
}

// readings are those of a boot so far, and the errors of its sensors.
func readings(st *device.Status) (taken, failed uint64) {
	for i := range st.Sensors {
		taken += st.Sensors[i].Readings
		failed += st.Sensors[i].Errors
	}
	return taken, failed
}

// Line is one line of a live summary, since the totals before.
func (t *Totals) Line(before *Totals) string {
	per := func(now, then uint64) float64 {
		s := t.Time.Sub(before.Time).Seconds()
		if s <= 0 || now < then {
			return 0
		}
		return float64(now-then) / s
	}
	return fmt.Sprintf("%s  up %d/%d  online %d  readings %.0f/s  acked %d (%.0f/s)  spooled %d  lag %.0fs  "+
		"faults %d/%d/%d/%d  lost %d  errors %d",
		t.Time.Format("15:04:05"), t.Up, t.Devices, t.Online, per(t.Readings, before.Readings), t.Acked,
		per(t.Acked, before.Acked), t.Spooled, t.Lag, t.Offline, t.Reboots, t.Cuts, t.Jumps,
		t.Lost, t.Errors)
}

// Sum is what came of a run of the given length.
func (t *Totals) Sum(length time.Duration) string {
	text := fmt.Sprintf("\n%d devices, %v: %d readings taken, %d acknowledged in %d batches, %d wait in spools, "+
		"%d dropped, %d lost at power cuts\n", t.Devices, length.Round(time.Second), t.Readings, t.Acked, t.Batches,
		t.Spooled, t.Dropped, t.Lost)
	text += fmt.Sprintf("%d connections, %d offline periods, %d reboots, %d power cuts, %d clock jumps, %d errors\n",
		t.Connects, t.Offline, t.Reboots, t.Cuts, t.Jumps, t.Errors)
	if t.Error != "" {
		text += "an error: " + t.Error + "\n"
	}
	return text
}
