package sensor_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/haltest"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		driver, toml string
		want         []string // errors, in order
	}{
		{"host", ``, nil},
		{"host", `path = "/data"
			interface = "wlan0"`, nil},
		{"host", `path = "data"
			interface = "a/b"
			root = 1
			extra = true`, []string{
			`extra: unknown option`,
			`interface: "a/b", want the name of a network interface`,
			`path: "data", want an absolute path`,
			`root: 1, want a string`,
		}},
		{"bme280", ``, nil},
		{"bme280", `bus = "/dev/i2c-1"
			address = 0x77
			oversampling = 16`, nil},
		{"bme280", `address = 0x40
			oversampling = 3
			bus = ""`, []string{
			`address: 0x40, want 0x76 or 0x77`,
			`bus: "", want text without control characters`,
			`oversampling: 3, want 1, 2, 4, 8 or 16`,
		}},
		{"bme280", `address = "0x76"`, []string{`address: "0x76", want an integer`}},
		{"bme280", `address = 118.0`, []string{`address: 118, want an integer`}},
		{"gpio-in", ``, []string{`line: missing`}},
		{"gpio-in", `line = "gpiochip0:17"
			pull = "up"
			debounce = "5ms"
			poll = "0s"`, nil},
		{"gpio-in", `line = ["a"]
			pull = "sideways"
			debounce = "11s"
			poll = 5`, []string{
			`debounce: 11s, want 1µs to 10s`,
			`line: [a], want a string`,
			`poll: 5, want a duration such as "5ms"`,
			`pull: "sideways", want one of as-is, none, up, down`,
		}},
		{"gpio-out", `line = "x:1"
			initial = "high"`, []string{`initial: "high", want true or false`}},
		{"gpio-out", `line = "x:1"
			initial = true`, nil},
		{"modbus", `port = "/dev/ttyUSB0"
			unit_id = 0
			registers = [{name = "n", address = 0}]`, []string{`unit_id: 0, want 1 to 247`}},
		{"modbus", `endpoint = "meter:502"
			unit_id = 255
			registers = [{name = "n", address = 0}]`, nil},
		{"count", `text_bytes = 100`, nil},
		{"count", `text_bytes = -1`, []string{`text_bytes: -1, want 0 to 65536`}},
		{"bme180", `address = 1`, []string{`driver: "bme180", want one of ` +
			driverNames()}},
	} {
		var opts map[string]any
		if _, err := toml.Decode(c.toml, &opts); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, err := range sensor.Check(c.driver, opts) {
			var oe *sensor.OptionError
			if !errors.As(err, &oe) {
				t.Errorf("%T is no OptionError", err)
			}
			got = append(got, err.Error())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s with %s:\n got %q\nwant %q", c.driver, c.toml, got, c.want)
		}
		if c.want == nil {
			continue
		}
		// Open says the same before it touches anything.
		_, err := sensor.Open(t.Context(), c.driver, nil, opts)
		for _, w := range c.want {
			if err == nil || !strings.Contains(err.Error(), w) {
				t.Errorf("Open: %v, want %s in it", err, w)
			}
		}
	}
}

// Each option that a driver lists is one that it takes, has a type and a help
// text, and its default is fine.
func TestDrivers(t *testing.T) {
	all := sensor.Drivers()
	if !slices.IsSortedFunc(all, func(a, b sensor.Driver) int { return strings.Compare(a.Name, b.Name) }) {
		t.Error("not in order")
	}
	types := []string{"string", "integer", "number", "bool", "duration", "strings", "table", "tables"}
	for _, d := range all {
		if d.Summary == "" {
			t.Errorf("%s: no summary", d.Name)
		}
		for _, o := range d.Options {
			if !slices.Contains(types, o.Type) || o.Help == "" {
				t.Errorf("%s: %+v", d.Name, o)
			}
			// A value of a wrong type is refused by its key alone, so the key
			// is known.
			var said []string
			for _, err := range sensor.Check(d.Name, map[string]any{o.Name: []any{}}) {
				if e := err.Error(); strings.HasPrefix(e, o.Name+":") {
					said = append(said, e)
				}
			}
			if len(said) != 1 || strings.Contains(said[0], "unknown") {
				t.Errorf("%s: %s of a wrong type: %q", d.Name, o.Name, said)
			}
			if o.Default == "" {
				continue
			}
			text := o.Default
			if o.Type == "string" || o.Type == "duration" {
				text = fmt.Sprintf("%q", text)
			}
			var opts map[string]any
			if _, err := toml.Decode(o.Name+" = "+text, &opts); err != nil {
				t.Fatal(err)
			}
			for _, err := range sensor.Check(d.Name, opts) {
				if strings.HasPrefix(err.Error(), o.Name+":") {
					t.Errorf("%s: the default is refused: %v", d.Name, err)
				}
			}
		}
	}
	all[0].Options[0].Name = "changed"
	if sensor.Drivers()[0].Options[0].Name == "changed" {
		t.Error("Drivers hands out its own slices")
	}
}

