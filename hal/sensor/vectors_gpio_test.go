package sensor_test

import (
	"context"
	"encoding/hex"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

func gpioRig(t *testing.T, v *vector) *rig {
	if v.Chip == "hx711" {
		return hx711Rig(t, v)
	}
	number := func(name string) time.Duration { f, _ := v.Setup[name].(float64); return time.Duration(f) }
	b := sim.New(sim.Options{NoBus: true})
	pin, err := b.Pin("sim:7")
	if err != nil {
		t.Fatal(err)
	}
	pin.Drive(number("level_at_start") != 0)
	opts := map[string]any{"line": "sim:7", "debounce": number("debounce_ns").String(), "measure": v.Setup["quantity"]}
	if low, ok := v.Setup["active_low"]; ok {
		opts["active_low"] = low
	}
	return &rig{board: b, driver: "gpio-in", opts: opts,
		use: func(ctx context.Context, s hal.Sensor) ([]hal.Value, error) {
			began := time.Now()
			for _, e := range v.Edges {
				time.Sleep(time.Until(began.Add(time.Duration(e[0]))))
				pin.Drive(e[1] != 0)
			}
			time.Sleep(time.Until(began.Add(number("window_ns"))))
			synctest.Wait()
			return s.Read(ctx)
		}}
}

func hx711Rig(t *testing.T, v *vector) *rig {
	b := sim.New(sim.Options{NoBus: true})
	chip, err := sim.NewHX711(b, "sim:5", "sim:6")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := hex.DecodeString(v.Exchange[0].R)
	if err != nil || len(raw) != 3 {
		t.Fatalf("%v, %d bytes", err, len(raw))
	}
	want := int(v.Setup["pulses"].(float64))
	chip.Put(want, int32(raw[0])<<24>>8|int32(raw[1])<<8|int32(raw[2]))
	opts := v.options(t)
	opts["data"], opts["clock"] = "sim:5", "sim:6"
	return &rig{board: b, driver: driverOf(v), opts: opts, after: func(t *testing.T) {
		if got := chip.Pulses(); got != want {
			t.Errorf("%d clocks, want %d", got, want)
		}
	}}
}
