package sensor

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
)

// serialOptions say how a serial port is set up; it has always eight data bits.
var serialOptions = []Option{
	{"baud", "integer", "9600", "of the serial port: 300 to 921600"},
	{"parity", "string", "none", "none, even or odd"},
	{"stop_bits", "integer", "1", "1 or 2"},
}

// A serialMode is how a serial port is set up.
type serialMode struct {
	baud   int
	parity string
	stop   int
}

func (m serialMode) String() string { return fmt.Sprintf("%d baud, 8%s%d", m.baud, m.letter(), m.stop) }

// letter is the parity as in "8N1".
func (m serialMode) letter() string {
	return map[string]string{"none": "N", "even": "E", "odd": "O"}[m.parity]
}

// bauds are the rates that termios has on all systems.
var bauds = []int64{300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600}

func (o *options) serialMode() serialMode {
	m := serialMode{baud: int(o.whole("baud", 9600)), parity: o.choice("parity", "none", "even", "odd"),
		stop: int(o.between("stop_bits", 1, 1, 2))}
	if !slices.Contains(bauds, int64(m.baud)) {
		o.fail("baud", "%d, want one of %v", m.baud, bauds)
	}
	return m
}

// serialPort is the option port, "" if there is none. It is an absolute path: what a
// relative one leads to hangs on where the agent was started.
func (o *options) serialPort(required bool) string {
	read := func(key string) string { return o.text(key, "") }
	if required {
		read = o.required
	}
	path := read("port")
	if path != "" && !filepath.IsAbs(path) {
		o.fail("port", "%q, want an absolute path, such as /dev/ttyUSB0", path)
	}
	return path
}

// serialPorts are the ports in use: two readers of one port would each get some of
// the bytes.
var serialPorts = portRegistry{used: map[string]string{}}

type portRegistry struct {
	mu   sync.Mutex
	used map[string]string // by the path that a sensor names: the device that it leads to
}

func (r *portRegistry) take(path string) error {
	device, err := filepath.EvalSymlinks(path)
	if err != nil {
		device = path // it is not there now
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for other, used := range r.used {
		if other == path || used == device {
			return fmt.Errorf("%s: another sensor uses this port, as %s", path, other)
		}
	}
	r.used[path] = device
	return nil
}

func (r *portRegistry) give(path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.used, path)
}
