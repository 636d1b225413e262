package board

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"periph.io/x/conn/v3/i2c"
	"periph.io/x/conn/v3/physic"

	"github.com/tidemill/tidemill/hal"
)

// A stuckChip sends a byte of zeros whose clocks stopped: it holds the data line
// until it has seen so many clocks.
type stuckChip struct {
	mu       sync.Mutex
	left     int  // clocks
	holdSCL  bool // it stretches the clock
	scl, sda bool // let go by the master
	stops    int
	clocks   int
}

func (c *stuckChip) drive(scl, sda bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was := c.sda && c.left <= 0
	if scl && !c.scl {
		c.clocks++
		c.left--
	}
	if now := sda && c.left <= 0; now && !was && c.scl && scl {
		c.stops++
	}
	c.scl, c.sda = scl, sda
	return nil
}

func (c *stuckChip) read() (scl, sda bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.scl && !c.holdSCL, c.sda && c.left <= 0, nil
}

func newStuck(clocks int) *stuckChip { return &stuckChip{left: clocks, scl: true, sda: true} }

func TestClockFree(t *testing.T) {
	for _, c := range []struct {
		left int
		scl  bool
		err  string
	}{{0, false, ""}, {1, false, ""}, {9, false, ""}, {10, false, "short circuit"}, {3, true, "SCL is held low"}} {
		chip := newStuck(c.left)
		chip.holdSCL = c.scl
		err := clockFree(chip)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%d clocks: %v, want %s", c.left, err, c.err)
			}
			continue
		}
		// At least one clock, at most nine, and one for the STOP.
		if err != nil || chip.stops != 1 || chip.clocks != max(c.left, 1)+1 || !chip.scl || !chip.sda {
			t.Errorf("%d clocks: %v, %d clocks, %d STOPs", c.left, err, chip.clocks, chip.stops)
		}
	}
}

// stuckBus is the file of a bus with a stuckChip.
type stuckBus struct {
	chip   *stuckChip
	closed atomic.Bool
	clocks bool // the controller clocks without a look at the data line
}

func (s *stuckBus) String() string                  { return "stuck" }
func (s *stuckBus) SetSpeed(physic.Frequency) error { return nil }
func (s *stuckBus) Close() error                    { s.closed.Store(true); return nil }
func (s *stuckBus) Tx(addr uint16, _, _ []byte) error {
	_, sda, _ := s.chip.read()
	if s.clocks {
		for range 18 {
			_ = s.chip.drive(false, true)
			_ = s.chip.drive(true, true)
		}
	}
	switch {
	case s.closed.Load():
		return os.ErrClosed
	case !sda && s.clocks:
		return nil // a low line acknowledges
	case !sda:
		return errors.New("sysfs-i2c: " + unix.ETIMEDOUT.Error())
	case addr == nobody:
		return errors.New("sysfs-i2c: " + unix.EREMOTEIO.Error())
	}
	return nil
}

