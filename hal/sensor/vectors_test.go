package sensor_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// A vector is what a chip presents and what a driver must make of it, from a
// model written after the datasheets; several public drivers agree with those
// of basis V.
type vector struct {
	Name, Chip, Basis, Fill string
	Setup                   struct {
		Address      string
		Oversampling int64
	}
	Registers, Initial map[string]string
	Force              map[string][2]string
	Expect             map[string]struct {
		Value, Tolerance float64
		Unit             string
		Absent           bool
	}
	Error string
}

// registers is a chip of byte registers: writes to those of fixed are ignored.
type registers struct {
	b       [256]byte
	fixed   [256]bool
	stuck   bool
	force   map[byte][2]byte // mask, value
	pointer byte
}

func newRegisters(t *testing.T, v *vector) *registers {
	number := func(s string) byte {
		n, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 8)
		if err != nil {
			t.Fatal(err)
		}
		return byte(n)
	}
	r := &registers{force: map[byte][2]byte{}}
	for at, text := range v.Registers {
		data, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range data {
			r.b[int(number(at))+i], r.fixed[int(number(at))+i] = b, true
		}
	}
	for at, text := range v.Initial {
		data, _ := hex.DecodeString(text)
		copy(r.b[number(at):], data)
	}
	for at, f := range v.Force {
		r.force[number(at)] = [2]byte{number(f[0]), number(f[1])}
	}
	if v.Fill != "" {
		r.stuck = true
		for i := range r.b {
			r.b[i] = number(v.Fill)
		}
	}
	return r
}

func (r *registers) Tx(w, in []byte) error {
	if len(w) > 0 {
		r.pointer = w[0]
		for i := 1; i < len(w); i += 2 {
			if !r.fixed[r.pointer] && !r.stuck {
				r.b[r.pointer] = w[i]
			}
			if i+1 < len(w) {
				r.pointer = w[i+1]
			}
		}
	}
	for i := range in {
		in[i] = r.b[r.pointer]
		if f, ok := r.force[r.pointer]; ok {
			in[i] = in[i]&^f[0] | f[1]&f[0]
		}
		r.pointer++
	}
	return nil
}

// The driver makes of each chip what the vectors say, within their tolerance.
func TestBosch280Vectors(t *testing.T) {
	f, err := os.Open("testdata/bosch280.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		t.Run(v.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addr, err := strconv.ParseInt(strings.TrimPrefix(v.Setup.Address, "0x"), 16, 16)
				if err != nil {
					t.Fatal(err)
				}
				b := sim.New(sim.Options{NoBus: true})
				b.Add(sim.NewBus("bus")).Attach(uint16(addr), newRegisters(t, &v))
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				opts := map[string]any{"address": addr, "oversampling": max(v.Setup.Oversampling, 1)}
				s, err := sensor.Open(ctx, "bme280", b, opts)
				var vals []hal.Value
				if err == nil {
					defer s.Close()
					vals, err = s.Read(ctx)
				}
				if v.Error != "" {
					want := map[string]string{"wrong_id": "chip id", "no_device": "no such device",
						"not_ready":   "measured no temperature",
						"implausible": "calibration", "out_of_range": "want -40 to 85"}[v.Error]
					dead := v.Error == "wrong_id" && errors.Is(err, hal.ErrNoDevice) // an id of 0 is no id
					if err == nil || want == "" || !dead && !strings.Contains(err.Error(), want) &&
						!strings.Contains(err.Error(), "does not end its measurement") ||
						errors.Is(err, context.DeadlineExceeded) {
						t.Fatalf("%v, want %s", err, v.Error)
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				got := map[string]hal.Value{}
				for i, ch := range s.Channels() {
					got[ch.Name] = vals[i]
					if e, ok := v.Expect[ch.Name]; ok && !e.Absent && e.Unit != ch.Unit {
						t.Errorf("%s in %s, want %s", ch.Name, ch.Unit, e.Unit)
					}
				}
				for name, e := range v.Expect {
					g := got[name]
					if e.Absent != (g.Kind() == hal.Absent) || !e.Absent &&
						!(math.Abs(g.Float()-e.Value) <= e.Tolerance) {
						t.Errorf("%s %v, want %+v", name, g.Float(), e)
					}
				}
				if _, ok := got["humidity"]; ok != (v.Chip == "bme280") {
					t.Errorf("humidity is a channel: %v", ok)
				}
			})
		})
	}
	if n < 40 {
		t.Errorf("%d vectors", n)
	}
}

// A BMP280 sold as a BME280 measures what it can, and says what it is.
func TestBMP280(t *testing.T) {
	b := sim.New(sim.Options{Seed: 4, Air: sim.Constant(sim.Env{Temperature: 21.5, Humidity: 40, Pressure: 99000})})
	for id, what := range map[byte]string{0x58: "", 0x56: "", 0x57: "", 0x55: "BMP180", 0x61: "BME680", 0x00: "wiring",
		0x40: "0x40"} {
		b.Bus(sim.DefaultBus).Attach(sim.DefaultAddress, otherID{b.BME280(), id})
		s, err := sensor.Open(t.Context(), "bme280", b, nil)
		if what != "" {
			if err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("id %#x: %v", id, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		vals, err := s.Read(t.Context())
		if err != nil || len(vals) != 2 || len(s.Channels()) != 2 || math.Abs(vals[0].Float()-21.5) > 0.01 ||
			math.Abs(vals[1].Float()-99000) > 3 {
			t.Errorf("id %#x: %v, %v", id, vals, err)
		}
		if n, ok := s.(hal.Noter); !ok || !strings.Contains(n.Note(), "no humidity") {
			t.Errorf("id %#x says nothing", id)
		}
		s.Close()
	}
}
