package cli

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
)

// Log times end with milliseconds, durations are texts.
func TestLogTime(t *testing.T) {
	var log bytes.Buffer
	cfg := config.Default()
	newLog(&call{stderr: &log}, cfg).Info("x", "in", 136*time.Millisecond)
	var line struct{ Time, In string }
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if at, err := time.Parse(logTime, line.Time); err != nil || time.Since(at).Abs() > time.Minute ||
		len(line.Time) > len(logTime) || line.In != "136ms" {
		t.Errorf("%+v, %v", line, err)
	}
}
