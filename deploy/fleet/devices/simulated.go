package devices

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/spool"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// lookEvery is how often a device is looked at for the totals. A look takes 0.1 ms.
const lookEvery = 2 * time.Second

// A simulated device is one agent, from boot to boot.
type simulated struct {
	o         *Options
	name      string
	seed      uint64
	dir, data string
	rand      *rand.Rand // of run
	link      link

	mu     sync.Mutex // guards what follows
	counts counts
	now    now
	step   time.Duration // by which its clock is wrong
}

// run makes the device's identity, if it has none, and runs its agent until ctx is done.
func (d *simulated) run(ctx context.Context) error {
	if err := os.MkdirAll(d.data, 0o700); err != nil {
		return err
	}
	for wait := time.Second; ; wait = min(2*wait, time.Minute) {
		err := d.o.Identities.Make(ctx, d.name, d.dir, d.data)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errForGood) {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		d.failed(err)
		if !sleep(ctx, wait) {
			return nil
		}
	}
	cfg, err := d.configure()
	if err != nil {
		return fmt.Errorf("%s: %w", d.name, err)
	}
	board := sim.New(sim.Options{Seed: d.seed, Air: sim.Weather(d.seed), Chips: d.places()})
	plan := d.plan()
	for ctx.Err() == nil {
		if err := d.boot(ctx, cfg, board, plan); err != nil {
			d.failed(err)
		}
		if ctx.Err() == nil {
			sleep(ctx, plan.draw(d.o.Faults.DownFor))
		}
	}
	return nil
}

// failed counts an error and shows it.
func (d *simulated) failed(err error) {
	d.mu.Lock()
	d.counts.errors++
	d.counts.error = d.name + ": " + err.Error()
	d.mu.Unlock()
	d.o.Log.Warn("a device failed, it is tried again", "thing", d.name, "err", err)
}

// boot runs the agent until a fault ends it, or ctx.
func (d *simulated) boot(ctx context.Context, cfg config.Config, board hal.Board, plan *plan) error {
	d.link.set(false)
	a, err := device.New(cfg, device.Deps{Version: "fleet", Board: board, Dial: d.link.Dial, NoSocket: true,
		Clock: d.clock, Boot: kernel.BootID(), Log: slog.New(quietly{d.o.Log.Handler()})})
	if err != nil {
		return err
	}
	d.look(a, true)
	own, end := context.WithCancelCause(ctx)
	defer end(nil)
	done := make(chan error, 1)
	go func() { done <- a.Run(own) }()
	// Looks are spread, so that a thousand devices are not looked at at once.
	look := time.NewTimer(time.Duration(d.rand.Float64() * float64(lookEvery)))
	defer look.Stop()
	fault := time.NewTimer(plan.next())
	defer fault.Stop()
	for {
		select {
		case <-look.C:
			d.look(a, true)
			look.Reset(lookEvery)
		case <-fault.C:
			switch plan.take() {
			case offline:
				d.count(func(c *counts) { c.offline++ })
				d.link.set(true)
			case online:
				d.link.set(false)
			case clockJump:
				by := time.Duration(d.rand.NormFloat64() * float64(d.o.Faults.ClockJump))
				d.count(func(c *counts) { c.jumps++; d.step = by })
			case clockRight:
				d.count(func(*counts) { d.step = 0 })
			case reboot:
				d.count(func(c *counts) { c.reboots++ })
				end(nil)
			case powerCut:
				d.link.set(true)
				d.count(func(c *counts) { c.cuts++ })
				end(device.ErrPowerCut)
			}
			fault.Reset(plan.next())
		case err := <-done:
			d.look(a, false)
			if errors.Is(err, device.ErrPowerCut) {
				return d.survey()
			}
			return err
		}
	}
}

// clock is the machine's, or while it is wrong one that no time service holds.
func (d *simulated) clock() kernel.Reading {
	r := kernel.Read()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.step != 0 {
		r.Wall, r.Synced, r.MaxError = r.Wall.Add(d.step), false, 0
	}
	return r
}

