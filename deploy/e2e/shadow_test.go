package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/agent/device"
	"github.com/tidemill/tidemill/deploy/rig"
)

// simPi is a simulated Pi with a BME280 and a lamp.
const simPi = `
backoff_min = "100ms"
backoff_max = "500ms"
[board]
kind = "sim"
seed = 7
[spool]
flush_every = "200ms"
[shadow]
report_every = "100ms"
[[sensor]]
name = "climate"
driver = "bme280"
every = "1s"
[sensor.options]
bus = "/dev/i2c-1"
address = 0x76
[[sensor]]
name = "lamp"
driver = "gpio-out"
every = "1s"
[sensor.options]
line = "sim:4"
`

// A shadowDoc is what the test looks at of a shadow.
type shadowDoc struct {
	State struct {
		Desired, Reported struct {
			Sensors map[string]struct{ Every float64 }
			Outputs map[string]struct{ Level *bool }
		}
		Delta json.RawMessage
	}
	Version int
}

// TestShadow sets a sensor's interval and an output through the shadow, by an
// operator with another MQTT client, while the agent is there, while it is
// away, and over kills of both programs.
func TestShadow(t *testing.T) {
	f := newFleet(t, 1, simPi, nil)
	operator := f.newOperator()
	agent := f.agents[0]
	const topic = "$aws/things/pi-1/shadow"
	ctx, cancel := context.WithTimeout(f.ctx, 5*patience)
	defer cancel()

	var c *client
	listen := func() {
		c = f.connect(operator)
		c.subscribe(topic+"/get/accepted", topic+"/get/rejected", topic+"/update/rejected")
	}
	get := func() (doc shadowDoc) {
		t.Helper()
		c.publish(topic+"/get", "")
		m := c.next(ctx, "answer to get", func(m mqtt.Message) bool { return m.Topic() != topic+"/update/rejected" })
		if err := json.Unmarshal(m.Payload(), &doc); err != nil {
			t.Fatalf("%s: %v", m.Payload(), err)
		}
		return doc
	}
	desire := func(every float64, level bool) {
		t.Helper()
		c.publish(topic+"/update", fmt.Sprintf(
			`{"state":{"desired":{"sensors":{"climate":{"every":%g}},"outputs":{"lamp":{"level":%t}}}}}`, every, level))
	}
	// agreed waits until shadow and device say the same.
	agreed := func(every float64, level bool) {
		t.Helper()
		f.must(rig.Until(ctx, fmt.Sprintf("%g s and %t", every, level), func() (bool, error) {
			doc := get()
			lamp := doc.State.Reported.Outputs["lamp"].Level
			if got := doc.State.Reported.Sensors["climate"].Every; doc.State.Delta != nil || got != every ||
				lamp == nil || *lamp != level {
				return false, fmt.Errorf("version %d: delta %s, reported every %g, lamp %v", doc.Version,
					doc.State.Delta, got, lamp)
			}
			var st device.Status
			if err := agent.Status(ctx, &st); err != nil {
				return false, err
			}
			for _, s := range st.Sensors {
				switch want := time.Duration(every * float64(time.Second)); {
				case s.Name == "climate" && s.Every != want.String():
					return false, fmt.Errorf("the sensor reads every %s", s.Every)
				case s.Name == "lamp" && (s.Level == nil || *s.Level != level):
					return false, fmt.Errorf("the line is at %v", s.Level)
				}
			}
			return len(st.Sensors) == 2, nil
		}))
	}

	listen()
	desire(0.3, true)
	agreed(0.3, true)
	desire(0.4, false)
	agreed(0.4, false)

	agent.Kill()
	desire(0.5, true)
	if doc := get(); doc.State.Delta == nil || *doc.State.Desired.Outputs["lamp"].Level != true {
		t.Errorf("while the agent is away: %+v", doc)
	}
	f.must(agent.Start())
	agreed(0.5, true)

	// Both die; neither has forgotten. The simulated line loses its level with
	// the agent, as one does with the power.
	agent.Kill()
	f.bridge.Kill()
	f.must(agent.Start())
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(ctx))
	listen()
	agreed(0.5, true)

	// The link is cut while desired changes.
	f.links[0].Cut()
	desire(0.6, false)
	f.links[0].Mend()
	agreed(0.6, false)

	// What cannot be done is not reported as done, and the delta says so.
	c.publish(topic+"/update", `{"state":{"desired":{"sensors":{"climate":{"every":0}}}}}`)
	f.must(rig.Until(ctx, "delta", func() (bool, error) { return get().State.Delta != nil, nil }))
	desire(0.6, false)
	agreed(0.6, false)
}
