package trial

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"

	"github.com/tidemill/tidemill/hal/sim"
)

// A plan says how large a world is, and how often something happens to it.
type plan struct {
	devices int
	length  time.Duration
	every   time.Duration // mean time between two faults of a device
	bridge  time.Duration // ... and of the bridge
	bugs    bugs
}

// An outcome is what a history came to.
type outcome struct {
	digest   string
	readings int // delivered
	lost     int // in memory at power cuts
	faults   map[string]int
}

func (o *outcome) String() string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(o.faults)) {
		all = append(all, fmt.Sprintf("%d %s", o.faults[k], k))
	}
	return fmt.Sprintf("%d readings delivered, %d lost in memory, %s; digest %.12s", o.readings, o.lost,
		strings.Join(all, ", "), o.digest)
}

// A world is agents and a bridge. Its controller alone changes it, at moments at which
// nothing else runs.
type world struct {
	plan   plan
	rand   *rand.Rand
	dir    string
	bridge *bridge
	all    []*simulated
	states map[*simulated]*state
	due    []event // ascending
	off    bool    // the bridge has no power
	slowed bool
	calm   time.Time // since then the bridge is up and not slow
	faults map[string]int
}

// A state is what the controller knows of a device.
type state struct {
	busy      bool      // something is wrong with it that ends later
	calm      time.Time // since then nothing is wrong
	spare     int       // seconds that the shadow desires of the sensor spare
	desiredAt time.Time
	mounted   bool
}

type event struct {
	at time.Time
	do func() error
}

// endsWithin is how long an agent or a bridge may take to end: by the drains of both.
const endsWithin = 15 * time.Second

// Faults and boots come at these parts of a second, readings at others, so that no two
// things happen at one moment whose order would be chance.
const faultsAt, bootsAt = 700 * time.Millisecond, 500 * time.Millisecond

// in plans something in about so long.
func (w *world) in(d, part time.Duration, do func() error) {
	at := time.Now().Add(d).Truncate(time.Second).Add(part)
	i, _ := slices.BinarySearchFunc(w.due, at, func(e event, at time.Time) int { return e.at.Compare(at) })
	for i < len(w.due) && w.due[i].at.Equal(at) {
		i++
	}
	w.due = slices.Insert(w.due, i, event{at, do})
}

func (w *world) draw(mean time.Duration) time.Duration {
	return time.Second + time.Duration(w.rand.ExpFloat64()*float64(mean))
}

// run makes one history in a bubble. err says what is not as the model has it.
func run(t *testing.T, seed uint64, p plan) (out outcome, err error) {
	t.Helper()
	dir := t.TempDir()
	if shm, err := os.MkdirTemp("/dev/shm", "tidemill-trial-"); err == nil { // nothing here is about the disk's speed
		dir = shm
		defer os.RemoveAll(shm)
	}
	synctest.Test(t, func(t *testing.T) {
		// A bubble begins in 2000, and no agent believes a time before its own build.
		time.Sleep(time.Until(time.Date(2035, 1, 1, 0, 0, 0, 0, time.UTC)))
		w := &world{plan: p, rand: rand.New(rand.NewPCG(seed, 11)), dir: dir, states: map[*simulated]*state{},
			faults: map[string]int{}}
		defer w.unmount()
		out, err = w.history(seed)
	})
	return out, err
}

func (w *world) history(seed uint64) (out outcome, err error) {
	w.bridge = &bridge{fs: vfs.NewCrashableMem(), dir: w.dir, bugs: w.plan.bugs, rand: rand.New(rand.NewPCG(seed, 13))}
	if err := w.bridge.start(); err != nil {
		return out, err
	}
	w.calm = time.Now()
	for i := range w.plan.devices {
		if err := w.add(i, seed); err != nil {
			return out, errors.Join(err, w.stop())
		}
	}
	w.in(w.draw(w.plan.bridge), faultsAt, w.bridgeFault)
	err = w.until(time.Now().Add(w.plan.length))
	err = cmp.Or(err, w.heal())
	err = cmp.Or(err, w.stop())
	if err == nil {
		out, err = w.compare()
	}
	if !w.off {
		w.bridge.end()
	}
	return out, err
}

// add makes a device, which boots in its turn.
func (w *world) add(i int, seed uint64) error {
	name := fmt.Sprintf("device-%03d", i+1)
	s := seed<<16 + uint64(i)
	d := &simulated{name: name, dir: filepath.Join(w.dir, name), bridge: w.bridge, synced: true,
		board: sim.New(sim.Options{Seed: s, Air: sim.Weather(s)})}
	st := &state{calm: time.Now()}
	w.all, w.states[d] = append(w.all, d), st
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	if i%4 == 0 { // a card that can be full, where one can be mounted
		st.mounted = unix.Mount("tidemill-trial", d.dir, "tmpfs", 0, "size=4m") == nil
	}
	w.in(time.Duration(i)*time.Second, bootsAt, func() error { return d.boot(true) })
	w.in(time.Duration(i)*time.Second+w.draw(w.plan.every), faultsAt, func() error { return w.deviceFault(d) })
	return nil
}

func (w *world) unmount() {
	for d, s := range w.states {
		if s.mounted {
			_ = unix.Unmount(d.dir, unix.MNT_DETACH)
		}
	}
}

// until does what is due, up to a time.
func (w *world) until(end time.Time) error {
	for len(w.due) > 0 && w.due[0].at.Before(end) {
		e := w.due[0]
		w.due = w.due[1:]
		time.Sleep(time.Until(e.at))
		synctest.Wait()
		if err := e.do(); err != nil {
			return err
		}
		for _, d := range w.all {
			if d.agent == nil {
				continue
			}
			select {
			case err := <-d.ended:
				d.ended <- err
				return fmt.Errorf("%s ended by itself: %w", d.name, err)
			default:
			}
		}
	}
	time.Sleep(time.Until(end))
	return nil
}

// heal ends all that is wrong and waits until devices have sent what they have.
func (w *world) heal() error {
	w.due = nil
	at := time.Now().Truncate(time.Second).Add(2*endsWithin + bootsAt)
	if err := w.startBridge(); err != nil {
		return err
	}
	w.bridge.log.slow(0, 0)
	for _, d := range w.all {
		d.mendLink()
		d.setClock()
		err := d.empty()
		if d.agent == nil {
			err = cmp.Or(err, d.collect())
		}
		if err != nil {
			return err
		}
	}
	time.Sleep(time.Until(at))
	for _, d := range w.all {
		if d.agent == nil {
			if err := d.boot(true); err != nil {
				return err
			}
		}
	}
	time.Sleep(10*time.Minute + faultsAt - bootsAt)
	return nil
}

// stop stops all agents, at one moment.
func (w *world) stop() (err error) {
	for _, d := range w.all {
		if d.agent != nil {
			d.halt(nil)
		}
	}
	for _, d := range w.all {
		if d.gone == nil {
			continue
		}
		err = cmp.Or(err, d.collect())
		if st := d.gone.Status().Spool; err == nil && (st.Readings > 0 || st.Unflushed > 0 || st.Dropped > 0 ||
			st.Refused > 0) {
			err = fmt.Errorf("%s has not delivered all: %+v", d.name, st)
		}
	}
	return err
}
