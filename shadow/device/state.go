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

	// sent are the updates of ours that the cloud may have taken without our
	// knowing, the oldest first: what it then holds is no other writer's.
	sent []sending

	// id begins every client token this device ever sends, so that an update
	// of ours that arrives late, even from before a restart, is not taken
	// for another writer's.
	id string

	deleted   bool   // in the cloud; waits for a local change to be made anew
	parked    string // the request the cloud refused for good, "" for none
	parkedErr string
	lastSync  int64 // epoch seconds by this device's clock
}

// A sending is an update on its way.
type sending struct {
	version           uint64 // that the cloud had; the update is refused later on
	desired, reported map[string]any
}

// maxSendings bounds those not known to be taken or refused. Only a cloud
// whose versions do not grow, though it takes updates, would need more.
const maxSendings = 4

// The keys of the records, see FORMAT.md in boltstore.
const (
	recLocal = "local"
	recBase  = "base"
	recMeta  = "meta"
	recSent  = "sent"
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
	sent := make([]any, len(s.sent))
	for i, u := range s.sent {
		m := map[string]any{"version": number(u.version)}
		section(m, "desired", u.desired)
		section(m, "reported", u.reported)
		sent[i] = m
	}
	return map[string][]byte{
		recLocal: shadow.Append(nil, local),
		recBase:  shadow.Append(nil, base),
		recMeta:  shadow.Append(nil, meta),
		recSent:  shadow.Append(nil, map[string]any{"updates": sent}),
	}
}

func (s *state) load(records map[string][]byte) error {
	trees := make(map[string]map[string]any)
	for _, k := range []string{recLocal, recBase, recMeta, recSent} {
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
	parsed := func(v any) uint64 {
		n, _ := v.(json.Number)
		u, _ := strconv.ParseUint(string(n), 10, 64)
		return u
	}
	number := func(rec, name string) uint64 { return parsed(trees[rec][name]) }
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
	sent, _ := trees[recSent]["updates"].([]any)
	for _, v := range sent {
		m, _ := v.(map[string]any)
		u := sending{version: parsed(m["version"])}
		u.desired, _ = m["desired"].(map[string]any)
		u.reported, _ = m["reported"].(map[string]any)
		s.sent = append(s.sent, u)
	}
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

// join takes over the cloud's document; win says whose a place is that both
// ends changed.
func (s *state) join(desired, reported map[string]any, version uint64, from origin, win winners) {
	if from == ours {
		win = winners{}
	}
	base := s.base
	for _, u := range s.sent {
		base.desired = shadow.Merge(base.desired, found(u.desired, desired))
		base.reported = shadow.Merge(base.reported, found(u.reported, reported))
	}
	s.desired = shadow.Merge3(base.desired, s.desired, desired, win.desired)
	if from != late {
		s.reported = shadow.Merge3(base.reported, s.reported, reported, win.reported)
	}
	s.base.desired, s.base.reported = desired, reported
	s.base.version, s.base.exists = version, true
	s.deleted = false
}

// winners are the ends that win in each section.
type winners struct{ desired, reported shadow.Side }

// found returns the part of patch that the cloud's tree has.
func found(patch, tree map[string]any) map[string]any {
	out := make(map[string]any)
	for k, want := range patch {
		have, ok := tree[k]
		w, isObject := want.(map[string]any)
		h, hasObject := have.(map[string]any)
		switch {
		case isObject && hasObject:
			if part := found(w, h); len(part) > 0 {
				out[k] = part
			}
		case want == nil && !ok, want != nil && ok && shadow.Equal(want, have):
			out[k] = want
		}
	}
	return out
}

// sending remembers what is about to be sent.
func (s *state) sending(u *shadow.Update) {
	open := s.sent[max(0, len(s.sent)-maxSendings+1):]
	s.sent = append(append([]sending(nil), open...), sending{s.base.version, u.Desired.Patch, u.Reported.Patch})
}

// accounted forgets the sendings that the document of this version shows, if
// the cloud has taken them, and that it refuses from now on if it has not.
func (s *state) accounted(version uint64) {
	var open []sending
	for _, u := range s.sent {
		if u.version >= version {
			open = append(open, u)
		}
	}
	s.sent = open
}

// gone takes over that the cloud has no document any more; version was the
// last. An operator's edits not yet sent are kept.
func (s *state) gone(version uint64) {
	edits := shadow.Diff(s.base.desired, s.desired)
	s.desired = shadow.Merge(nil, edits)
	s.base.desired, s.base.reported = nil, nil
	s.base.version, s.base.exists = version, false
	s.sent = nil
}
