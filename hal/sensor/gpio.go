package sensor

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/tidemill/tidemill/hal"
)

var gpioInDriver = driver{
	Driver: Driver{
		Name:    "gpio-in",
		Summary: "level of an input line and the number of its changes",
		Options: []Option{
			{"line", "string", "", "required: name, such as GPIO17, or chip label and offset, such as pinctrl-rp1:17"},
			{"pull", "string", "as-is", "as-is, none, up or down"},
			{"debounce", "duration", "0s", "a level counts once it has lasted this long; at most 10s"},
			{"poll", "duration", "0s", "look this often in place of using interrupts; 100us to 1m"},
		},
	},
	set: func(o *options) opener {
		s := &gpioIn{line: o.required("line")}
		s.opts.Pull = map[string]hal.Pull{
			"as-is": hal.PullAsIs, "none": hal.PullNone, "up": hal.PullUp, "down": hal.PullDown,
		}[o.choice("pull", "as-is", "none", "up", "down")]
		s.debounce = o.duration("debounce", time.Microsecond, 10*time.Second)
		s.opts.Poll = o.duration("poll", 100*time.Microsecond, time.Minute)
		return s.open
	},
}

// gpioIn is the driver of the same name. Its one goroutine waits for edges from
// Open to Close.
type gpioIn struct {
	line     string
	opts     hal.InputOptions
	debounce time.Duration
	in       hal.DigitalInput
	closing  chan struct{}
	done     chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // guards all below
	level  bool       // as of the last edge that counts; only kept with debounce
	edges  int64
	closed bool
}

func (s *gpioIn) open(_ context.Context, b hal.Board) (hal.Sensor, error) {
	var err error
	if o, ok := b.(hal.InputOpener); ok {
		s.in, err = o.OpenInput(s.line, s.opts)
	} else if s.opts != (hal.InputOptions{}) {
		return nil, &OptionError{Key: "line", Problem: "this board can set neither pull nor poll"}
	} else {
		s.in, err = b.Input(s.line)
	}
	if err != nil {
		return nil, err
	}
	if s.level, err = s.in.Read(); err != nil {
		_ = s.in.Close() // the reading's error says more
		return nil, err
	}
	s.closing, s.done = make(chan struct{}), make(chan struct{})
	go s.count()
	return s, nil
}

// count waits for edges until Close.
func (s *gpioIn) count() {
	defer close(s.done)
	for {
		edge := s.in.WaitForEdge(-1)
		select {
		case <-s.closing:
			return
		default:
		}
		if !edge {
			// Only a line that broke gets here (its chip was unbound); Read
			// has the error. Wait, so as not to spin.
			select {
			case <-s.closing:
				return
			case <-time.After(time.Second):
			}
			continue
		}
		if s.debounce == 0 {
			s.mu.Lock()
			s.edges++
			s.mu.Unlock()
			continue
		}
		for s.in.WaitForEdge(s.debounce) {
		}
		level, err := s.in.Read()
		s.mu.Lock()
		if err == nil && level != s.level {
			s.level = level
			s.edges++
		}
		s.mu.Unlock()
	}
}

// Channels: level is the debounced level, edges the changes since Open.
func (s *gpioIn) Channels() []hal.Channel {
	return []hal.Channel{{Name: "level", Kind: hal.Bool}, {Name: "edges", Kind: hal.Int}}
}

func (s *gpioIn) Read(ctx context.Context) ([]hal.Value, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("gpio-in %s: %w", s.line, err)
	}
	now, err := s.in.Read()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		err = os.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("gpio-in %s: %w", s.line, err)
	}
	if s.debounce > 0 {
		now = s.level
	}
	return []hal.Value{hal.BoolValue(now), hal.IntValue(s.edges)}, nil
}

// Close waits for the goroutine.
func (s *gpioIn) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	s.mu.Unlock()
	close(s.closing)
	err := s.in.Close()
	<-s.done
	return err
}

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
