package sensor

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/tidemill/tidemill/hal"
)

var gpioOutDriver = driver{
	Driver: Driver{
		Name:    "gpio-out",
		Summary: "output line that can be set, with read-back",
		Options: []Option{
			{"line", "string", "", "required: name, such as GPIO18, or chip label and offset, such as pinctrl-rp1:18"},
			{"initial", "bool", "", "level to start at; the line keeps the level it has if left out"},
		},
	},
	set: func(o *options) opener {
		s := &gpioOut{line: o.required("line")}
		initial, ok := o.flag("initial")
		return func(_ context.Context, b hal.Board) (hal.Sensor, error) { return s.open(b, initial, ok) }
	},
}

// gpioOut is the driver of the same name.
type gpioOut struct {
	line string

	mu     sync.Mutex // guards all below
	out    hal.DigitalOutput
	closed bool
}

var _ hal.Actuator = (*gpioOut)(nil)

func (s *gpioOut) open(b hal.Board, initial, given bool) (hal.Sensor, error) {
	var err error
	o, can := b.(hal.OutputOpener)
	if given && can {
		s.out, err = o.OpenOutput(s.line, initial)
	} else if s.out, err = b.Output(s.line); err == nil && given {
		if err = s.out.Set(initial); err != nil {
			_ = s.out.Close() // Set's error says more
		}
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *gpioOut) Channels() []hal.Channel {
	return []hal.Channel{{Name: "level", Kind: hal.Bool}}
}

// Read returns the level that the line really has.
func (s *gpioOut) Read(ctx context.Context) ([]hal.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	level, err := s.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("gpio-out %s: %w", s.line, err)
	}
	return []hal.Value{hal.BoolValue(level)}, nil
}

func (s *gpioOut) get(ctx context.Context) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	if s.closed {
		return false, os.ErrClosed
	}
	return s.out.Get()
}

// Set drives the line. It fails if the line reads the other level afterwards,
// as one does that is held by a short circuit or a second driver; the line is
// left driven. Several goroutines may call it.
func (s *gpioOut) Set(ctx context.Context, channel string, v hal.Value) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.drive(ctx, channel, v); err != nil {
		return fmt.Errorf("gpio-out %s: set: %w", s.line, err)
	}
	return nil
}

func (s *gpioOut) drive(ctx context.Context, channel string, v hal.Value) error {
	if channel != "level" {
		return fmt.Errorf("channel %q, want level", channel)
	}
	if v.Kind() != hal.Bool {
		return fmt.Errorf("level: want true or false")
	}
	if _, err := s.get(ctx); err != nil {
		return err
	}
	if err := s.out.Set(v.Bool()); err != nil {
		return err
	}
	got, err := s.out.Get()
	if err != nil {
		return err
	}
	if got != v.Bool() {
		return fmt.Errorf("drove %v, reads %v: %w", v.Bool(), got, ErrHeld)
	}
	return nil
}

// Close lets go of the line; what level it then has is the hardware's choice.
func (s *gpioOut) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	return s.out.Close()
}