func TestCount(t *testing.T) {
	haltest.Sensor(t, func(t testing.TB) hal.Sensor { return open(t, "count", nil, nil) })
	haltest.Sensor(t, func(t testing.TB) hal.Sensor { return open(t, "count", nil, map[string]any{"text_bytes": 9}) })

	lives := map[int64]bool{}
	for range 20 {
		s := open(t, "count", nil, map[string]any{"text_bytes": int64(1000)})
		var life int64
		pads := map[string]bool{}
		for n := int64(1); n <= 5; n++ {
			m := reading(t, s)
			if m["n"].Int() != n {
				t.Fatalf("n = %d, want %d", m["n"].Int(), n)
			}
			if l := m["life"].Int(); n == 1 {
				life = l
			} else if l != life {
				t.Fatal("life changes")
			}
			if p := m["pad"].Text(); len(p) != 1000 || pads[p] {
				t.Fatalf("pad of %d bytes, again: %v", len(p), pads[p])
			} else {
				pads[p] = true
			}
		}
		if life < 1 || life >= 1<<53 || lives[life] {
			t.Fatalf("life %d", life)
		}
		lives[life] = true
		s.Close()
	}
}

// Whatever a file says, Check names each wrong key and each unknown one, says
// the same twice, changes nothing, and what it accepts opens on a simulated
// board or fails for the board's sake only.
func FuzzCheck(f *testing.F) {
	for _, d := range sensor.Drivers() {
		for _, o := range d.Options {
			for _, v := range []string{`"sim:1"`, `"/tmp"`, `5`, `true`, `"5ms"`, `[1]`, `""`, `1.5`, `null`} {
				f.Add(d.Name, fmt.Sprintf(`{%q: %s}`, o.Name, v))
			}
		}
	}
	f.Add("gpio-in", `{"line":"sim:3","pull":"down","debounce":"1ms","poll":"1m","a":1}`)
	f.Add("bme280", `{"bus":"/dev/i2c-1","address":118,"oversampling":2}`)
	board := sim.New(sim.Options{Seed: 1})
	f.Fuzz(func(t *testing.T, driver, doc string) {
		var opts map[string]any
		if json.Unmarshal([]byte(doc), &opts) != nil {
			return
		}
		for k, v := range opts { // as TOML decodes
			if n, ok := v.(float64); ok && n == float64(int64(n)) {
				opts[k] = int64(n)
			}
		}
		kept := maps.Clone(opts)
		errs := sensor.Check(driver, opts)
		if again := sensor.Check(driver, opts); fmt.Sprint(again) != fmt.Sprint(errs) {
			t.Errorf("%v, then %v", errs, again)
		}
		if fmt.Sprint(kept) != fmt.Sprint(opts) {
			t.Errorf("options changed from %v to %v", kept, opts)
		}
		keys := map[string]bool{}
		for _, err := range errs {
			var oe *sensor.OptionError
			if !errors.As(err, &oe) || keys[oe.Key] {
				t.Fatalf("%v: not an OptionError of its own key", err)
			}
			keys[oe.Key] = true
		}
		i := slices.IndexFunc(sensor.Drivers(), func(d sensor.Driver) bool { return d.Name == driver })
		if i < 0 {
			if !keys["driver"] {
				t.Errorf("driver %q: %v", driver, errs)
			}
			return
		}
		for k := range opts {
			known := slices.ContainsFunc(sensor.Drivers()[i].Options, func(o sensor.Option) bool { return o.Name == k })
			if !known && !keys[k] {
				t.Errorf("unknown key %q was taken: %v", k, errs)
			}
		}
		if slices.Contains([]string{"command", "modbus", "mqtt", "serial"}, driver) {
			return // they would run programs and connect to where the fuzzer likes
		}
		s, err := sensor.Open(t.Context(), driver, board, opts)
		var oe *sensor.OptionError
		if len(errs) > 0 != errors.As(err, &oe) {
			t.Errorf("Check: %v, Open: %v", errs, err)
		}
		if err == nil {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// driverNames lists the drivers as the error for an unknown one has them.
func driverNames() string {
	var names []string
	for _, d := range sensor.Drivers() {
		names = append(names, d.Name)
	}
	return strings.Join(names, ", ")
}
