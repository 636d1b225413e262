package sensor_test

import (
	"encoding/hex"
	"testing"

	"github.com/tidemill/tidemill/hal/sim"
)

// frame is a chip that gives the same bytes whenever it is selected.
type frame []byte

func (f frame) Transfer(_, r []byte) error {
	copy(r, f)
	return nil
}

func spiRig(t *testing.T, v *vector) *rig {
	bytes, err := hex.DecodeString(v.Exchange[0].R)
	if err != nil {
		t.Fatal(err)
	}
	b := sim.New(sim.Options{NoBus: true})
	b.AttachSPI("spi", frame(bytes))
	return &rig{board: b, driver: driverOf(v), opts: v.options(t)}
}
