package sampler

import (
	"context"
	"errors"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
)

// A source is a sensor with channels, whose readings a function makes.
type source struct {
	chs  []hal.Channel
	read func(n int) []hal.Value // n from 1
	took time.Duration           // for a reading
	n    int
}

func (s *source) Channels() []hal.Channel { return s.chs }
func (s *source) Close() error            { return nil }
func (s *source) Read(ctx context.Context) ([]hal.Value, error) {
	s.n++
	if s.took > 0 {
		select {
		case <-time.After(s.took):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return s.read(s.n), nil
}

var celsius = []hal.Channel{{Name: "temperature", Unit: "°C", Kind: hal.Float}}

// floats is a source of one channel that goes through vals and stays at the last.
func floats(vals ...float64) *source {
	return &source{chs: celsius, read: func(n int) []hal.Value {
		return []hal.Value{hal.FloatValue(vals[min(n, len(vals))-1])}
	}}
}

// sampled runs one sensor for a time and returns what the sink got.
func sampled(t *testing.T, sn hal.Sensor, sp Spec, during time.Duration, meanwhile func(*Sampler)) ([]string, Status) {
	t.Helper()
	sp.Name, sp.Driver = "s", "x"
	s, sink, stop := rig(t, map[string]func() (hal.Sensor, error){"x": func() (hal.Sensor, error) { return sn, nil }},
		sp)
	if meanwhile != nil {
		meanwhile(s)
	}
	time.Sleep(during)
	synctest.Wait()
	st := s.Status()[0]
	stop()
	return sink.got, st
}

func wantLines(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestPhase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(100 * time.Millisecond)
		got, _ := sampled(t, floats(1), Spec{Sampling: Sampling{Every: 2 * time.Second, Phase: 500 * time.Millisecond}},
			5*time.Second, nil)
		wantLines(t, got, "0.1 s temperature=1", "0.5 s temperature=1", "2.5 s temperature=1", "4.5 s temperature=1")
	})
}

func TestAverage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chs := append(slices.Clone(celsius), hal.Channel{Name: "edges", Kind: hal.Int}, hal.Channel{Name: "on",
			Kind: hal.Bool},
			hal.Channel{Name: "word", Kind: hal.Text})
		src := &source{chs: chs, read: func(n int) []hal.Value {
			v := hal.FloatValue(20 + float64(n)/100)
			if n == 3 {
				v = hal.FloatValue(math.NaN()) // is left out of the mean
			}
			return []hal.Value{v, hal.IntValue(int64(n)), hal.BoolValue(n%2 == 0), hal.TextValue(strings.Repeat("a",
				n))}
		}}
		got, st := sampled(t, src, Spec{Sampling: Sampling{Every: time.Second, Average: 4}}, 1500*time.Millisecond, nil)
		// (20.01 + 20.02 + 20.04) / 3, with one digit more than they have; the rest is the last.
		wantLines(t, got, "0 s temperature=20.023 edges=4 on=true word=aaaa",
			"1 s temperature=20.065 edges=8 on=true word=aaaaaaaa")
		if src.n != 8 || st.Reads != 2 || st.Implausible != 1 {
			t.Errorf("%d reads, %+v", src.n, st)
		}
	})
}

