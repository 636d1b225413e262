package metric

import "strings"

// units are what exposed names end with for CloudWatch's units, as Prometheus wants
// names to say them. Values are not converted. Count and None add nothing.
var units = map[string]string{
	"Seconds": "seconds", "Milliseconds": "milliseconds", "Microseconds": "microseconds", "Percent": "percent",
	"Bytes": "bytes", "Kilobytes": "kilobytes", "Megabytes": "megabytes", "Gigabytes": "gigabytes",
	"Terabytes": "terabytes", "Bits": "bits", "Kilobits": "kilobits", "Megabits": "megabits",
	"Gigabits": "gigabits", "Terabits": "terabits",
}

// exposed is the name that a metric has in Prometheus: NAMESPACE_NAME_UNIT, in which
// each run of characters other than letters, digits and _ becomes one _. A name that
// ends with its unit already does not get it twice.
func exposed(namespace, name, unit string) string {
	all := clean(namespace + "_" + name)
	if per, rate := strings.CutSuffix(unit, "/Second"); rate {
		if unit = "per_second"; units[per] != "" {
			unit = units[per] + "_per_second"
		}
	} else {
		unit = units[unit]
	}
	if unit == "" || strings.HasSuffix(strings.ToLower(all), "_"+unit) {
		return all
	}
	return strings.TrimSuffix(all, "_") + "_" + unit
}

// clean makes a metric's name of a text (Prometheus, data model). Colons are for
// recording rules.
func clean(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch digit := r >= '0' && r <= '9'; {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', digit && b.Len() > 0:
			b.WriteRune(r)
		case digit: // no name begins with one
			b.WriteByte('_')
			b.WriteRune(r)
		case !strings.HasSuffix(b.String(), "_"):
			b.WriteByte('_')
		}
	}
	return b.String()
}
