package shadow

import (
	"fmt"
	"time"
)

// Limits of a document; see the developer guide's quotas.
const (
	DefaultMaxSize  = 8192 // bytes of both sections as compact JSON, without metadata
	LargestMaxSize  = 30720
	DefaultMaxDepth = 8 // levels of a section, itself being the first

	maxToken = 64 // bytes of a clientToken

	// Remembered is how long a deleted shadow's version is kept.
	Remembered = 48 * time.Hour
)

// Limits of one shadow. A zero field means its default.
type Limits struct {
	MaxSize  int // bytes of both sections, compact
	MaxDepth int // levels of nesting in a section
}

func (l Limits) maxSize() int {
	if l.MaxSize == 0 {
		return DefaultMaxSize
	}
	return l.MaxSize
}

func (l Limits) maxDepth() int {
	if l.MaxDepth == 0 {
		return DefaultMaxDepth
	}
	return l.MaxDepth
}

// A Stamp is a leaf of metadata: when an update last named it, in seconds
// since 1970.
type Stamp int64

// stamps returns the metadata of v with now at each leaf.
func stamps(v any, now Stamp) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = stamps(e, now)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = stamps(e, now)
		}
		return out
	}
	return now
}

// A Document is one shadow. It is not changed once made.
type Document struct {
	Desired, Reported           map[string]any // nil when absent, never empty
	DesiredTimes, ReportedTimes map[string]any // same shape, a Stamp at each leaf
	Version                     uint64         // of the last update, from 1

	// Deleted is when the shadow was deleted, in seconds of a clock that does not
	// jump, and 0 for one that lives. A deleted one has nothing but its last
	// version, which Over ends.
	Deleted int64
}

// Alive tells whether there is a shadow: d is neither nil nor deleted.
func (d *Document) Alive() bool { return d != nil && d.Deleted == 0 }

// Over tells whether a shadow was deleted for so long at now that its version is
// not remembered any more. now is by the clock that Delete was given.
func (d *Document) Over(now time.Time) bool {
	return d != nil && d.Deleted != 0 && now.Sub(time.Unix(d.Deleted, 0)) >= Remembered
}

// Delta returns desired minus reported and the times of those desired leaves,
// both nil when nothing differs.
func (d *Document) Delta() (state, times map[string]any) {
	return delta(d.Desired, d.DesiredTimes, d.Reported)
}

// Size returns the bytes the size limit counts.
func (d *Document) Size() int { return Size(d.Desired, d.Reported) }

// Size returns the bytes of the sections as compact JSON; absent ones count 0.
func Size(sections ...map[string]any) int {
	n := 0
	for _, s := range sections {
		if s != nil {
			n += len(Append(make([]byte, 0, 512), s))
		}
	}
	return n
}

// Update returns the document after u, which happened at now. d is nil or
// deleted, but not Over, when there is no shadow yet. The error is always an *Error:
// ErrVersionConflict or ErrTooLarge. Limits of the request itself are checked
// by ParseUpdate.
func (d *Document) Update(u *Update, now time.Time, l Limits) (*Document, error) {
	next := &Document{Version: 1}
	switch {
	case d.Alive():
		if u.Version != nil && *u.Version != d.Version {
			return nil, ErrVersionConflict
		}
		*next = *d
		next.Version++
	case u.Version != nil && *u.Version > 1:
		return nil, ErrVersionConflict
	case d != nil:
		next.Version = d.Version + 2
	}
	desired, reported := u.Desired, u.Reported
	if u.Clear {
		desired, reported = Section{Set: true}, Section{Set: true}
	}
	stamp := Stamp(now.Unix())
	next.Desired, next.DesiredTimes = desired.onto(next.Desired, next.DesiredTimes, stamp)
	next.Reported, next.ReportedTimes = reported.onto(next.Reported, next.ReportedTimes, stamp)
	if next.Size() > l.maxSize() {
		return nil, ErrTooLarge
	}
	return next, nil
}

func (s Section) onto(state, times map[string]any, now Stamp) (newState, newTimes map[string]any) {
	if !s.Set {
		return state, times
	}
	if s.Patch == nil {
		return nil, nil
	}
	newState, newTimes = merge(state, times, s.Patch, now, true)
	if len(newState) == 0 {
		return nil, nil
	}
	return newState, newTimes
}

// Delete returns what remains of d when it is deleted at now, by a clock that does
// not jump.
func (d *Document) Delete(now time.Time) *Document {
	return &Document{Version: d.Version, Deleted: now.Unix()}
}

// AppendRecord writes d after dst as a store keeps it: one JSON object whose
// members are those of d that are not empty, with times as plain numbers.
func (d *Document) AppendRecord(dst []byte) []byte {
	m := map[string]any{"version": numberOf(d.Version)}
	for name, s := range map[string]map[string]any{"desired": d.Desired, "reported": d.Reported} {
		if s != nil {
			m[name] = s
		}
	}
	for name, s := range map[string]map[string]any{"desired_times": d.DesiredTimes, "reported_times": d.ReportedTimes} {
		if s != nil {
			m[name] = seconds(s)
		}
	}
	if d.Deleted != 0 {
		m["deleted"] = numberOf(uint64(d.Deleted))
	}
	return Append(dst, m)
}

// DecodeRecord reads what AppendRecord wrote.
func DecodeRecord(text []byte) (*Document, error) {
	m, err := ParseObject(text)
	if err != nil {
		return nil, fmt.Errorf("shadow: record: %w", err)
	}
	d := &Document{Deleted: intOf(m["deleted"])}
	var ok bool
	if d.Version, ok = uintOf(m["version"]); !ok {
		return nil, fmt.Errorf("shadow: record: version %v", m["version"])
	}
	for _, p := range []struct {
		state, times *map[string]any
		name         string
	}{{&d.Desired, &d.DesiredTimes, "desired"}, {&d.Reported, &d.ReportedTimes, "reported"}} {
		if *p.state, _ = m[p.name].(map[string]any); len(*p.state) == 0 {
			*p.state = nil
			continue
		}
		*p.times, _ = restamp(*p.state, m[p.name+"_times"]).(map[string]any)
	}
	return d, nil
}

// seconds turns stamps into plain numbers.
func seconds(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = seconds(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = seconds(e)
		}
		return out
	case Stamp:
		return numberOf(uint64(v))
	}
	return v
}

// restamp is the way back from seconds. It follows the shape of state, so a
// damaged record cannot give metadata of another shape.
func restamp(state, times any) any {
	switch s := state.(type) {
	case map[string]any:
		t, _ := times.(map[string]any)
		out := make(map[string]any, len(s))
		for k, e := range s {
			out[k] = restamp(e, t[k])
		}
		return out
	case []any:
		t, _ := times.([]any)
		out := make([]any, len(s))
		for i, e := range s {
			var et any
			if i < len(t) {
				et = t[i]
			}
			out[i] = restamp(e, et)
		}
		return out
	}
	return Stamp(intOf(times))
}
