package sensor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var hx711Driver = driver{
	Driver: Driver{
		Name:    "hx711",
		Summary: "Avia HX711: a load cell on two lines",
		Options: []Option{
			{"data", "string", "", "required: input line that DOUT is at, such as GPIO5"},
			{"clock", "string", "", "required: output line that PD_SCK is at, such as GPIO6"},
			{"channel", "string", "A", "A or B"},
			{"gain", "integer", "", "of A: 128 or 64, 128 if left out; of B: 32"},
			{"counts_per_unit", "number", "", "counts for one unit of weight, below 0 for a cell upside down; " +
				"no weight if left out"},
			{"tare", "integer", "0", "counts without a load"},
			{"unit", "string", "g", "of the weight"},
		},
	},
	set: func(o *options) opener {
		s := &hx711{data: o.required("data"), clock: o.required("clock")}
		channel := o.choice("channel", "A", "B")
		def := int64(128)
		if channel == "B" {
			def = 32
		}
		gain := o.whole("gain", def)
		if s.pulses = hx711Pulses[fmt.Sprint(channel, gain)]; s.pulses == 0 {
			o.fail("gain", "%d of channel %s, want 128 or 64 of A, 32 of B", gain, channel)
		}
		s.scale = o.number("counts_per_unit", 1, -1e9, 1e9)
		if s.scale == 0 {
			o.fail("counts_per_unit", "0, want another number")
		}
		_, s.weighs = o.get("counts_per_unit")
		s.tare = o.between("tare", 0, -1<<23, 1<<23-1)
		s.unit = o.text("unit", "g")
		return s.open
	},
}

// hx711Pulses are the clocks of one reading: 24 bits, and one to three more that
// choose channel and gain of the next (HX711 datasheet, table 3).
var hx711Pulses = map[string]int{"A128": 25, "B32": 26, "A64": 27}

const (
	// hx711Ready is how long the chip may take: 0.1 s for one conversion, 0.4 s
	// until it has settled after power-on or another gain (table 1, at 10 1/s).
	hx711Ready = time.Second
	// hx711High is the longest that the clock may be high: after 60 µs the chip
	// powers down and forgets its gain (table 2).
	hx711High = 50 * time.Microsecond
)

// hx711 is the driver of the same name. It clocks the chip by hand, 24 bits at
// some microseconds each; a clock that the machine held up is noticed, and the
// reading done again.
type hx711 struct {
	calls
	data, clock string
	pulses      int
	scale       float64 // counts for one unit
	weighs      bool    // scale is known
	tare        int64
	unit        string

	in  hal.DigitalInput
	out hal.DigitalOutput
	set bool // the chip has channel and gain; belongs to the goroutine that reads
}

func (s *hx711) open(ctx context.Context, b hal.Board) (hal.Sensor, error) {
	var err error
	if o, ok := b.(hal.OutputOpener); ok {
		s.out, err = o.OpenOutput(s.clock, false)
	} else {
		s.out, err = b.Output(s.clock)
	}
	if err != nil {
		return nil, err
	}
	if o, ok := b.(hal.InputOpener); ok {
		// Without interrupts, of which each bit would be one, in the middle of it.
		s.in, err = o.OpenInput(s.data, hal.InputOptions{Poll: hx711Ready})
	} else {
		s.in, err = b.Input(s.data)
	}
	if err != nil {
		_ = s.out.Close() // the input's error says more
		return nil, err
	}
	s.release = func() error { return errors.Join(s.in.Close(), s.out.Close()) }
	// The first reading shows that the chip is there.
	if _, err := s.Read(ctx); err != nil && !answered(err) {
		_ = s.Close() // the reading's error says more
		return nil, err
	}
	return s, nil
}

// Channels: raw is the converter's count, -8388607 to 8388606.
func (s *hx711) Channels() []hal.Channel {
	chs := []hal.Channel{{Name: "raw", Kind: hal.Int}}
	if s.weighs {
		chs = append(chs, hal.Channel{Name: "weight", Unit: s.unit, Kind: hal.Float})
	}
	return chs
}

// Read waits for the next conversion, 0.1 s at 10 in a second.
func (s *hx711) Read(ctx context.Context) ([]hal.Value, error) {
	var raw int64
	err := s.do(ctx, func() (err error) {
		for range triesDamaged {
			if raw, err = s.once(ctx); !errors.Is(err, ErrProtocol) {
				break
			}
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("hx711 %s: %w", s.data, err)
	}
	vals := []hal.Value{hal.IntValue(raw)}
	if s.weighs {
		vals = append(vals, hal.FloatValue(float64(raw-s.tare)/s.scale))
	}
	return vals, nil
}

// once reads a conversion, after one that sets channel and gain if need be.
func (s *hx711) once(ctx context.Context) (raw int64, err error) {
	if !s.set {
		if _, err := s.shift(ctx); err != nil {
			return 0, err
		}
	}
	raw, err = s.shift(ctx)
	s.set = err == nil
	switch {
	case err != nil:
		return 0, err
	case raw == 1<<23-1 || raw == -1<<23:
		return 0, fmt.Errorf("%w: %d counts", ErrSaturated, raw)
	}
	return raw, nil
}

// shift waits for a conversion and clocks it out, highest bit first.
func (s *hx711) shift(ctx context.Context) (int64, error) {
	// Also ends a power-down, which a high clock is.
	if err := s.out.Set(false); err != nil {
		return 0, err
	}
	w := &wire{ctx: ctx}
	if err := w.await("DOUT stays high: is the wiring right?", time.Millisecond, hx711Ready, func() (bool, error) {
		high, err := s.in.Read()
		return !high, err
	}); err != nil {
		return 0, err
	}
	var bits uint32
	var longest time.Duration
	for i := range s.pulses {
		began := time.Now()
		if err := s.out.Set(true); err != nil {
			return 0, err
		}
		high, err := s.in.Read() // valid 0.1 µs after the rise
		if down := s.out.Set(false); err != nil || down != nil {
			return 0, errors.Join(err, down)
		}
		longest = max(longest, time.Since(began))
		if i < 24 {
			bits <<= 1
			if high {
				bits |= 1
			}
		}
	}
	high, err := s.in.Read()
	switch {
	case err != nil:
		return 0, err
	case longest > hx711High:
		s.set = false
		return 0, fmt.Errorf("%w: the machine held up the clock for %v, at most %v", ErrProtocol, longest, hx711High)
	case !high:
		// A chip lifts DOUT after the last pulse, until the next conversion.
		return 0, fmt.Errorf("%w: DOUT stays low: is the wiring right?", hal.ErrNoDevice)
	}
	return int64(int32(bits<<8) >> 8), nil
}

// Close gives the lines back.
func (s *hx711) Close() error { return s.close() }
