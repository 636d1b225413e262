package sensor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/tidemill/tidemill/hal"
)

var hostDriver = driver{
	Driver: Driver{
		Name:    "host",
		Summary: "vitals of this machine: processor, memory, disk, network, uptime",
		Options: []Option{
			{"path", "string", "/", "the file system whose space is told, by any path in it"},
			{"interface", "string", "", "network interface to count; all but lo if left out"},
			{"zones", "bool", "false", "adds the temperature of each thermal zone"},
			{"root", "string", "/", "folder that holds proc and sys, and path; for containers and tests"},
		},
	},
	set: func(o *options) opener {
		root, path, iface := o.text("root", "/"), o.text("path", "/"), o.text("interface", "")
		if !filepath.IsAbs(path) {
			o.fail("path", "%q, want an absolute path", path)
		}
		// dev_valid_name in the kernel: IFNAMSIZ is 16 with its end.
		if len(iface) > 15 || strings.ContainsAny(iface, "/ :") {
			o.fail("interface", "%q, want the name of a network interface", iface)
		}
		zones, _ := o.flag("zones")
		return func(context.Context, hal.Board) (hal.Sensor, error) { return openHost(root, path, iface, zones) }
	},
}

// The host's channels, by their place in a reading.
const (
	hostTemp = iota
	hostCPU
	hostLoad
	hostMemUsed
	hostMemAvailable
	hostDiskUsed
	hostDiskFree
	hostRx
	hostTx
	hostUptime
	hostChannels
)

// host is the driver of the same name. It keeps the files of /proc open and
// reads them without garbage but for the reading itself.
type host struct {
	path, iface string
	extra       []hostExtra

	mu                            sync.Mutex // guards all below
	closed                        bool
	stat, mem, load, up, net, tmp procFile
	busy, total                   int64 // of the last reading that moved on
	last                          float64
	ready                         bool // last holds a share

	// statfs hangs with a network file system, so it runs in a goroutine of
	// its own, of which there is never more than one.
	disk     chan diskResult // holds one
	diskBusy bool
}

type diskResult struct {
	used, free int64
	err        error
}

func openHost(root, path, iface string, zones bool) (hal.Sensor, error) {
	proc := func(name string, most int) procFile {
		return procFile{path: filepath.Join(root, "proc", name), most: most}
	}
	h := &host{
		path:  filepath.Join(root, path),
		iface: iface,
		stat:  proc("stat", 512), // the first line holds all CPUs together
		mem:   proc("meminfo", 8<<10),
		load:  proc("loadavg", 512),
		up:    proc("uptime", 512),
		net:   proc("net/dev", 1<<20),
		tmp:   procFile{path: findTemp(root), most: 64},
		disk:  make(chan diskResult, 1),
		extra: hostExtras(root, iface, zones),
	}
	b, err := h.stat.read()
	if err == nil {
		h.busy, h.total, err = cpuTimes(b)
	}
	if err != nil {
		h.stat.close()
		return nil, fmt.Errorf("host: %w", err)
	}
	return h, nil
}

// findTemp returns the file with the processor's temperature, "" if there is
// none: the thermal zone, or else the hwmon chip, whose name comes first in the
// lists below. On a Raspberry Pi that is the zone cpu-thermal.
func findTemp(root string) string {
	for _, k := range []struct {
		glob, name, value string
		names             []string
	}{
		{"sys/class/thermal/thermal_zone*", "type", "temp",
			[]string{"cpu-thermal", "cpu_thermal", "soc-thermal", "soc_thermal", "x86_pkg_temp", "cpu0-thermal",
				"cpu"}},
		{"sys/class/hwmon/hwmon*", "name", "temp1_input",
			[]string{"cpu_thermal", "coretemp", "k10temp", "zenpower", "soc_thermal"}},
	} {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(root), k.glob)) // the pattern is well formed
		best, at := len(k.names), ""
		for _, dir := range found {
			b, err := os.ReadFile(filepath.Join(dir, k.name))
			if err != nil {
				continue
			}
			if i := slices.Index(k.names, strings.TrimSpace(string(b))); i >= 0 && i < best {
				best, at = i, filepath.Join(dir, k.value)
			}
		}
		if at != "" {
			return at
		}
	}
	return ""
}