func TestDeadbandAndHeartbeat(t *testing.T) {
	for _, c := range []struct {
		name  string
		s     Sampling
		vals  []float64
		sent  []float64
		times []float64 // nil: not looked at
	}{
		{"absolute, against the value sent last", Sampling{Deadband: map[string]Band{"temperature": {Absolute: 0.1}}},
			[]float64{20, 20.05, 20.09, 20.1, 20.05, 20, 20.3}, []float64{20, 20.1, 20, 20.3}, []float64{0, 3, 5, 6}},
		{"percent", Sampling{Deadband: map[string]Band{"temperature": {Percent: 10}}},
			[]float64{100, 109, 91, 110, 120, 121, -5}, []float64{100, 110, 121, -5}, nil},
		{"never by itself", Sampling{Deadband: map[string]Band{"temperature": {Never: true}},
			Heartbeat: 5 * time.Second},
			[]float64{1, 2, 3, 4, 5, 6, 7}, []float64{1, 6}, []float64{0, 5}},
		{"any change", Sampling{Heartbeat: time.Minute}, []float64{1, 1, 2, 2, 1}, []float64{1, 2, 1}, nil},
		{"heartbeat", Sampling{Heartbeat: 3 * time.Second}, []float64{1, 1, 1, 1, 1, 1, 1}, []float64{1, 1, 1},
			[]float64{0, 3, 6}},
		{"heartbeat between two ticks comes early", Sampling{Heartbeat: 2500 * time.Millisecond},
			[]float64{1, 1, 1, 1, 1}, []float64{1, 1, 1}, []float64{0, 2, 4}},
		{"all", Sampling{}, []float64{1, 1, 1}, []float64{1, 1, 1}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.s.Every = time.Second
				got, st := sampled(t, floats(c.vals...), Spec{Sampling: c.s},
					time.Duration(len(c.vals)-1)*time.Second+time.Millisecond, nil)
				var want []string
				for i, v := range c.sent {
					at := hal.FloatValue(v)
					line := text("s", celsius, 0, []hal.Value{at})
					if c.times != nil {
						line = text("s", celsius, time.Unix(int64(c.times[i]), 0).UnixMilli(), []hal.Value{at})
					} else if i < len(got) {
						line = got[i][:strings.Index(got[i], " ")] + line[1:]
					}
					want = append(want, line)
				}
				wantLines(t, got, want...)
				if st.Reads != uint64(len(c.vals)) || st.Readings+st.Same != st.Reads {
					t.Errorf("%+v", st)
				}
			})
		})
	}
	// A value that comes or goes is a change.
	var b Band
	if !b.left(hal.Value{}, hal.FloatValue(1)) || !b.left(hal.FloatValue(1), hal.Value{}) || b.left(hal.Value{},
		hal.Value{}) ||
		!b.left(hal.TextValue("a"), hal.TextValue("b")) {
		t.Error("absent values and texts")
	}
}

func TestWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(4 * time.Second)
		chs := append(slices.Clone(celsius), hal.Channel{Name: "edges", Kind: hal.Int}, hal.Channel{Name: "on",
			Kind: hal.Bool},
			hal.Channel{Name: "word", Kind: hal.Text})
		src := &source{chs: chs, read: func(n int) []hal.Value {
			v := []hal.Value{hal.FloatValue(20 + float64(n)/10), hal.IntValue(int64(n)), hal.BoolValue(n%4 == 0),
				hal.TextValue("w")}
			if n == 2 {
				v[0] = hal.Value{}
			}
			return v
		}}
		got, st := sampled(t, src, Spec{Sampling: Sampling{Every: 2 * time.Second, Window: 10 * time.Second}},
			18*time.Second, nil)
		wantLines(t, got,
			// The ticks at 4, 6 and 8 s; that at 10 s is the next window's.
			"10 s temperature_min=20.1 temperature_mean=20.2 temperature_max=20.3 temperature_count=2 "+
				"edges_min=1 edges_mean=2 edges_max=3 edges_count=3 on=false on_mean=0 on_count=3 word=w word_count=3",
			"20 s temperature_min=20.4 temperature_mean=20.6 temperature_max=20.8 temperature_count=5 "+
				"edges_min=4 edges_mean=6 edges_max=8 edges_count=5 on=true on_mean=0.4 on_count=5 word=w word_count=5",
			// What is there when the sampler ends.
			"22 s temperature_min=20.9 temperature_mean=20.95 temperature_max=21 temperature_count=2 "+
				"edges_min=9 edges_mean=9.5 edges_max=10 edges_count=2 on=false on_mean=0 on_count=2 word=w word_count=2")
		if st.Reads != 10 || st.Readings != 2 {
			t.Errorf("%+v", st)
		}
	})
}

