package sensor_test

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// bounds of channels whatever the chip's data say, by the datasheets' full scales
// at the options of FuzzElectric.
var electricBounds = map[string][2]float64{
	"voltage": {-36, 41}, "shunt_voltage": {-0.33, 0.33}, "current": {-3.28, 3.28}, "power": {0, 165},
	"accel_x": {-80, 80}, "gyro_x": {-251, 251}, "temperature": {-40, 85}, "mag_x": {-5000, 5000},
	"distance": {0, 8189}, "ch0": {0, 1},
}

// Whatever data a right chip gives, values are within what it can measure, and an
// error has a kind.
func FuzzElectric(f *testing.F) {
	kinds := []struct {
		driver string
		addrs  []uint16
		fixed  map[byte][]byte // what makes it the right chip, and always ready
		data   byte            // where the data begin
		force  map[byte][2][]byte
	}{
		{"ads1115", []uint16{0x48}, nil, 0x00, map[byte][2][]byte{1: {{0x80, 0}, {0x80, 0}}}},
		{"ina219", []uint16{0x40}, nil, 0x01, nil},
		{"ina226", []uint16{0x40}, map[byte][]byte{0xFE: {0x54, 0x49}, 0xFF: {0x22, 0x60}}, 0x01, nil},
		{"mpu6050", []uint16{0x68}, map[byte][]byte{0x75: {0x68}}, 0x3B, map[byte][2][]byte{0x6B: {{0x80}, {0}}}},
		{"lsm303", []uint16{0x19, 0x1E},
			map[byte][]byte{0x27: {0x0F}, 0x09: {1}, 0x0A: {'H'}, 0x0B: {'4'}, 0x0C: {'3'}}, 0x28, nil},
		{"vl53l0x", []uint16{0x29},
			map[byte][]byte{0xC0: {0xEE}, 0xC1: {0xAA}, 0x83: {1}, 0x92: {0x8C}, 0x13: {7}}, 0x14,
			map[byte][2][]byte{0: {{1}, {0}}}},
		{"pca9685", []uint16{0x40}, nil, 0x06, nil},
	}
	for i := range kinds {
		f.Add(uint8(i), []byte{0x12, 0x34, 0xFF, 0xFF, 0x7F, 0xFF, 0x80, 0, 0x59, 0, 0, 0, 0, 1})
		f.Add(uint8(i), []byte{0x59, 0, 0x10, 0, 0, 5, 0, 0, 0x40, 0, 0x04, 0xD2, 0xF0, 0})
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		k := kinds[int(which)%len(kinds)]
		synctest.Test(t, func(t *testing.T) {
			b := sim.New(sim.Options{NoBus: true})
			wire := b.Add(sim.NewBus("bus"))
			for _, a := range k.addrs {
				r := &registers{chip: k.driver, words: slices.Contains(wordChips, k.driver), bit7: a == 0x19,
					b: map[byte][]byte{}, fixed: map[byte]bool{}, force: k.force}
				step := 1
				if r.words {
					step = 2
				}
				at := k.data
				if a == 0x1E {
					at = 3
				}
				for i := 0; i+step <= min(len(data), 64); i += step {
					if reg := at + byte(i/step); !r.words || reg < 5 && reg != 1 || reg == 1 && k.driver != "ads1115" {
						r.b[reg], r.fixed[reg] = data[i:i+step], k.driver != "pca9685"
					}
				}
				for reg, v := range k.fixed {
					r.b[reg], r.fixed[reg] = v, true
				}
				wire.Attach(a, r)
			}
			s, err := sensor.Open(t.Context(), k.driver, b, nil)
			if err != nil {
				if sensor.KindOf(err) == "" {
					t.Fatalf("%s: %v, of no kind", k.driver, err)
				}
				return
			}
			defer s.Close()
			for name, v := range reading(t, s) {
				if v.Kind() == hal.Absent {
					continue
				}
				like := strings.NewReplacer("_y", "_x", "_z", "_x").Replace(name)
				if strings.HasPrefix(name, "ch") {
					like = "ch0"
				}
				if at := electricBounds[like]; !(numberOf(v) >= at[0] && numberOf(v) <= at[1]) {
					t.Errorf("%s: %s is %v of % x", k.driver, name, numberOf(v), data)
				}
			}
		})
	})
}
