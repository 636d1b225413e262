package e2e

import (
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// TestArrival looks at what subscribers and streams get: the topics and the
// members that the README and `tidemill-agent sensors` promise.
func TestArrival(t *testing.T) {
	const vitals = `
[[sensor]]
name = "vitals"
driver = "host"
every = "500ms"
`
	rule := `{"sql":"SELECT *, topic() AS topic FROM 'dt/#'","awsIotSqlVersion":"2016-03-23",
	  "actions":[{"kinesis":{"streamName":"all","partitionKey":"${topic()}"}}]}`
	f := newFleet(t, 0, "", map[string]string{"rules/all.json": rule, "streams/all.json": `{"StreamName":"all"}`})
	c := f.connect(f.newOperator())
	c.subscribe("dt/#")
	began := time.Now().UnixMilli()
	f.start("pi-1", simPi+vitals)

	for _, want := range []struct {
		topic   string
		members []string // sorted
		may     []string // only where the machine has it
	}{
		{"dt/pi-1/climate", []string{"humidity", "pressure", "temperature"}, nil},
		{"dt/pi-1/lamp", []string{"level"}, nil},
		{"dt/pi-1/vitals", []string{"disk_free", "disk_used", "load1", "mem_available", "mem_used", "uptime"},
			[]string{"cpu_temp", "cpu_used", "net_rx", "net_tx"}},
	} {
		m := c.next(f.ctx, want.topic, func(m mqtt.Message) bool { return m.Topic() == want.topic })
		var got map[string]any
		if err := json.Unmarshal(m.Payload(), &got); err != nil {
			t.Fatalf("%s: %s: %v", want.topic, m.Payload(), err)
		}
		if !strings.HasPrefix(string(m.Payload()), `{"ts":`) {
			t.Errorf("%s: ts is not first: %s", want.topic, m.Payload())
		}
		if ts, ok := got["ts"].(float64); !ok || ts != math.Trunc(ts) || int64(ts) < began ||
			int64(ts) > time.Now().UnixMilli() {
			t.Errorf("%s: ts is not the time in ms: %s", want.topic, m.Payload())
		}
		delete(got, "ts")
		for _, name := range want.may {
			delete(got, name)
		}
		if names := slices.Sorted(maps.Keys(got)); !slices.Equal(names, want.members) {
			t.Errorf("%s: members %q, want %q: %s", want.topic, names, want.members, m.Payload())
		}
		for name, v := range got {
			if _, ok := v.(float64); !ok && name != "level" {
				t.Errorf("%s: %s is no number: %s", want.topic, name, m.Payload())
			}
		}
		switch got := got["level"].(type) {
		case nil, bool:
		default:
			t.Errorf("%s: level is %T: %s", want.topic, got, m.Payload())
		}
	}
	f.agents[0].Kill()

	// Weather, not raw registers; and the stream has what subscribers had.
	seen := map[string]int{}
	for _, doc := range f.documents("all") {
		var r struct {
			Topic                           string
			Temperature, Humidity, Pressure *float64
		}
		f.must(json.Unmarshal(doc, &r))
		seen[r.Topic]++
		if r.Topic != "dt/pi-1/climate" {
			continue
		}
		for name, v := range map[string]struct {
			got      *float64
			min, max float64
		}{"°C": {r.Temperature, -20, 60}, "%RH": {r.Humidity, 0, 100}, "Pa": {r.Pressure, 90_000, 110_000}} {
			if v.got == nil || *v.got < v.min || *v.got > v.max {
				t.Errorf("%s not within %g to %g: %s", name, v.min, v.max, doc)
			}
		}
	}
	if len(seen) != 3 {
		t.Errorf("topics in the stream: %v", seen)
	}
}

// TestPresence: a retained message says that the device is there, and its
// will says when it is gone, however it went.
func TestPresence(t *testing.T) {
	f := newFleet(t, 0, "", nil)
	operator := f.newOperator()
	early := f.connect(operator)
	early.subscribe("presence/#")
	agent := f.start("pi-1", simPi)
	var boot string
	is := func(state string, retained bool) func(mqtt.Message) bool {
		return func(m mqtt.Message) bool {
			var p struct {
				State, Thing, Boot, Version string
				TS                          int64
			}
			if err := json.Unmarshal(m.Payload(), &p); err != nil || m.Topic() != "presence/pi-1" ||
				p.Thing != "pi-1" || p.TS == 0 || p.Version == "" {
				t.Errorf("%s %s: %v", m.Topic(), m.Payload(), err)
			}
			if state == "online" && p.State == state && !retained {
				if p.Boot == boot {
					t.Errorf("the same boot again: %s", m.Payload())
				}
				boot = p.Boot
			}
			return p.State == state && m.Retained() == retained && p.Boot == boot
		}
	}
	early.next(f.ctx, "online", is("online", false))
	late := func(state string) {
		t.Helper()
		early.Disconnect(0)
		early = f.connect(operator)
		early.subscribe("presence/#")
		early.next(f.ctx, "retained "+state, is(state, true))
	}
	late("online")
	agent.Kill()
	early.next(f.ctx, "offline by will", is("offline", false))
	late("offline")
	f.must(agent.Start())
	early.next(f.ctx, "online again", is("online", false))
	f.must(agent.Stop(patience))
	early.next(f.ctx, "offline at the end", is("offline", false))
	late("offline")
}