// stuckBoard has a bus with a stuckChip, open, and what was opened of it.
func stuckBoard(t *testing.T, clocks int, o BusRecovery) (b *Board, bus *stuckBus, h i2c.BusCloser, name string) {
	t.Helper()
	b, _ = fake(t, "i2c-1", "gpiochip0")
	name = b.busName(1)
	b.options.Recover = map[string]BusRecovery{name: o}
	bus = &stuckBus{chip: newStuck(clocks)}
	b.open = func(int) (i2c.BusCloser, error) {
		bus.closed.Store(false)
		return bus, nil
	}
	h, err := b.I2C(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return b, bus, h, name
}

// pinMemory is the registers of a Raspberry Pi whose GPIO2 and GPIO3 are the bus.
type pinMemory struct {
	chip     *stuckChip
	function uint32 // of GPIO0 to GPIO9
}

func (m *pinMemory) load(at int) uint32 {
	switch at {
	case memFunction:
		return m.function
	case memLevel:
		scl, sda, _ := m.chip.read()
		var v uint32
		if sda {
			v |= 1 << 2
		}
		if scl {
			v |= 1 << 3
		}
		return v
	}
	return 0
}

func (m *pinMemory) store(at int, v uint32) {
	if at != memFunction {
		return
	}
	m.function = v
	low := func(pin int) bool { return v>>(3*pin)&7 == pinOutput }
	_ = m.chip.drive(!low(3), !low(2))
}

func (m *pinMemory) Close() error { return nil }

// kernelLines is a controller whose lines 2 and 3 are wired to the chip.
func kernelLines(t *testing.T, label string, chip *stuckChip) (asked *[]lineConfig) {
	t.Helper()
	real := ioctl
	t.Cleanup(func() { ioctl = real })
	asked = new([]lineConfig)
	offsets := map[int]uint32{}
	scl, sda := true, true
	ioctl = func(fd int, op uintptr, arg unsafe.Pointer) error {
		switch op {
		case ioctlChipInfo:
			info := (*chipInfo)(arg)
			copy(info.name[:], "gpiochip0")
			copy(info.label[:], label)
			info.lines = 54
		case ioctlLine:
			r := (*lineRequest)(arg)
			*asked = append(*asked, r.config)
			null, err := unix.Open("/dev/null", unix.O_RDWR, 0)
			if err != nil {
				return err
			}
			r.fd = int32(null)
			offsets[null] = r.offsets[0]
		case ioctlSetValues:
			v := (*lineValues)(arg).bits&1 != 0
			if offsets[fd] == 3 {
				scl = v
			} else {
				sda = v
			}
			return chip.drive(scl, sda)
		case ioctlGetValues:
			c, d, _ := chip.read()
			v := (*lineValues)(arg)
			if offsets[fd] == 3 && c || offsets[fd] == 2 && d {
				v.bits = 1
			}
		}
		return nil
	}
	return asked
}

// A bus that a chip holds carries nothing to any chip; each way that a machine
// offers frees it, and the handles go on.
func TestRecoverBus(t *testing.T) {
	const function = pinALT0<<6 | pinALT0<<9 | 5 // GPIO0 has another
	for _, c := range []struct {
		name   string
		clocks int
		o      BusRecovery
		label  string
		muxed  bool // /dev/gpiomem is there
		self   bool // the controller clocks by itself
		did    string
		err    string
	}{
		{"Raspberry Pi, by its pins' registers", 9, BusRecovery{}, "pinctrl-bcm2711", true, false,
			"nine clocks by the pins' registers", ""},
		{"named pins", 5, BusRecovery{SCL: "GPIO3", SDA: "GPIO2"}, "pinctrl-bcm2835", true, false,
			"nine clocks by the pins' registers", ""},
		{"spare lines", 9, BusRecovery{SCL: "soc:3", SDA: "soc:2", Spare: true}, "soc", false, false,
			"nine clocks by spare lines", ""},
		{"a controller that clocks", 9, BusRecovery{}, "soc", false, true, "a transfer to nobody", ""},
		{"nothing helps", 9, BusRecovery{}, "soc", false, false, "", "still held"},
		{"a bus that is free", 0, BusRecovery{}, "pinctrl-bcm2711", true, false, "", "not held"},
		{"a short circuit", 1000, BusRecovery{}, "pinctrl-bcm2711", true, false,
			"nine clocks by the pins' registers", "short circuit"},
		{"another board's lines are left alone", 9, BusRecovery{SCL: "soc:3", SDA: "soc:2"}, "soc", true, false,
			"", "still held"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, bus, h, name := stuckBoard(t, c.clocks, c.o)
			bus.clocks = c.self
			asked := kernelLines(t, c.label, bus.chip)
			m := &pinMemory{bus.chip, function}
			b.mem = func(string) (memory, error) {
				if !c.muxed {
					return nil, fs.ErrNotExist
				}
				return m, nil
			}
			if !c.self && c.clocks > 0 {
				var be *hal.BusError
				if err := h.Tx(0x76, []byte{0}, nil); !errors.As(err, &be) || be.Bus != name {
					t.Fatalf("a held bus: %v", err)
				}
			}
			did, err := b.RecoverBus(t.Context(), name)
			if did != c.did || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q, %v, want %q, %q", did, err, c.did, c.err)
			}
			if m.function != function {
				t.Errorf("pins have functions %o, want %o: the bus is lost", m.function, function)
			}
			for _, a := range *asked {
				if a.flags != flagOutput|flagDrain || a.attrs[0].value != 1 {
					t.Errorf("a line was driven: %+v", a)
				}
			}
			if c.err == "" && !c.self { // as at a boot: nobody has the bus open
				h.Close()
				bus.chip.left = c.clocks
				if did, err := b.RecoverBus(t.Context(), name); did != c.did || err != nil || len(b.buses) != 0 {
					t.Errorf("with nobody on the bus: %q, %v, %d open", did, err, len(b.buses))
				}
				if h, err = b.I2C(name); err != nil {
					t.Fatal(err)
				}
			}
			if c.err == "" {
				if err := h.Tx(0x76, []byte{0}, nil); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			}
		})
	}
}

