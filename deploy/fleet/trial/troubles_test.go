package trial

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/uplink"
)

// A trouble is what can happen to a device.
var troubles = []struct {
	name   string
	weight int
	do     func(w *world, d *simulated, s *state) error
}{
	{"link cuts", 4, (*world).cutLink},
	{"blips", 3, func(_ *world, d *simulated, _ *state) error { d.cutLink(false); return nil }},
	{"reboots", 2, func(w *world, d *simulated, s *state) error { return w.takeDown(d, s, nil) }},
	{"power cuts", 3, func(w *world, d *simulated, s *state) error { return w.takeDown(d, s, device.ErrPowerCut) }},
	{"clock steps", 2, (*world).stepClock},
	{"full cards", 2, (*world).fillCard},
	{"desires", 4, (*world).desire},
}

func (w *world) deviceFault(d *simulated) error {
	w.in(w.draw(w.plan.every), faultsAt, func() error { return w.deviceFault(d) })
	s, sum := w.states[d], 0
	for _, x := range troubles {
		sum += x.weight
	}
	pick, what := w.rand.IntN(sum), 0
	for pick -= troubles[0].weight; pick >= 0; pick -= troubles[what].weight {
		what++
	}
	if s.busy || d.agent == nil {
		return nil
	}
	x := &troubles[what]
	w.faults[x.name]++
	if x.name != "desires" {
		s.calm = time.Now()
	}
	return x.do(w, d, s)
}

// busy has the device in trouble for a while, until end.
func (w *world) busy(s *state, mean, part time.Duration, end func() error) {
	s.busy = true
	w.in(endsWithin+w.draw(mean), part, func() error {
		s.busy, s.calm = false, time.Now()
		return end()
	})
}

func (w *world) cutLink(d *simulated, s *state) error {
	d.cutLink(true)
	w.busy(s, 3*time.Minute, faultsAt, func() error { d.mendLink(); return nil })
	return nil
}

// takeDown ends the agent and starts it again. A device that had no power may have a
// clock that begins in 1970.
func (w *world) takeDown(d *simulated, s *state, cause error) error {
	d.halt(cause)
	old := cause != nil && w.rand.IntN(2) == 0
	w.busy(s, 20*time.Second, bootsAt, func() error {
		if err := d.collect(); err != nil {
			return err
		}
		d.mendLink()
		if old {
			d.mu.Lock()
			d.step, d.synced = time.Until(time.Unix(0, 0)), false
			d.mu.Unlock()
			w.in(w.draw(2*time.Minute), faultsAt, func() error { d.setClock(); return nil })
		}
		return d.boot(cause != nil)
	})
	return nil
}

func (d *simulated) setClock() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step, d.synced = 0, true
}

func (w *world) stepClock(d *simulated, s *state) error {
	d.mu.Lock()
	d.step, d.synced = time.Duration(w.rand.NormFloat64()*float64(time.Hour)), false
	d.mu.Unlock()
	w.busy(s, 2*time.Minute, faultsAt, func() error { d.setClock(); return nil })
	return nil
}

func (w *world) fillCard(d *simulated, s *state) error {
	if !s.mounted {
		w.faults["full cards"]--
		return nil
	}
	if err := d.fill(); err != nil && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	s.busy = true
	w.in(w.draw(2*time.Minute), faultsAt, func() error {
		// Whether a commit finds room depends on which pages bbolt takes, which is chance. So
		// the power stays until what waits in memory is written.
		w.in(flushEvery+2*time.Second, faultsAt, func() error {
			s.busy, s.calm = false, time.Now()
			return nil
		})
		return d.empty()
	})
	return nil
}

// desire changes the interval of the sensor that does not matter, and looks a minute
// later whether the device has it, if nothing was wrong meanwhile.
func (w *world) desire(d *simulated, s *state) error {
	if w.off {
		return nil
	}
	s.spare, s.desiredAt = 7200+w.rand.IntN(3600), time.Now()
	if err := w.bridge.desire(d.name, fmt.Sprintf(`{"sensors":{"spare":{"every":%d}}}`, s.spare)); err != nil {
		return err
	}
	at, link := time.Now(), d.agent.Status().Link
	w.in(time.Minute, faultsAt, func() error {
		if s.busy || d.agent == nil || w.off || w.slowed || !s.desiredAt.Equal(at) || w.calm.After(at) ||
			s.calm.After(at) {
			return nil
		}
		now := d.agent.Status().Link
		if link.State != uplink.Online || now.State != uplink.Online || now.Connects != link.Connects {
			return nil // the device asks for its shadow when it connects
		}
		w.faults["desires looked at"]++
		for _, x := range d.agent.Status().Sensors {
			if x.Name == "spare" && x.Every != (time.Duration(s.spare)*time.Second).String() {
				return fmt.Errorf("%s: the shadow desires an interval of %d s for a minute, and it is %s", d.name,
					s.spare, x.Every)
			}
		}
		return nil
	})
	return nil
}

func (w *world) bridgeFault() error {
	w.in(w.draw(w.plan.bridge), faultsAt, w.bridgeFault)
	if w.off || w.slowed {
		return nil
	}
	if w.rand.IntN(2) == 0 {
		w.faults["slow bridges"]++
		w.slowed = true
		before, after := w.rand.IntN(3000), w.rand.IntN(9000)
		w.bridge.log.slow(time.Duration(before)*time.Millisecond, time.Duration(after)*time.Millisecond)
		w.in(w.draw(2*time.Minute), faultsAt, func() error {
			w.slowed, w.calm = false, time.Now()
			if !w.off {
				w.bridge.log.slow(0, 0)
			}
			return nil
		})
		if w.rand.IntN(2) == 0 { // and then it loses its power, with much under way
			w.in(w.draw(30*time.Second), faultsAt, w.cutBridge)
		}
		return nil
	}
	return w.cutBridge()
}

func (w *world) cutBridge() error {
	if w.off {
		return nil
	}
	w.faults["power cuts of the bridge"]++
	w.off = true
	// First what is on the disk, then the connections: nothing that was not durable is
	// acknowledged in between.
	left := w.bridge.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: w.rand.IntN(101), RNG: w.bridge.rand})
	w.bridge.listen(nil)
	for _, d := range w.all {
		d.cutLink(false)
	}
	w.bridge.fs, w.bridge.gone = left, make(chan struct{})
	go func(end func(), gone chan struct{}) {
		defer close(gone)
		end()
	}(w.bridge.end, w.bridge.gone)
	w.in(endsWithin+w.draw(30*time.Second), faultsAt, w.startBridge)
	return nil
}

func (w *world) startBridge() error {
	if !w.off {
		return nil
	}
	<-w.bridge.gone
	if err := w.bridge.start(); err != nil {
		return fmt.Errorf("the bridge does not start: %w", err)
	}
	w.off, w.calm = false, time.Now()
	return nil
}
