package gateway

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// What one owner may have of what is kept beyond connections: sessions and
// retained messages. One of a thousand things that does as it likes leaves room
// for the others.

// usage is what an owner has, or may have, of retained messages.
type usage struct{ messages, bytes int }

// within says whether u is not more than most, of which 0 is no limit.
func (u usage) within(most usage) bool {
	return (most.messages == 0 || u.messages <= most.messages) && (most.bytes == 0 || u.bytes <= most.bytes)
}

// roomToRetain says whether m, if it is to be retained, is within the limits of
// all and of its owner.
func (s *Subscribers) roomToRetain(m *message.Message) bool {
	if !m.Retain || s.retained.room(m) {
		return true
	}
	s.count.refusedRetained.Add(1)
	s.refusedTo(m.Owner, "there is no room for retained messages, they are refused")
	return false
}

// roomForSession says whether one more session that outlives its connection is
// within the limit of its owner; ended, which may be nil, makes room. s.mu is
// held.
func (s *Subscribers) roomForSession(owner string, ended *session) bool {
	n := s.owned[owner] + 1
	if ended != nil && ended.counted && ended.owner == owner {
		n--
	}
	if most := s.conf.MaxSessionsPerOwner; most == 0 || n <= most {
		return true
	}
	s.count.refusedSessions.Add(1)
	s.refusedTo(owner, "a principal has too many sessions, its clients are refused")
	return false
}

// own counts x among the sessions of an owner, whom it then has. s.mu is held.
func (s *Subscribers) own(x *session, owner string, counted bool) {
	if x.counted {
		if s.owned[x.owner]--; s.owned[x.owner] == 0 {
			delete(s.owned, x.owner)
		}
	}
	x.owner, x.counted = owner, counted
	if counted {
		s.owned[owner]++
	}
}

// errSessions is why a CONNECT is refused.
func errSessions(owner string) error { return fmt.Errorf("principal %s has too many sessions", owner) }

// refusedTo has it logged, seldom, that an owner is refused something.
func (s *Subscribers) refusedTo(owner, what string) {
	s.refusals.Happened(what+" "+owner, func(n uint64) { s.conf.Log.Warn(what, "principal", owner, "times", n) })
}
