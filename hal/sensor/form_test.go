package sensor

import (
	"regexp"
	"slices"
	"testing"
)

// Names of the kernel's files are taken apart as these expressions do it.
func FuzzKernelNames(f *testing.F) {
	for _, name := range []string{"temp1_input", "power1_average", "temp1_average", "fan_input", "in0_input_x", "1_input",
		"in_temp_raw", "in_voltage0-voltage1_raw", "in_concentration_co2_raw", "in_voltage0-_raw", "in_accel_x",
		"in_a1-b2_c", "in_a_", "in_-b", "ttyAMA0", "ttyS", "ttyUSB12", "ttyX1", "GPIO17", "GPIO", "be:s12/16>>4",
		"le:u16/16X4>>0", "le:s16/16X>>0", "be:s/16", "le:u8/8", "le:u1234/8", "be:s12/16>>", "le:s16/16>>1X2",
		"", ":", "be:"} {
		f.Add(name)
	}
	hwmon := regexp.MustCompile(`^(temp|in|curr|power|energy|humidity|freq|fan)(\d+)_(input|average)$`)
	iio := regexp.MustCompile(`^in_([a-z]+)(\d*)(-[a-z]+\d*)?(_[a-z0-9_]+)?$`)
	scan := regexp.MustCompile(`^(be|le):([su])(\d{1,3})/(\d{1,3})(?:X(\d{1,2}))?(?:>>(\d{1,2}))?$`)
	tty, gpio := regexp.MustCompile(`^tty(AMA|USB|ACM|S|O|mxc|PS|SC)[0-9]+$`), regexp.MustCompile(`^GPIO[0-9]+$`)
	f.Fuzz(func(t *testing.T, name string) {
		h, ok := hwmonInput(name)
		m := hwmon.FindStringSubmatch(name)
		if want := m != nil && (m[3] == "input" || m[1] == "power"); ok != want || ok && !slices.Equal(m[1:3],
			[]string{h.kind, h.number}) {
			t.Errorf("hwmon %q: %v, %v, want %q", name, h, ok, m)
		}
		c, _ := iioParse(name)
		if m := iio.FindStringSubmatch(name); m != nil && !slices.Equal(m[1:], []string{c.kind, c.number, c.minus,
			c.modifier}) || m == nil && c != (iioChannel{}) {
			t.Errorf("iio %q: %v, want %q", name, c, m)
		}
		if _, err := parseScanType(name); err == nil && !scan.MatchString(name) {
			t.Errorf("%q is taken as a buffer's type", name)
		}
		if ttyPort(name) != tty.MatchString(name) || headerLine(name) != gpio.MatchString(name) {
			t.Errorf("%q: a port %v, a line %v", name, ttyPort(name), headerLine(name))
		}
	})
}
