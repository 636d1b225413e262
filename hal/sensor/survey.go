package sensor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
)

// A Survey is what a board has, and the sensors that could be configured for it.
type Survey struct {
	I2C     []BusFound `json:"i2c"`
	GPIO    []GPIOChip `json:"gpio"`
	OneWire []Device   `json:"one_wire"`
	SPI     []Device   `json:"spi"`
	PWM     []Device   `json:"pwm"`
	IIO     []Device   `json:"iio"`
	Hwmon   []Device   `json:"hwmon"`
	Serial  []Device   `json:"serial"`

	Suggestions []Suggestion `json:"sensors"`
	Problems    []string     `json:"problems,omitempty"` // what could not be looked at
}

// A BusFound is an I2C bus with what is on it.
type BusFound struct {
	Bus   string  `json:"bus"`
	Found []Found `json:"found"`
}

// A GPIOChip is a controller of lines.
type GPIOChip struct {
	Name  string     `json:"name"`
	Label string     `json:"label"`
	Lines []GPIOLine `json:"lines"`
}

// A GPIOLine is one line of a controller.
type GPIOLine struct {
	Offset int    `json:"offset"`
	Name   string `json:"name,omitempty"`
	User   string `json:"user,omitempty"` // who holds it
}

// A Device is what a bus or the kernel has by a name.
type Device struct {
	Name   string `json:"name"`
	Detail string `json:"detail,omitempty"` // what it is
}

// A Suggestion is a sensor that could be configured. Check takes its options.
type Suggestion struct {
	Name    string         `json:"name"`
	Driver  string         `json:"driver"`
	Options map[string]any `json:"options,omitempty"`
	// If says what must be so; "" where what is there has said it.
	If string `json:"if,omitempty"`
}

// Look surveys a board: of its I2C buses those of buses, or all if that is empty.
// What cannot be looked at is among the problems. Scans of buses end by
// ctx's end; files of the kernel are read without one, which takes milliseconds.
func Look(ctx context.Context, b hal.Board, buses ...string) *Survey {
	s := &Survey{I2C: []BusFound{}, GPIO: []GPIOChip{}, OneWire: []Device{}, SPI: []Device{}, PWM: []Device{},
		IIO: []Device{}, Hwmon: []Device{}, Serial: []Device{}, Suggestions: []Suggestion{}}
	if len(buses) == 0 {
		buses = b.Buses()
	}
	for _, bus := range buses {
		s.bus(ctx, b, bus)
	}
	s.oneWire(b)
	if o, ok := b.(hal.SPIOpener); ok {
		s.spi(o.SPIDevices())
	}
	files := filesOf(b, "/")
	s.iio(files)
	s.hwmon(files)
	s.gpio(b)
	if o, ok := b.(hal.PWMOpener); ok {
		s.pwm(o.PWMs())
	}
	s.serial(files)
	s.suggest("host", "host", nil, "")
	return s
}

func (s *Survey) problem(what string, err error) {
	if err != nil {
		s.Problems = append(s.Problems, what+": "+err.Error())
	}
}

// suggest adds a sensor if its driver is there and takes the options. Its name is
// made unique.
func (s *Survey) suggest(name, driver string, options map[string]any, ifSo string) {
	if len(Check(driver, options)) > 0 {
		return
	}
	base := name
	for n := 2; slices.ContainsFunc(s.Suggestions, func(o Suggestion) bool { return o.Name == name }); n++ {
		name = fmt.Sprintf("%s-%d", base, n)
	}
	s.Suggestions = append(s.Suggestions, Suggestion{name, driver, options, ifSo})
}

func (s *Survey) bus(ctx context.Context, b hal.Board, bus string) {
	found, err := Scan(ctx, b, bus)
	s.problem("I2C", err)
	if found == nil {
		found = []Found{}
	}
	s.I2C = append(s.I2C, BusFound{bus, found})
	for _, f := range found {
		for _, c := range f.Chips {
			if c.Driver == "" {
				continue
			}
			ifSo := ""
			if c.By != ByID || len(f.Chips) > 1 {
				ifSo = fmt.Sprintf("%#02x is a %s", f.Address, c.Chip)
			}
			s.suggest(c.Driver, c.Driver, map[string]any{"bus": bus, "address": int64(f.Address)}, ifSo)
		}
	}
}

// oneWire lists chips by their families: those of thermometers have a driver.
func (s *Survey) oneWire(b hal.Board) {
	o, ok := b.(hal.OneWire)
	if !ok {
		return
	}
	chips, err := o.OneWireChips()
	s.problem("1-Wire", err)
	for _, c := range chips {
		what := thermometers[strings.ToLower(c[:min(2, len(c))])]
		s.OneWire = append(s.OneWire, Device{c, what})
		if what != "" {
			s.suggest("ds18b20", "ds18b20", map[string]any{"device": c}, "")
		}
	}
}

