package main

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/hal/sensor"
)

// The blocks that scan prints are taken by config check as they are.
func TestScanBlocks(t *testing.T) {
	good := writeConfig(t, simulated)
	code, out, errs := runText(t.Context(), "sensors", "scan", "--config", good)
	if code != exitOK {
		t.Fatalf("%d: %s", code, errs)
	}
	_, blocks, ok := strings.Cut(out, "FOR THE CONFIGURATION\n")
	if !ok || strings.Count(blocks, "[[sensor]]") < 4 {
		t.Fatalf("no blocks in %s", out)
	}
	pasted := writeConfig(t, `thing = "press-7"
data_dir = "data"
board.kind = "sim"
uplink = {endpoint = "127.0.0.1:1", security = "plaintext", format = "json"}
`+blocks)
	if code, out, errs := runText(t.Context(), "config", "check", pasted); code != exitOK {
		t.Errorf("%d: %s%s of\n%s", code, out, errs, blocks)
	}
}

// What a kernel may call its devices comes back from the block as it was.
func TestBlockQuotes(t *testing.T) {
	for _, name := range []string{`a"b\c`, "tab\there", "é\u202e", "plain"} {
		text := block(sensor.Suggestion{Name: "x", Driver: "hwmon", Options: map[string]any{"chip": name},
			If: "it is\nso"})
		var got struct {
			Sensor []struct {
				Options struct{ Chip string }
			}
		}
		if _, err := toml.Decode(text, &got); err != nil || len(got.Sensor) != 1 || got.Sensor[0].Options.Chip != name {
			t.Errorf("%q: %v, %+v of\n%s", name, err, got, text)
		}
	}
}
