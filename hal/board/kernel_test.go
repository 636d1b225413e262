package board

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"periph.io/x/conn/v3"
	"periph.io/x/conn/v3/physic"
	"periph.io/x/conn/v3/spi"

	"github.com/tidemill/tidemill/hal"
)

// put makes a file of the fake kernel.
func putFile(t *testing.T, text string, path ...string) {
	t.Helper()
	file := filepath.Join(path...)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestOneWire(t *testing.T) {
	b, _ := fake(t)
	if chips, err := b.OneWireChips(); err != nil || len(chips) != 0 {
		t.Errorf("without 1-Wire: %v, %v", chips, err)
	}
	root := b.oneWire()
	putFile(t, "75 bytes", root, "28-00000a1b2c3d", "w1_slave")
	putFile(t, "", root, "10-000803d1f2a6", "name")
	putFile(t, "", root, "w1_bus_master1", "w1_master_slaves")
	putFile(t, strings.Repeat("x", 2*maxOneWire), root, "28-00000a1b2c3d", "long")
	chips, err := b.OneWireChips()
	if want := []string{"10-000803d1f2a6", "28-00000a1b2c3d"}; err != nil || !slices.Equal(chips, want) {
		t.Errorf("%v, %v, want %v", chips, err, want)
	}
	if text, err := b.ReadOneWire("28-00000a1b2c3d", "w1_slave"); err != nil || string(text) != "75 bytes" {
		t.Errorf("%q, %v", text, err)
	}
	if text, err := b.ReadOneWire("28-00000a1b2c3d", "long"); err != nil || len(text) != maxOneWire {
		t.Errorf("%d bytes, %v: want at most %d", len(text), err, maxOneWire)
	}
	if _, err := b.ReadOneWire("10-000803d1f2a6", "w1_slave"); !errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("a chip without the file: %v", err)
	}
	for _, chip := range []string{"28-00000a1b2c3e", "", "..", "28-00000A1B2C3D", "w1_bus_master1"} {
		if _, err := b.ReadOneWire(chip, "name"); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("chip %q: %v", chip, err)
		}
	}
	if _, err := b.ReadOneWire("28-00000a1b2c3d", "../../secret"); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("a path for a file: %v", err)
	}
}

// pwmKernel makes a controller whose outputs appear at their export, and which
// refuses what the kernel refuses.
func pwmKernel(t *testing.T, b *Board) (root string, log *[]string) {
	t.Helper()
	root = filepath.Join(b.sys, "class/pwm")
	putFile(t, "2\n", root, "pwmchip0", "npwm")
	device := filepath.Join(root, "pwmchip0/device")
	if err := os.Symlink("../../../devices/platform/soc/3f20c000.pwm", device); err != nil {
		t.Fatal(err)
	}
	log = new([]string)
	b.put = func(path, text string) error {
		folder, file := filepath.Split(path)
		*log = append(*log, file+" "+text)
		number := func(file string) int64 { n, _ := readNumber(filepath.Join(folder, file)); return n }
		var n int64
		if _, err := fmt.Sscan(text, &n); err != nil {
			t.Errorf("%s got %q", path, text)
		}
		switch file {
		case "export":
			for f, v := range map[string]string{"period": "0\n", "duty_cycle": "0\n", "enable": "0\n"} {
				putFile(t, v, folder, "pwm"+text, f)
			}
			return nil
		case "period":
			if n == 0 || n < number("duty_cycle") {
				return os.ErrInvalid
			}
		case "duty_cycle":
			if number("period") == 0 || n > number("period") {
				return os.ErrInvalid
			}
		}
		return writeFile(path, text+"\n")
	}
	return root, log
}

