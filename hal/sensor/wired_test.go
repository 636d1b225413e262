package sensor_test

import (
	"context"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// fails wants the next reading to be an error of a kind.
func fails(t *testing.T, s hal.Sensor, kind error) {
	t.Helper()
	if vals, err := s.Read(t.Context()); !errors.Is(err, kind) {
		t.Errorf("%v, %v, want %v", vals, err, kind)
	}
}

func wantNear(t *testing.T, s hal.Sensor, channel string, want, tolerance float64) {
	t.Helper()
	if got := reading(t, s)[channel].Float(); !(math.Abs(got-want) <= tolerance) {
		t.Errorf("%s %v, want %v ± %v", channel, got, want, tolerance)
	}
}

func TestThermocouples(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true})
		if _, err := sensor.Open(t.Context(), "max31855", b, nil); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("without SPI: %v", err)
		}
		chip := sim.NewMAX31855(812.25, 31.5)
		b.AttachSPI("/dev/spidev0.0", chip)
		s := open(t, "max31855", b, nil)
		wantNear(t, s, "temperature", 812.25, 0)
		wantNear(t, s, "reference_temperature", 31.5, 0)
		for _, x := range []struct {
			probe sim.Probe
			kind  error
		}{{sim.ProbeOpen, sensor.ErrOpenCircuit}, {sim.ProbeToGround, sensor.ErrShortCircuit},
			{sim.ProbeToSupply, sensor.ErrShortCircuit}} {
			chip.Wire(x.probe)
			fails(t, s, x.kind)
		}
		chip.Wire(sim.ProbeGood)
		// 0 °C at both ends is zeros alone, and so is a dead line: only what came
		// near may be one.
		chip.Put(0, 0)
		fails(t, s, hal.ErrNoDevice)
		chip.Put(1, 1)
		wantNear(t, s, "temperature", 1, 0)
		chip.Put(0, 0)
		wantNear(t, s, "temperature", 0, 0)
		b.AttachSPI("/dev/spidev0.0", nil)
		fails(t, s, hal.ErrNoDevice)
		b.AttachSPI("/dev/spidev0.0", chip)
		wantNear(t, s, "temperature", 0, 0)
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A MAX6675 that is looked at too often never measures; the driver waits.
func TestMAX6675(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true})
		chip := sim.NewMAX6675(400)
		b.AttachSPI("/dev/spidev0.1", chip)
		s := open(t, "max6675", b, map[string]any{"device": "/dev/spidev0.1"})
		defer s.Close()
		for c := 401.0; c < 410; c++ {
			chip.Put(c, 0)
			wantNear(t, s, "temperature", c, 0)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.Read(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("no time to measure: %v", err)
		}
		synctest.Wait()
		chip.Wire(sim.ProbeOpen)
		time.Sleep(time.Second)
		fails(t, s, sensor.ErrOpenCircuit)
	})
}

func TestDS18B20(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true})
		if _, err := sensor.Open(t.Context(), "ds18b20", b, nil); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("without a chip: %v", err)
		}
		chip := sim.NewDS18B20(-10.125)
		b.AttachOneWire("28-00000a1b2c3d", chip)
		b.AttachOneWire("26-00000a1b2c3d", w1Files{})
		s := open(t, "ds18b20", b, nil)
		defer s.Close()
		wantNear(t, s, "temperature", -10.125, 0)
		for bits, want := range map[int]float64{9: 21.5, 10: 21.75, 11: 21.875, 12: 21.9375} {
			chip.Resolve(bits)
			chip.Put(21.9375)
			wantNear(t, s, "temperature", want, 0)
		}
		chip.Damage(1) // asked for once more
		wantNear(t, s, "temperature", 21.9375, 0.5)
		chip.Damage(2)
		fails(t, s, sensor.ErrCRC)
		chip.Weak(true)
		fails(t, s, sensor.ErrNotReady)
		chip.Weak(false)
		chip.Resolve(12)
		chip.Put(85)
		wantNear(t, s, "temperature", 85, 0) // a real one
		chip.Put(126)
		fails(t, s, sensor.ErrOutOfRange)
		chip.Silent(true)
		fails(t, s, hal.ErrNoDevice)
		chip.Silent(false)
		b.AttachOneWire("28-00000a1b2c3d", nil)
		fails(t, s, hal.ErrNoDevice)

		b.AttachOneWire("28-00000a1b2c3d", chip)
		b.AttachOneWire("28-00000a1b2c3e", chip)
		var option *sensor.OptionError
		if _, err := sensor.Open(t.Context(), "ds18b20", b, nil); !errors.As(err, &option) {
			t.Errorf("which of two: %v", err)
		}
	})
}

// Of a driver that gives no bytes, 85 °C counts only where it was warm before.
func TestDS18B20Plain(t *testing.T) {
	b := sim.New(sim.Options{NoBus: true})
	files := w1Files{"temperature": "23437\n"}
	b.AttachOneWire("28-00000a1b2c3d", files)
	s := open(t, "ds18b20", b, nil)
	defer s.Close()
	for _, x := range []struct {
		text string
		want float64
		kind error
	}{
		{"-55000\n", -55, nil}, {"85000\n", 0, sensor.ErrNotReady}, {"83000\n", 83, nil}, {"85000\n", 85, nil},
		{"", 0, sensor.ErrNotReady}, {"x\n", 0, sensor.ErrImplausible}, {"127937\n", 0, sensor.ErrOutOfRange},
	} {
		files["temperature"] = x.text
		if x.kind != nil {
			fails(t, s, x.kind)
		} else {
			wantNear(t, s, "temperature", x.want, 0)
		}
	}
}

