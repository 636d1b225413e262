package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/provision"
	"github.com/tidemill/tidemill/hal/sensor"
)

// configFlags adds the flags that say what the configuration is made of, and
// returns how to load it once they are parsed.
func configFlags(c *call) func() (config.Config, error) {
	source := configSource(c)
	return func() (config.Config, error) { return config.Load(source()) }
}

// configSource is configFlags for who loads it by itself.
func configSource(c *call) func() config.Source {
	path := c.flags.String("config", defaultConfig, "configuration `file`")
	set := map[string]string{}
	add := func(name, key, help string) {
		c.flags.Func(name, help+" (overrides "+key+")", func(v string) error { set[key] = v; return nil })
	}
	add("data-dir", "data_dir", "`folder` of the spool and the shadow")
	add("endpoint", "uplink.endpoint", "`host:port` of the broker")
	add("log-level", "log.level", "`level`: debug, info, warn, error")
	add("log-format", "log.format", "`format`: json, text")
	return func() config.Source {
		return config.Source{Path: *path, Lookup: os.LookupEnv, Flags: set,
			CheckOptions: sensor.Check, Place: sensor.Place}
	}
}

func levelOf(cfg config.Config) *slog.LevelVar {
	level := new(slog.LevelVar)
	_ = level.UnmarshalText([]byte(cfg.Log.Level)) // checked
	return level
}

// softMemory is what the Go runtime holds the agent's memory to, in bytes, by
// collecting more often: 15 MB is what it needs, 64 MB is where the unit's
// MemoryMax ends it, with the readings that are not flushed. A bridge that sends
// without a pause took it to 250 MB; 45 MB with this. GOMEMLIMIT in the environment overrides.
const softMemory = 32 << 20

func holdMemory() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(softMemory)
	}
}

func runAgent(ctx context.Context, c *call) error {
	holdMemory()
	source := configSource(c)
	load := func() (config.Config, error) { return config.Load(source()) }
	once := c.flags.Bool("once", false, "read each sensor once, send it with what waits in the spool, and end")
	if err := c.parse(0); err != nil {
		return err
	}
	// Early: a reload that comes while the agent starts must not end it.
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	cfg, err := load()
	if err != nil {
		return err
	}
	if cfg.Thing == "" {
		return provision.ErrNotProvisioned
	}
	if *once {
		cfg = onlyOnce(cfg)
	}
	level := levelOf(cfg)
	log := newLog(c.stderr, cfg.Log.Format, level)
	slog.SetDefault(log) // what programs of sensors say on standard error, and libraries
	ready := func() {
		if err := health.Notify("READY=1"); err != nil {
			log.Warn("systemd could not be told", "err", err)
		}
	}
	a, cfg, err := newAgent(cfg, source, device.Deps{Version: version, Log: log, Level: level, Ready: ready,
		Renewed: func() {
			select {
			case hup <- syscall.SIGHUP:
			default: // one is on its way
			}
		}})
	if err != nil {
		return err
	}
	if *once {
		return runOnce(ctx, c, a, cfg)
	}
	side, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var wg sync.WaitGroup
	wg.Go(func() { reloads(side, hup, a, load, log) })
	wg.Go(func() {
		// Through the shutdown too, which may take longer than one period.
		health.Watchdog(side, health.WatchdogEvery(), a.Alive, func() {
			log.Error("no sampling or no flush any more, systemd will restart the agent")
		})
	})
	stopping := context.AfterFunc(ctx, func() { _ = health.Notify("STOPPING=1") })
	err = a.Run(ctx)
	stopping()
	cancel()
	wg.Wait()
	return err
}

// newAgent makes an agent, without the deviceConfiguration of provisioning if there is
// none with it: that must not keep a device from starting.
func newAgent(cfg config.Config, source func() config.Source, d device.Deps) (*device.Agent, config.Config, error) {
	a, err := device.New(cfg, d)
	if err == nil || cfg.Remote.State != config.RemoteApplied {
		return a, cfg, err
	}
	without := source()
	without.RefuseRemote = "the agent does not start with it: " + err.Error()
	if cfg, err = config.Load(without); err != nil {
		return nil, cfg, err
	}
	a, err = device.New(cfg, d)
	return a, cfg, err
}

// reloads takes up the configuration again at each SIGHUP. A bad one is
// reported and the old one stays.
func reloads(ctx context.Context, hup <-chan os.Signal, a *device.Agent, load func() (config.Config, error),
	log *slog.Logger) {
	for {
		select {
		case <-hup:
		case <-ctx.Done():
			return
		}
		_ = health.Reloading()
		cfg, err := load()
		if err != nil {
			log.Error("the new configuration is bad, the old one stays", "err", err)
		} else if restart := a.Reload(cfg); len(restart) > 0 {
			log.Warn("configuration taken up, but some keys need a restart", "keys", strings.Join(restart, ", "))
		} else {
			log.Info("configuration taken up")
		}
		_ = health.Notify("READY=1")
	}
}

func runConfig(_ context.Context, c *call) error {
	if len(c.args) == 0 {
		return &usageError{"want check or sample"}
	}
	source := configSource(c)
	file := c.flags.Lookup("config")
	switch c.args[0] {
	case "sample":
		c.args = c.args[1:]
		if err := c.parse(0); err != nil {
			return err
		}
		_, err := io.WriteString(c.stdout, config.Sample)
		return err
	case "check":
		c.args = c.args[1:]
		if err := c.parse(1); err != nil {
			return err
		}
		if len(c.words) == 1 {
			if err := file.Value.Set(c.words[0]); err != nil {
				return err
			}
		}
		src := source()
		src.Files = true
		cfg, err := config.Load(src)
		if err != nil {
			return err
		}
		if cfg.Remote.State != config.RemoteNone {
			fmt.Fprintf(c.stdout, "deviceConfiguration %s\n", printable(cfg.Remote.String()))
		}
		_, err = fmt.Fprintf(c.stdout, "ok: thing %s, %d sensors, to %s\n", cmp.Or(cfg.Thing, "(not provisioned yet)"),
			len(cfg.Sensors), cfg.Uplink.Endpoint)
		return err
	case "-h", "-help", "--help":
		return c.parse(0)
	}
	return &usageError{fmt.Sprintf("unknown word %q, want check or sample", c.args[0])}
}
