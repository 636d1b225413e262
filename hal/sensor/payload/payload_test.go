package payload_test

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tidemill/tidemill/hal/sensor/payload"
)

func text(ms []payload.Member, err error) string {
	switch {
	case errors.Is(err, payload.ErrChecksum):
		return "checksum"
	case errors.Is(err, payload.ErrFormat):
		return "format"
	case err != nil:
		return err.Error()
	}
	var out []string
	for _, m := range ms {
		out = append(out, fmt.Sprintf("%s=%#v", m.Path, m.Value))
	}
	return strings.Join(out, " ")
}

func TestLine(t *testing.T) {
	for line, want := range map[string]string{
		"":                           "",
		"  # a comment":              "",
		"21.5":                       "value=21.5",
		"-4e-3\r":                    "value=-0.004",
		"temperature 21.5":           "temperature=21.5",
		"temperature: 21.5":          "temperature=21.5",
		"door ON":                    "door=true",
		"mode eco":                   `mode="eco"`,
		"t=21.5,h=40; door=off":      "t=21.5 h=40 door=false",
		`name="kitchen" x=`:          `name="kitchen"`,
		"0x10":                       "format",
		"NaN":                        "format",
		"a b c":                      "format",
		"a=1 b":                      "format",
		"a=1 a=2":                    "format",
		"=1":                         "format",
		"\xff 1":                     "format",
		"a\x00 1":                    "format",
		`{"b":{"c":1},"a":[true,2]}`: "a.0=true a.1=2 b.c=1",
		`{"a":1} x`:                  "format",
		`{"a":`:                      "format",
		"$IIMTW,18.5,C*1F":           `mtw.1=18.5 mtw.2="C"`,
		"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47": `gga.1=123519 gga.2=4807.038 gga.3="N" ` +
			`gga.4=1131 gga.5="E" gga.6=1 gga.7=8 gga.8=0.9 gga.9=545.4 gga.10="M" gga.11=46.9 gga.12="M"`,
		"$IIMTW,18.6,C*1B":                      "checksum",
		"$IIMTW,18.5,C":                         `mtw.1=18.5 mtw.2="C"`,
		"$PGRME,15.0,M":                         `pgrme.1=15 pgrme.2="M"`,
		"$":                                     "format",
		strings.Repeat("x", payload.MaxBytes+1): "format",
	} {
		if got := text(payload.Line([]byte(line))); got != want {
			t.Errorf("%.60q: %s, want %s", line, got, want)
		}
	}
}

func TestJSON(t *testing.T) {
	for in, want := range map[string]string{
		"21.5":  "value=21.5",
		`"on"`:  `value="on"`,
		"true":  "value=true",
		"null":  "",
		"[1,2]": "0=1 1=2",
		`{"a":null,"b":"x","c":1e400,"d":{"d":{"d":{"d":{"d":{"d":{"d":1}}}}}},"e":{"":2}}`: `b="x" e.=2`,
		`{"a.b":1,"a":{"b":2}}`: "a.b=2", // always, not in map order
	} {
		got := text(payload.JSON([]byte(in)))
		for range 20 {
			if again := text(payload.JSON([]byte(in))); again != got {
				t.Fatalf("%s: %s, and then %s", in, got, again)
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	many := "{" + strings.Repeat(`"a":1,`, 10)
	for i := range payload.MaxMembers + 1 {
		many += fmt.Sprintf(`"m%d":1,`, i)
	}
	if got := text(payload.JSON([]byte(many + `"z":1}`))); got != "format" {
		t.Errorf("too many members: %.60s", got)
	}
}

func TestName(t *testing.T) {
	for path, want := range map[string]string{
		"ENERGY.Power.0":        "energy_power_0",
		"params.switch:0.tC":    "params_switch_0_tc",
		"AM2301-12.Temperature": "am2301_12_temperature",
		"0":                     "v_0",
		"ts":                    "v_ts",
		"":                      "v",
		"°C":                    "c",
		strings.Repeat("a", 40): strings.Repeat("a", 32),
	} {
		if got := payload.Name(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

var name = regexp.MustCompile(`^[a-z][a-z0-9_]{0,31}$`)

// Whatever is read has finite numbers, bounded valid texts, paths of their own, and
// names that a channel may have.
func FuzzPayload(f *testing.F) {
	for _, s := range []string{"21.5", "a 1", "a=1,b=on", "$IIMTW,18.5,C*1F", `{"a":{"b":[1,"x",true,null]},"c":-1e9}`, `"x"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		for _, read := range []func([]byte) ([]payload.Member, error){payload.Line, payload.JSON} {
			ms, err := read(in)
			if err != nil && (ms != nil || !errors.Is(err, payload.ErrFormat) && !errors.Is(err, payload.ErrChecksum)) {
				t.Errorf("%v, %v", ms, err)
			}
			seen := map[string]bool{}
			for _, m := range ms {
				if seen[m.Path] {
					t.Errorf("%q twice", m.Path)
				}
				seen[m.Path] = true
				if n := payload.Name(m.Path); !name.MatchString(n) || n == "ts" {
					t.Errorf("name %q of %q", n, m.Path)
				}
				switch v := m.Value.(type) {
				case bool:
				case float64:
					if math.IsNaN(v) || math.IsInf(v, 0) {
						t.Errorf("%s is %v", m.Path, v)
					}
				case string:
					if !utf8.ValidString(v) || len(v) > payload.MaxText {
						t.Errorf("%s is %q", m.Path, v)
					}
				default:
					t.Errorf("%T", v)
				}
			}
			if len(ms) > payload.MaxMembers {
				t.Errorf("%d members", len(ms))
			}
		}
	})
}
