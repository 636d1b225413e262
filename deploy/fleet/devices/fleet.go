// Package devices runs many simulated devices in one process. Each is the real agent,
// with its own identity, spool and shadow, on a simulated board in weather of its own,
// and has faults by chance: it loses its link, is restarted, and loses its power.
//
// A Fleet is made by New and works in Run. What devices write is kept from run to run:
// a device that was there before is the same thing again, with what its spool holds.
package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/hal/sim"
)

// Options of a Fleet.
type Options struct {
	Count  int
	Prefix string // of the things' names: fleet-0001
	Dir    string // holds a folder for each device
	// Data holds the spools and shadows; "": they are in Dir. In a file system in memory
	// no disk is waited for, and nothing outlives the machine.
	Data  string
	Seed  uint64        // of the weather and of the faults
	Chips []string      // of each board, as sim.ParsePlace has them; each has a driver of its name
	Every time.Duration // between the readings of a sensor
	Flush time.Duration // spool.flush_every
	Ramp  time.Duration // in which the devices start, one after another
	// Shadow: each device keeps a shadow too.
	Shadow     bool
	Identities Identities
	Faults     Faults
	Dial       func(ctx context.Context, network, addr string) (net.Conn, error) // nil: the machine's
	Log        *slog.Logger
}

// Faults say how often something happens to a device: the mean of the time between two,
// which is drawn from the exponential distribution. 0 is never.
type Faults struct {
	OfflineEvery  time.Duration // the link is lost
	OfflineFor    time.Duration // ... for so long on average
	RebootEvery   time.Duration // the agent is stopped, as by a signal, and started again
	PowerCutEvery time.Duration // the agent ends without a flush, and is started again
	DownFor       time.Duration // a reboot takes so long on average
	// The clock jumps by about ClockJump, back or forth, and is right again, by a time
	// service, after ClockJumpFor.
	ClockJumpEvery, ClockJump, ClockJumpFor time.Duration
}

// filesPerDevice is what a device has open: spool, shadow and connection, and for a moment
// what it reads of its identity (measured; see README.md).
const filesPerDevice = 4

// check fills in defaults and reports all that is wrong.
func (o *Options) check() error {
	var errs []error
	if o.Count < 1 || o.Count > 99999 {
		errs = append(errs, fmt.Errorf("devices: %d, want 1 to 99999", o.Count))
	}
	if o.Identities == nil {
		errs = append(errs, errors.New("no way to make identities"))
	}
	for _, c := range o.Chips {
		if _, err := sim.ParsePlace(c); err != nil {
			errs = append(errs, fmt.Errorf("chips: %w", err))
		}
	}
	if o.Ramp < 0 {
		errs = append(errs, fmt.Errorf("ramp: %v, want 0 or more", o.Ramp))
	}
	f := &o.Faults
	for _, d := range []time.Duration{f.OfflineEvery, f.OfflineFor, f.RebootEvery, f.PowerCutEvery, f.DownFor,
		f.ClockJumpEvery, f.ClockJump, f.ClockJumpFor} {
		if d < 0 {
			errs = append(errs, fmt.Errorf("a fault every %v, want 0, for never, or more", d))
		}
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil && o.Count >= 1 {
		if want := uint64(o.Count)*filesPerDevice + 50; limit.Cur < want {
			errs = append(errs, fmt.Errorf("%d devices have up to %d files open, and this process may %d: "+
				"see ulimit -n", o.Count, want, limit.Cur))
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	return errors.Join(errs...)
}

// A Fleet is many devices.
type Fleet struct {
	o   Options
	all []*simulated
}

// New checks o and makes the folder; it starts nothing.
func New(o Options) (*Fleet, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	for _, dir := range []*string{&o.Dir, &o.Data} { // what is in a configuration is relative to its file
		if *dir == "" {
			continue
		}
		var err error
		if *dir, err = filepath.Abs(*dir); err == nil {
			err = os.MkdirAll(*dir, 0o700)
		}
		if err != nil {
			return nil, err
		}
	}
	f := &Fleet{o: o}
	for i := range o.Count {
		name := fmt.Sprintf("%s-%04d", o.Prefix, i+1)
		d := &simulated{o: &f.o, name: name, seed: o.Seed + uint64(i), dir: filepath.Join(o.Dir, name),
			rand: rand.New(rand.NewPCG(o.Seed, uint64(i)))}
		d.data = filepath.Join(d.dir, "data")
		if o.Data != "" {
			d.data = filepath.Join(o.Data, name)
		}
		d.link.dial = o.Dial
		f.all = append(f.all, d)
	}
	return f, nil
}

// Run runs the devices until ctx is done. Then each is stopped as an agent is by a
// signal: it flushes, and sends what it can within a few seconds. The error is that of
// the first device that could not be made at all.
func (f *Fleet) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	errs := make([]error, len(f.all))
	for i, d := range f.all {
		// Spread evenly, and within its slot by chance.
		slot := f.o.Ramp / time.Duration(len(f.all))
		after := time.Duration(i)*slot + time.Duration(d.rand.Float64()*float64(slot))
		wg.Go(func() {
			if sleep(ctx, after) {
				errs[i] = d.run(ctx)
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Totals adds up all devices. It may be called at any time.
func (f *Fleet) Totals() Totals {
	t := Totals{Time: time.Now(), Devices: len(f.all)}
	for _, d := range f.all {
		d.mu.Lock()
		t.add(&d.counts, &d.now)
		d.mu.Unlock()
	}
	return t
}

// sleep waits for d, or says false when ctx is done before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
