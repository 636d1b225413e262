package sampler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sensor"
	"github.com/tidemill/tidemill/hal/sim"
)

// floating is a bus line that nothing drives: whatever is read is ones.
type floating struct{}

func (floating) Tx(_, r []byte) error {
	for i := range r {
		r[i] = 0xFF
	}
	return nil
}

// A plant is a board with one BME280 on each of several buses, and a sampler over it.
type plant struct {
	board *sim.Board
	buses []*sim.Bus
	chips []*sim.BME280
	s     *Sampler
	sink  *times
	log   bytes.Buffer
	stop  func()
}

func newPlant(t *testing.T, sensors int, every time.Duration) *plant {
	p := &plant{board: sim.New(sim.Options{NoBus: true}), sink: &times{}}
	var specs []Spec
	for i := range sensors {
		name := fmt.Sprintf("/dev/i2c-%d", i)
		p.chips = append(p.chips, sim.NewBME280(uint64(i), sim.Weather(uint64(i)), nil))
		p.buses = append(p.buses, p.board.Add(sim.NewBus(name)))
		p.buses[i].Attach(0x76, p.chips[i])
		specs = append(specs, Spec{Name: fmt.Sprintf("s%d", i), Driver: "bme280", Sampling: Sampling{Every: every},
			Options: map[string]any{"bus": name}})
	}
	p.s = New(Options{Sink: p.sink, Kind: sensor.KindOf, Log: slog.New(slog.NewTextHandler(&p.log, nil)),
		Open: func(ctx context.Context, s Spec) (hal.Sensor, error) {
			return sensor.Open(ctx, s.Driver, p.board, s.Options)
		},
		Recover: func(ctx context.Context, s Spec, bus string) bool {
			if bus == "" {
				bus, _ = s.Options["bus"].(string)
			}
			_, err := p.board.RecoverBus(ctx, bus)
			return err == nil
		}})
	p.s.Set(specs)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.s.Run(ctx) }()
	p.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	return p
}

// Ten sensors at 10 Hz, of which one hangs its bus, one vanishes and one answers 0xFF for
// ever: the other seven miss no tick, and the three work again when the cause is gone.
func TestSickSensorsStopNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Millisecond)
		const hangs, vanishes, floats = 2, 5, 8
		p := newPlant(t, 10, 100*time.Millisecond)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		for _, st := range p.s.Status() {
			if st.State != OK || st.Errors != 0 {
				t.Fatalf("%+v", st)
			}
		}
		p.buses[hangs].Stick()
		p.buses[vanishes].Attach(0x76, nil)
		p.buses[floats].Attach(0x76, floating{})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		want := map[int]struct {
			State
			kind string
		}{hangs: {Stuck, "busy timeout"}, vanishes: {Away, "no_device"}, floats: {Away, "no_device"}}
		for i, st := range p.s.Status() {
			w, sick := want[i]
			switch {
			case !sick && (st.State != OK || st.Errors != 0 || st.Missed != 0 || st.Overruns != 0 || st.Hangs):
				t.Errorf("%+v", st)
			case sick && (st.State != w.State || !strings.Contains(w.kind, st.Kind) || st.Error == "" || st.Hangs ||
				time.Since(st.Since) < 9*time.Minute):
				t.Errorf("%+v, want %v", st, w)
			case sick && (st.Errors < 10 || st.Errors > 60):
				t.Errorf("%s was tried %d times in ten minutes", st.Name, st.Errors)
			}
		}
		if n := strings.Count(p.log.String(), "sensor failed"); n > 8 {
			t.Errorf("%d lines of failures:\n%s", n, p.log.String())
		}
		p.buses[hangs].Release()
		p.buses[vanishes].Attach(0x76, p.chips[vanishes])
		p.buses[floats].Attach(0x76, p.chips[floats])
		time.Sleep(2*time.Minute + 50*time.Millisecond) // the last reading takes its time too
		synctest.Wait()
		for i, st := range p.s.Status() {
			if st.State != OK || st.Error != "" || st.Kind != "" {
				t.Errorf("%+v", st)
			}
			if _, sick := want[i]; sick {
				continue
			}
			// At once, and at each tick after.
			at := p.sink.of(st.Name)
			if n := 10*(5+600+120) + 1; len(at) != n {
				t.Errorf("%s: %d readings, want %d", st.Name, len(at), n)
			}
			for j := 1; j < len(at); j++ {
				if at[j]%100 != 0 {
					t.Fatalf("%s: reading %d at %d ms", st.Name, j, at[j])
				}
			}
		}
		if n := strings.Count(p.log.String(), "sensor works again"); n != 3 {
			t.Errorf("%d lines of health:\n%s", n, p.log.String())
		}
		p.stop()
	})
}

