package connector

import "github.com/tidemill/tidemill/bridge/speed/streams"

// userRecords are the items in a record: itself, or if it is a container those
// in it; none if one of them is of another shard.
func userRecords(r *Record, rg streams.Range) []Item {
	return []Item{{Sequence: r.Sequence, Key: r.Key, Time: r.Time, Data: r.Data}}
}
