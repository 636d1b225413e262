package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/deploy/qemu/machine"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
	"github.com/tidemill/tidemill/deploy/qemu/session"
	"github.com/tidemill/tidemill/deploy/rig"
)

// thing is the name of the device.
const thing = "sim-pi"

// sensors are those of the device, beside itself: what is on its bus, an input, which
// is polled as it has no edges here, and an output.
const sensors = `
[[sensor]]
name = "host"
driver = "host"
every = "5s"
timeout = "10s"
[[sensor]]
name = "room"
driver = "tmp105"
every = "1s"
timeout = "10s"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x49
[[sensor]]
name = "air"
driver = "dps310"
every = "5s"
timeout = "10s"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x76
[[sensor]]
name = "door"
driver = "gpio-in"
every = "1s"
timeout = "10s"
[sensor.options]
line = "GPIO17"
poll = "50ms"
[[sensor]]
name = "lamp"
driver = "gpio-out"
every = "5s"
timeout = "10s"
[sensor.options]
line = "GPIO27"
`

func get(ctx context.Context, c *call) error {
	update := c.flags.Bool("update", false, "fetch what is newer than what is kept")
	if _, err := c.parse(0, 0); err != nil {
		return err
	}
	store, err := parts.Default(c.stdout)
	if err != nil {
		return err
	}
	for _, p := range parts.All {
		if _, err := store.Get(ctx, p, *update); err != nil {
			return err
		}
	}
	fmt.Fprintln(c.stdout, "in", store.Dir)
	return nil
}

func emulator(ctx context.Context, c *call) error {
	words, err := c.parse(1, 1)
	if err != nil {
		return err
	}
	store, err := parts.Default(os.Stderr)
	if err != nil {
		return err
	}
	command, err := store.User(ctx, words[0])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(c.stdout, command)
	return err
}

func boardFlag(c *call) *string {
	return c.flags.String("board", "raspi3b", "`name`: raspi3b (arm64), raspi0 (ARMv6)")
}

func initramfs(ctx context.Context, c *call) error {
	name := boardFlag(c)
	words, err := c.parse(1, 1)
	if err != nil {
		return err
	}
	board, err := machine.Find(*name)
	if err != nil {
		return usageError(err.Error())
	}
	store, err := parts.Default(c.stdout)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "tidemill-initramfs-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	soft, err := session.Build(ctx, ".", board, work)
	if err != nil {
		return err
	}
	if _, err := machine.New(ctx, store, board, work, soft); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(work, machine.Initramfs))
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s, %d bytes\n", words[0], len(text))
	return os.WriteFile(words[0], text, 0o644)
}

// bootLimit is how long a device may take from the power to a reading in the stream, and a
// step after that. It takes 7 s, on a busy machine eight times as long.
const bootLimit = 2 * time.Minute

// offLimit is how long a device may take to end when it is asked to: a second, and many
// times as long on a busy machine.
const offLimit = time.Minute

func run(ctx context.Context, c *call) (err error) {
	name, dir := boardFlag(c), c.flags.String("dir", defaultDir,
		"`folder` of everything that is written; what an earlier run left is removed")
	seconds := c.flags.Int("seconds", 0, "end after so many `seconds` of readings; 0: at Ctrl-C")
	rtc := c.flags.Bool("rtc", true, "the kernel knows the clock chip; without it the device starts in 1970")
	if _, err := c.parse(0, 0); err != nil {
		return err
	}
	board, err := machine.Find(*name)
	if err != nil {
		return usageError(err.Error())
	}
	root, release, err := prepare(*dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	store, err := parts.Default(c.stdout)
	if err != nil {
		return err
	}
	bin, err := rig.Build(ctx, ".", root)
	if err != nil {
		return err
	}
	s, err := session.Open(ctx, store, ".", bin, root)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	m, err := s.Device(ctx, board, thing, sensors, *rtc)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := m.On(); err != nil {
		return err
	}
	defer func() {
		if err := m.Off(context.WithoutCancel(ctx), offLimit); err != nil {
			fmt.Fprintf(c.stdout, "the power was cut: %v\n", err)
		}
	}()
	fmt.Fprintf(c.stdout, "%s is on, QEMU's process is %d, its console is %s\n", board.Summary, m.PID(),
		filepath.Join(*dir, thing, machine.ConsoleLog))
	boot, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	if _, err := m.Line(boot, machine.Ready); err != nil && ctx.Err() == nil {
		return err
	}
	return watch(ctx, c.stdout, s, m, root, began, time.Duration(*seconds)*time.Second)
}

// watch shows the readings as the stream has them, and turns knobs, until ctx ends or
// the readings have come for as long as length.
func watch(ctx context.Context, out io.Writer, s *session.Session, m *machine.Machine, root string, began time.Time,
	length time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	control, err := listen(root, m, out)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	wg.Go(func() { control.serve(ctx) })
	first := true
	err = s.Records(ctx, true, func(r session.Record) bool {
		if first {
			fmt.Fprintf(out, "the first reading is in the stream after %.1f s\n", time.Since(began).Seconds())
			if first = false; length > 0 {
				time.AfterFunc(length, cancel)
			}
		}
		show(out, r)
		return true
	})
	if ctx.Err() != nil {
		return nil // as asked for
	}
	return err
}

// show prints a record as a line.
func show(out io.Writer, r session.Record) {
	var b strings.Builder
	names := make([]string, 0, len(r.Values))
	for name := range r.Values {
		if !slices.Contains([]string{"thing", "sensor", "ts", "units"}, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, " %s=%v%s", name, r.Values[name], r.Unit(name))
	}
	fmt.Fprintf(out, "%v %s %s%s\n", r.Values["ts"], r.Thing, r.Sensor, &b)
}

// marker is a file that says what its folder is; who runs there has locked it.
const marker = ".tidemill-qemu"

// prepare takes the folder for as long as release is not called, and empties it of
// what an earlier run left there, and of nothing else.
func prepare(dir string) (root string, release func() error, err error) {
	if root, err = filepath.Abs(dir); err != nil {
		return "", nil, err
	}
	if err := os.MkdirAll(root, 0o700); err != nil {
		return "", nil, err
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return "", nil, err
	}
	if len(entries) > 0 && !slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return e.Name() == marker }) {
		return "", nil, fmt.Errorf("%s is not a run's (it has no %s): name another folder with -dir", dir, marker)
	}
	lock, err := os.OpenFile(filepath.Join(root, marker), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return "", nil, err
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return "", nil, errors.Join(fmt.Errorf("a device runs in %s: %w", dir, err), lock.Close())
	}
	for _, e := range entries {
		if e.Name() == marker {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, e.Name())); err != nil {
			return "", nil, errors.Join(err, lock.Close())
		}
	}
	return root, lock.Close, nil
}
