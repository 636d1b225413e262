// Command guest is /init of a simulated device: it readies the machine as an
// operating system would, and runs tidemill-agent, which is the same program as on any
// other device.
//
// It loads the kernel's modules, sets the clock by the RTC, mounts the card on
// /data, and gives the network interface its address. Then it has the device
// provisioned, and runs the agent with /data/agent.toml, again whenever it ends. On
// the console it takes commands, see console.go. Nothing in here waits for a time:
// it waits for devices to appear.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What the initramfs has.
const (
	agent   = "/bin/tidemill-agent"
	modules = "/modules" // 00-NAME.ko and so on, in the order in which they load
)

// What the device has.
const (
	card    = "/dev/mmcblk0"
	data    = "/data"
	config  = data + "/agent.toml"
	rtcBus  = "/sys/bus/i2c/devices/i2c-1"
	rtcChip = "ds1307 0x68"
	// QEMU's user network gives its first guest this address; the host is 10.0.2.2.
	// There is no route to anywhere else.
	address = "10.0.2.15"
)

// patience is how long a device may take to appear: seconds, and many times as long
// where the host is busy.
const patience = 100 * time.Second

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: this is /init of a simulated device; see deploy/qemu")
		os.Exit(2)
	}
	say("start")
	err := start()
	if err == nil {
		err = serve()
	}
	if errors.Is(err, errPowerOff) {
		say("power off")
	} else {
		say("failed: %v", err)
	}
	halt()
}

// say prints a line on the console, with the seconds since the kernel began.
func say(format string, args ...any) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) // cannot fail
	fmt.Printf("init %d.%02d: %s\n", now.Sec, now.Nsec/10_000_000, fmt.Sprintf(format, args...))
}

// start readies the machine.
func start() error {
	for _, m := range []struct{ what, where string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"},
		{"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m.where, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.what, m.where, m.what, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return fmt.Errorf("mount %s: %w", m.where, err)
		}
	}
	if err := unix.Sethostname([]byte("raspberrypi")); err != nil {
		return err
	}
	if err := load(); err != nil {
		return err
	}
	setClock()
	if err := mountCard(); err != nil {
		return err
	}
	return network()
}

// load loads the modules.
func load() error {
	all, err := filepath.Glob(modules + "/*.ko") // sorted
	if err != nil {
		return err
	}
	for _, path := range all {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("module %s: %w", filepath.Base(path), err)
		}
	}
	say("%d modules", len(all))
	return nil
}

// setClock tells the kernel of the RTC, which sets the clock by it. A device without
// one starts in 1970.
func setClock() {
	text, err := os.ReadFile("/proc/cmdline")
	if err == nil && strings.Contains(string(text), "tidemill.rtc=no") {
		say("no RTC")
		return
	}
	if err := os.WriteFile(filepath.Join(rtcBus, "new_device"), []byte(rtcChip), 0); err != nil {
		say("no RTC: %v", err)
		return
	}
	say("clock is at %s", time.Now().UTC().Format(time.RFC3339))
}

// mountCard waits for the card and mounts it.
func mountCard() error {
	if err := appear(card); err != nil {
		return err
	}
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(card, data, "ext4", unix.MS_NOATIME, ""); err != nil {
		return fmt.Errorf("mount %s: %w", card, err)
	}
	say("card is mounted")
	return nil
}

// appear waits until a file is there.
func appear(path string) error {
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		_, err := os.Stat(path)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// network waits for the interface, gives it its address, and brings it and the
// loopback up.
func network() error {
	var name string
	for end := time.Now().Add(patience); name == ""; time.Sleep(10 * time.Millisecond) {
		for _, pattern := range []string{"/sys/class/net/eth*", "/sys/class/net/usb*", "/sys/class/net/en*"} {
			if all, _ := filepath.Glob(pattern); len(all) > 0 {
				name = filepath.Base(all[0])
			}
		}
		if time.Now().After(end) {
			return errors.New("no network interface appeared")
		}
	}
	for _, up := range []struct{ name, address, mask string }{{"lo", "127.0.0.1", "255.0.0.0"},
		{name, address, "255.255.255.0"}} {
		if err := bringUp(up.name, up.address, up.mask); err != nil {
			return fmt.Errorf("%s: %w", up.name, err)
		}
	}
	say("network %s has %s", name, address)
	return nil
}