// A sensor that fails still ends its window on time, and a window without a reading is
// nothing.
func TestWindowOfASensorThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := &fake{read: func(context.Context) ([]hal.Value, error) {
			if n++; n > 3 {
				return nil, errors.New("no answer")
			}
			return []hal.Value{hal.BoolValue(true)}, nil
		}}
		got, _ := sampled(t, f, Spec{Sampling: Sampling{Every: time.Second, Window: 10 * time.Second}}, time.Minute,
			nil)
		wantLines(t, got, "10 s level=true level_mean=1 level_count=3")
	})
}

// A window goes on over a sensor that is closed and opened again.
func TestWindowOfASensorThatIsOpenedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		f := &fake{read: func(context.Context) ([]hal.Value, error) {
			if n++; n > 5 && n < 11 {
				return nil, errors.New("no answer")
			}
			return []hal.Value{hal.BoolValue(true)}, nil
		}}
		got, st := sampled(t, f, Spec{Sampling: Sampling{Every: 100 * time.Millisecond, Window: time.Minute}},
			time.Minute+50*time.Millisecond, nil)
		if len(got) != 2 || !strings.HasPrefix(got[0], "60 s level=true level_mean=1 level_count=5") || f.closed < 2 ||
			st.Errors != 5 {
			t.Errorf("%v, closed %d times, %+v", got, f.closed, st)
		}
	})
}

// What can be changed at run time takes effect at once; an open window is sent.
func TestSamplingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := floats(1, 1, 2)
		got, _ := sampled(t, src, Spec{Sampling: Sampling{Every: time.Hour, Heartbeat: time.Hour}},
			1500*time.Millisecond,
			func(s *Sampler) {
				time.Sleep(500 * time.Millisecond)
				if err := s.SetSampling("s", Sampling{Every: time.Second, Window: time.Minute}); err != nil {
					t.Error(err)
				}
				time.Sleep(2 * time.Second) // the ticks at 1 and 2 s
				if err := s.SetSampling("s", Sampling{Every: 2 * time.Second}); err != nil {
					t.Error(err)
				}
				if s.SetSampling("s", Sampling{}) == nil || s.SetSampling("t", Sampling{Every: 1}) == nil {
					t.Error("no interval, or no sensor, is taken")
				}
			})
		wantLines(t, got, "0 s temperature=1",
			"2.5 s temperature_min=1 temperature_mean=1.5 temperature_max=2 temperature_count=2", "4 s temperature=2")
	})
}

func TestJitterAndOverruns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := floats(1)
		src.took = 1200 * time.Millisecond
		_, st := sampled(t, src, Spec{Sampling: Sampling{Every: time.Second}, Timeout: 5 * time.Second}, 10*time.Second,
			nil)
		if st.Overruns != 5 || st.Missed != 5 || st.Jitter.Max != 0 || st.Jitter.Count != 4 {
			t.Errorf("%+v", st)
		}
	})
	var h histogram
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	j := h.sumUp()
	if j.Count != 1000 || j.Mean != 500500*time.Microsecond || j.Max != time.Second ||
		j.P99 < 990*time.Millisecond || j.P99 > time.Second {
		t.Errorf("%+v", j)
	}
	for _, d := range []time.Duration{0, 1, time.Microsecond, 999 * time.Microsecond, 17 * time.Millisecond, time.Hour,
		-1} {
		i := bucket(max(d, 0))
		if i < 0 || i >= buckets || d < 30*time.Minute && upper(i) < d || i > 0 && upper(i-1) > max(d,
			0)+time.Microsecond {
			t.Errorf("%v is in bucket %d up to %v", d, i, upper(i))
		}
	}
}

