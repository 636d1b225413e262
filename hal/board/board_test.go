package board

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/tidemill/tidemill/hal"
)

// Whatever the machine has, opening the board is fine and what it lists is
// well formed; on one without buses and lines it is empty.
func TestThisMachine(t *testing.T) {
	var log bytes.Buffer
	b, err := Open(slog.New(slog.NewTextHandler(&log, nil)), Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s", log.String())
	for _, name := range b.Buses() {
		if !strings.HasPrefix(name, "/dev/i2c-") {
			t.Errorf("bus %q", name)
		}
	}
	if _, err := b.I2C("/dev/i2c-987"); !errors.Is(err, hal.ErrNoDevice) || !strings.Contains(err.Error(), "do_i2c 0") {
		t.Errorf("a bus that isn't there: %v", err)
	}
	if in, err := b.Input("no-such-chip:1"); !errors.Is(err, hal.ErrNoDevice) || in != nil {
		t.Errorf("a chip that isn't there: %v, %v", in, err)
	}
	if out, err := b.Output("no-such-chip:1"); !errors.Is(err, hal.ErrNoDevice) || out != nil {
		t.Errorf("a chip that isn't there: %v, %v", out, err)
	}
	if err := errors.Join(b.Close(), b.Close()); err != nil {
		t.Error(err)
	}
}

// wires is a bus at the device file's place.
type wires struct {
	number, opens, closes int
	err                   error
}

func (w *wires) String() string                  { return fmt.Sprint("wires ", w.number) }
func (w *wires) Tx(uint16, []byte, []byte) error { return w.err }
func (w *wires) SetSpeed(physic.Frequency) error { return nil }
func (w *wires) Close() error                    { w.closes++; return nil }

// fake is a board whose device folder holds the named files.
func fake(t *testing.T, files ...string) (*Board, map[int]*wires) {
	t.Helper()
	dev := t.TempDir()
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dev, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	opened := map[int]*wires{}
	return &Board{
		log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		dev:   dev,
		sys:   t.TempDir(),
		line:  openLine,
		put:   writeFile,
		mem:   openMemory,
		buses: map[int]*bus{},
		pwms:  map[string]bool{},

		freeing: make(chan struct{}, 1),
		open: func(n int) (i2c.BusCloser, error) {
			if opened[n] == nil {
				opened[n] = &wires{number: n}
			}
			opened[n].opens++
			return opened[n], nil
		},
	}, opened
}

func TestBuses(t *testing.T) {
	b, opened := fake(t, "i2c-10", "i2c-1", "i2c-2", "i2c-x", "i2c--3", "null")
	at := func(n string) string { return filepath.Join(b.dev, n) }
	if got, want := b.Buses(), []string{at("i2c-1"), at("i2c-2"), at("i2c-10")}; !slices.Equal(got, want) {
		t.Errorf("buses %v, want %v", got, want)
	}
	for _, bad := range []string{"", "1", "i2c-1", at("i2c-"), at("i2c-01"), at("i2c-+1"), at("i2c-3"), at("null"),
		at("i2c-1") + "/"} {
		if _, err := b.I2C(bad); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("I2C(%q): %v", bad, err)
		}
	}

	one, err := b.I2C(at("i2c-1"))
	if err != nil {
		t.Fatal(err)
	}
	two, _ := b.I2C(at("i2c-1"))
	w := opened[1]
	if w.opens != 1 {
		t.Errorf("two handles opened the file %d times", w.opens)
	}
	if err := errors.Join(one.Close(), one.Close()); err != nil || w.closes != 0 {
		t.Errorf("closing one handle: %v, file closed %d times", err, w.closes)
	}
	if err := one.Tx(0x76, nil, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Tx after Close: %v", err)
	}
	if err := two.Tx(0x76, nil, nil); err != nil {
		t.Errorf("the other handle: %v", err)
	}
	if two.Close(); w.closes != 1 {
		t.Errorf("file closed %d times after the last handle", w.closes)
	}
	again, err := b.I2C(at("i2c-1"))
	if err != nil || w.opens != 2 {
		t.Errorf("opened again: %v, %d times", err, w.opens)
	}
	if err := b.Close(); err != nil || w.closes != 2 {
		t.Errorf("board closed: %v, file %d times", err, w.closes)
	}
	if again.Close(); w.closes != 2 {
		t.Error("the file was closed twice")
	}
}

func TestNoAcknowledge(t *testing.T) {
	b, opened := fake(t, "i2c-1")
	h, err := b.I2C(filepath.Join(b.dev, "i2c-1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		err    error
		absent bool
	}{
		{syscall.ENXIO, true},
		{fmt.Errorf("sysfs-i2c: %v", syscall.ENXIO), true}, // as periph says it
		{fmt.Errorf("sysfs-i2c: %v", eremoteio), true},
		{fmt.Errorf("sysfs-i2c: %v", syscall.ETIMEDOUT), false},
		{syscall.EIO, false},
		{nil, false},
	} {
		opened[1].err = c.err
		err := h.Tx(0x76, []byte{0}, nil)
		if errors.Is(err, hal.ErrNoDevice) != c.absent || (err == nil) != (c.err == nil) || !errors.Is(err, c.err) {
			t.Errorf("%v became %v", c.err, err)
		}
	}
}

func TestParseLine(t *testing.T) {
	for _, c := range []struct {
		in, chip string
		offset   uint32
		ok       bool
	}{
		{"pinctrl-bcm2835:17", "pinctrl-bcm2835", 17, true},
		{"gpiochip0:0", "gpiochip0", 0, true},
		{"1e780000.gpio:8", "1e780000.gpio", 8, true},
		{"0000:00:1f.0:3", "0000:00:1f.0", 3, true},
		{"gpiochip0:65535", "gpiochip0", 65535, true},
		{"gpiochip0:65536", "", 0, false},
		{"gpiochip0:-1", "", 0, false},
		{"gpiochip0:+1", "", 0, false},
		{"gpiochip0:", "", 0, false},
		{":1", "", 0, false},
		{"GPIO17", "", 0, true},
		{"", "", 0, false},
	} {
		r, err := parseLine(c.in)
		if (err == nil) != c.ok || r.chip != c.chip || r.offset != c.offset {
			t.Errorf("%q: %q %d, %v", c.in, r.chip, r.offset, err)
		}
	}
}

func TestPolling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		// High from 1 s to 2 s; the looks of the half second between fail.
		read := func() (bool, error) {
			at := time.Since(began)
			if at >= 1200*time.Millisecond && at < 1700*time.Millisecond {
				return false, errors.New("no contact")
			}
			return at >= time.Second && at < 2*time.Second, nil
		}
		done := make(chan struct{})
		seen := false
		wait := func(timeout time.Duration) bool {
			return waitByPolling(read, &seen, 10*time.Millisecond, timeout, done)
		}
		if wait(500 * time.Millisecond) {
			t.Error("an edge before the first")
		}
		if !wait(-1) || time.Since(began).Round(10*time.Millisecond) != time.Second || !seen {
			t.Errorf("first edge at %v", time.Since(began))
		}
		if !wait(time.Hour) || time.Since(began).Round(10*time.Millisecond) != 2*time.Second || seen {
			t.Errorf("second edge at %v", time.Since(began))
		}
		go func() {
			time.Sleep(time.Minute)
			close(done)
		}()
		if wait(-1) {
			t.Error("an edge at the end")
		}
	})
}