func TestPWM(t *testing.T) {
	b, _ := fake(t)
	if len(b.PWMs()) != 0 {
		t.Error("outputs from nowhere")
	}
	root, log := pwmKernel(t, b)
	put := b.put
	b.put = func(path, text string) error {
		if filepath.Base(path) == "export" { // its files may take seconds
			if !b.mu.TryLock() {
				t.Error("the board is locked while an output's files are made")
			} else {
				b.mu.Unlock()
			}
		}
		return put(path, text)
	}
	if got := b.PWMs(); !slices.Equal(got, []string{"pwmchip0:0", "pwmchip0:1"}) {
		t.Errorf("outputs %v", got)
	}
	for _, bad := range []string{"", "pwmchip0", "pwmchip1:0", "pwmchip0:2", "pwmchip0:-1", ":0", "../pwmchip0:0"} {
		if _, err := b.OpenPWM(bad); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	p, err := b.OpenPWM("3f20c000.pwm:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenPWM("pwmchip0:1"); err == nil {
		t.Error("one output opened twice")
	}
	// Longer and shorter periods, on, off: in each order that the kernel takes.
	for _, x := range [][2]time.Duration{
		{20 * time.Millisecond, 0}, {20 * time.Millisecond, 1500 * time.Microsecond},
		{time.Millisecond, time.Millisecond}, {50 * time.Millisecond, 49 * time.Millisecond},
		{time.Microsecond, 0}, {time.Second, time.Second},
	} {
		if err := p.Set(x[0], x[1]); err != nil {
			t.Fatalf("%v: %v, after %v", x, err, *log)
		}
		if period, width, err := p.Get(); err != nil || period != x[0] || width != x[1] {
			t.Errorf("%v of %v, %v, want %v", width, period, err, x)
		}
	}
	for _, x := range [][2]time.Duration{{0, 0}, {1, 2}, {1, -1}, {-1, 0}} {
		if p.Set(x[0], x[1]) == nil {
			t.Errorf("%v was taken", x)
		}
	}
	if err := writeFile(filepath.Join(root, "pwmchip0/pwm1/enable"), "0\n"); err != nil {
		t.Fatal(err)
	}
	if _, width, err := p.Get(); err != nil || width != 0 {
		t.Errorf("disabled: width %v, %v", width, err)
	}
	if err := errors.Join(p.Close(), p.Close()); err != nil {
		t.Error(err)
	}
	if _, _, err := p.Get(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	// Closed, it is there for the next, with no second export.
	*log = nil
	if p, err = b.OpenPWM("pwmchip0:1"); err != nil || len(*log) != 0 {
		t.Fatalf("%v, wrote %v", err, *log)
	}
	if err := os.RemoveAll(filepath.Join(root, "pwmchip0/pwm1")); err != nil {
		t.Fatal(err)
	}
	if err := p.Set(time.Second, 0); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("an output that went away: %v", err)
	}
}

// spiPort is a port that answers with the length of what it gets.
type spiPort struct {
	hz     physic.Frequency
	mode   spi.Mode
	closed int
	fail   error
}

func (p *spiPort) String() string                    { return "spi" }
func (p *spiPort) Close() error                      { p.closed++; return nil }
func (p *spiPort) LimitSpeed(physic.Frequency) error { return nil }
func (p *spiPort) Connect(f physic.Frequency, m spi.Mode, bits int) (spi.Conn, error) {
	p.hz, p.mode = f, m
	if bits != 8 {
		return nil, errors.New("bits")
	}
	return p, nil
}
func (p *spiPort) Tx(_, r []byte) error {
	if len(r) > 0 {
		r[0] = byte(len(r))
	}
	return p.fail
}
func (p *spiPort) Duplex() conn.Duplex          { return conn.Full }
func (p *spiPort) TxPackets([]spi.Packet) error { return errors.ErrUnsupported }

func TestSPI(t *testing.T) {
	b, _ := fake(t, "spidev0.1", "spidev10.0", "spidev", "spidevx.y")
	port := &spiPort{}
	var asked [2]int
	b.spi = func(bus, cs int) (spi.PortCloser, error) {
		asked = [2]int{bus, cs}
		return port, nil
	}
	name := filepath.Join(b.dev, "spidev10.0")
	o := hal.SPIOptions{Hz: 1_000_000, Mode: 1}
	for _, bad := range []string{"", "spidev0.1", name + "1", filepath.Join(b.dev, "spidev"), name + "/",
		filepath.Join(b.dev, "spidev010.0"), filepath.Join(b.dev, "spidev0.0")} {
		if _, err := b.OpenSPI(bad, o); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	for _, bad := range []hal.SPIOptions{{}, {Hz: 1e9}, {Hz: 1e6, Mode: 4}} {
		if _, err := b.OpenSPI(name, bad); err == nil {
			t.Errorf("%+v was taken", bad)
		}
	}
	d, err := b.OpenSPI(name, o)
	if err != nil || asked != [2]int{10, 0} || port.hz != physic.MegaHertz || port.mode != spi.Mode1 {
		t.Fatalf("%v, asked for %v, %v mode %v", err, asked, port.hz, port.mode)
	}
	var r [4]byte
	if err := d.Tx(nil, r[:]); err != nil || r[0] != 4 {
		t.Errorf("%v, %x", err, r)
	}
	port.fail = errors.New("sysfs-spi: input/output error")
	if err := d.Tx(nil, r[:]); !errors.Is(err, port.fail) || !strings.Contains(err.Error(), name) {
		t.Errorf("a transfer that failed: %v", err)
	}
	if err := errors.Join(d.Close(), d.Close()); err != nil || port.closed != 1 {
		t.Errorf("%v, closed %d times", err, port.closed)
	}
	if err := d.Tx(nil, r[:]); !errors.Is(err, os.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	b.spi = func(int, int) (spi.PortCloser, error) { return nil, errors.New("sysfs-spi: open: permission denied") }
	if _, err := b.OpenSPI(name, o); err == nil || !strings.Contains(err.Error(), "group") {
		t.Errorf("without permission: %v", err)
	}
}
