package device

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/health"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/hal"
	"github.com/tidemill/tidemill/hal/sim"
)

// A link is a cloud's that can be cut.
type cutLink struct {
	c   *cloud
	cut atomic.Bool
}

func (l *cutLink) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if l.cut.Load() {
		return nil, errors.New("no route")
	}
	return l.c.dial(ctx, network, addr)
}

// set cuts the link, or lets the device connect again.
func (l *cutLink) set(cut bool) {
	l.cut.Store(cut)
	l.c.mu.Lock()
	defer l.c.mu.Unlock()
	if l.c.conn != nil {
		_ = l.c.conn.Close()
	}
}

func (c *cloud) desire(doc string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.doc = doc
	c.version++
}

// An output with a safe state has it at the start, when the bridge is not heard for the
// time that is configured, and at the end; what is desired holds while it is heard.
func TestSafeOutput(t *testing.T) {
	c := newCloud(t, `{"outputs":{"lamp":{"level":true}}}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	lamp := &cfg.Sensors[2]
	lamp.Safe = config.Safe{Values: map[string]hal.Value{"level": hal.BoolValue(false)},
		After: config.Duration(300 * time.Millisecond)}
	pin, err := b.Pin("sim:4")
	if err != nil {
		t.Fatal(err)
	}
	left, err := b.OpenOutput("sim:4", true) // what a kill left behind
	if err != nil {
		t.Fatal(err)
	}
	if err := left.Close(); err != nil || !pin.Level() {
		t.Fatal("the line is low:", err)
	}
	link := &cutLink{c: c}
	link.set(true)
	d := c.deps(b)
	d.Dial, d.NoSocket = link.dial, true
	run := func() (a *Agent, stop func()) {
		t.Helper()
		if a, err = New(cfg, d); err != nil {
			t.Fatal(err)
		}
		return a, start(t, a)
	}
	is := func(a *Agent, level, held bool) func() bool {
		return func() bool {
			st := a.named("lamp")
			return st.Level != nil && *st.Level == level && st.Held == held && pin.Level() == level
		}
	}

	a, stop := run()
	c.until("low at the start, without a bridge", is(a, false, true))
	link.set(false)
	c.until("high, as desired", is(a, true, false))
	link.set(true)
	c.until("low without the bridge", is(a, false, true))
	c.desire(`{"outputs":{"lamp":{"level":true}},"sensors":{"n":{"every":5}}}`)
	link.set(false)
	c.until("high again", is(a, true, false))
	stop()
	if pin.Level() {
		t.Error("high after the end")
	}

	// What was desired before does not hold until the bridge is heard.
	link.set(true)
	a, stop = run()
	c.until("low at the next start", is(a, false, true))
	c.until("the interval is set, so that the shadow was applied", func() bool {
		return a.named("n").Every == "5s"
	})
	if !is(a, false, true)() {
		t.Error("set before the bridge was heard")
	}
	c.desire(`{"outputs":{"lamp":{"level":false}}}`)
	link.set(false)
	c.until("released", is(a, false, false))
	c.desire(`{"outputs":{"lamp":{"level":"on","speed":3}}}`)
	link.set(false)
	c.until("refused", func() bool {
		return c.refusal("outputs.lamp.level", "want true, false or a number") &&
			c.refusal("outputs.lamp.speed", "not an output")
	})
	stop()
	c.wg.Wait()
}

// named is the status of a sensor, empty before there is one.
func (a *Agent) named(name string) SensorStatus {
	for _, s := range a.Status().Sensors {
		if s.Name == name {
			return s
		}
	}
	return SensorStatus{}
}

// refusal says whether reported.errors had a text for a place.
func (c *cloud) refusal(place, part string) bool {
	for _, u := range c.updates {
		errs, _ := u["errors"].(map[string]any)
		if text, _ := errs[place].(string); strings.Contains(text, part) {
			return true
		}
	}
	return false
}

// A desired value is applied once, however often the device connects.
func TestDesiredOutputIsSetOnce(t *testing.T) {
	c := newCloud(t, `{"outputs":{"lamp":{"level":true}}}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	cfg.Sensors = cfg.Sensors[2:3]
	link := &cutLink{c: c}
	d := c.deps(b)
	d.Dial, d.NoSocket = link.dial, true
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	pin, _ := b.Pin("sim:4")
	in := newEdges(t, pin)
	stop := start(t, a)
	for range 5 {
		n := a.uplink.Status().Connects
		link.set(false)
		c.until("connected and set", func() bool {
			return a.uplink.Status().Connects > n && pin.Level()
		})
	}
	stop()
	c.wg.Wait()
	if n := in(); n != 1 {
		t.Errorf("the level moved %d times", n)
	}
}

// A number is set through the shadow and reported as desired; what is out of range is
// refused, and an output that could not be opened is set when it can.
func TestDesiredNumber(t *testing.T) {
	c := newCloud(t, `{"outputs":{"fan":{"duty":0.3},"lamp":{"level":true}}}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	cfg.Sensors = append(cfg.Sensors[2:3], config.Sensor{Name: "fan", Driver: "pwm",
		Every: config.Duration(time.Minute), Timeout: config.Duration(time.Second),
		Options: map[string]any{"output": b.PWMs()[0]},
		Limits:  map[string]config.Limit{"duty": {Min: 0.1, Max: 0.8}}})
	held, err := b.OpenOutput("sim:4", false) // so that the lamp cannot be opened
	if err != nil {
		t.Fatal(err)
	}
	link := &cutLink{c: c}
	d := c.deps(b)
	d.Dial = link.dial
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	defer stop()
	c.until("reported as desired", func() bool { return c.reportedAt(0.3, "outputs", "fan", "duty") })
	period, width := b.PWM(b.PWMs()[0]).Pulses()
	if got := float64(width) / float64(period); !(got > 0.29 && got < 0.31) {
		t.Errorf("the pulses are %v of %v", width, period)
	}
	c.until("the lamp is not open", func() bool { return c.refusal("outputs.lamp.level", "not open") })
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	pin, _ := b.Pin("sim:4")
	c.until("the lamp is set later", func() bool {
		return pin.Level() && c.reportedAt(true, "outputs", "lamp",
			"level")
	})
	c.desire(`{"outputs":{"fan":{"duty":0.9},"lamp":{"level":true}}}`)
	link.set(false)
	c.until("refused", func() bool { return c.refusal("outputs.fan.duty", "0.9, want 0.1 to 0.8") })
	page, err := health.Query(t.Context(), cfg.Socket, "/metrics")
	for _, want := range []string{`tidemill_agent_output{sensor="fan",channel="duty"} 0.3`,
		`tidemill_agent_output{sensor="lamp",channel="level"} 1`,
		`tidemill_agent_sensor_state{sensor="lamp",driver="gpio-out",state="ok",kind=""} 1`,
		"tidemill_agent_device_configuration_refused 0"} {
		if err != nil || !strings.Contains(string(page), want+"\n") {
			t.Errorf("%v, no %s in\n%s", err, want, page)
		}
	}
	stop()
	c.wg.Wait()
}

// newEdges counts the changes of a pin by looking at it.
func newEdges(t *testing.T, pin *sim.Pin) func() int {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n, was := 0, pin.Level()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for {
			if now := pin.Level(); now != was {
				n, was = n+1, now
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				done <- n
				return
			}
		}
	}()
	return func() int {
		cancel()
		return <-done
	}
}

// All that is about sampling can be desired; what is wrong is refused with its reason,
// and without a desired value the file's holds again.
func TestSamplingByShadow(t *testing.T) {
	c := newCloud(t, `{"sensors":{"n":{"every":0.5,"phase":0.25,"average":2,"heartbeat":60,
		"deadband":{"n":"never","life":"2%"},"window":0},
		"hall":{"window":2,"average":100,"every":"fast","deadband":{"temperature":"often"}},"none":{"every":1}}}`)
	cfg, b := testConfig(t), sim.New(sim.Options{})
	cfg.Sensors[1].Deadband = map[string]sampler.Band{"n": {Absolute: 3}}
	link := &cutLink{c: c}
	d := c.deps(b)
	d.Dial, d.NoSocket = link.dial, true
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	defer stop()
	n := func() SensorStatus { return a.named("n") }
	c.until("sampling as desired", func() bool {
		s := n()
		return s.Every == "500ms" && s.Phase == "250ms" && s.Average == 2 && s.Heartbeat == "1m0s" &&
			s.Deadband["n"] == "never" && s.Deadband["life"] == "2%" && a.named("hall").Window == "2s"
	})
	for place, why := range map[string]string{"sensors.hall.average": "average: 100, want 1 to 64",
		"sensors.hall.every": "want a number of seconds", "sensors.hall.deadband": "temperature: want a number",
		"sensors.none.every": "no such sensor"} {
		c.until(place+" refused", func() bool { return c.refusal(place, why) })
	}
	for _, m := range []struct {
		want any
		path []string
	}{{0.25, []string{"n", "phase"}}, {2.0, []string{"n", "average"}}, {60.0, []string{"n", "heartbeat"}},
		{"never", []string{"n", "deadband", "n"}}, {2.0, []string{"hall", "window"}}, {"ok", []string{"hall", "state"}},
		{"absent", []string{"bad", "state"}}, {"no_device", []string{"bad", "kind"}}} {
		c.until(strings.Join(m.path, "."), func() bool {
			return c.reportedAt(m.want, append([]string{"sensors"}, m.path...)...)
		})
	}
	c.desire(`{"sensors":{"n":{"every":0.25}}}`)
	link.set(false)
	c.until("the file's again", func() bool {
		s := n()
		return s.Every == "250ms" && s.Phase == "" && s.Average == 0 && s.Heartbeat == "" && len(s.Deadband) == 1 &&
			s.Deadband["n"] == 3.0 && a.named("hall").Window == ""
	})
	c.until("reported whole", func() bool { // the last update takes away what is not so
		sensors, _ := a.shadow.Reported()["sensors"].(map[string]any)
		one, _ := sensors["n"].(map[string]any)
		band, _ := one["deadband"].(map[string]any)
		_, phase := one["phase"]
		return len(band) == 1 && !phase
	})
	stop()
	c.wg.Wait()
}