func (s *Survey) spi(names []string) {
	for _, n := range names {
		s.SPI = append(s.SPI, Device{Name: n})
		for _, chip := range []string{"max31855", "max6675"} {
			s.suggest(chip, chip, map[string]any{"device": n}, n+" is a "+strings.ToUpper(chip))
		}
	}
}

// named lists devices of the kernel by a file that names them, and suggests a
// driver for each. Names that several have are of no use.
func (s *Survey) named(files fs.FS, pattern, driver, option string) []Device {
	paths, _ := fs.Glob(files, pattern) // the pattern is well formed
	list := []Device{}
	count := map[string]int{}
	for _, p := range paths {
		name, err := sysDir{files, p}.text("name")
		if err != nil {
			s.problem(path.Base(p), err)
			continue
		}
		list = append(list, Device{path.Base(p), name})
		count[name]++
	}
	for _, d := range list {
		by := d.Detail
		if count[by] > 1 || by == "" {
			by = d.Name
		}
		s.suggest(nameFor(d.Detail, driver), driver, map[string]any{option: by}, "")
	}
	return list
}

func (s *Survey) iio(files fs.FS) {
	s.IIO = s.named(files, "sys/bus/iio/devices/iio:device*", "iio", "device")
}

func (s *Survey) hwmon(files fs.FS) {
	s.Hwmon = s.named(files, "sys/class/hwmon/hwmon*", "hwmon", "chip")
}

// nameFor is a sensor's name made of a device's.
func nameFor(device, otherwise string) string {
	name := strings.Trim(form.Name.Replace(device, '-'), "-")
	if name == "" {
		return otherwise
	}
	return name[:min(len(name), 40)]
}

// headerLine is a line of a Raspberry Pi's header. Other lines may switch what the
// board needs.
func headerLine(name string) bool {
	number, ok := strings.CutPrefix(name, "GPIO")
	return ok && form.Digits.Is(number, 1, len(number))
}

// gpio suggests a free line of each controller's header: GPIO17, or else the first
// after those that have a use of their own.
func (s *Survey) gpio(b hal.Board) {
	l, ok := b.(hal.LineLister)
	if !ok {
		return
	}
	chips, err := l.LineChips()
	s.problem("GPIO", err)
	for _, c := range chips {
		g := GPIOChip{Name: c.Name, Label: c.Label, Lines: []GPIOLine{}}
		free := ""
		for i, line := range c.Lines {
			g.Lines = append(g.Lines, GPIOLine{i, line.Name, line.User})
			if line.User == "" && headerLine(line.Name) && (free == "" || line.Name == "GPIO17") {
				free = line.Name
			}
		}
		s.GPIO = append(s.GPIO, g)
		if free != "" {
			s.suggest("input", "gpio-in", map[string]any{"line": free}, free+", or another line, is an input")
			s.suggest("output", "gpio-out", map[string]any{"line": free}, free+", or another line, is an output")
		}
	}
}

func (s *Survey) pwm(names []string) {
	for _, n := range names {
		s.PWM = append(s.PWM, Device{Name: n})
		s.suggest("pwm", "pwm", map[string]any{"output": n}, n+" goes to something that takes pulses")
	}
}

// ttyPorts are the names of ports that a wire can be at: the Raspberry Pi's,
// USB's, and the classic ones, of which Linux has names without ports.
var ttyPorts = []string{"ttyAMA", "ttyUSB", "ttyACM", "ttyS", "ttyO", "ttymxc", "ttyPS", "ttySC"}

// ttyPort says whether a port has one of those names, with a number.
func ttyPort(name string) bool {
	kind := strings.TrimRight(name, "0123456789")
	return kind != name && slices.Contains(ttyPorts, kind)
}

// stablePorts are the names of USB ports that stay when others come and go, by the
// kernel's.
func stablePorts(files fs.FS) map[string]string {
	names := map[string]string{}
	links, ok := files.(fs.ReadLinkFS)
	if !ok {
		return names
	}
	paths, _ := fs.Glob(files, "dev/serial/by-id/*") // the pattern is well formed
	for _, p := range paths {
		if to, err := links.ReadLink(p); err == nil {
			names[path.Base(to)] = "/" + p
		}
	}
	return names
}

func (s *Survey) serial(files fs.FS) {
	entries, err := fs.ReadDir(files, "sys/class/tty")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.problem("serial", err)
	}
	stable := stablePorts(files)
	for _, e := range entries {
		dir := sysDir{files, "sys/class/tty/" + e.Name()}
		if !ttyPort(e.Name()) || !dir.has("device") {
			continue
		}
		// Port type 0 is a name without hardware (serial_core's sysfs).
		if kind, err := dir.text("type"); err == nil && kind == "0" {
			continue
		}
		port := "/dev/" + e.Name()
		d := Device{Name: port, Detail: stable[e.Name()]}
		s.Serial = append(s.Serial, d)
		s.suggest("modbus", "modbus", map[string]any{"port": cmp.Or(d.Detail, port), "registers": []map[string]any{
			{"name": "value", "address": int64(0)}}}, port+" goes to a device that speaks Modbus; its manual has the registers")
	}
}
