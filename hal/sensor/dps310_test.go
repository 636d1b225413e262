package sensor_test

import (
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

// QEMU's model of the chip has no id, keeps what is written to MEAS_CFG, its flags
// too, and never measures: the driver must leave the flags as they are. The registers are
// those of its reset state.
func TestDPS310InQEMU(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true})
		b.Add(sim.NewBus("bus")).Attach(0x77, newRegisters(t, &vector{
			Registers: map[string]string{"0x00": "fe2fee0269a6", "0x0d": "ff",
				"0x10": "0e1edd13ca5f2152f9c604d1db47005bfb3a", "0x28": "90", "0x32": "02"},
			Initial: map[string]string{"0x06": "0080f000"}}))
		s := open(t, "dps310", b, map[string]any{"oversampling": int64(1)})
		defer s.Close()
		if n, ok := s.(hal.Noter); !ok || !strings.Contains(n.Note(), "no product id") {
			t.Error("says nothing of the id")
		}
		vals, err := read(t, s)
		if err != nil {
			t.Fatal(err)
		}
		// By the kernel's driver on the same bytes: c0 225, c1 -291, kT 524288.
		if got := vals[0].Float(); math.Abs(got-(112.5-291*158118.0/524288)) > 0.001 {
			t.Errorf("%v °C", got)
		}
		if p := vals[1].Float(); p < 90000 || p > 110000 {
			t.Errorf("%v Pa", p)
		}
	})
}
