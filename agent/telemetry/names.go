package telemetry

import (
	"fmt"
	"unicode/utf8"
)

// Limits on names, in bytes.
const (
	maxSensor = 64
	maxName   = 32
	maxUnit   = 16
)

// A definition is what the columns of one channel share.
type definition struct {
	name, unit string
	kind       Kind
}

// known are the definitions that need no text in a batch: reference 1 is
// known[0]. The list is part of format version 1 (FORMAT.md repeats it, a test
// compares): it must never change, only a new version may have another.
var known = [...]definition{
	{"temperature", "°C", Float},
	{"humidity", "%RH", Float},
	{"pressure", "Pa", Float},
	{"temp", "°C", Float},
	{"hum", "%RH", Float},
	{"pressure", "hPa", Float},
	{"dew_point", "°C", Float},
	{"illuminance", "lx", Float},
	{"co2", "ppm", Float},
	{"voltage", "V", Float},
	{"current", "A", Float},
	{"power", "W", Float},
	{"energy", "Wh", Float},
	{"frequency", "Hz", Float},
	{"level", "", Bool},
	{"state", "", Bool},
	{"state", "", Text},
	{"value", "", Float},
	{"value", "", Int},
	{"count", "", Int},
	{"edges", "", Int},
	{"n", "", Int},
	{"life", "", Int},
	{"distance", "m", Float},
	{"speed", "m/s", Float},
	{"weight", "kg", Float},
	{"flow", "l/min", Float},
	{"rssi", "dBm", Int},
	{"battery", "%", Float},
	{"uptime", "s", Float},
	{"uptime", "s", Int},
	{"load1", "", Float},
	{"load5", "", Float},
	{"load15", "", Float},
	{"cpu_used", "%", Float},
	{"cpu_temp", "°C", Float},
	{"cpu_freq", "Hz", Float},
	{"mem_total", "B", Int},
	{"mem_free", "B", Int},
	{"mem_available", "B", Int},
	{"mem_used", "B", Int},
	{"swap_used", "B", Int},
	{"disk_free", "B", Int},
	{"disk_used", "B", Int},
	{"disk_total", "B", Int},
	{"net_rx", "B", Int},
	{"net_tx", "B", Int},
	{"net_rx", "B/s", Float},
	{"net_tx", "B/s", Float},
	{"processes", "", Int},
	{"interrupts", "1/s", Float},
}

// knownRef finds a definition's reference.
var knownRef = func() map[definition]uint64 {
	m := make(map[definition]uint64, len(known))
	for i, d := range known {
		m[d] = uint64(i + 1)
	}
	return m
}()

func validSensor(s string) bool {
	if s == "" || len(s) > maxSensor {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == ':', c == '-':
		default:
			return false
		}
	}
	return true
}

// valid says what is wrong with d, or nil.
func (d definition) valid() error {
	if d.name == "" || len(d.name) > maxName || d.name[0] < 'a' || d.name[0] > 'z' {
		return fmt.Errorf("bad column name %.40q", d.name)
	}
	for i := range len(d.name) {
		switch c := d.name[i]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_':
		default:
			return fmt.Errorf("bad column name %.40q", d.name)
		}
	}
	if d.name == "ts" {
		return fmt.Errorf("column name %q is the time stamp's", d.name)
	}
	if len(d.unit) > maxUnit || !utf8.ValidString(d.unit) {
		return fmt.Errorf("column %s: bad unit %.20q", d.name, d.unit)
	}
	for i := range len(d.unit) {
		if c := d.unit[i]; c < ' ' || c == 0x7F {
			return fmt.Errorf("column %s: bad unit %.20q", d.name, d.unit)
		}
	}
	if d.kind < Float || d.kind > Text {
		return fmt.Errorf("column %s: bad kind %d", d.name, d.kind)
	}
	return nil
}
