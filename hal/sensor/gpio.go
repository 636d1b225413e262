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
		Summary: "level of an input line and the number of its changes, with frequency or pulse width",
		Options: []Option{
			{"line", "string", "", "required: name, such as GPIO17, or chip label and offset, such as pinctrl-rp1:17"},
			{"measure", "string", "edges", "edges: level and count alone; frequency or pulse_width: that too, " +
				"from one reading to the next"},
			{"active_low", "bool", "false", "a low line counts as true: switches to ground, open collectors"},
			{"pull", "string", "as-is", "as-is, none, up or down"},
			{"debounce", "duration", "0s", "a level counts once it has lasted this long; at most 10s"},
			{"poll", "duration", "0s", "look this often in place of using interrupts; 100us to 1m"},
		},
	},
	set: func(o *options) opener {
		s := &gpioIn{line: o.required("line"), measure: o.choice("measure", "edges", "frequency", "pulse_width")}
		s.low, _ = o.flag("active_low")
		s.opts.Pull = map[string]hal.Pull{
			"as-is": hal.PullAsIs, "none": hal.PullNone, "up": hal.PullUp, "down": hal.PullDown,
		}[o.choice("pull", "as-is", "none", "up", "down")]
		s.meter.debounce = o.duration("debounce", time.Microsecond, 10*time.Second)
		s.opts.Poll = o.duration("poll", 100*time.Microsecond, time.Minute)
		return s.open
	},
}

// gpioIn is the driver of the same name. Its one goroutine waits for edges from
// Open to Close. Frequency and pulse width come of the times at which the edges
// were (the kernel's, where the line has interrupts), not of when the goroutine
// got to run.
type gpioIn struct {
	line    string
	measure string
	low     bool // a low line is true
	opts    hal.InputOptions
	in      hal.EdgeInput
	closing chan struct{}
	done    chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex // guards all below
	meter  meter
	closed bool
}

func (s *gpioIn) open(_ context.Context, b hal.Board) (hal.Sensor, error) {
	var in hal.DigitalInput
	var err error
	if o, ok := b.(hal.InputOpener); ok {
		in, err = o.OpenInput(s.line, s.opts)
	} else if s.opts != (hal.InputOptions{}) {
		return nil, &OptionError{Key: "line", Problem: "this board can set neither pull nor poll"}
	} else {
		in, err = b.Input(s.line)
	}
	if err != nil {
		return nil, err
	}
	var ok bool
	if s.in, ok = in.(hal.EdgeInput); !ok {
		s.in = &stamped{in, time.Now()}
	}
	level, err := s.in.Read()
	if err != nil {
		_ = s.in.Close() // the reading's error says more
		return nil, err
	}
	s.meter.level = level != s.low
	s.closing, s.done = make(chan struct{}), make(chan struct{})
	go s.count()
	return s, nil
}

// stamped is an input whose edges have the time at which they were seen.
type stamped struct {
	hal.DigitalInput
	began time.Time
}

func (s *stamped) Now() time.Duration { return time.Since(s.began) }

func (s *stamped) NextEdge(timeout time.Duration) (hal.Edge, bool) {
	if !s.WaitForEdge(timeout) {
		return hal.Edge{}, false
	}
	at := s.Now()
	high, err := s.Read()
	return hal.Edge{High: high, At: at}, err == nil
}

// count waits for edges until Close.
func (s *gpioIn) count() {
	defer close(s.done)
	for {
		e, ok := s.in.NextEdge(-1)
		select {
		case <-s.closing:
			return
		default:
		}
		if !ok {
			// Only a line that broke gets here (its chip was unbound); Read
			// has the error. Wait, so as not to spin.
			select {
			case <-s.closing:
				return
			case <-time.After(time.Second):
			}
			continue
		}
		e.High = e.High != s.low
		s.mu.Lock()
		s.meter.edge(e)
		s.mu.Unlock()
	}
}

// Channels: level is the debounced level, edges the changes since Open. frequency
// counts the rises, from one to the next, and is 0 without; pulse widths are of
// the pulses that ended since the last reading and began after Open, and absent
// without.
func (s *gpioIn) Channels() []hal.Channel {
	chs := []hal.Channel{{Name: "level", Kind: hal.Bool}, {Name: "edges", Kind: hal.Int}}
	switch s.measure {
	case "frequency":
		chs = append(chs, hal.Channel{Name: "frequency", Unit: "1/s", Kind: hal.Float})
	case "pulse_width":
		for _, name := range []string{"pulse_width", "pulse_width_min", "pulse_width_max"} {
			chs = append(chs, hal.Channel{Name: name, Unit: "s", Kind: hal.Float})
		}
	}
	return chs
}

func (s *gpioIn) Read(ctx context.Context) ([]hal.Value, error) {
	vals, err := s.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("gpio-in %s: %w", s.line, err)
	}
	return vals, nil
}

func (s *gpioIn) read(ctx context.Context) ([]hal.Value, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	high, err := s.in.Read()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, os.ErrClosed
	}
	if err != nil {
		return nil, err
	}
	high = high != s.low
	m, err := s.meter.take(s.in.Now(), high)
	if err != nil {
		return nil, err
	}
	if s.meter.debounce > 0 {
		high = m.level
	}
	vals := []hal.Value{hal.BoolValue(high), hal.IntValue(m.edges)}
	switch {
	case s.measure == "frequency":
		vals = append(vals, hal.FloatValue(m.frequency))
	case s.measure == "pulse_width" && m.pulses == 0:
		vals = append(vals, hal.Value{}, hal.Value{}, hal.Value{})
	case s.measure == "pulse_width":
		vals = append(vals, hal.FloatValue(m.mean), hal.FloatValue(m.min), hal.FloatValue(m.max))
	}
	return vals, nil
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
