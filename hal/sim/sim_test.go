package sim

import (
	"bytes"
	"errors"
	"math"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor/bmx280"
)

// For chips of many seeds the physical range lies within the converters' one,
// and the inverse finds the value again.
func TestInverse(t *testing.T) {
	for seed := range uint64(200) {
		c := newCalibration(seed)
		for _, temp := range []float64{-40, -7.3, 0, 21.5, 60, 85} {
			adc := inverse(1<<20-1, temp*5120, false, c.Fine)
			fine := c.Fine(float64(adc))
			if math.Abs(fine/5120-temp) > 0.001 {
				t.Fatalf("seed %d: %v °C came back as %v", seed, temp, fine/5120)
			}
			for _, want := range []float64{30000, 87654, 101325, 110000} {
				adc := inverse(1<<20-1, want, true, func(a float64) float64 { return c.Pressure(a, fine) })
				if got := c.Pressure(float64(adc), fine); math.Abs(got-want) > 0.1 {
					t.Fatalf("seed %d, %v °C: %v Pa came back as %v", seed, temp, want, got)
				}
			}
			for _, want := range []float64{driest, 33.3, wettest} {
				adc := inverse(1<<16-1, want, false, func(a float64) float64 { return c.Humidity(a, fine) })
				if got := c.Humidity(float64(adc), fine); math.Abs(got-want) > 0.01 {
					t.Fatalf("seed %d, %v °C: %v %%RH came back as %v", seed, temp, want, got)
				}
			}
		}
	}
}

// Chips have all signs that the datasheet allows.
func TestCalibrationSigns(t *testing.T) {
	var negative, large [3]int
	const chips = 3000
	for seed := range uint64(chips) {
		c := newCalibration(seed)
		for i, h := range []int{int(c.H4), int(c.H5), int(c.H6)} {
			if h < 0 {
				negative[i]++
			}
			if max(h, -h) > 100 {
				large[i]++
			}
		}
	}
	t.Logf("of %d chips H4, H5, H6 are negative in %v, beyond 100 in %v", chips, negative, large)
	if negative[0] == 0 || min(negative[1], negative[2]) < chips/4 || min(large[0], large[1]) < chips/4 {
		t.Error("the range is not drawn whole")
	}
}

func TestWeather(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	lo := Env{Temperature: math.Inf(1), Humidity: math.Inf(1), Pressure: math.Inf(1)}
	hi := Env{Temperature: math.Inf(-1), Humidity: math.Inf(-1), Pressure: math.Inf(-1)}
	a, again, other := Weather(7), Weather(7), Weather(8)
	same := 0
	for at := start; at.Before(start.AddDate(1, 0, 0)); at = at.Add(17 * time.Minute) {
		e := a(at)
		if e != again(at) {
			t.Fatalf("%v: the same seed differs", at)
		}
		if e == other(at) {
			same++
		}
		if n := a(at.Add(time.Second)); math.Abs(n.Temperature-e.Temperature) > 0.2 ||
			math.Abs(n.Pressure-e.Pressure) > 10 {
			t.Fatalf("%v: jumps from %v to %v within a second", at, e, n)
		}
		lo = Env{Temperature: min(lo.Temperature, e.Temperature), Humidity: min(lo.Humidity, e.Humidity),
			Pressure: min(lo.Pressure, e.Pressure)}
		hi = Env{Temperature: max(hi.Temperature, e.Temperature), Humidity: max(hi.Humidity, e.Humidity),
			Pressure: max(hi.Pressure, e.Pressure)}
	}
	t.Logf("a year: %+v to %+v", lo, hi)
	if same > 0 {
		t.Errorf("two seeds agree %d times", same)
	}
	if lo.Temperature < -30 || hi.Temperature > 45 || lo.Humidity < 5 || hi.Humidity > 100 || lo.Pressure < 95000 ||
		hi.Pressure > 106000 {
		t.Errorf("no weather: %+v to %+v", lo, hi)
	}
	if hi.Temperature-lo.Temperature < 15 || hi.Pressure-lo.Pressure < 1500 || hi.Humidity-lo.Humidity < 20 {
		t.Errorf("too still: %+v to %+v", lo, hi)
	}
}

