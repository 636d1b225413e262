package registry

import (
	"slices"
	"sync"
)

// maxRecent is how many events are kept for Unchanged, about 100 bytes each.
// Who asks about an older revision reads the registry instead, about 20 µs.
const maxRecent = 1024

// recent remembers the latest events, so that a session finds out by itself
// what happened since it last looked, and nobody has to know of it.
type recent struct {
	mu     sync.RWMutex // guards what follows
	events []recentEvent
	after  uint64 // every event of a later revision is in events
}

type recentEvent struct {
	revision uint64
	Event
}

// add notes the events of an update. mu is held.
func (r *recent) add(revision uint64, events []Event) {
	for _, e := range events {
		r.events = append(r.events, recentEvent{revision, e})
	}
	if n := len(r.events) - maxRecent; n >= maxRecent {
		r.after = r.events[n-1].revision
		r.events = slices.Clone(r.events[n:])
	}
}

// Unchanged says whether no update after the revision since can have changed
// id, and returns the revision up to which that is known. It may say false
// when nothing has changed. It takes a lock and compares names, so it is for
// when Revision has grown.
func (r *Registry) Unchanged(id *Identity, since uint64) (revision uint64, ok bool) {
	r.recent.mu.RLock()
	defer r.recent.mu.RUnlock()
	revision = max(since, r.revision.Load())
	if since < r.recent.after {
		return revision, false
	}
	for _, e := range slices.Backward(r.recent.events) {
		if e.revision <= since {
			break
		}
		if id.affectedBy(e.Event) {
			return revision, false
		}
	}
	return revision, true
}
