package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
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

// stacked is an error that has more to say where it is asked for all.
type stacked struct{}

func (stacked) Error() string { return "the disk is full" }

func (e stacked) Format(s fmt.State, _ rune) {
	text := e.Error()
	if s.Flag('+') {
		text += "\n(1) attached stack trace"
	}
	_, _ = io.WriteString(s, text)
}

// An error is its text in either format.
func TestLoggedErrors(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		var log bytes.Buffer
		cfg := config.Default()
		cfg.Log.Format = format
		newLog(&call{stderr: &log}, cfg).Info("x", "err", fmt.Errorf("flush: %w", stacked{}))
		newLog(&call{stderr: &log}, cfg).Info("x", "err", stacked{})
		newLog(&call{stderr: &log}, cfg).Info("x", "err", error(nil))
		if text := log.String(); strings.Contains(text, "stack") || strings.Count(text, "the disk is full") != 2 {
			t.Errorf("%s: %s", format, text)
		}
	}
}
