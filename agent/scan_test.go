package main

import (
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/tidemill/tidemill/hal/sensor"
)

// The blocks that scan prints are taken by config check as they are.
func TestScanBlocks(t *testing.T) {
	good := writeConfig(t, strings.Replace(simulated, `board.kind = "sim"`,
		`board = {kind = "sim", chips = ["sht4x", "tmp102@0x49", "bh1750", "ina226@0x41"]}`, 1))
	code, out, errs := runText(t.Context(), "sensors", "scan", "--config", good)
	if code != exitOK {
		t.Fatalf("%d: %s", code, errs)
	}
	_, blocks, ok := strings.Cut(out, "FOR THE CONFIGURATION\n")
	if !ok {
		t.Fatalf("no blocks in %s", out)
	}
	for _, want := range []string{"0x23  perhaps BH1750", "0x41  INA226", "0x44  SHT4x", "0x49  TMP102", "0x76  BME280"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
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
