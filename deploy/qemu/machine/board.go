// Package machine runs a simulated Raspberry Pi: QEMU with Debian's kernel, with
// chips on its I2C bus, a card and a network that can be cut. Whoever has one turns
// its knobs: a chip's temperature, a pin's level, the link, the power.
//
// What the emulated board cannot: its lines have no edges, so inputs are polled; it
// has no SPI, no 1-Wire, no IIO. Writes that reached QEMU outlive a power cut, also
// those that a real card might still lose; what the guest's kernel had not written is lost.
package machine

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/deploy/qemu/boot"
	"github.com/tidemill/tidemill/deploy/qemu/parts"
)

// A Board is a kind of Raspberry Pi.
type Board struct {
	Name     string // of QEMU's machine
	Summary  string
	GOARCH   string
	GOARM    string
	emulator string
	kernel   parts.Part
	tree     string // below the kernel's folder of device trees
	disable  string // a node of it that the kernel would fail over, or ""
	modules  []string
	console  string // the kernel's name of it
	ports    int    // serial ports before the console's
	icount   bool   // time goes by instructions, see Boards
	lines    uint64 // address of the registers of its GPIO lines (BCM2835 ARM Peripherals, chapter 6)
}

// Boards are those that can be run.
var Boards = []Board{
	// Without phy-generic the USB host never appears; without crc32c_generic ext4
	// cannot be mounted; without bcm2835_wdt power-off halts, and QEMU stays.
	{Name: "raspi3b", Summary: "Raspberry Pi 3, arm64", GOARCH: "arm64", emulator: "qemu-system-aarch64",
		kernel: parts.KernelARM64, tree: "broadcom/bcm2837-rpi-3-b.dtb", console: "ttyS1", ports: 1,
		modules: []string{"i2c-dev", "i2c-bcm2835", "phy-generic", "dwc2", "cdc_ether", "bcm2835_wdt", "bcm2835",
			"sdhci-iproc", "crc32c_generic", "ext4"}, lines: 0x3f200000},
	// Its kernel panics in bcm2835_power_probe if there is a watchdog. It sets its one timer
	// to the time now and 15 µs or more: if the host lets QEMU wait in between, that is the past,
	// and the guest sleeps for an hour or until a key is pressed. By instructions it is not.
	{Name: "raspi0", Summary: "Raspberry Pi Zero, ARMv6", GOARCH: "arm", GOARM: "6", emulator: "qemu-system-arm",
		kernel: parts.KernelARMv6, tree: "bcm2835-rpi-zero.dtb", disable: "watchdog@7e100000", console: "ttyAMA0",
		modules: []string{"i2c-dev", "cdc_ether", "sdhci-iproc", "rtc-ds1307", "crc32c_generic", "ext4"},
		icount:  true, lines: 0x20200000},
}

// Find returns the board of a name.
func Find(name string) (Board, error) {
	i := slices.IndexFunc(Boards, func(b Board) bool { return b.Name == name })
	if i < 0 {
		var names []string
		for _, b := range Boards {
			names = append(names, b.Name)
		}
		return Board{}, fmt.Errorf("there is no board %q: want one of %s", name, strings.Join(names, ", "))
	}
	return Boards[i], nil
}

// files are a kernel, its device tree, and the modules to load, in their order.
type files struct {
	kernel, tree string
	modules      []boot.Module
}

// find looks the board's files up in an unpacked package.
func (b Board) find(dir string) (f files, err error) {
	for pattern, to := range map[string]*string{"boot/vmlinuz-*": &f.kernel,
		"usr/lib/linux-image-*/" + b.tree: &f.tree} {
		all, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(all) != 1 {
			return f, fmt.Errorf("%s has %d of %s, want one", dir, len(all), pattern)
		}
		*to = all[0]
	}
	f.modules, err = boot.Modules(filepath.Join(dir, "lib/modules"), b.modules...)
	return f, err
}
