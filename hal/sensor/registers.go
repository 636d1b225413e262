package sensor

import (
	"fmt"
	"math"
	"slices"

	"github.com/tidemill/tidemill/hal"
)

// gravity is standard gravity, in m/s² (CGPM 1901).
const gravity = 9.80665

// settle writes settings and wants to read them back.
func settle(w *wire, to [][2]byte) error {
	for _, s := range to {
		if err := w.put(s[0], s[1]); err != nil {
			return err
		}
	}
	if ok, err := has(w, to); err != nil {
		return err
	} else if !ok {
		return fmt.Errorf("%w: its settings do not read back", hal.ErrNoDevice)
	}
	return nil
}

// has says whether registers have what they were set to.
func has(w *wire, to [][2]byte) (bool, error) {
	for _, s := range to {
		v, err := w.get(s[0])
		if err != nil || v != s[1] {
			return false, err
		}
	}
	return true, nil
}

// rangeOf is the index of an option among the ranges, whose first is the default.
func rangeOf(o *options, key string, ranges []int64) int {
	n := o.whole(key, ranges[0])
	i := slices.Index(ranges, n)
	if i < 0 {
		o.fail(key, "%d, want %s", n, list(ranges))
		return 0
	}
	return i
}

// axis is a count as a value, absent at the converter's end.
func axis(raw int16, scale float64) hal.Value {
	if raw == math.MaxInt16 || raw == math.MinInt16 {
		return hal.Value{}
	}
	return hal.FloatValue(round(float64(raw)*scale, 1e5))
}
