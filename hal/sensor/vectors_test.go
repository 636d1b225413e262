package sensor_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/deploy/conformance"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
)

// A vector is what a chip, bus, file or line presents and what a driver must make
// of it; deploy/conformance/README-sensors.md has the members.
type vector struct {
	Name, Chip, Bus, Basis, Note string

	Setup              map[string]any
	Registers, Initial map[string]string
	Force              map[string][2]string
	Fill               string
	AutoIncrement      string `json:"auto_increment"`
	Devices            []vectorDevice
	Exchange           []exchange
	Files              map[string]json.RawMessage
	Edges              [][2]int64

	Expect         map[string]wanted
	Error          string
	Accept         []string
	Code           int
	RegistersAfter map[string]string `json:"registers_after"`
}

type vectorDevice struct {
	Address            string
	Registers, Initial map[string]string
	Force              map[string][2]string
	AutoIncrement      string `json:"auto_increment"`
}

type exchange struct {
	W     words
	R     string
	NACK  bool
	Ready *bool
}

// words is one text or a list of them.
type words []string

func (w *words) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*w = words{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(w))
}

type wanted struct {
	Value     number
	Tolerance float64
	Unit      string
	Absent    bool
}

// number is a number, or a level as 0 or 1.
type number float64

func (n *number) UnmarshalJSON(b []byte) error {
	switch string(b) {
	case "true":
		*n = 1
	case "false":
		*n = 0
	default:
		return json.Unmarshal(b, (*float64)(n))
	}
	return nil
}

// A rig is a board that presents what a vector says, and what reads it.
type rig struct {
	board  hal.Board
	driver string
	opts   map[string]any
	// channel names a vector's channel as the driver does; nil: alike.
	channel func(string) string
	// use does with the open sensor what the vector is about; nil: Read.
	use func(ctx context.Context, s hal.Sensor) ([]hal.Value, error)
	// after looks at the hardware afterwards; nil: nothing to see.
	after func(t *testing.T)
}

// rigs make a vector's rig, by its bus; a nil one, and a rig of a driver that is
// not there, is counted as missing. Each is in a file of its own.
var rigs = map[string]func(t *testing.T, v *vector) *rig{
	"i2c":    i2cRig,
	"spi":    spiRig,
	"w1":     w1Rig,
	"sysfs":  sysfsRig,
	"gpio":   gpioRig,
	"modbus": modbusRig,
}

// realTime are buses on which real bytes go through the kernel, so that time cannot be
// a bubble's.
var realTime = []string{"modbus"}

// renamed are drivers that have another name than the vectors' chip.
var renamed = map[string]string{}

// driverOf returns the driver of a vector's chip, "" for none.
func driverOf(v *vector) string {
	name := cmp.Or(renamed[v.Chip], v.Chip)
	for _, d := range sensor.Drivers() {
		if d.Name == name {
			return name
		}
	}
	return ""
}

// options are a vector's setup as far as the driver has options of these names.
func (v *vector) options(t *testing.T) map[string]any {
	t.Helper()
	opts := map[string]any{}
	for _, d := range sensor.Drivers() {
		if d.Name != driverOf(v) {
			continue
		}
		for _, o := range d.Options {
			switch val := v.Setup[o.Name].(type) {
			case nil:
			case string:
				opts[o.Name] = val
				if o.Type == "integer" {
					opts[o.Name] = int64(hexNumber(t, val))
				}
			case float64:
				opts[o.Name] = val
				if o.Type == "integer" && val == math.Trunc(val) {
					opts[o.Name] = int64(val)
				}
			default:
				opts[o.Name] = val
			}
		}
	}
	return opts
}

