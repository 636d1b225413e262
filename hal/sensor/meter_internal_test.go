package sensor

import (
	"errors"
	"testing"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// Edges that nobody kept count, and are half of them rises; a pulse among them
// has no width.
func TestMeterLost(t *testing.T) {
	var m meter
	ms := time.Millisecond
	m.edge(hal.Edge{High: true, At: 10 * ms})
	m.edge(hal.Edge{High: true, At: 50 * ms, Lost: 7}) // 7 changes between: 4 rises with this one
	m.edge(hal.Edge{High: false, At: 52 * ms})
	m.edge(hal.Edge{High: false, At: 60 * ms, Lost: 1})
	got, err := m.take(100*ms, false)
	if err != nil || got.edges != 1+8+1+2 || got.frequency != 5/0.050 || got.pulses != 1 || got.mean != 0.002 {
		t.Errorf("%+v, %v", got, err)
	}
}

// Times that go back are told once, and a new window begins.
func TestMeterBackwards(t *testing.T) {
	var m meter
	ms := time.Millisecond
	for _, e := range []hal.Edge{{High: true, At: 10 * ms}, {At: 20 * ms}, {High: true, At: 15 * ms}, {At: 30 * ms}} {
		m.edge(e)
	}
	if got, err := m.take(100*ms, false); !errors.Is(err, ErrImplausible) {
		t.Errorf("%+v, %v", got, err)
	}
	m.edge(hal.Edge{High: true, At: 110 * ms})
	m.edge(hal.Edge{At: 120 * ms})
	if got, err := m.take(200*ms, false); err != nil || got.pulses != 1 || got.mean != 0.01 || got.frequency != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

// A pulse that runs over the end of a window belongs to the one it ends in, and
// so does a period.
func TestMeterWindows(t *testing.T) {
	var m meter
	sec := time.Second
	for window := range 3 {
		at := time.Duration(window) * sec
		m.edge(hal.Edge{High: true, At: at + 900*time.Millisecond})
		got, err := m.take(at+sec, true)
		if err != nil || got.pulses != min(window, 1) || window > 0 && (got.mean != 0.2 || got.frequency != 1) {
			t.Errorf("window %d: %+v, %v", window, got, err)
		}
		m.edge(hal.Edge{At: at + 1100*time.Millisecond})
	}
	if got, _ := m.take(3*sec, false); got.pulses != 1 || got.frequency != 0 {
		t.Errorf("%+v", got)
	}
}

func FuzzScratchpad(f *testing.F) {
	f.Add("28", "77 01 4b 46 7f ff 09 10 6f : crc=6f YES\n77 01 4b 46 7f ff 09 10 6f t=23437\n")
	f.Add("10", "32 00 4b 46 ff ff 0c 10 6b : crc=6b YES\n32 00 4b 46 ff ff 0c 10 6b t=25000\n")
	f.Add("28", "77 05 4b 46 7f ff 09 10 6f : crc=9b NO\n77 01 4b 46 7f ff 09 10 6f t=87437\n")
	f.Add("28", "")
	f.Add("28", "ff ff ff ff ff ff ff ff ff : crc=c9 NO\n\n t=")
	f.Add("22", " : crc=")
	// What is taken is a temperature that nine bytes can hold, in steps of 1/16 °C;
	// what is not has a kind.
	f.Fuzz(func(t *testing.T, family, text string) {
		c, err := parseW1Slave(family, text)
		if err != nil {
			if KindOf(err) == "" {
				t.Fatalf("%q: %v, of no kind", text, err)
			}
			return
		}
		if c*16 != float64(int(c*16)) || c < -16500 || c > 16500 {
			t.Fatalf("%q: %v °C", text, c)
		}
	})
}

func FuzzThermocouples(f *testing.F) {
	for _, b := range [][]byte{{0x01, 0x90, 0x14, 0x00}, {0xFF, 0xFF, 0xFF, 0xFF}, {0, 0, 0, 0},
		{0xF0, 0x60, 0xC9, 0}} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) != 4 {
			return
		}
		for _, c := range []spiChip{&max31855{}, &max6675{}} {
			in := frame
			if _, ok := c.(*max6675); ok {
				in = frame[:2]
			}
			vals, err := c.parse(in)
			if err != nil {
				if KindOf(err) == "" {
					t.Fatalf("%x: %v, of no kind", in, err)
				}
				continue
			}
			if v := vals[0].Float(); len(vals) != len(c.channels()) || !(v >= -270 && v <= 1800) {
				t.Fatalf("%x: %v", in, v)
			}
		}
	})
}