// In each two minutes a room gets warmer and colder than 26 °C, the README's rule.
func TestRoom(t *testing.T) {
	for seed := range uint64(20) {
		air := Room(seed)
		start := time.Date(2026, 1, 1, 23, 50, 0, 0, time.UTC)
		for at := start; at.Before(start.Add(20 * time.Minute)); at = at.Add(2 * time.Minute) {
			warm, cold := 0, 0
			for s := range 120 {
				e := air(at.Add(time.Duration(s) * time.Second))
				if e.Temperature > 26 {
					warm++
				} else {
					cold++
				}
				if e.Temperature < 20 || e.Temperature > 30 || e.Humidity < 35 || e.Humidity > 55 ||
					e.Pressure < 95000 || e.Pressure > 106000 {
					t.Fatalf("seed %d: no room: %+v", seed, e)
				}
			}
			if warm < 20 || cold < 20 {
				t.Errorf("seed %d, %v: %d s above 26 °C, %d below", seed, at, warm, cold)
			}
		}
	}
}

func get(t *testing.T, c Chip, reg byte, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if err := c.Tx([]byte{reg}, b); err != nil {
		t.Fatal(err)
	}
	return b
}

func put(t *testing.T, c Chip, w ...byte) {
	t.Helper()
	if err := c.Tx(w, nil); err != nil {
		t.Fatal(err)
	}
}

var skippedAll = []byte{0x80, 0, 0, 0x80, 0, 0, 0x80, 0}

func TestForcedMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewBME280(1, Constant(Env{Temperature: 20, Humidity: 50, Pressure: 100000}), nil)
		if id := get(t, c, bmx280.RegID, 1); id[0] != 0x60 {
			t.Fatalf("id %x", id)
		}
		if d := get(t, c, bmx280.RegData, 8); !bytes.Equal(d, skippedAll) {
			t.Fatalf("data after power-on %x", d)
		}
		put(t, c, bmx280.RegCtrlHum, 1, bmx280.RegCtrlMeas, 1<<5|1<<2|1)
		if s := get(t, c, bmx280.RegStatus, 1); s[0]&bmx280.Measuring == 0 {
			t.Error("not bmx280.Measuring after the start")
		}
		if d := get(t, c, bmx280.RegData, 8); !bytes.Equal(d, skippedAll) {
			t.Errorf("data while it measures %x", d)
		}
		time.Sleep(8 * time.Millisecond) // 1 + 2 + 2.5 + 2.5 ms
		if s := get(t, c, bmx280.RegStatus, 1); s[0]&bmx280.Measuring != 0 {
			t.Error("still bmx280.Measuring after 8 ms")
		}
		d := get(t, c, bmx280.RegData, 8)
		if d[2] != 0 || d[5] != 0 {
			t.Errorf("16-bit data %x has more bits", d)
		}
		if m := get(t, c, bmx280.RegCtrlMeas, 1); m[0] != 1<<5|1<<2 {
			t.Errorf("ctrl_meas %x, want sleep", m)
		}
		// A humidity setting alone takes no effect (section 5.4.3).
		put(t, c, bmx280.RegCtrlHum, 0)
		put(t, c, bmx280.RegCtrlMeas, 1<<5|1)
		time.Sleep(time.Second)
		if d := get(t, c, bmx280.RegData, 8); !bytes.Equal(d[:3], skippedAll[:3]) ||
			!bytes.Equal(d[6:], skippedAll[6:]) || bytes.Equal(d[3:6], skippedAll[3:6]) {
			t.Errorf("temperature alone: %x", d)
		}
		put(t, c, bmx280.RegReset, bmx280.ResetWord)
		if d := get(t, c, bmx280.RegData, 8); !bytes.Equal(d, skippedAll) {
			t.Errorf("data after reset %x", d)
		}
		put(t, c, bmx280.RegID, 0) // can't be written
		if id := get(t, c, bmx280.RegID, 1); id[0] != 0x60 {
			t.Errorf("id %x after a write", id)
		}
	})
}