// survey notes what a power cut left: what was in memory is lost, and acknowledgements
// that were not written yet come again.
func (d *simulated) survey() error {
	left, err := spool.Inspect(filepath.Join(d.data, "spool.db"))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	sp := &d.now.st.Spool
	d.counts.lost += uint64(sp.Unflushed)
	sp.Batches, sp.Readings, sp.Acked, sp.Dropped = left.Batches, left.Readings, left.Acked, left.Dropped
	sp.Unflushed, sp.Oldest = 0, left.Oldest
	return nil
}

func (d *simulated) count(f func(*counts)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(&d.counts)
}

// look takes over the agent's state; after its last one, what it has done too.
func (d *simulated) look(a *device.Agent, up bool) {
	st := a.Status()
	d.mu.Lock()
	defer d.mu.Unlock()
	c := &d.counts
	if !c.seen { // the agent has not run yet
		c.seen, c.acked, c.dropped = true, st.Spool.Acked, st.Spool.Dropped
	}
	d.now = now{up: up, st: st}
	for i := range st.Sensors {
		if text := st.Sensors[i].Error; text != "" {
			c.error = d.name + ": " + st.Sensors[i].Name + ": " + text
		}
	}
	if !up {
		r, e := readings(&st)
		c.readings += r
		c.errors += e
		c.batches += st.Link.Acked
		c.connects += st.Link.Connects
	}
}

// places are the chips beside the BME280, which each board has.
func (d *simulated) places() (all []sim.Place) {
	for _, c := range d.o.Chips {
		if p, err := sim.ParsePlace(c); err == nil && c != "bme280" { // checked
			all = append(all, p)
		}
	}
	return all
}

// configure writes the device's agent.toml, which a tidemill-agent would take too, and
// reads it.
func (d *simulated) configure() (config.Config, error) {
	identity, err := d.o.Identities.Config(d.name, d.dir)
	if err != nil {
		return config.Config{}, err
	}
	var b strings.Builder
	b.WriteString("# A simulated device; written at each start of the fleet.\n" + identity.Head)
	fmt.Fprintf(&b, "data_dir = %q\n\n", d.data)
	fmt.Fprintf(&b, "[board]\nkind = \"sim\"\nseed = %d\nchips = [", d.seed%(1<<32))
	for i, c := range d.o.Chips {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%q", c)
	}
	fmt.Fprintf(&b, "]\n\n%s\n[spool]\nflush_every = %q\n\n[shadow]\nenabled = %v\n", identity.Tables, d.o.Flush,
		d.o.Shadow)
	for i, c := range d.o.Chips {
		p, err := sim.ParsePlace(c)
		if err != nil {
			return config.Config{}, err
		}
		if p.Bus == "" {
			p.Bus = sim.DefaultBus
		}
		name := p.Chip
		if i > 0 {
			name = fmt.Sprintf("%s-%d", p.Chip, i+1)
		}
		// Not all at once: the fleet's readings are spread over the interval.
		phase := time.Duration(d.rand.Float64() * float64(d.o.Every)).Truncate(time.Millisecond)
		fmt.Fprintf(&b, "\n[[sensor]]\nname = %q\ndriver = %q\nevery = %q\nphase = %q\n"+
			"[sensor.options]\nbus = %q\naddress = %#x\n", name, p.Chip, d.o.Every, phase, p.Bus, p.Address)
	}
	path := filepath.Join(d.dir, "agent.toml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		return config.Config{}, err
	}
	return config.Load(config.Source{Path: path, CheckOptions: sensor.Check, Place: sensor.Place})
}

// quietly hands on errors alone: what a thousand agents do in the ordinary way fills a log.
type quietly struct{ slog.Handler }

func (q quietly) Enabled(ctx context.Context, l slog.Level) bool {
	return l >= slog.LevelError && q.Handler.Enabled(ctx, l)
}

func (q quietly) WithAttrs(a []slog.Attr) slog.Handler { return quietly{q.Handler.WithAttrs(a)} }
func (q quietly) WithGroup(n string) slog.Handler      { return quietly{q.Handler.WithGroup(n)} }
