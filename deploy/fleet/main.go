// Command fleet runs thousands of simulated devices in one process against a bridge.
// `make fleet` starts it beside a bridge of its own; README.md has a session.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/deploy/fleet/devices"
	"github.com/tidemill/tidemill/deploy/rig"
)

const help = `tidemill-fleet runs many simulated devices in one process: the real agent, each with its own
identity, spool, shadow and weather. Their identities are kept, and used again.

Examples:
  tidemill-fleet -devices 100 -bridge bin
        beside a bridge of its own, in fleet-data/bridge
  tidemill-fleet -devices 1000 -admin /var/lib/tidemill-bridge/admin.sock
        makes the things as "tidemill-bridge thing create" does
  tidemill-fleet -devices 100 -endpoint bridge.example.org:8883 -ca ca.pem -template pi \
        -claim-cert claim.pem -claim-key claim.key -parameter SerialNumber={device}
        provisions them by a claim certificate
  tidemill-fleet -devices 200 -admin bridge-data/admin.sock -offline-every 10m -offline-for 1m \
        -reboot-every 1h -power-cut-every 2h
        with faults: each device has one in so long, on average
  tidemill-fleet -devices 1000 -admin bridge-data/admin.sock -memory -for 5m -json
        spools in /dev/shm, ends after five minutes, a JSON object a second

Flags:
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second one ends it at once
	os.Exit(start(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// settings are the command line.
type settings struct {
	devices.Options
	admin      string
	programs   string
	claim      devices.Claim
	chips      string
	memory     bool
	json       bool
	length     time.Duration
	parameters map[string]string
}

func (s *settings) add(f *flag.FlagSet) {
	f.IntVar(&s.Count, "devices", 10, "how many `devices`")
	f.StringVar(&s.Dir, "dir", "fleet-data", "`folder` of identities and configurations, and of spools")
	f.StringVar(&s.Prefix, "prefix", "fleet", "the `beginning` of the things' names")
	f.Uint64Var(&s.Seed, "seed", 1, "`seed` of weather and faults")
	f.StringVar(&s.admin, "admin", "", "`path` of the bridge's admin socket, to make things by")
	f.StringVar(&s.programs, "bridge", "",
		"start a bridge of its own by the programs in a `folder`, such as bin after make build")
	f.StringVar(&s.claim.Endpoint, "endpoint", "",
		"`host:port` of the bridge's MQTT (default: what the admin socket says)")
	f.StringVar(&s.claim.CA, "ca", "", "`file` of the CA of the bridge, with -template")
	f.StringVar(&s.claim.Template, "template", "", "provisioning `template`, for devices that claim their identity")
	f.StringVar(&s.claim.Cert, "claim-cert", "", "`file` of the claim certificate")
	f.StringVar(&s.claim.Key, "claim-key", "", "`file` of its key")
	f.Func("parameter", "`name=value` for the template, may be given again; {device} is the device's name",
		func(v string) error {
			name, value, ok := strings.Cut(v, "=")
			if !ok || name == "" {
				return errors.New("want name=value")
			}
			s.parameters[name] = value
			return nil
		})
	f.StringVar(&s.chips, "chips", "bme280", "`chips` of each board, with commas; chip@address for two of a kind")
	f.DurationVar(&s.Every, "every", time.Second, "`time` between the readings of a sensor")
	f.DurationVar(&s.Flush, "flush", 5*time.Second, "spool.flush_every: a `time`, what a power cut costs")
	f.DurationVar(&s.Ramp, "ramp", 10*time.Second, "`time` in which the devices start")
	f.BoolVar(&s.Shadow, "shadow", true, "each device keeps a shadow")
	f.BoolVar(&s.memory, "memory", false,
		"spools are in /dev/shm: nothing waits for a disk, and they are gone at the end")
	f.DurationVar(&s.length, "for", 0, "end after a `time`; 0: at Ctrl-C")
	f.BoolVar(&s.json, "json", false, "print a JSON object a second")
	x := &s.Faults
	f.DurationVar(&x.OfflineEvery, "offline-every", 0, "mean `time` between two losses of a device's link; 0: never")
	f.DurationVar(&x.OfflineFor, "offline-for", time.Minute, "mean `time` without a link")
	f.DurationVar(&x.RebootEvery, "reboot-every", 0, "mean `time` between two clean restarts; 0: never")
	f.DurationVar(&x.PowerCutEvery, "power-cut-every", 0, "mean `time` between two power cuts; 0: never")
	f.DurationVar(&x.ClockJumpEvery, "clock-jump-every", 0, "mean `time` between two jumps of a clock; 0: never")
	f.DurationVar(&x.ClockJump, "clock-jump", time.Hour, "by how much, back or forth: a `time`, the standard deviation")
	f.DurationVar(&x.ClockJumpFor, "clock-wrong-for", 10*time.Minute, "mean `time` until the clock is right again")
	f.DurationVar(&x.DownFor, "down-for", 10*time.Second, "mean `time` that a device is without power, or boots")
}

// start is the program. It returns the exit code: 2 for a wrong command line.
func start(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	s := &settings{parameters: map[string]string{}}
	f := flag.NewFlagSet("fleet", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() { fmt.Fprint(f.Output(), help); f.PrintDefaults() }
	s.add(f)
	for _, a := range args {
		if a == "-h" || a == "-help" || a == "--help" {
			f.SetOutput(stdout)
		}
	}
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		return 2
	case f.NArg() > 0:
		fmt.Fprintf(stderr, "fleet: unknown argument %q; -help shows what there is\n", f.Arg(0))
		return 2
	}
	stop, err := s.bridge(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "fleet:", err)
		return 1
	}
	defer stop()
	fleet, err := s.fleet(slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	if err != nil {
		fmt.Fprintln(stderr, "fleet:", err)
		return 2
	}
	if s.memory {
		defer os.RemoveAll(s.Data)
	}
	if s.length > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.length)
		defer cancel()
	}
	if err := s.run(ctx, fleet, stdout); err != nil {
		fmt.Fprintln(stderr, "fleet:", err)
		return 1
	}
	return 0
}

// bridge starts a bridge, if one is asked for, and returns how to end it.
func (s *settings) bridge(ctx context.Context) (stop func(), err error) {
	if s.programs == "" {
		return func() {}, nil
	}
	programs, err := filepath.Abs(s.programs)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		return nil, err
	}
	b, err := rig.NewBridge(rig.In(programs), dir, "")
	if err != nil {
		return nil, err
	}
	if err := b.Start(); err != nil {
		return nil, err
	}
	if err := b.Ready(ctx); err != nil {
		b.Kill()
		return nil, err
	}
	s.admin, s.claim.Endpoint = filepath.Join(b.Dir, "admin.sock"), b.MQTT
	return func() { _ = b.Stop(time.Minute) }, nil
}

// fleet makes the devices of the command line.
func (s *settings) fleet(log *slog.Logger) (*devices.Fleet, error) {
	switch {
	case s.admin != "" && s.claim.Template != "":
		return nil, errors.New("-admin and -template are two ways to an identity: want one")
	case s.admin != "":
		s.Identities = devices.NewAdmin(s.admin, s.claim.Endpoint)
	case s.claim.Template != "":
		for name, v := range map[string]string{"-endpoint": s.claim.Endpoint, "-ca": s.claim.CA,
			"-claim-cert": s.claim.Cert, "-claim-key": s.claim.Key} {
			if v == "" {
				return nil, fmt.Errorf("-template needs %s", name)
			}
		}
		s.claim.Parameters = s.parameters
		s.Identities = &s.claim
	default:
		return nil, errors.New("want -admin SOCKET, -bridge FOLDER, or -template NAME with a claim; -help shows them")
	}
	s.Log, s.Chips = log, strings.Split(s.chips, ",")
	if s.memory {
		var err error
		if s.Data, err = os.MkdirTemp("/dev/shm", "tidemill-fleet-"); err != nil {
			return nil, err
		}
	}
	fleet, err := devices.New(s.Options)
	if err != nil && s.memory {
		_ = os.RemoveAll(s.Data)
	}
	return fleet, err
}

// run runs the fleet and shows it once a second.
func (s *settings) run(ctx context.Context, fleet *devices.Fleet, out io.Writer) error {
	done := make(chan error, 1)
	began := time.Now()
	go func() { done <- fleet.Run(ctx) }()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	before := fleet.Totals()
	for {
		select {
		case <-tick.C:
			t := fleet.Totals()
			s.show(out, &t, &before)
			before = t
		case err := <-done:
			t := fleet.Totals()
			s.show(out, &t, &before)
			if !s.json {
				fmt.Fprint(out, t.Sum(time.Since(began)))
			}
			return err
		}
	}
}

func (s *settings) show(out io.Writer, t, before *devices.Totals) {
	if s.json {
		_ = json.NewEncoder(out).Encode(t)
		return
	}
	fmt.Fprintln(out, t.Line(before))
}
