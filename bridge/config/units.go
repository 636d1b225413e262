package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Duration is written as Go does: "24h", "1m30s".
type Duration time.Duration

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v < 0 {
		return fmt.Errorf("%q is no duration such as \"90s\" or \"24h\"", text)
	}
	*d = Duration(v)
	return nil
}

func (d Duration) String() string { return time.Duration(d).String() }

// A Size is in bytes, written as a number or as text with a unit: "64 MiB"; or as
// "disk" where its default is what [disk] gives.
type Size int64

// units are powers of two, as their names say.
var units = []struct {
	name string
	n    int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"B", 1}}

// UnmarshalTOML implements toml.Unmarshaler.
func (s *Size) UnmarshalTOML(v any) error {
	if n, ok := v.(int64); ok && n >= 0 {
		*s = Size(n)
		return nil
	}
	if text, ok := v.(string); ok {
		if text == "disk" {
			*s = ofDisk
			return nil
		}
		for _, u := range units {
			digits, found := strings.CutSuffix(text, u.name)
			if !found {
				continue
			}
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err == nil && n >= 0 && n <= 1<<62/u.n {
				*s = Size(n * u.n)
				return nil
			}
		}
	}
	return fmt.Errorf("%v is no size such as 65536 or \"64 MiB\"", v)
}
