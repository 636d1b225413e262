package sensor_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/tidemill/tidemill/hal/sensor"
)

var tomlBlock = regexp.MustCompile("(?s)```toml\n(.*?)```")

// The manual's examples can be opened as they stand.
func TestSourcesManual(t *testing.T) {
	text, err := os.ReadFile("SOURCES.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, block := range tomlBlock.FindAllSubmatch(text, -1) {
		sensors, _ := fromTOML(t, string(block[1]))["sensor"].([]map[string]any)
		for _, s := range sensors {
			n++
			driver, _ := s["driver"].(string)
			opts, _ := s["options"].(map[string]any)
			for _, err := range sensor.Check(driver, opts) {
				t.Errorf("%v: %v", s["name"], err)
			}
		}
	}
	if n < 8 {
		t.Errorf("%d examples", n)
	}
}
