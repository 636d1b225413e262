package device

import (
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/agent/sampler"
	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/hal/sim"
)

// Each line of a program that is kept running is a reading at its own time; each arrives
// once, also where two kinds of lines take turns.
func TestPushedReadings(t *testing.T) {
	c := newCloud(t, `{}`)
	cfg := testConfig(t)
	const script = `i=0; while [ $i -lt 50 ]; do i=$((i+1)); echo "{\"n\":$i}"; echo "battery=$i"; sleep 0.01; done
		echo '{"n":1e9}'; exec sleep 1000`
	cfg.Sensors = []config.Sensor{{Name: "prog", Driver: "command", Every: config.Duration(time.Hour),
		Timeout: config.Duration(10 * time.Second),
		Bounds:  map[string]sampler.Bounds{"n": {Min: 0, Max: 1e6}},
		Options: map[string]any{"mode": "stream", "command": []any{"/bin/sh", "-c", script}}}}
	d := c.deps(sim.New(sim.Options{}))
	d.NoSocket = true
	a, err := New(cfg, d)
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, a)
	c.until("the last line, which is implausible", func() bool {
		st := a.named("prog")
		return st.Reads == 100 && st.Implausible == 1 && st.State == "implausible" && st.Kind == "out_of_bounds"
	})
	stop()
	c.wg.Wait()
	got := map[string][]float64{}
	for seq := uint64(1); seq <= uint64(len(c.batches)); seq++ {
		for _, s := range c.batches[seq].Series {
			if s.Sensor != "prog" {
				continue
			}
			for i := range s.Columns {
				got[s.Columns[i].Name] = append(got[s.Columns[i].Name], columnFloats(&s.Columns[i])...)
			}
		}
	}
	for _, name := range []string{"n", "battery"} {
		slices.Sort(got[name])
		for i, v := range got[name] {
			if v != float64(i+1) {
				t.Fatalf("%s: %v", name, got[name])
			}
		}
		if len(got[name]) != 50 {
			t.Errorf("%d of %s", len(got[name]), name)
		}
	}
}

func columnFloats(c *telemetry.Column) (out []float64) {
	for _, n := range c.Ints {
		out = append(out, float64(n))
	}
	return append(out, c.Floats...)
}