// Pins that are muxed to something else than the header's bus are left alone.
func TestRecoverOtherPins(t *testing.T) {
	b, bus, _, name := stuckBoard(t, 9, BusRecovery{})
	kernelLines(t, "pinctrl-bcm2711", bus.chip)
	m := &pinMemory{bus.chip, pinInput<<6 | pinOutput<<9}
	b.mem = func(string) (memory, error) { return m, nil }
	did, err := b.RecoverBus(t.Context(), name)
	if err == nil || strings.Contains(did, "registers") || bus.chip.clocks != 0 {
		t.Errorf("%q, %v, %d clocks", did, err, bus.chip.clocks)
	}
	b.options.Recover = map[string]BusRecovery{name: {SCL: "pinctrl-bcm2711:3", SDA: "pinctrl-bcm2711:2"}}
	if _, err := b.RecoverBus(t.Context(), name); err == nil || !strings.Contains(err.Error(), "spare") {
		t.Errorf("named lines that are no controller's: %v", err)
	}
	if _, err := b.RecoverBus(t.Context(), b.busName(7)); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("a bus that is not there: %v", err)
	}
	if _, err := b.RecoverBus(t.Context(), "x"); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("no bus: %v", err)
	}
}

// boundDriver makes the files of the bus's controller, and returns its driver's folder.
func boundDriver(t *testing.T, b *Board) (driver string) {
	t.Helper()
	device := filepath.Join(b.sys, "devices/platform/soc/1f00074000.i2c")
	driver = filepath.Join(b.sys, "bus/platform/drivers/i2c_designware")
	for _, d := range []string{filepath.Join(device, "i2c-1"), driver, filepath.Join(b.sys, "bus/i2c/devices")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(driver, filepath.Join(device, "driver")),
		os.Symlink(filepath.Join(device, "i2c-1"), filepath.Join(b.sys, "bus/i2c/devices/i2c-1"))); err != nil {
		t.Fatal(err)
	}
	return driver
}

