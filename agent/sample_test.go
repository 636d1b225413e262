package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/agent/config"
	"github.com/tidemill/tidemill/hal/sensor"
)

// The sample's sensors can be opened as they stand, those in comments too.
func TestSampleMoreSensors(t *testing.T) {
	text, rest, ok := strings.Cut(config.Sample, "# More sources of readings")
	if !ok {
		t.Fatal("the sample has no sensors in comments")
	}
	_, rest, _ = strings.Cut(rest, "\n")
	for line := range strings.Lines(rest) {
		text += strings.TrimPrefix(line, "# ")
	}
	path := filepath.Join(t.TempDir(), "agent.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Source{Path: path, CheckOptions: sensor.Check, Place: sensor.Place})
	if err != nil || len(c.Sensors) < 5 {
		t.Errorf("%d sensors, %v", len(c.Sensors), err)
	}
}
