package trial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/agent/clock/kernel"
	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

// flushEvery bounds what a power cut costs.
const flushEvery = 20 * time.Second

// A taken reading is what a sensor gave, as the model knows it.
type taken struct {
	sensor string
	text   string // of its values
	at     time.Time
}

// A simulated device is an agent from boot to boot, and what it has measured.
type simulated struct {
	name   string
	dir    string
	bridge *bridge
	board  hal.Board

	mu     sync.Mutex // guards what follows
	down   bool       // no link
	conns  []net.Conn
	step   time.Duration // by which its clock is wrong
	synced bool
	booted time.Time
	boots  int
	model  []taken // that must be in the stream, in order
	lost   int

	agent  *device.Agent // nil: it has no power, or ends
	gone   *device.Agent // the one before
	cause  error         // of its end
	halted time.Time
	stop   context.CancelCauseFunc
	ended  chan error
	watch  chan struct{}
}

func (d *simulated) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	d.mu.Lock()
	down := d.down
	d.mu.Unlock()
	if down {
		return nil, errors.New("no link")
	}
	c, err := d.bridge.dial(ctx)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.conns = append(d.conns, c)
	return c, nil
}

// cutLink ends the connections there are; with stay none is made until mendLink.
func (d *simulated) cutLink(stay bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = d.down || stay
	for _, c := range d.conns {
		_ = c.Close()
	}
	d.conns = nil
}

func (d *simulated) mendLink() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = false
}

// clock is the device's own: its wall clock may be wrong, and is not held then.
func (d *simulated) clock() kernel.Reading {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	r := kernel.Reading{Wall: now.Add(d.step).Round(0), Boot: now.Sub(d.booted), Synced: d.synced}
	if r.Synced {
		r.MaxError = 5 * time.Millisecond
	}
	return r
}

func (d *simulated) config() config.Config {
	cfg := config.Default()
	cfg.Thing, cfg.DataDir = d.name, d.dir
	cfg.Board.Kind = "sim"
	cfg.Uplink.Endpoint, cfg.Uplink.ClientID = "bridge.test:8883", d.name
	cfg.Uplink.PresenceTopic = "presence/" + d.name
	cfg.Spool.FlushEvery = config.Duration(flushEvery)
	sensor := func(name, driver string, every, phase time.Duration) config.Sensor {
		return config.Sensor{Name: name, Driver: driver, Every: config.Duration(every), Phase: config.Duration(phase),
			Timeout: config.Duration(every)}
	}
	air := sensor("air", "bme280", 15*time.Second, 2200*time.Millisecond)
	air.Options = map[string]any{"bus": sim.DefaultBus, "address": int64(sim.DefaultAddress)}
	cfg.Sensors = []config.Sensor{sensor("n", "count", 5*time.Second, 1200*time.Millisecond), air,
		sensor("spare", "count", 2*time.Hour, 3200*time.Millisecond)}
	return cfg
}

// boot starts the agent. With power it is the machine's boot too.
func (d *simulated) boot(power bool) error {
	d.mu.Lock()
	if power {
		d.boots, d.booted = d.boots+1, time.Now()
	}
	boot := fmt.Sprintf("%s-boot-%d", d.name, d.boots)
	d.mu.Unlock()
	a, err := device.New(d.config(), device.Deps{Version: "trial", Board: d.board, Dial: d.dial, NoSocket: true,
		TLS:   func() (*tls.Config, error) { return nil, nil }, // the bridge knows it by its client id
		Clock: d.clock, Boot: boot})
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancelCause(context.Background())
	watching, unwatch := context.WithCancel(context.Background())
	d.agent, d.stop, d.ended, d.watch = a, stop, make(chan error, 1), make(chan struct{})
	go func() {
		defer close(d.watch)
		_ = a.Watch(watching, func(r device.Reading) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.model = append(d.model, taken{r.Sensor, textOf(&r), time.Now()})
			return nil
		})
	}()
	synctest.Wait() // it watches before the first reading
	ended := d.ended
	go func() {
		err := a.Run(ctx)
		unwatch()
		ended <- err
	}()
	return nil
}

// textOf is what a reading of a count or a chip says, but for what differs from run to run.
func textOf(r *device.Reading) string {
	var parts []string
	for _, v := range r.Values {
		if v.Name != "life" {
			parts = append(parts, v.Name+"="+v.Text)
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, " ")
}

// halt has the agent end, and collect waits for it: what it sends at its end takes a time
// that is chance, and the controller goes by its own.
func (d *simulated) halt(cause error) {
	if cause != nil {
		d.cutLink(true)
	}
	d.stop(cause)
	d.gone, d.cause, d.halted = d.agent, cause, time.Now()
	d.agent = nil
}

// collect says what is not as it should be at the end. After a power cut the newest of the
// model are lost: those that were in memory.
func (d *simulated) collect() error {
	if d.ended == nil {
		return nil // it was collected
	}
	err := <-d.ended
	<-d.watch
	d.ended = nil
	if d.cause == nil {
		return err
	}
	if !errors.Is(err, d.cause) {
		return fmt.Errorf("%s ended with %w", d.name, err)
	}
	lost := d.gone.Status().Spool.Unflushed
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := len(d.model) - lost
	if keep < 0 {
		return fmt.Errorf("%s: %d readings in memory, %d were taken", d.name, lost, len(d.model))
	}
	for _, r := range d.model[keep:] {
		if age := d.halted.Sub(r.at); age > flushEvery+time.Second {
			return fmt.Errorf("%s: a reading of %v ago is lost at a power cut, the flush interval is %v", d.name, age,
				flushEvery)
		}
	}
	d.model, d.lost = d.model[:keep], d.lost+lost
	return nil
}

// fill leaves no room on the device's card, and empty makes it again.
func (d *simulated) fill() error {
	f, err := os.Create(d.ballast())
	if err != nil {
		return err
	}
	for block := make([]byte, 1024); err == nil; {
		_, err = f.Write(block)
	}
	return f.Close()
}

func (d *simulated) empty() error {
	err := os.Remove(d.ballast())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

func (d *simulated) ballast() string { return filepath.Join(d.dir, "ballast") }
