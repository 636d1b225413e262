package connector

import (
	"github.com/tidemill/tidemill/bridge/speed/kinesis/kpl"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// userRecords are the items in a record of a shard with that range: itself, or
// if it is a container those in it; none if one of them is of another shard.
func userRecords(r *Record, rg streams.Range) []Item {
	users, container := kpl.Split(r.Data, rg)
	if !container {
		return []Item{{Sequence: r.Sequence, Key: r.Key, Time: r.Time, Data: r.Data}}
	}
	items := make([]Item, len(users))
	for i, u := range users {
		items[i] = Item{Sequence: r.Sequence, Sub: i, Key: u.Key, Time: r.Time, Data: u.Data}
	}
	return items
}
