package index

import (
	"maps"
	"time"
)

// A Presence says whether a thing is connected.
type Presence struct {
	Connected bool
	Time      time.Time // since when; zero: not known
	Reason    string    // why it is not connected; "": not known
	Version   uint64    // counts its connections since the start
}

type presence struct {
	Presence
	by any // the connection
}

// Connected says that a thing has connected by the connection by. It doesn't
// wait.
func (x *Index) Connected(thing string, by any, at time.Time) {
	x.dirtyMu.Lock()
	p := x.presences[thing]
	if p == nil {
		p = &presence{}
		x.presences[thing] = p
	}
	p.by, p.Presence = by, Presence{Connected: true, Time: at, Version: p.Version + 1}
	x.dirtyMu.Unlock()
	x.Changed(thing)
}

// Disconnected says that the connection by has ended. If the thing has a later
// one already, that changes nothing.
func (x *Index) Disconnected(thing string, by any, reason string, at time.Time) {
	x.dirtyMu.Lock()
	p := x.presences[thing]
	if p == nil || p.by != by {
		x.dirtyMu.Unlock()
		return
	}
	if x.onThings.Load() {
		p.by, p.Presence = nil, Presence{Time: at, Reason: reason, Version: p.Version}
	} else {
		delete(x.presences, thing) // nobody would forget it
	}
	x.dirtyMu.Unlock()
	x.Changed(thing)
}

// presence returns a thing's.
func (x *Index) presence(thing string) Presence {
	x.dirtyMu.Lock()
	defer x.dirtyMu.Unlock()
	if p := x.presences[thing]; p != nil {
		return p.Presence
	}
	return Presence{}
}

// forget drops the presence of what is no thing and not connected.
func (x *Index) forget(thing string) {
	x.dirtyMu.Lock()
	defer x.dirtyMu.Unlock()
	if p := x.presences[thing]; p != nil && !p.Connected {
		delete(x.presences, thing)
	}
}

// forgetAll drops the presences of all that are not connected.
func (x *Index) forgetAll() {
	x.dirtyMu.Lock()
	defer x.dirtyMu.Unlock()
	maps.DeleteFunc(x.presences, func(_ string, p *presence) bool { return !p.Connected })
}
