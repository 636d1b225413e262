package config

import (
	"reflect"
	"slices"
	"testing"
)

// Every number that a section has is in the table of bounds, but for those that
// are checked with their section or may be anything.
func TestEveryNumberHasBounds(t *testing.T) {
	elsewhere := []string{"broker.connections", "broker.max_inflight", "broker.keep_alive"}
	c := Default()
	bounds := c.bounds()
	n := 0
	var walk func(prefix string, v reflect.Value)
	walk = func(prefix string, v reflect.Value) {
		for i := range v.NumField() {
			key := v.Type().Field(i).Tag.Get("toml")
			if key == "" {
				continue
			}
			switch f := v.Field(i); {
			case f.Kind() == reflect.Struct:
				walk(prefix+key+".", f)
			case f.CanInt():
				n++
				if !slices.ContainsFunc(bounds, func(b bound) bool { return b.key == prefix+key }) &&
					!slices.Contains(elsewhere, prefix+key) {
					t.Errorf("%s has no bounds", prefix+key)
				}
			}
		}
	}
	walk("", reflect.ValueOf(c).Elem())
	if n < len(bounds) {
		t.Errorf("%d numbers are seen, and there are %d bounds", n, len(bounds))
	}
	for _, b := range bounds {
		if !b.holds() {
			t.Errorf("%s: the default %v is out of bounds", b.key, b.value)
		}
	}
}