// A clock that is set does not make ticks missed or late, and ends a window.
func TestWindowWhenTheClockIsSet(t *testing.T) {
	now := time.Now()
	w := newWindow(celsius, time.Minute, now)
	w.add([]hal.Value{hal.FloatValue(1)})
	end, due := w.start.Add(time.Minute), w.end
	for _, c := range []struct {
		now   time.Time
		set   time.Duration // the wall clock, since the window began
		stamp time.Time
		over  bool
	}{
		{now: w.start.Add(59 * time.Second), stamp: w.start.Add(59 * time.Second)},
		{now: end, stamp: end, over: true},
		{now: end.Add(30 * time.Second), stamp: end, over: true},
		{now: end.Add(time.Hour), stamp: end, over: true}, // late: the sensor could not be opened
		{now: end.Add(time.Hour), set: time.Hour, stamp: end.Add(time.Hour), over: true},
		{now: w.start.Add(-time.Second), set: -2 * time.Minute, stamp: w.start.Add(-time.Second), over: true},
	} {
		// Without a monotonic clock, whose end would be elsewhere by as much.
		w.end = due.Add(c.set).Round(0)
		if c.over && c.set == 0 {
			w.end = end
		}
		if stamp, over := w.over(c.now); !stamp.Equal(c.stamp) || over != c.over {
			t.Errorf("at %v of %v: %v, %v", c.now, w.start, stamp, over)
		}
	}
	w.end = due.Round(0)
	if now := end.Add(-time.Millisecond); !w.early(now) || !w.end.Equal(end) {
		t.Errorf("a millisecond early it is due at %v", w.end)
	}
	long := newWindow([]hal.Channel{{Name: strings.Repeat("n", 32), Kind: hal.Float}}, time.Minute, now)
	for _, c := range long.chs {
		if len(c.Name) > maxName {
			t.Errorf("%s is too long", c.Name)
		}
	}
}

func TestMean(t *testing.T) {
	for _, c := range []struct {
		vals []float64
		want float64
	}{
		{[]float64{0.1, 0.2, 0.2}, 0.17},
		{[]float64{101257.48, 101257.5}, 101257.49},
		{[]float64{1e300, 1e300}, 1e300},
		{[]float64{1.0 / 3, 2.0 / 3}, 0.5},
		{[]float64{math.MaxFloat64, math.MaxFloat64}, math.MaxFloat64},
	} {
		var m mean
		for _, v := range c.vals {
			m.add(v)
		}
		if got := m.round(); got != c.want {
			t.Errorf("%v: %v, want %v", c.vals, got, c.want)
		}
	}
}

// A talker is a source that speaks by itself.
type talker struct {
	source
	say     chan arrival
	dropped atomic.Uint64
}

func (p *talker) Dropped() uint64 { return p.dropped.Load() }

func (p *talker) Next(ctx context.Context) (hal.Push, error) {
	select {
	case s := <-p.say:
		return s.Push, s.err
	case <-ctx.Done():
		return hal.Push{}, ctx.Err()
	}
}

func TestPush(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &talker{say: make(chan arrival)}
		other := []hal.Channel{{Name: "battery", Unit: "%", Kind: hal.Int}}
		say := func(chs []hal.Channel, v hal.Value) {
			src.say <- arrival{Push: hal.Push{At: time.Now(), Channels: chs, Values: []hal.Value{v}}}
			time.Sleep(time.Second)
		}
		got, st := sampled(t, src, Spec{Sampling: Sampling{Every: 10 * time.Second, Heartbeat: time.Minute},
			Bounds: map[string]Bounds{"temperature": {-40, 85}}}, 15*time.Second, func(s *Sampler) {
			say(celsius, hal.FloatValue(20))
			src.dropped.Add(2)
			say(other, hal.IntValue(90))
			src.dropped.Add(1)
			say(celsius, hal.FloatValue(20)) // the same
			say(celsius, hal.FloatValue(200))
			say(celsius, hal.FloatValue(21))
			src.say <- arrival{err: hal.ErrNoDevice}
			synctest.Wait()
			if st := s.Status()[0]; st.State != Away || st.Kind != hal.CauseNoDevice {
				t.Errorf("%+v", st)
			}
			say(other, hal.IntValue(89))
		})
		wantLines(t, got, "0 s temperature=20", "1 s battery=90", "4 s temperature=21", "5 s battery=89")
		if st.State != Away || st.Kind != hal.CauseSilent || st.Implausible != 1 || st.Same != 1 || st.Dropped != 3 {
			t.Errorf("%+v", st)
		}
	})
}