// escapeGlob makes a folder's name stand for itself in a pattern.
func escapeGlob(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

// Channels: cpu_used is the share of all processors' time since the last
// reading; mem_used is what is not available; disk_free is what a user without
// privileges can still write; net_rx and net_tx count since the interface came
// up. wifi_signal is that of the interface, or of the first that is wireless; a
// Raspberry Pi tells what its supply is like. A channel that the machine doesn't have is absent.
func (h *host) Channels() []hal.Channel {
	chs := []hal.Channel{
		hostTemp:         {Name: "cpu_temp", Unit: "°C", Kind: hal.Float},
		hostCPU:          {Name: "cpu_used", Unit: "%", Kind: hal.Float},
		hostLoad:         {Name: "load1", Kind: hal.Float},
		hostMemUsed:      {Name: "mem_used", Unit: "B", Kind: hal.Int},
		hostMemAvailable: {Name: "mem_available", Unit: "B", Kind: hal.Int},
		hostDiskUsed:     {Name: "disk_used", Unit: "B", Kind: hal.Int},
		hostDiskFree:     {Name: "disk_free", Unit: "B", Kind: hal.Int},
		hostRx:           {Name: "net_rx", Unit: "B", Kind: hal.Int},
		hostTx:           {Name: "net_tx", Unit: "B", Kind: hal.Int},
		hostUptime:       {Name: "uptime", Unit: "s", Kind: hal.Float},
	}
	for _, e := range h.extra {
		chs = append(chs, e.Channel)
	}
	return chs
}

// Read fails only if nothing could be read; a file that is missing or unlike
// what proc(5) says leaves its channels absent, and so does a file system that
// does not answer by ctx's end.
func (h *host) Read(ctx context.Context) ([]hal.Value, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, fmt.Errorf("host: %w", os.ErrClosed)
	}
	v := make([]hal.Value, hostChannels, hostChannels+len(h.extra))
	errs := [...]error{h.readTemp(v), h.readCPU(v), h.readLoad(v), h.readMemory(v), h.readNet(v), h.readUptime(v),
		h.readDisk(ctx, v)}
	for _, e := range h.extra {
		value, _ := e.read() // absent, as all that is not there
		v = append(v, value)
	}
	for i := range v {
		if v[i].Kind() != hal.Absent {
			return v, nil
		}
	}
	return nil, fmt.Errorf("host: %w", errors.Join(errs[:]...))
}

func (h *host) readTemp(v []hal.Value) error {
	if h.tmp.path == "" {
		return nil
	}
	b, err := h.tmp.read()
	if err != nil {
		return err
	}
	t, err := milli(b)
	if err == nil {
		v[hostTemp] = hal.FloatValue(t)
	}
	return err
}

func (h *host) readCPU(v []hal.Value) error {
	b, err := h.stat.read()
	if err != nil {
		return err
	}
	busy, total, err := cpuTimes(b)
	if err != nil {
		return err
	}
	// Ticks are 10 ms: two readings within one tick have the same share. The
	// idle counter can go back a little (proc(5)); then we start anew.
	if total < h.total || busy < h.busy {
		h.busy, h.total, h.ready = busy, total, false
	}
	if total > h.total {
		h.last, h.ready = 100*float64(busy-h.busy)/float64(total-h.total), true
		h.busy, h.total = busy, total
	}
	if h.ready {
		v[hostCPU] = hal.FloatValue(min(h.last, 100))
	}
	return nil
}

func (h *host) readLoad(v []hal.Value) error {
	b, err := h.load.read()
	if err != nil {
		return err
	}
	l, err := load1(b)
	if err == nil {
		v[hostLoad] = hal.FloatValue(l)
	}
	return err
}

func (h *host) readMemory(v []hal.Value) error {
	b, err := h.mem.read()
	if err != nil {
		return err
	}
	total, available, err := memory(b)
	if err == nil {
		v[hostMemUsed], v[hostMemAvailable] = hal.IntValue(total-available), hal.IntValue(available)
	}
	return err
}

func (h *host) readDisk(ctx context.Context, v []hal.Value) error {
	var r diskResult
	if h.diskBusy {
		select {
		case r = <-h.disk:
		default:
			return ErrBusy
		}
	} else {
		h.diskBusy = true
		go func() {
			var r diskResult
			r.used, r.free, r.err = DiskSpace(h.path)
			h.disk <- r
		}()
		select {
		case r = <-h.disk:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	h.diskBusy = false
	if r.err == nil {
		v[hostDiskUsed], v[hostDiskFree] = hal.IntValue(r.used), hal.IntValue(r.free)
	}
	return r.err
}

func (h *host) readNet(v []hal.Value) error {
	b, err := h.net.read()
	if err != nil {
		return err
	}
	rx, tx, found, err := traffic(b, h.iface)
	if err == nil && found {
		v[hostRx], v[hostTx] = hal.IntValue(rx), hal.IntValue(tx)
	}
	return err
}

func (h *host) readUptime(v []hal.Value) error {
	b, err := h.up.read()
	if err != nil {
		return err
	}
	s, err := uptime(b)
	if err == nil {
		v[hostUptime] = hal.FloatValue(s)
	}
	return err
}

// Close closes the files.
func (h *host) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, f := range []*procFile{&h.stat, &h.mem, &h.load, &h.up, &h.net, &h.tmp} {
		f.close()
	}
	return nil
}
