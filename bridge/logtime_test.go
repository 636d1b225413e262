package main

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
)

// Log times end with milliseconds, in both formats.
func TestLogTime(t *testing.T) {
	var log bytes.Buffer
	cfg := config.Default()
	newLog(&call{stderr: &log}, cfg).Info("x")
	var line struct{ Time string }
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	if at, err := time.Parse(logTime, line.Time); err != nil || time.Since(at).Abs() > time.Minute || len(line.Time) > len(logTime) {
		t.Errorf("time %q, %v", line.Time, err)
	}
}
