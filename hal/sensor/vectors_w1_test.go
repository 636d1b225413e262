package sensor_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"testing"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

// w1Files is a chip by the files that the kernel gives of it.
type w1Files map[string]string

func (f w1Files) ReadFile(name string) ([]byte, error) {
	if text, ok := f[name]; ok {
		return []byte(text), nil
	}
	return nil, fs.ErrNotExist
}

// w1Rig is a bus with the vector's chip as the kernel shows it: it attaches no
// chip whose ROM has a wrong check, and gives the scratchpad as text.
func w1Rig(t *testing.T, v *vector) *rig {
	rom, err := hex.DecodeString(v.Setup["rom"].(string))
	if err != nil {
		t.Fatal(err)
	}
	name := fmt.Sprintf("%02x-", rom[0])
	for i := 6; i > 0; i-- { // the serial number, lowest byte first
		name += fmt.Sprintf("%02x", rom[i])
	}
	b := sim.New(sim.Options{NoBus: true})
	r := &rig{board: b, driver: driverOf(v), opts: map[string]any{"device": name}}
	if sim.OneWireCRC(rom[:7]) != rom[7] {
		return r
	}
	files := w1Files{}
	for _, e := range v.Exchange {
		if e.W[0] != "be" || rom[0] != 0x28 && rom[0] != 0x10 {
			continue
		}
		pad, err := hex.DecodeString(e.R)
		if err != nil {
			t.Fatal(err)
		}
		files["w1_slave"] = string(sim.W1Slave([9]byte(pad)))
	}
	b.AttachOneWire(name, files)
	return r
}

// w1FilesRig is a bus with a chip by its files.
func w1FilesRig(t *testing.T, v *vector) *rig {
	files := w1Files{}
	for name, raw := range v.Files {
		var text string
		if err := json.Unmarshal(raw, &text); err != nil {
			t.Fatal(err)
		}
		files[name] = text
	}
	name := v.Setup["path"].(string)
	b := sim.New(sim.Options{NoBus: true})
	b.AttachOneWire(name, files)
	return &rig{board: b, driver: "ds18b20", opts: map[string]any{"device": name}}
}

var _ hal.OneWire = (*sim.Board)(nil)
