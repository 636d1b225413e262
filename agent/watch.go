package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
)

// runWatch shows readings as they are taken: the running agent's, or if none
// runs, those of the configured sensors, read here.
func runWatch(ctx context.Context, c *call) error {
	load := configFlags(c)
	socket := c.flags.String("socket", os.Getenv("TIDEMILL_SOCKET"),
		"the agent's Unix `socket`; default: what the configuration says")
	if err := c.parse(0); err != nil {
		return err
	}
	var cfg config.Config
	if *socket == "" {
		var err error
		if cfg, err = load(); err != nil {
			return err
		}
	}
	out := &readingPrinter{w: c.stdout}
	path := *socket
	if path == "" {
		path = cfg.Socket
	}
	err := health.Follow(ctx, path, "/watch", func(line []byte) error {
		var r device.Reading
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("the agent's answer is no reading: %w", err)
		}
		return out.print(r)
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case err == nil:
		return errors.New("the agent has stopped")
	case *socket != "" || !errors.Is(err, health.ErrNoAgent):
		return err
	}
	fmt.Fprintf(c.stderr, "no agent runs here: reading the %d sensors of the configuration; nothing is kept or sent\n",
		len(cfg.Sensors))
	return watchSensors(ctx, c, cfg, out)
}

// watchSensors reads the sensors itself.
func watchSensors(ctx context.Context, c *call, cfg config.Config, out *readingPrinter) error {
	if len(cfg.Sensors) == 0 {
		return errors.New("the configuration has no [[sensor]]; `tidemill-agent config sample` shows some")
	}
	log := newLog(c.stderr, "text", levelOf(cfg))
	board, err := device.OpenBoard(cfg, log)
	if err != nil {
		return err
	}
	defer board.Close()
	s := sampler.New(sampler.Options{Sink: out, Log: log,
		Open: func(ctx context.Context, s sampler.Spec) (hal.Sensor, error) {
			return sensor.Open(ctx, s.Driver, board, s.Options)
		}})
	specs := device.Specs(cfg)
	for i := range specs {
		specs[i].Safe = sampler.Safe{} // it only reads
	}
	s.Set(specs)
	return s.Run(ctx)
}

// A readingPrinter writes readings, a line each. Several goroutines may use it.
type readingPrinter struct {
	mu sync.Mutex
	w  io.Writer
}

// Append makes it a sampler's sink.
func (p *readingPrinter) Append(sensor string, chs []hal.Channel, at time.Time, vals []hal.Value) error {
	return p.print(device.NewReading(sensor, chs, at.UnixMilli(), vals))
}

func (p *readingPrinter) print(r device.Reading) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, err := fmt.Fprintf(p.w, "%s  %s  %s\n", time.UnixMilli(r.TS).Format("2006-01-02 15:04:05.000"),
		printable(r.Sensor), printable(r.String()))
	return err
}

// onceBeyond is how much longer than uplink.connect_timeout run -once waits for a
// connection.
const onceBeyond = 5 * time.Second

// onlyOnce is cfg for one reading of each sensor. The shadow is left alone: it
// would report intervals that nobody wants.
func onlyOnce(cfg config.Config) config.Config {
	cfg.Sensors = slices.Clone(cfg.Sensors)
	for i := range cfg.Sensors {
		s := &cfg.Sensors[i]
		s.Every, s.Phase, s.Window, s.Safe = config.MaxEvery, 0, 0, config.Safe{} // it only reads
	}
	cfg.Shadow.Enabled = false
	cfg.Clock.Wait = min(cfg.Clock.Wait, config.Duration(onceBeyond/2))
	return cfg
}

// runOnce takes one reading of each sensor, sends it with what waits in the
// spool, and ends. What could not be sent stays in the spool.
func runOnce(ctx context.Context, c *call, a *device.Agent, cfg config.Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out := &readingPrinter{w: c.stdout}
	var wg sync.WaitGroup
	wg.Go(func() { _ = a.Watch(ctx, out.print) })
	wg.Go(func() {
		defer stop()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		limit := time.After(time.Duration(cfg.Uplink.ConnectTimeout) + onceBeyond)
		for {
			if a.ReadOnce() && a.Online() && a.TimeSettled() {
				return
			}
			select {
			case <-tick.C:
			case <-limit:
				return
			case <-ctx.Done():
				return
			}
		}
	})
	err := a.Run(ctx)
	stop()
	wg.Wait()
	st := a.Status()
	var errs []error
	for _, s := range st.Sensors {
		if s.Readings == 0 {
			errs = append(errs, fmt.Errorf("sensor %s: %s", s.Name, printable(s.Error)))
		}
	}
	if st.Spool.Batches > 0 {
		errs = append(errs, fmt.Errorf("%d readings wait in the spool: %s", st.Spool.Readings,
			printable(st.Link.Error)))
	}
	return errors.Join(append(errs, err)...)
}
