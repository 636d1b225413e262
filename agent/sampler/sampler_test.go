package sampler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A fake is a sensor and an actuator with a script.
type fake struct {
	read   func(ctx context.Context) ([]hal.Value, error)
	mu     sync.Mutex
	level  bool
	closed int
}

func (f *fake) Channels() []hal.Channel { return []hal.Channel{{Name: "level", Kind: hal.Bool}} }
func (f *fake) Close() error            { f.mu.Lock(); defer f.mu.Unlock(); f.closed++; return nil }
func (f *fake) Read(ctx context.Context) ([]hal.Value, error) {
	if f.read != nil {
		return f.read(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return []hal.Value{hal.BoolValue(f.level)}, nil
}
func (f *fake) Set(_ context.Context, _ string, v hal.Value) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.level = v.Bool()
	return nil
}

type times struct {
	mu  sync.Mutex
	at  map[string][]int64
	got []string // each reading as "t sensor name=value ..."
}

func (s *times) Append(sensor string, chs []hal.Channel, at time.Time, vals []hal.Value) error {
	t := at.UnixMilli()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil {
		s.at = map[string][]int64{}
	}
	s.at[sensor] = append(s.at[sensor], t)
	s.got = append(s.got, text(sensor, chs, t, vals))
	return nil
}

func (s *times) of(sensor string) []int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]int64(nil), s.at[sensor]...)
}

// rig runs a sampler over fakes by driver name.
func rig(t *testing.T, drivers map[string]func() (hal.Sensor, error), specs ...Spec) (*Sampler, *times, func()) {
	sink := &times{}
	s := New(Options{Sink: sink, Open: func(_ context.Context, sp Spec) (hal.Sensor,
		error) {
		return drivers[sp.Driver]()
	}})
	s.Set(specs)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	return s, sink, func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// text is a reading for comparisons, its time in seconds of the bubble's day.
func text(sensor string, chs []hal.Channel, t int64, vals []hal.Value) string {
	at := time.UnixMilli(t).UTC()
	b := fmt.Sprintf("%g %s", at.Sub(at.Truncate(24*time.Hour)).Seconds(), sensor)
	for i, v := range vals {
		b += " " + chs[i].Name + "="
		switch v.Kind() {
		case hal.Float:
			b += fmt.Sprint(v.Float())
		case hal.Int:
			b += fmt.Sprint(v.Int())
		case hal.Bool:
			b += fmt.Sprint(v.Bool())
		case hal.Text:
			b += v.Text()
		default:
			b += "-"
		}
	}
	return b
}

func good() (hal.Sensor, error) { return &fake{}, nil }

func TestTicksAreAligned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(3300 * time.Millisecond)
		slow := &fake{}
		n := 0
		slow.read = func(context.Context) ([]hal.Value, error) {
			if n++; n == 3 {
				time.Sleep(2500 * time.Millisecond) // over two ticks
			}
			return []hal.Value{hal.BoolValue(true)}, nil
		}
		s, sink, stop := rig(t, map[string]func() (hal.Sensor,
			error){"slow": func() (hal.Sensor, error) { return slow, nil }},
			Spec{Name: "a", Driver: "slow", Sampling: Sampling{Every: time.Second}, Timeout: 5 * time.Second})
		begin := time.Now().Truncate(time.Second)
		time.Sleep(8 * time.Second)
		stop()
		var got []float64
		for _, ms := range sink.of("a") {
			got = append(got, float64(ms-begin.UnixMilli())/1000)
		}
		// At once, then at whole seconds; those that the slow read covers are left out.
		want := []float64{0.3, 1, 2, 5, 6, 7, 8}
		if len(got) != len(want) {
			t.Fatalf("read at %v, want %v", got, want)
		}
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("read at %v, want %v", got, want)
			}
		}
		if st := s.Status()[0]; st.Missed != 2 || st.Errors != 0 {
			t.Errorf("%+v", st)
		}
	})
}

