package delivery

import (
	"encoding/json"
	"testing"
)

// Both forms of a position are read, whatever else the bytes are.
func FuzzPosition(f *testing.F) {
	for _, s := range []string{"", "\x00\x00\x00\x00\x00\x00\x00\x07", `{"next":7}`, `{"next":7,"plan":{"from":7,"to":9}}`,
		`{"next":7,"plan":null}`, `{"next":-1}`, "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		next, plan, err := parsePosition(raw)
		if err != nil {
			return
		}
		d := &Drain{plans: plan != nil || len(raw) != 8, work: &model{}}
		p := position{next: next}
		if plan != nil {
			var r modelPlan
			if json.Unmarshal(plan, &r) != nil {
				return
			}
			p.plan = &r
		}
		again, err := d.encode(p)
		if err != nil {
			t.Fatal(err)
		}
		if n, _, err := parsePosition(again); err != nil || n != next {
			t.Fatalf("%q -> %d -> %q -> %d, %v", raw, next, again, n, err)
		}
	})
}
