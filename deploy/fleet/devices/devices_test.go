package devices

import (
	"context"
	"math/rand/v2"
	"net"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/hal/sim"
)

// The same seed gives the same faults; they are as frequent as was asked for, and a link
// that is lost comes back.
func TestPlan(t *testing.T) {
	f := Faults{OfflineEvery: time.Hour, OfflineFor: 10 * time.Minute, RebootEvery: 2 * time.Hour,
		PowerCutEvery: 3 * time.Hour, ClockJumpEvery: 4 * time.Hour, ClockJumpFor: time.Hour}
	run := func() (all []fault) {
		synctest.Test(t, func(*testing.T) {
			p := newPlan(f, rand.New(rand.NewPCG(1, 2)), time.Now())
			for end := time.Now().Add(3000 * time.Hour); ; {
				time.Sleep(p.next())
				if time.Now().After(end) {
					return
				}
				all = append(all, p.take())
			}
		})
		return all
	}
	all := run()
	var count [faults]int
	for _, x := range all {
		count[x]++
		if d := count[offline] - count[online]; d < 0 || d > 1 {
			t.Fatalf("%d losses and %d ends of them", count[offline], count[online])
		}
	}
	for x, want := range map[fault]int{offline: 3000 * 6 / 7, reboot: 1500, powerCut: 1000,
		clockJump: 3000 / 5} {
		if n := count[x]; n < want*9/10 || n > want*11/10 {
			t.Errorf("fault %d came %d times, want about %d", x, n, want)
		}
	}
	if again := run(); !slices.Equal(all, again) {
		t.Error("another time there are other faults")
	}
	if p := newPlan(Faults{}, rand.New(rand.NewPCG(1, 2)), time.Now()); p.next() < 100*24*time.Hour {
		t.Errorf("without faults there is one in %v", p.next())
	}
}

// A link that is cut ends its connections and makes none.
func TestLink(t *testing.T) {
	var peers []net.Conn
	l := link{dial: func(context.Context, string, string) (net.Conn, error) {
		a, b := net.Pipe()
		peers = append(peers, b)
		return a, nil
	}}
	dial := func() net.Conn {
		t.Helper()
		c, err := l.Dial(t.Context(), "tcp", "x")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	first, second := dial(), dial()
	_ = first.Close()
	l.set(true)
	if _, err := second.Read(make([]byte, 1)); err == nil {
		t.Error("a connection is left")
	}
	if _, err := peers[1].Read(make([]byte, 1)); err == nil {
		t.Error("the peer has it still")
	}
	if _, err := l.Dial(t.Context(), "tcp", "x"); err == nil {
		t.Error("a connection was made")
	}
	if len(peers) != 2 {
		t.Errorf("%d connections were made", len(peers))
	}
	l.set(false)
	_ = dial().Close()
	if len(l.conns) != 0 {
		t.Errorf("%d connections are known", len(l.conns))
	}
}

// What a fleet measures is like weather: a wave a day, and humidity that falls where
// temperature rises.
func TestWeather(t *testing.T) {
	air, start := sim.Weather(7), time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	var noon, night, temps, hums, both, t2, h2 float64
	const hours = 24 * 60
	for h := range hours {
		e := air(start.Add(time.Duration(h) * time.Hour))
		switch h % 24 {
		case 15:
			noon += e.Temperature / 60
		case 3:
			night += e.Temperature / 60
		}
		temps, hums = temps+e.Temperature, hums+e.Humidity
		both, t2, h2 = both+e.Temperature*e.Humidity, t2+e.Temperature*e.Temperature, h2+e.Humidity*e.Humidity
		if e.Pressure < 95000 || e.Pressure > 107000 {
			t.Fatalf("%.0f Pa", e.Pressure)
		}
	}
	if noon-night < 3 {
		t.Errorf("%.1f °C at 15:00, %.1f °C at 03:00", noon, night)
	}
	if both*hours-temps*hums >= 0 {
		t.Errorf("temperature and humidity rise together: %.1f", both*hours-temps*hums)
	}
	if h2*hours-hums*hums <= 0 || t2*hours-temps*temps <= 0 {
		t.Error("they do not change")
	}
}
