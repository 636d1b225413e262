package sensor

import (
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/form"
)

var hwmonDriver = driver{
	Driver: Driver{
		Name:    "hwmon",
		Summary: "a chip that the kernel watches hardware with (/sys/class/hwmon): temperatures, voltages, fans, power",
		Options: []Option{
			{"chip", "string", "", "required: its name, such as coretemp, its label, or hwmon0, which may change"},
			{"device", "string", "", "what it belongs to, such as 0000:01:00.0 or nvme0, where several have the name"},
			{"inputs", "strings", "", `such as ["temp1", "fan2"]; all if left out`},
			{"alarms", "bool", "false", "adds a channel NAME_alarm for each input that has an alarm"},
			{"root", "string", "/", "folder that holds sys; for containers and tests"},
		},
	},
	set: func(o *options) opener {
		h := hwmon{chip: o.required("chip"), device: o.text("device", ""), inputs: o.texts("inputs"),
			root: o.text("root", "/")}
		h.alarms, _ = o.flag("alarms")
		for _, in := range h.inputs {
			if _, ok := hwmonInput(in + "_input"); !ok {
				o.fail("inputs", "%q, want such as temp1, in0, curr1, power1, energy1, humidity1, freq1 or fan1", in)
				break
			}
		}
		return h.open
	},
}

// hwmon is the driver of the same name. Units are those of the kernel's
// Documentation/hwmon/sysfs-interface.
type hwmon struct {
	chip, device, root string
	inputs             []string
	alarms             bool
}

// hwmonKinds are the kinds of inputs: what a channel is called, and its unit of so
// many of the kernel's.
var hwmonKinds = map[string]struct {
	name, unit string
	per        float64
}{
	"temp":     {"temperature", "°C", 1000}, // m°C
	"in":       {"voltage", "V", 1000},      // mV
	"curr":     {"current", "A", 1000},      // mA
	"power":    {"power", "W", 1e6},         // µW
	"energy":   {"energy", "J", 1e6},        // µJ
	"humidity": {"humidity", "%RH", 1000},   // m%
	"freq":     {"frequency", "Hz", 1},
	"fan":      {"fan", "1/min", 1},
}

type hwmonChannel struct {
	input  string // "temp1"
	kind   string // "temp"
	number string // "1"
	file   string // "temp1_input"
	label  string
}

// hwmonInput takes the name of an input's file apart; power has an average where it has
// no input.
func hwmonInput(file string) (hwmonChannel, bool) {
	input, what, _ := strings.Cut(file, "_")
	kind, number := form.Lower.Cut(input)
	if _, ok := hwmonKinds[kind]; !ok || !form.Digits.Is(number, 1, len(number)) || what != "input" &&
		(what != "average" || kind != "power") {
		return hwmonChannel{}, false
	}
	return hwmonChannel{input: input, kind: kind, number: number, file: file}, true
}

func (h hwmon) find(files fs.FS) (sysDir, error) {
	return findDevice(files, "sys/class/hwmon/hwmon*", h.chip, func(dir sysDir) bool {
		if h.device == "" {
			return true
		}
		to, err := fs.ReadLink(files, path.Join(dir.path, "device"))
		return err == nil && path.Base(to) == h.device
	})
}

func (h hwmon) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	files := filesOf(b, h.root)
	dir, err := h.find(files)
	if err != nil {
		return nil, err
	}
	found, err := h.list(dir)
	if err != nil {
		return nil, err
	}
	s := &sysfs{name: "hwmon " + h.chip, find: func() (sysDir, error) { return h.find(files) }, dir: dir,
		calls: calls{release: func() error { return nil }}}
	var bases, numbers, labels []string
	for _, c := range found {
		bases, numbers = append(bases, hwmonKinds[c.kind].name), append(numbers, c.number)
		labels = append(labels, c.label)
	}
	names := distinct(numbered(bases, numbers), labels)
	for i, c := range found {
		s.add(hal.Channel{Name: names[i], Unit: hwmonKinds[c.kind].unit, Kind: hal.Float}, c.value)
		if alarm := c.alarm(dir); h.alarms && alarm != "" && len(names[i]) <= 26 {
			s.add(hal.Channel{Name: names[i] + "_alarm", Kind: hal.Bool}, func(dir sysDir) (hal.Value, error) {
				n, err := dir.number(alarm)
				return hal.BoolValue(n != 0), err
			})
		}
	}
	if _, err := s.Read(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

// list returns the inputs wanted, in order of their names.
func (h hwmon) list(dir sysDir) ([]hwmonChannel, error) {
	entries, err := fs.ReadDir(dir.fs, dir.path)
	if err != nil {
		return nil, attrError(err)
	}
	var found []hwmonChannel
	var all []string
	for _, e := range entries { // an average comes before the input
		c, ok := hwmonInput(e.Name())
		if !ok {
			continue
		}
		if n := len(found); n > 0 && found[n-1].input == c.input {
			found[n-1] = c
			continue
		}
		if all = append(all, c.input); h.inputs == nil || slices.Contains(h.inputs, c.input) {
			c.label, _ = dir.text(c.input + "_label") // most have none
			found = append(found, c)
		}
	}
	for _, in := range h.inputs {
		if !slices.ContainsFunc(found, func(c hwmonChannel) bool { return c.input == in }) {
			return nil, fmt.Errorf("%w: no input %s, there are: %s", hal.ErrNoDevice, in, strings.Join(all, " "))
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: it has no inputs", hal.ErrNoDevice)
	}
	return found, nil
}

// alarm returns the file of the input's alarm, "" for none.
func (c hwmonChannel) alarm(dir sysDir) string {
	for _, end := range []string{"_alarm", "_crit_alarm", "_max_alarm"} {
		if dir.has(c.input + end) {
			return c.input + end
		}
	}
	return ""
}

// value reads the input. Beside a _fault of 1 its number means nothing: the diode of
// a temperature is open, or the fan's line is.
func (c hwmonChannel) value(dir sysDir) (hal.Value, error) {
	if f, err := dir.number(c.input + "_fault"); err == nil && f != 0 {
		return hal.Value{}, fmt.Errorf("%w: %s_fault is set", ErrOpenCircuit, c.input)
	}
	n, err := dir.number(c.file)
	if err != nil {
		return hal.Value{}, err
	}
	return hal.FloatValue(n / hwmonKinds[c.kind].per), nil
}