func hexNumber(t *testing.T, s string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// outcome is what a vector's driver made of it: "21.5 °C" for each channel, or
// the kind of error.
type outcome struct {
	vals map[string]hal.Value
	unit map[string]string
	err  error
}

func (o outcome) kind() string {
	var option *sensor.OptionError
	if errors.As(o.err, &option) {
		return "out_of_range" // refused at the check
	}
	return sensor.KindOf(o.err)
}

// String is for the table of decisions.
func (o outcome) String() string {
	if o.err != nil {
		return cmp.Or(o.kind(), "error")
	}
	var s []string
	for _, name := range slices.Sorted(maps.Keys(o.vals)) {
		if v := o.vals[name]; v.Kind() == hal.Absent {
			s = append(s, name+" absent")
		} else {
			s = append(s, strings.TrimSpace(fmt.Sprintf("%s %.6g %s", name, numberOf(v), o.unit[name])))
		}
	}
	return strings.Join(s, ", ")
}

// numberOf is any value as a number.
func numberOf(v hal.Value) float64 {
	switch v.Kind() {
	case hal.Float:
		return v.Float()
	case hal.Int:
		return float64(v.Int())
	case hal.Bool:
		if v.Bool() {
			return 1
		}
		return 0
	}
	return math.NaN()
}

// run does what the vector is about. ok is false if there is no driver yet.
func (v *vector) run(t *testing.T) (o outcome, r *rig, ok bool) {
	makeRig := rigs[v.Bus]
	if makeRig == nil {
		return o, nil, false
	}
	if r = makeRig(t, v); r == nil || r.driver == "" {
		return o, nil, false
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	o.vals, o.unit = map[string]hal.Value{}, map[string]string{}
	s, err := sensor.Open(ctx, r.driver, r.board, r.opts)
	if err != nil {
		o.err = err
		return o, r, true
	}
	defer s.Close()
	use := r.use
	if use == nil {
		use = func(ctx context.Context, s hal.Sensor) ([]hal.Value, error) { return s.Read(ctx) }
	}
	vals, err := use(ctx, s)
	if err != nil {
		o.err = err
		return o, r, true
	}
	for i, ch := range s.Channels() {
		if i < len(vals) {
			o.vals[ch.Name], o.unit[ch.Name] = vals[i], ch.Unit
			if f := vals[i]; f.Kind() == hal.Float && (math.IsNaN(f.Float()) || math.IsInf(f.Float(), 0)) {
				t.Errorf("%s is %v", ch.Name, f.Float())
			}
		}
	}
	return o, r, true
}

// check compares an outcome with what the vector wants.
func (v *vector) check(t *testing.T, o outcome, r *rig) {
	t.Helper()
	if o.err != nil {
		if strings.Contains(o.err.Error(), "panicked") {
			t.Error(o.err)
		}
		if k := o.kind(); k == "" || k != v.Error && !slices.Contains(v.Accept, k) {
			t.Errorf("%s: %v, want %s %v", cmp.Or(k, "of no kind"), o.err, cmp.Or(v.Error, "values"), v.Accept)
		}
		return
	}
	if v.Error != "" {
		t.Errorf("%s, want %s", o, v.Error)
		return
	}
	for name, w := range v.Expect {
		if r.channel != nil {
			name = r.channel(name)
		}
		got, ok := o.vals[name]
		switch {
		case w.Absent:
			if got.Kind() != hal.Absent {
				t.Errorf("%s %v, want none", name, numberOf(got))
			}
		case !ok:
			t.Errorf("no channel %s", name)
		case o.unit[name] != w.Unit:
			t.Errorf("%s in %q, want %q", name, o.unit[name], w.Unit)
		case !(math.Abs(numberOf(got)-float64(w.Value)) <= w.Tolerance+1e-9):
			t.Errorf("%s %v, want %v ± %v", name, numberOf(got), w.Value, w.Tolerance)
		}
	}
}

// The drivers make of each vector what it says.
func TestVectors(t *testing.T) {
	type total struct{ rows, missing int }
	totals := map[string]*total{}
	for _, v := range conformance.All[vector](t, "sensors.jsonl") {
		of := totals[v.Chip]
		if of == nil {
			of = &total{}
			totals[v.Chip] = of
		}
		of.rows++
		t.Run(v.Name, func(t *testing.T) {
			test := func(t *testing.T) {
				o, r, ok := v.run(t)
				if !ok {
					of.missing++
					t.Skip("no driver")
				}
				v.check(t, o, r)
				if r.after != nil {
					r.after(t)
				}
			}
			if slices.Contains(realTime, v.Bus) {
				test(t)
				return
			}
			synctest.Test(t, test)
		})
	}
	rows, missing := 0, 0
	for _, chip := range slices.Sorted(maps.Keys(totals)) {
		n := totals[chip]
		rows, missing = rows+n.rows, missing+n.missing
		note := ""
		if n.missing > 0 {
			note = fmt.Sprintf(", %d without a driver", n.missing)
		}
		t.Logf("%-10s %3d%s", chip, n.rows, note)
	}
	t.Logf("%d vectors", rows)
	if missing > 0 {
		t.Errorf("%d vectors have no driver", missing)
	}
}
