package search

import (
	"fmt"
	"time"
)

// Rotated is the index that a document of a time goes to (Firehose developer guide,
// "Index rotation for the Amazon OpenSearch Service destination"): the index, and
// behind it the hour, day, week or month in UTC. period is NoRotation, OneHour,
// OneDay, OneWeek or OneMonth.
func Rotated(index, period string, at time.Time) string {
	at = at.UTC()
	switch period {
	case "OneHour":
		return index + at.Format("-2006-01-02-15")
	case "OneDay":
		return index + at.Format("-2006-01-02")
	case "OneWeek":
		year, week := weekOf(at)
		return fmt.Sprintf("%s-%04d-w%02d", index, year, week)
	case "OneMonth":
		return index + at.Format("-2006-01")
	}
	return index
}

// weekOf numbers weeks that begin on Sunday; the first of a year is the first with a
// Saturday in it. So a week is of the year that its Saturday is of.
func weekOf(at time.Time) (year, week int) {
	saturday := at.AddDate(0, 0, int(time.Saturday-at.Weekday()))
	return saturday.Year(), (saturday.YearDay()-1)/7 + 1
}
