package search

import (
	"testing"
	"time"
)

func TestRotated(t *testing.T) {
	for _, c := range []struct{ at, period, want string }{
		{"2016-02-25T13:00:00Z", "NoRotation", "idx"},
		{"2016-02-25T13:59:59Z", "OneHour", "idx-2016-02-25-13"},
		{"2016-02-25T13:00:00+14:00", "OneDay", "idx-2016-02-24"},
		{"2016-02-25T13:00:00Z", "OneMonth", "idx-2016-02"},
		{"2016-02-25T13:00:00Z", "OneWeek", "idx-2016-w09"}, // the guide shows w08 for this day
		{"2016-01-02T23:59:59Z", "OneWeek", "idx-2016-w01"}, // a Saturday
		{"2016-01-03T00:00:00Z", "OneWeek", "idx-2016-w02"}, // a Sunday
		{"2016-12-31T12:00:00Z", "OneWeek", "idx-2016-w53"},
		{"2017-01-01T00:00:00Z", "OneWeek", "idx-2017-w01"},
		{"2025-12-28T00:00:00Z", "OneWeek", "idx-2026-w01"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := Rotated("idx", c.period, at); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.at, c.period, got, c.want)
		}
	}
}
