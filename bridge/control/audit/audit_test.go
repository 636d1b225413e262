package audit

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// A record is published once it is durable, and not if it could not be kept; what is
// too long or no JSON is left away.
func TestWrite(t *testing.T) {
	var kept, told []string
	var fails error
	l := &Log{
		Append: func(_ context.Context, all ...[]byte) error {
			for _, b := range all {
				kept = append(kept, string(b))
			}
			return fails
		},
		Publish: func(topic string, b []byte) { told = append(told, topic+" "+string(b)) },
	}
	long := json.RawMessage(`"` + strings.Repeat("x", maxShown) + `"`)
	r := Record{Source: "admin", Action: "PutPolicy", Target: "policies/p", Before: long,
		After: json.RawMessage(`{"a":1}`)}
	if err := l.Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if len(kept) != 1 || len(told) != 1 || told[0] != "$tidemill/events/audit/admin/PutPolicy "+kept[0] {
		t.Fatalf("kept %q, told %q", kept, told)
	}
	if !strings.Contains(kept[0], `"after":{"a":1}`) || strings.Contains(kept[0], "before") ||
		!strings.Contains(kept[0], `","time":"20`) {
		t.Errorf("%s", kept[0])
	}
	fails = errors.New("the disk is full")
	if err := l.Write(t.Context(), r); !errors.Is(err, fails) || len(told) != 1 {
		t.Errorf("%v, told %q", err, told)
	}
}