func TestHX711(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true})
		opts := map[string]any{"data": "sim:5", "clock": "sim:6", "counts_per_unit": -50.0, "tare": int64(-1000)}
		if _, err := sensor.Open(t.Context(), "hx711", b, opts); !errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("no chip, data low: %v", err)
		}
		chip, err := sim.NewHX711(b, "sim:5", "sim:6")
		if err != nil {
			t.Fatal(err)
		}
		chip.Put(25, -6000)
		s := open(t, "hx711", b, opts)
		wantNear(t, s, "weight", 100, 0)
		chip.Put(25, 1<<23-1)
		fails(t, s, sensor.ErrSaturated)
		chip.Put(25, -1000)
		wantNear(t, s, "weight", 0, 0)
		chip.Unplug(true)
		fails(t, s, sensor.ErrNotReady)
		chip.Unplug(false)
		fails(t, s, hal.ErrNoDevice)
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Error(err)
		}
		s = open(t, "gpio-out", b, map[string]any{"line": "sim:6"}) // the lines are free again
		s.Close()
		for _, bad := range []map[string]any{{"gain": int64(32)}, {"channel": "B", "gain": int64(64)}, {"channel": "C"},
			{"counts_per_unit": 0.0}, {"tare": int64(1 << 24)}} {
			bad["data"], bad["clock"] = "sim:5", "sim:6"
			if len(sensor.Check("hx711", bad)) == 0 {
				t.Errorf("%v was taken", bad)
			}
		}
	})
}

// slowLines are lines of a machine that runs something else while the clock is
// high, once, at the pulse that is due.
type slowLines struct {
	hal.Board
	pulse *int // counts down to 1
}

func (b slowLines) OpenOutput(line string, high bool) (hal.DigitalOutput, error) {
	out, err := b.Board.(hal.OutputOpener).OpenOutput(line, high)
	return slowOutput{out, b.pulse}, err
}

type slowOutput struct {
	hal.DigitalOutput
	pulse *int
}

func (s slowOutput) Set(high bool) error {
	err := s.DigitalOutput.Set(high)
	if high {
		if *s.pulse--; *s.pulse == 0 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	return err
}

// A clock that was high for so long that the chip may have powered down makes no
// reading: it is done again, with channel and gain set anew.
func TestHX711HeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{NoBus: true})
		chip, err := sim.NewHX711(b, "sim:5", "sim:6")
		if err != nil {
			t.Fatal(err)
		}
		chip.Put(25, 111)
		chip.Put(27, 222)
		pulse := new(int)
		s := open(t, "hx711", slowLines{b, pulse}, map[string]any{"data": "sim:5", "clock": "sim:6", "gain": int64(64)})
		defer s.Close()
		for _, *pulse = range []int{0, 1, 12, 24, 25, 27} {
			if got := reading(t, s)["raw"].Int(); got != 222 {
				t.Errorf("%d counts, want 222", got)
			}
		}
	})
}

func TestPWMOut(t *testing.T) {
	b := sim.New(sim.Options{NoBus: true})
	out := b.PWM("pwmchip0:1")
	out.Put(20*time.Millisecond, 5*time.Millisecond)
	s := open(t, "pwm", b, map[string]any{"output": "pwmchip0:1", "frequency": 50.0})
	wantNear(t, s, "duty", 0.25, 0)
	s.Close()
	s = open(t, "pwm", b, map[string]any{"output": "pwmchip0:1", "frequency": int64(100)})
	if period, width := out.Pulses(); period != 10*time.Millisecond || width != 2500*time.Microsecond {
		t.Errorf("%v every %v: the duty cycle was not kept", width, period)
	}
	a := s.(hal.Actuator)
	for _, x := range []struct {
		v    hal.Value
		want time.Duration
	}{{hal.FloatValue(0.075), 750 * time.Microsecond}, {hal.IntValue(1), 10 * time.Millisecond},
		{hal.FloatValue(0), 0}} {
		if err := a.Set(t.Context(), "duty", x.v); err != nil {
			t.Error(err)
		}
		if _, width := out.Pulses(); width != x.want {
			t.Errorf("width %v, want %v", width, x.want)
		}
	}
	for _, bad := range []hal.Value{{}, hal.BoolValue(true), hal.FloatValue(1.01), hal.FloatValue(-0.1),
		hal.FloatValue(math.NaN()), hal.IntValue(2), hal.TextValue("1")} {
		if a.Set(t.Context(), "duty", bad) == nil {
			t.Errorf("a value of kind %d was taken", bad.Kind())
		}
	}
	if a.Set(t.Context(), "level", hal.FloatValue(0)) == nil {
		t.Error("another channel was taken")
	}
	if r, ok := s.(hal.Ranger).Range("duty"); !ok || r != (hal.Range{Min: 0, Max: 1}) {
		t.Errorf("range %v, %v", r, ok)
	}
	gone := errors.New("gone")
	out.Fail(gone)
	fails(t, s, gone)
	out.Fail(nil)
	s.Close()
	s = open(t, "pwm", b, map[string]any{"output": "pwmchip0:1", "inverted": true, "initial": 0.1})
	defer s.Close()
	wantNear(t, s, "duty", 0.1, 1e-6)
	if _, width := out.Pulses(); width != 900*time.Microsecond {
		t.Errorf("inverted: width %v", width)
	}
	if _, err := sensor.Open(t.Context(), "pwm", b, map[string]any{"output": "pwmchip0:9"}); !errors.Is(err,
		hal.ErrNoDevice) {
		t.Errorf("no such output: %v", err)
	}
}