// A rebind that the kernel holds up at the context's end keeps the bus's transfers and
// a second recovery away until it ends; then the driver is bound, and no pin is driven.
// Close waits for it.
func TestRebindHeldUp(t *testing.T) {
	b, bus, h, name := stuckBoard(t, 9, BusRecovery{SCL: "rp1:3", SDA: "rp1:2", Rebind: true})
	kernelLines(t, "rp1", bus.chip)
	boundDriver(t, b)
	unbinding, held := make(chan struct{}), make(chan struct{})
	var bound atomic.Bool
	b.put = func(path, _ string) error {
		if filepath.Base(path) == "unbind" {
			close(unbinding)
			<-held
		} else {
			bound.Store(true)
		}
		return nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-unbinding
		cancel()
	}()
	if _, err := b.RecoverBus(ctx, name); !errors.Is(err, context.Canceled) || !errors.Is(err, errKept) {
		t.Errorf("held up: %v", err)
	}
	transfer := make(chan error, 1)
	go func() { transfer <- h.Tx(0x76, nil, nil) }()
	short, stop := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer stop()
	if _, err := b.RecoverBus(short, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second recovery: %v", err)
	}
	select {
	case err := <-transfer:
		t.Errorf("a transfer beside the rebind: %v", err)
	default:
	}
	closed := make(chan error, 1)
	go func() { closed <- b.Close() }()
	select {
	case err := <-closed:
		t.Errorf("closed beside the rebind: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(held)
	if err := <-closed; err != nil || !bound.Load() || bus.chip.clocks != 0 {
		t.Errorf("closed: %v; bound: %v; %d clocks", err, bound.Load(), bus.chip.clocks)
	}
	<-transfer
}

// The controller's driver is unbound and bound again, with nobody holding the
// bus's file and the lines clocked between.
func TestRebind(t *testing.T) {
	b, bus, h, name := stuckBoard(t, 9, BusRecovery{SCL: "rp1:3", SDA: "rp1:2", Rebind: true})
	kernelLines(t, "rp1", bus.chip)
	driver := boundDriver(t, b)
	var wrote []string
	var refuse error
	b.put = func(path, text string) error {
		wrote = append(wrote, filepath.Base(path)+" "+text)
		if filepath.Dir(path) != driver || !bus.closed.Load() {
			t.Errorf("wrote %s with the bus's file closed: %v", path, bus.closed.Load())
		}
		if filepath.Base(path) == "bind" && bus.chip.clocks == 0 {
			t.Error("bound before the bus was clocked")
		}
		return refuse
	}
	did, err := b.RecoverBus(t.Context(), name)
	if err != nil || did != "its driver bound anew" ||
		strings.Join(wrote, ", ") != "unbind 1f00074000.i2c, bind 1f00074000.i2c" {
		t.Errorf("%q, %v, wrote %v", did, err, wrote)
	}
	if err := h.Tx(0x76, []byte{0}, nil); err != nil || bus.closed.Load() {
		t.Errorf("afterwards: %v", err)
	}
	bus.chip.left, refuse = 1000, fs.ErrPermission
	if _, err := b.RecoverBus(t.Context(), name); err == nil || !strings.Contains(err.Error(), "root") {
		t.Errorf("without root: %v", err)
	}
}

// A transfer that hangs is not waited for beyond the context, and one that comes
// back once the bus is free lets the others go on.
func TestRecoverHanging(t *testing.T) {
	b, bus, h, name := stuckBoard(t, 9, BusRecovery{SCL: "soc:3", SDA: "soc:2", Spare: true})
	kernelLines(t, "soc", bus.chip)
	in, out := make(chan struct{}), make(chan struct{})
	b.buses[1].bus = hanging{bus, in, out}
	done := make(chan error, 1)
	go func() { done <- h.Tx(0x76, nil, nil) }()
	<-in
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.RecoverBus(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a transfer that hangs: %v", err)
	}
	// Nor is a recovery that hangs waited for by another.
	b.freeing <- struct{}{}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.RecoverBus(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("another recovery: %v", err)
	}
	<-b.freeing
	go func() {
		for bus.chip.stopped() == 0 {
			time.Sleep(time.Millisecond)
		}
		close(out)
	}()
	if did, err := b.RecoverBus(t.Context(), name); err != nil {
		t.Errorf("%q, %v", did, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func (c *stuckChip) stopped() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stops
}

// hanging hangs in its first transfer until out is closed.
type hanging struct {
	i2c.BusCloser
	in, out chan struct{}
}

func (h hanging) Tx(addr uint16, w, r []byte) error {
	select {
	case <-h.out:
	default:
		close(h.in)
		<-h.out
	}
	return h.BusCloser.Tx(addr, w, r)
}

// A program that has no file left says so, not that there is no such line.
func TestLineWithoutFiles(t *testing.T) {
	b, _ := fake(t, "gpiochip0")
	kernelLines(t, "pinctrl-bcm2711", newStuck(0))
	real := dup
	defer func() { dup = real }()
	dup = func(int) (int, error) { return -1, unix.EMFILE }
	if _, err := b.Input("GPIO17"); !errors.Is(err, unix.EMFILE) {
		t.Error(err)
	}
}

// Registers are read and written where the datasheet has them.
func TestPinMemory(t *testing.T) {
	dev := t.TempDir()
	if _, err := openMemory(dev); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without the file: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dev, "gpiomem"), make([]byte, memSize), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := openMemory(dev)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	p := &pinPair{m, 45, 44}
	p.become(45, 5)
	p.become(44, 6)
	if got := m.load(0x10); got != 5<<15|6<<12 || p.function(45) != 5 || p.function(44) != 6 {
		t.Errorf("GPFSEL4 is %o", got)
	}
	_ = p.drive(false, true)
	if p.function(45) != pinOutput || p.function(44) != pinInput || m.load(0x2C) == 0 {
		t.Errorf("functions %d and %d, GPCLR1 %x", p.function(45), p.function(44), m.load(0x2C))
	}
	m.store(0x38, 1<<13)
	if scl, sda, err := p.read(); !scl || sda || err != nil {
		t.Errorf("levels %v, %v, %v", scl, sda, err)
	}
}
