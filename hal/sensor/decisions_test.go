package sensor_test

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/tidemill/tidemill/deploy/conformance"
	"github.com/tidemill/tidemill/hal"
)

// TestDecisions compares DECISIONS.md with what the drivers make of the vectors
// that can be read in several ways.
func TestDecisions(t *testing.T) {
	page, err := os.ReadFile("DECISIONS.md")
	if err != nil {
		t.Fatal(err)
	}
	table := map[string]string{}
	for line := range strings.Lines(string(page)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			table[strings.Trim(cells[1], " `")] = strings.TrimSpace(cells[2])
		}
	}
	delete(table, "vector")
	delete(table, "---")
	for _, v := range conformance.All[vector](t, "sensors-doubtful.jsonl") {
		if v.Name == "gpio-timestamps-backwards" { // see TestMeterBackwards
			delete(table, v.Name)
			continue
		}
		t.Run(v.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				o, _, ok := v.run(t)
				if !ok {
					t.Skip("no driver")
				}
				if len(v.Expect) > 0 {
					maps.DeleteFunc(o.vals, func(name string, _ hal.Value) bool {
						_, ok := v.Expect[name]
						return !ok
					})
				}
				if got := o.String(); got != table[v.Name] {
					t.Errorf("DECISIONS.md has %q, the driver makes %q of it (%v)", table[v.Name], got, o.err)
				}
			})
		})
		delete(table, v.Name)
	}
	if len(table) > 0 {
		t.Errorf("DECISIONS.md has rows without a vector: %v", slices.Sorted(maps.Keys(table)))
	}
}
