package sensor

import (
	"context"
	"fmt"
	"math"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var pwmDriver = driver{
	Driver: Driver{
		Name:    "pwm",
		Summary: "one PWM output of the board: duty cycle that can be set, with read-back",
		Options: []Option{
			{"output", "string", "", "required: controller and number, such as pwmchip0:0"},
			{"frequency", "number", "1000", "pulses in a second, 0.1 to 1000000; servos want 50"},
			{"initial", "number", "", "duty cycle to start at, 0 to 1; the output keeps what it does if left out"},
			{"inverted", "bool", "false", "the duty cycle is that of the low level"},
		},
	},
	set: func(o *options) opener {
		s := &pwmOut{output: o.required("output")}
		s.period = time.Duration(math.Round(float64(time.Second) / o.number("frequency", 1000, 0.1, 1e6)))
		s.initial = o.number("initial", 0, 0, 1)
		_, s.given = o.get("initial")
		s.inverted, _ = o.flag("inverted")
		return s.open
	},
}

// pwmOut is the driver of the same name. Its pulses come from the board's
// hardware and go on when the agent ends.
type pwmOut struct {
	output   string
	period   time.Duration
	initial  float64
	given    bool // initial was
	inverted bool

	mu     sync.Mutex // guards all below
	pwm    hal.PWM
	closed bool
}

var (
	_ hal.Actuator = (*pwmOut)(nil)
	_ hal.Ranger   = (*pwmOut)(nil)
)

var duty = hal.Channel{Name: "duty", Kind: hal.Float}

func (s *pwmOut) open(_ context.Context, b hal.Board) (hal.Sensor, error) {
	o, ok := b.(hal.PWMOpener)
	if !ok {
		return nil, fmt.Errorf("%w: the board has no PWM", hal.ErrNoDevice)
	}
	var err error
	if s.pwm, err = o.OpenPWM(s.output); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		_ = s.pwm.Close() // the error before says more
		return nil, err
	}
	return s, nil
}

// start drives the initial duty cycle, or keeps the one that is, at the wanted
// period.
func (s *pwmOut) start() error {
	period, width, err := s.pwm.Get()
	switch {
	case err != nil:
		return err
	case s.given:
		return s.drive(s.initial)
	case period == s.period:
		return nil
	case period <= 0:
		return s.drive(0)
	}
	return s.drive(s.dutyOf(period, width))
}

func (s *pwmOut) dutyOf(period, width time.Duration) float64 {
	d := 0.0
	if period > 0 {
		d = float64(width) / float64(period)
	}
	if s.inverted {
		d = 1 - d
	}
	return d
}

// drive sets the pulses and reads them back.
func (s *pwmOut) drive(d float64) error {
	width := d
	if s.inverted {
		width = 1 - d
	}
	want := time.Duration(math.Round(width * float64(s.period)))
	if err := s.pwm.Set(s.period, want); err != nil {
		return err
	}
	period, got, err := s.pwm.Get()
	if err != nil {
		return err
	}
	// The kernel says what it was told, or what its controller made of it: some
	// percent off with a coarse clock.
	if off := math.Abs(s.dutyOf(period, got) - d); off > 0.05 || period <= 0 {
		return fmt.Errorf("drove %v every %v, reads %v every %v: %w", want, s.period, got, period, ErrHeld)
	}
	return nil
}

// Channels: duty is the part of the time, 0 to 1, that the output is high.
func (*pwmOut) Channels() []hal.Channel { return []hal.Channel{duty} }

// Range is that of the duty cycle.
func (*pwmOut) Range(channel string) (hal.Range, bool) {
	return hal.Range{Min: 0, Max: 1}, channel == duty.Name
}

// Read returns the duty cycle that the output has.
func (s *pwmOut) Read(ctx context.Context) ([]hal.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	period, width, err := s.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("pwm %s: %w", s.output, err)
	}
	return []hal.Value{hal.FloatValue(round(s.dutyOf(period, width), 1e6))}, nil
}

func (s *pwmOut) get(ctx context.Context) (period, width time.Duration, err error) {
	if err := ctx.Err(); err != nil {
		return 0, 0, err
	}
	if s.closed {
		return 0, 0, os.ErrClosed
	}
	return s.pwm.Get()
}

// Set drives the duty cycle, a Float or Int from 0 to 1, and fails if the output
// reads another one afterwards. Several goroutines may call it.
func (s *pwmOut) Set(ctx context.Context, channel string, v hal.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := numberIn(s, channel, v)
	if err == nil {
		_, _, err = s.get(ctx)
	}
	if err == nil {
		err = s.drive(d)
	}
	if err != nil {
		return fmt.Errorf("pwm %s: set: %w", s.output, err)
	}
	return nil
}

// numberIn is a number that the channel takes.
func numberIn(a hal.Ranger, channel string, v hal.Value) (float64, error) {
	r, ok := a.Range(channel)
	if !ok {
		return 0, fmt.Errorf("channel %q cannot be set", channel)
	}
	var f float64
	switch v.Kind() {
	case hal.Float:
		f = v.Float()
	case hal.Int:
		f = float64(v.Int())
	default:
		return 0, fmt.Errorf("%s: want a number", channel)
	}
	if !(f >= r.Min && f <= r.Max) {
		return 0, fmt.Errorf("%s: %w: %g, want %g to %g", channel, ErrOutOfRange, f, r.Min, r.Max)
	}
	return f, nil
}

// Close lets go of the output, which goes on.
func (s *pwmOut) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.pwm.Close()
}
