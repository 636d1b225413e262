// Package rulestest helps tests to look at rules.
package rulestest

import (
	"slices"
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/rules"
)

// A Listing is what lists the rules of files and of the API, such as declare.Rules.
type Listing interface {
	Rules() []*rules.Rule
	Trouble(name string) error
}

// InForce wants what the engine has, as "name SQL", in order, and that the listing
// has the same.
func InForce(t testing.TB, e *rules.Engine, l Listing, want ...string) {
	t.Helper()
	names := func(all []*rules.Rule) []string {
		got := []string{}
		for _, r := range all {
			got = append(got, r.Name+" "+r.Payload.SQL)
		}
		return got
	}
	if got := names(e.Rules()); !slices.Equal(got, want) {
		t.Errorf("in force %q, want %q", got, want)
	}
	listed := slices.DeleteFunc(slices.Clone(l.Rules()), func(r *rules.Rule) bool {
		return r.File == "" && l.Trouble(r.Name) != nil
	})
	if got := names(listed); !slices.Equal(got, want) {
		t.Errorf("listed %q, want %q", got, want)
	}
}
