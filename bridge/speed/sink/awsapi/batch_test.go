package awsapi

import (
	"errors"
	"testing"
)

// An answer that does not tell of each entry once is no answer to any.
func TestByID(t *testing.T) {
	cut := errors.New("cut off")
	one := FailedEntry{ID: "1", Code: "Throttled"}
	for _, tt := range []struct {
		name       string
		successful int
		failed     []FailedEntry
		err        error
		told       bool
	}{
		{"all are taken", 3, nil, nil, true},
		{"one is refused", 2, []FailedEntry{one}, nil, true},
		{"one is left out", 1, []FailedEntry{one}, nil, false},
		{"one is told of twice", 1, []FailedEntry{one, one}, nil, false},
		{"one that was not sent", 2, []FailedEntry{{ID: "3"}}, nil, false},
		{"one without a number", 2, []FailedEntry{{ID: "x"}}, nil, false},
		{"no answer", 0, nil, cut, false},
	} {
		errs := ByID(make([]error, 3), tt.successful, tt.failed, tt.err)
		for i, err := range errs {
			refused := tt.told && i == 1 && len(tt.failed) > 0
			if (err != nil) != (refused || !tt.told) || refused != errors.As(err, new(*PartError)) ||
				tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("%s: entry %d: %v", tt.name, i, err)
			}
		}
	}
}