// A bus that a chip holds is freed after three errors; a chip that does not acknowledge
// is no reason to.
func TestBusIsFreed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, 2, time.Second)
		time.Sleep(3500 * time.Millisecond)
		p.buses[0].HoldSDA(9)
		p.buses[1].NACK(0x76, 1000)
		time.Sleep(time.Minute)
		synctest.Wait()
		st := p.s.Status()
		if st[0].State != OK || st[0].Recovered != 1 || p.buses[0].Recovered() != 1 || st[0].Errors != recoverAfter {
			t.Errorf("%+v", st[0])
		}
		if st[1].State != Away || st[1].Recovered != 0 || p.buses[1].Recovered() != 0 {
			t.Errorf("%+v", st[1])
		}
		p.stop()
	})
}

// NaN, infinities and values outside of their bounds never leave as values; the other
// channels do. Where nothing is left, the sensor is opened anew.
func TestImplausible(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		chs := []hal.Channel{{Name: "temperature", Unit: "°C", Kind: hal.Float}, {Name: "count", Kind: hal.Int}}
		script := [][2]hal.Value{
			{hal.FloatValue(20), hal.IntValue(1)},
			{hal.FloatValue(math.NaN()), hal.IntValue(2)},
			{hal.FloatValue(math.Inf(-1)), hal.IntValue(3)},
			{hal.FloatValue(85.5), hal.IntValue(4)},
			{hal.FloatValue(85), hal.IntValue(11)},
			{hal.FloatValue(-41), hal.IntValue(-1)},
			{hal.FloatValue(-40), hal.IntValue(10)},
		}
		src := &source{chs: chs, read: func(n int) []hal.Value {
			v := script[min(n, len(script))-1]
			return v[:]
		}}
		var seen []string
		got, st := sampled(t, src, Spec{Sampling: Sampling{Every: time.Second},
			Bounds: map[string]Bounds{"temperature": {-40, 85}, "count": {0, 10}, "none": {0, 1}}}, 5*time.Second,
			func(s *Sampler) {
				for range 5 {
					time.Sleep(time.Second)
					synctest.Wait()
					st := s.Status()[0]
					seen = append(seen, fmt.Sprint(st.State, " ", st.Kind))
				}
			})
		wantLines(t, got[:5], "0 s temperature=20 count=1", "1 s temperature=- count=2", "2 s temperature=- count=3",
			"3 s temperature=- count=4", "4 s temperature=85 count=-")
		wantLines(t, seen, "implausible implausible", "implausible implausible", "implausible out_of_bounds",
			"implausible out_of_bounds", "implausible out_of_bounds")
		if st.State != OK || st.Implausible != 6 || st.Errors != 1 || len(got) < 6 ||
			!strings.HasSuffix(got[5], "temperature=-40 count=10") || !strings.Contains(st.Note, "bounds.none") {
			t.Errorf("%+v\n%s", st, strings.Join(got, "\n"))
		}
	})
}

// A loose cable is told of less and less often: each time is a write to flash.
func TestFlappingIsToldSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, told := 0, 0
		f := &fake{read: func(context.Context) ([]hal.Value, error) {
			if n++; n%2 == 0 {
				return nil, errors.New("loose")
			}
			return []hal.Value{hal.BoolValue(true)}, nil
		}}
		s := New(Options{Sink: &times{}, Open: func(context.Context, Spec) (hal.Sensor, error) { return f, nil },
			Changed: func(string) { told++ }})
		s.Set([]Spec{{Name: "x", Sampling: Sampling{Every: time.Second}}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(2 * time.Hour)
		cancel()
		if err := <-done; err != nil || n < 3000 || told < 15 || told > 25 {
			t.Errorf("%d readings, told %d times, %v", n, told, err)
		}
	})
}

// The kinds of errors that no driver names.
func TestStates(t *testing.T) {
	r := newRunner(New(Options{}), Spec{Name: "x", Sampling: Sampling{Every: time.Second}})
	for _, c := range []struct {
		err   error
		kind  string
		state State
	}{
		{hal.ErrNoDevice, "no_device", Away},
		{&hal.BusError{Bus: "b", Err: errors.New("held")}, "bus", Retrying},
		{context.DeadlineExceeded, "timeout", Stuck},
		{errors.New("?"), "error", Retrying},
		{fmt.Errorf("%w: full", errKeep), "error", Unkept},
		{errSilent, "silent", Away},
		{fmt.Errorf("x: %w", errBounds), "out_of_bounds", Implausible},
	} {
		if kind := r.kindOf(c.err); kind != c.kind || stateOf(c.err, kind) != c.state {
			t.Errorf("%v: %s, %s; want %s, %s", c.err, kind, stateOf(c.err, kind), c.kind, c.state)
		}
	}
	r.s.o.Kind = sensor.KindOf
	if kind := r.kindOf(fmt.Errorf("x: %w", sensor.ErrBusy)); stateOf(sensor.ErrBusy, kind) != Stuck {
		t.Error(kind)
	}
}
