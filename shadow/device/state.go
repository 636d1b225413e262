package device

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/tidemill/tidemill/shadow"
)

// A state is all that outlives the program. Its trees are not changed once
// made.
type state struct {
	desired, reported map[string]any // as kept here
	version           uint64         // count of local changes

	// The cloud's document last known; what differs from it has to be sent.
	base struct {
		desired, reported map[string]any
		version           uint64
		exists            bool
	}

	// id begins every client token this device ever sends, so that an update
	// of ours that arrives late, even from before a restart, is not taken
	// for another writer's.
	id string

	deleted   bool   // in the cloud; waits for a local change to be made anew
	parked    string // the request the cloud refused for good, "" for none
	parkedErr string
	lastSync  int64 // epoch seconds by this device's clock
}

// The keys of the records, see FORMAT.md in boltstore.
const (
	recLocal = "local"
	recBase  = "base"
	recMeta  = "meta"
)

func (s *state) records() map[string][]byte {
	section := func(m map[string]any, name string, v map[string]any) {
		if v != nil {
			m[name] = v
		}
	}
	number := func(u uint64) any { return json.Number(strconv.FormatUint(u, 10)) }
	local := map[string]any{"version": number(s.version)}
	section(local, "desired", s.desired)
	section(local, "reported", s.reported)
	base := map[string]any{"version": number(s.base.version), "exists": s.base.exists}
	section(base, "desired", s.base.desired)
	section(base, "reported", s.base.reported)
	meta := map[string]any{"deleted": s.deleted, "id": s.id, "last_sync": number(uint64(max(0, s.lastSync)))}
	if s.parked != "" {
		meta["parked"], meta["parked_error"] = s.parked, s.parkedErr
	}
	return map[string][]byte{
		recLocal: shadow.Append(nil, local),
		recBase:  shadow.Append(nil, base),
		recMeta:  shadow.Append(nil, meta),
	}
}

func (s *state) load(records map[string][]byte) error {
	trees := make(map[string]map[string]any)
	for _, k := range []string{recLocal, recBase, recMeta} {
		if text, ok := records[k]; ok {
			m, err := shadow.ParseObject(text)
			if err != nil {
				return fmt.Errorf("record %s: %w", k, err)
			}
			trees[k] = m
		}
	}
	section := func(rec, name string) map[string]any {
		m, _ := trees[rec][name].(map[string]any)
		return m
	}
	number := func(rec, name string) uint64 {
		n, _ := trees[rec][name].(json.Number)
		u, _ := strconv.ParseUint(string(n), 10, 64)
		return u
	}
	s.desired, s.reported = section(recLocal, "desired"), section(recLocal, "reported")
	s.version = number(recLocal, "version")
	s.base.desired, s.base.reported = section(recBase, "desired"), section(recBase, "reported")
	s.base.version = number(recBase, "version")
	s.base.exists, _ = trees[recBase]["exists"].(bool)
	s.id, _ = trees[recMeta]["id"].(string)
	s.deleted, _ = trees[recMeta]["deleted"].(bool)
	s.parked, _ = trees[recMeta]["parked"].(string)
	s.parkedErr, _ = trees[recMeta]["parked_error"].(string)
	s.lastSync = int64(number(recMeta, "last_sync"))
	return nil
}

// pending returns what the cloud does not have yet.
func (s *state) pending() (u *shadow.Update, any bool) {
	u = new(shadow.Update)
	if p := shadow.Diff(s.base.desired, s.desired); p != nil {
		u.Desired = shadow.Section{Set: true, Patch: p}
	}
	if p := shadow.Diff(s.base.reported, s.reported); p != nil {
		u.Reported = shadow.Section{Set: true, Patch: p}
	}
	return u, u.Desired.Set || u.Reported.Set
}

// An origin is whose update made a document.
type origin int

const (
	others origin = iota
	ours          // the one under way: what differs here is newer, in desired too
	late          // one of ours that was given up: what it reported is old
)

// join takes over the cloud's document.
func (s *state) join(desired, reported map[string]any, version uint64, from origin) {
	prefer := shadow.Cloud
	if from == ours {
		prefer = shadow.Local
	}
	s.desired = shadow.Merge3(s.base.desired, s.desired, desired, prefer)
	if from != late {
		s.reported = shadow.Merge3(s.base.reported, s.reported, reported, shadow.Local)
	}
	s.base.desired, s.base.reported = desired, reported
	s.base.version, s.base.exists = version, true
	s.deleted = false
}

// gone takes over that the cloud has no document any more; version was the
// last. An operator's edits not yet sent are kept.
func (s *state) gone(version uint64) {
	edits := shadow.Diff(s.base.desired, s.desired)
	s.desired = shadow.Merge(nil, edits)
	s.base.desired, s.base.reported = nil, nil
	s.base.version, s.base.exists = version, false
}
