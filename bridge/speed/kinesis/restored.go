package kinesis

import (
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// mostRetention is how long the API lets records be kept.
const mostRetention = 365 * 24 * time.Hour

// Restored makes what a backup has of a stream that of one which is restored from it,
// renamed or not, after the records in it have become older by age. They would be gone at
// once if they were kept for as long as before: retention grows by that, in whole hours. Of a
// deletion that had begun nothing is left, and policies, whose statements name the stream, stay
// behind where it has another name.
func Restored(c *streams.Config, renamed bool, age time.Duration) error {
	at, err := parseAttributes(c.Attributes)
	if err != nil {
		return err
	}
	at = at.copy()
	at.Deleting = false
	if renamed {
		at.Policy = ""
		for i := range at.Consumers {
			at.Consumers[i].Policy = ""
		}
	}
	if len(c.Attributes) > 0 {
		c.Attributes = at.encode()
	}
	if c.Retention > 0 && age > 0 {
		whole := (age + time.Hour - 1).Truncate(time.Hour)
		c.Retention = max(c.Retention, min(c.Retention+whole, mostRetention))
	}
	return nil
}