func TestFailuresStayWithTheirSensor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opens, reads, panics := 0, 0, 0
		drivers := map[string]func() (hal.Sensor, error){
			"good": good,
			"late": func() (hal.Sensor, error) {
				if opens++; opens < 4 {
					return nil, hal.ErrNoDevice
				}
				return &fake{}, nil
			},
			"flaky": func() (hal.Sensor, error) {
				return &fake{read: func(context.Context) ([]hal.Value, error) {
					if reads++; reads < 9 {
						return nil, errors.New("no answer")
					}
					return []hal.Value{hal.BoolValue(true)}, nil
				}}, nil
			},
			"panic": func() (hal.Sensor, error) {
				return &fake{read: func(context.Context) ([]hal.Value,
					error) {
					panics++
					panic("index out of range")
				}}, nil
			},
			"hang": func() (hal.Sensor, error) {
				return &fake{read: func(ctx context.Context) ([]hal.Value, error) {
					<-ctx.Done()
					return nil,
						ctx.Err()
				}}, nil
			},
			"short": func() (hal.Sensor, error) {
				return &fake{read: func(context.Context) ([]hal.Value, error) { return nil, nil }}, nil
			},
			"bomb": func() (hal.Sensor, error) { panic("at open") },
		}
		var specs []Spec
		for name := range drivers {
			specs = append(specs, Spec{Name: name, Driver: name, Sampling: Sampling{Every: time.Second}})
		}
		s, sink, stop := rig(t, drivers, specs...)
		time.Sleep(10 * time.Minute)
		for _, st := range s.Status() {
			want, working := "", true
			switch st.Name {
			case "panic":
				want, working = "the driver panicked: index out of range", false
			case "bomb":
				want, working = "open: the driver panicked: at open", false
			case "hang":
				want, working = "deadline exceeded", false
			case "short":
				want, working = "0 values for 1 channels", false
			}
			if working != (st.Error == "") || !strings.Contains(st.Error, want) || st.Hangs {
				t.Errorf("%+v", st)
			}
			if !working && (st.Errors < 8 || st.Errors > 40) {
				t.Errorf("%s failed %d times in ten minutes; want a minute between tries in the end", st.Name,
					st.Errors)
			}
			if (st.Name == "late" && st.Errors != 3) || st.Name == "flaky" && st.Errors != 8 {
				t.Errorf("%+v", st)
			}
		}
		if n := len(sink.of("good")); n < 600 || n > 601 {
			t.Errorf("the good sensor was read %d times in 600 s", n)
		}
		if !s.Alive() {
			t.Error("not alive")
		}
		stop()
	})
}

func TestStuckDriver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		s, _, stop := rig(t, map[string]func() (hal.Sensor, error){"stuck": func() (hal.Sensor, error) {
			return &fake{read: func(context.Context) ([]hal.Value, error) { <-free; return nil, errors.New("freed") }},
				nil
		}}, Spec{Name: "a", Driver: "stuck", Sampling: Sampling{Every: time.Second}})
		time.Sleep(5 * time.Second)
		if !s.Alive() {
			t.Error("given up too soon")
		}
		time.Sleep(10 * time.Second)
		if st := s.Status()[0]; !st.Hangs || s.Alive() {
			t.Errorf("%+v", st)
		}
		close(free)
		stop()
	})
}

func TestSetAndChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var made []*fake
		s, sink, stop := rig(t, map[string]func() (hal.Sensor, error){"f": func() (hal.Sensor, error) {
			made = append(made, &fake{})
			return made[len(made)-1], nil
		}}, Spec{Name: "out", Driver: "f", Sampling: Sampling{Every: time.Hour}})
		time.Sleep(time.Second)
		on := hal.BoolValue(true)
		if got, err := s.SetOutput(t.Context(), "out", "level", on); err != nil || got != on {
			t.Errorf("SetOutput: %v, %v", got, err)
		}
		if st := s.Status()[0]; st.Outputs["level"] != on || !st.Output {
			t.Errorf("%+v", st)
		}
		if _, err := s.SetOutput(t.Context(), "other", "level", on); !errors.Is(err, errUnknown) {
			t.Error(err)
		}
		if _, err := s.SetOutput(t.Context(), "out", "speed", on); !errors.Is(err, errNotOutput) {
			t.Error(err)
		}
		if err := s.SetSampling("out", Sampling{Every: time.Second}); err != nil {
			t.Error(err)
		}
		before := len(sink.of("out"))
		time.Sleep(10 * time.Second)
		if n := len(sink.of("out")) - before; n < 9 || n > 11 {
			t.Errorf("%d readings in 10 s", n)
		}
		// The same sensor at another interval stays open; other options do not.
		s.Set([]Spec{{Name: "out", Driver: "f", Sampling: Sampling{Every: time.Minute}}, {Name: "new", Driver: "f",
			Sampling: Sampling{Every: time.Minute}}})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(made) != 2 || made[0].closed != 0 {
			t.Errorf("%d opened, first closed %d times", len(made), made[0].closed)
		}
		s.Set([]Spec{{Name: "out", Driver: "f", Sampling: Sampling{Every: time.Minute},
			Options: map[string]any{"line": "x"}}})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(made) != 3 || made[0].closed != 1 || made[1].closed != 1 || len(s.Status()) != 1 {
			t.Errorf("%d opened, %+v", len(made), s.Status())
		}
		stop()
	})
}