// A clock that stands still must not hold a driver that waits for the status.
func TestStoppedClock(t *testing.T) {
	now := time.Unix(1e9, 0)
	c := NewBME280(1, Weather(1), func() time.Time { return now })
	put(t, c, bmx280.RegCtrlMeas, 1<<5|1)
	looks := 0
	for get(t, c, bmx280.RegStatus, 1)[0]&bmx280.Measuring != 0 {
		if looks++; looks > 10 {
			t.Fatal("measures for ever")
		}
	}
}

func TestNormalModeAndFilter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		step := time.Now().Add(10 * time.Second)
		air := func(at time.Time) Env {
			if at.Before(step) {
				return Env{Temperature: 10, Humidity: 50, Pressure: 100000}
			}
			return Env{Temperature: 30, Humidity: 50, Pressure: 100000}
		}
		temp := func(c *BME280) float64 {
			d := get(t, c, bmx280.RegData, 8)
			return c.cal.Fine(float64(int(d[3])<<12|int(d[4])<<4|int(d[5])>>4)) / 5120
		}
		plain, slow := NewBME280(1, air, nil), NewBME280(1, air, nil)
		put(t, plain, bmx280.RegConfig, 5<<5, bmx280.RegCtrlMeas, 1<<5|3)     // 1 s pause
		put(t, slow, bmx280.RegConfig, 5<<5|4<<2, bmx280.RegCtrlMeas, 1<<5|3) // filter 16
		time.Sleep(9 * time.Second)
		if a, b := temp(plain), temp(slow); math.Abs(a-10) > 0.01 || math.Abs(b-10) > 0.01 {
			t.Fatalf("%v and %v, want 10", a, b)
		}
		put(t, plain, bmx280.RegConfig, 0) // ignored in normal mode
		if v := get(t, plain, bmx280.RegConfig, 1); v[0] != 5<<5 {
			t.Errorf("config %x changed in normal mode", v)
		}
		time.Sleep(3 * time.Second)
		if a, b := temp(plain), temp(slow); math.Abs(a-30) > 0.01 || b < 11 || b > 15 {
			t.Errorf("just after the step: %v and filtered %v", a, b)
		}
		time.Sleep(30 * 24 * time.Hour)
		if b := temp(slow); math.Abs(b-30) > 0.02 {
			t.Errorf("a month after the step: filtered %v", b)
		}
	})
}

func TestSaturation(t *testing.T) {
	c := NewBME280(3, Constant(Env{Temperature: 900, Humidity: -50, Pressure: 1e9}), nil)
	put(t, c, bmx280.RegCtrlHum, 5, bmx280.RegCtrlMeas, 5<<5|5<<2|1)
	for range 5 {
		get(t, c, bmx280.RegStatus, 1)
	}
	d := get(t, c, bmx280.RegData, 8)
	if !bytes.Equal(d[3:6], []byte{0xff, 0xff, 0xf0}) || !bytes.Equal(d[:3], []byte{0, 0, 0}) {
		t.Errorf("data %x, want the converters' ends", d)
	}
}

func TestBusFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := New(Options{Seed: 1})
		if got := b.Buses(); len(got) != 1 || got[0] != DefaultBus {
			t.Fatalf("buses %v", got)
		}
		if _, err := b.I2C("/dev/i2c-9"); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("unknown bus: %v", err)
		}
		h, err := b.I2C(DefaultBus)
		if err != nil {
			t.Fatal(err)
		}
		other, _ := b.I2C(DefaultBus)
		bus := b.Bus(DefaultBus)
		id := func() error { return h.Tx(DefaultAddress, []byte{bmx280.RegID}, make([]byte, 1)) }

		bus.NACK(DefaultAddress, 2)
		for i, want := range []bool{true, true, false} {
			if err := id(); errors.Is(err, hal.ErrNoDevice) != want {
				t.Errorf("transfer %d: %v", i, err)
			}
		}
		bus.Attach(DefaultAddress, nil)
		if err := id(); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("absent chip: %v", err)
		}
		bus.Attach(DefaultAddress, b.BME280())

		bus.Stick()
		done := make(chan error, 2)
		go func() { done <- id() }()
		go func() { done <- other.Tx(DefaultAddress, []byte{bmx280.RegID}, make([]byte, 1)) }()
		time.Sleep(time.Hour)
		select {
		case err := <-done:
			t.Fatalf("stuck bus answered: %v", err)
		default:
		}
		bus.Release()
		for range 2 {
			if err := <-done; err != nil {
				t.Errorf("after release: %v", err)
			}
		}
		if err := errors.Join(h.Close(), h.Close()); err != nil {
			t.Error(err)
		}
		if err := id(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("closed handle: %v", err)
		}
		if err := other.Tx(DefaultAddress, []byte{bmx280.RegID}, make([]byte, 1)); err != nil {
			t.Errorf("the other handle: %v", err)
		}
	})
}

func TestPins(t *testing.T) {
	for _, noEdges := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := New(Options{NoEdges: noEdges})
			for _, bad := range []string{"", "sim:", "sim:32", "sim:-1", "sim:01", "sim:+1", "gpiochip0:1"} {
				if _, err := b.Input(bad); !errors.Is(err, hal.ErrNoDevice) {
					t.Errorf("Input(%q): %v", bad, err)
				}
			}
			pin, _ := b.Pin("sim:3")
			in, err := b.OpenInput("sim:3", hal.InputOptions{Pull: hal.PullUp})
			if err != nil {
				t.Fatal(err)
			}
			if v, _ := in.Read(); !v {
				t.Error("a pulled-up pin reads low")
			}
			if in.WaitForEdge(time.Second) {
				t.Error("an edge from opening")
			}
			if _, err := b.Output("sim:3"); err == nil {
				t.Error("an input opened as output too")
			}
			go func() {
				time.Sleep(time.Minute)
				pin.Drive(false)
			}()
			began := time.Now()
			if !in.WaitForEdge(-1) || time.Since(began) < time.Minute || time.Since(began) > time.Minute+time.Second {
				t.Errorf("waited %v for an edge after a minute", time.Since(began))
			}
			pin.Drive(true)
			pin.Drive(false)
			pin.Float()
			edges := 0
			for in.WaitForEdge(time.Second) {
				edges++
			}
			if want := map[bool]int{false: 3, true: 1}[noEdges]; edges != want {
				t.Errorf("%d edges kept, want %d (NoEdges %v)", edges, want, noEdges)
			}
			go func() {
				time.Sleep(time.Minute)
				in.Close()
			}()
			if in.WaitForEdge(-1) {
				t.Error("an edge from Close")
			}
			if _, err := in.Read(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("Read after Close: %v", err)
			}
			in.Close()
		})
	}
}

func TestOutputs(t *testing.T) {
	b := New(Options{})
	pin, _ := b.Pin("sim:0")
	out, err := b.OpenOutput("sim:0", true)
	if err != nil {
		t.Fatal(err)
	}
	if !pin.Level() {
		t.Error("opened high, reads low")
	}
	if _, err := b.Output("sim:0"); err == nil {
		t.Error("two outputs on a pin")
	}
	out.Close()
	out.Close()
	if out.Set(true) == nil {
		t.Error("Set after Close")
	}
	if out, err = b.Output("sim:0"); err != nil {
		t.Fatal(err)
	}
	if v, _ := out.Get(); !v {
		t.Error("Output did not keep the level")
	}
	pin.Hold(false)
	out.Set(true)
	if v, _ := out.Get(); v {
		t.Error("a held pin reads what was set")
	}
	pin.Unhold()
	if v, _ := out.Get(); !v {
		t.Error("the output is lost after the hold")
	}
	out.Close()
}

func BenchmarkConvert(b *testing.B) {
	c := NewBME280(1, Weather(1), nil)
	at := time.Unix(1e9, 0)
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(time.Second)
		c.convert(at)
	}
}
