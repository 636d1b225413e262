package sim_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

// A bus whose data line a chip holds carries nothing to any chip, until it was
// clocked nine times.
func TestHeldBus(t *testing.T) {
	b := sim.New(sim.Options{})
	h, err := b.I2C(sim.DefaultBus)
	if err != nil {
		t.Fatal(err)
	}
	bus := b.Bus(sim.DefaultBus)
	bus.HoldSDA(9)
	var be *hal.BusError
	for _, addr := range []uint16{sim.DefaultAddress, 0x10} {
		if err := h.Tx(addr, nil, make([]byte, 1)); !errors.As(err, &be) || be.Bus != sim.DefaultBus ||
			errors.Is(err, hal.ErrNoDevice) {
			t.Errorf("address %#x of a held bus: %v", addr, err)
		}
	}
	var r hal.Recoverer = b
	if did, err := r.RecoverBus(t.Context(), sim.DefaultBus); err != nil || did == "" {
		t.Errorf("%q, %v", did, err)
	}
	if err := h.Tx(sim.DefaultAddress, nil, make([]byte, 1)); err != nil || bus.Recovered() != 1 {
		t.Errorf("after %d recoveries: %v", bus.Recovered(), err)
	}
	bus.HoldSDA(1000) // a short circuit
	if _, err := r.RecoverBus(t.Context(), sim.DefaultBus); !errors.As(err, &be) {
		t.Errorf("a short circuit: %v", err)
	}
	if _, err := r.RecoverBus(t.Context(), "other"); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("no such bus: %v", err)
	}
}

func TestRecoverEndsWithContext(t *testing.T) {
	b := sim.New(sim.Options{})
	bus := b.Bus(sim.DefaultBus)
	bus.Stick()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = bus.Open().Tx(sim.DefaultAddress, nil, make([]byte, 1))
	}()
	for bus.Transfers() == 0 {
		time.Sleep(time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := b.RecoverBus(ctx, sim.DefaultBus); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a transfer that hangs: %v", err)
	}
	bus.Release()
	<-done
}

// Edges have the time at which the level changed, not that of the look.
func TestEdgeTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := sim.New(sim.Options{})
		pin, _ := b.Pin("sim:3")
		in, err := b.Input("sim:3")
		if err != nil {
			t.Fatal(err)
		}
		edges := in.(hal.EdgeInput)
		began := edges.Now()
		for i := range 1026 { // two more than there is room for
			time.Sleep(time.Millisecond)
			pin.Drive(i%2 == 0)
		}
		e, ok := edges.NextEdge(0)
		if want := (hal.Edge{High: true, At: began + 3*time.Millisecond, Lost: 2}); !ok || e != want {
			t.Errorf("%+v, want %+v", e, want)
		}
		if e, ok = edges.NextEdge(0); !ok || e.At != began+4*time.Millisecond || e.High || e.Lost != 0 {
			t.Errorf("%+v", e)
		}
		in.Close()
	})
}

func TestPWM(t *testing.T) {
	b := sim.New(sim.Options{})
	if b.PWM("pwmchip0:2") != nil {
		t.Error("an output too many")
	}
	if _, err := b.OpenPWM("x"); !errors.Is(err, hal.ErrNoDevice) {
		t.Errorf("no such output: %v", err)
	}
	p, err := b.OpenPWM("pwmchip0:1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.OpenPWM("pwmchip0:1"); err == nil {
		t.Error("opened twice")
	}
	if err := p.Set(time.Second, time.Millisecond); err != nil || p.Set(1, 2) == nil {
		t.Errorf("Set: %v, or a pulse longer than its period was taken", err)
	}
	if period, width := b.PWM("pwmchip0:1").Pulses(); period != time.Second || width != time.Millisecond {
		t.Errorf("%v every %v", width, period)
	}
	p.Close()
	if _, _, err := p.Get(); err == nil {
		t.Error("Get after Close")
	}
	if q, err := b.OpenPWM("pwmchip0:1"); err != nil || q.Close() != nil {
		t.Errorf("opened again: %v", err)
	}
}
