package device

import (
	"strings"
	"time"

	"github.com/tidemill/tidemill/shadow"
)

// anySize lets answers through that are larger than our own documents may
// be: the limits of the service are its own.
var anySize = shadow.Limits{MaxSize: 1 << 30, MaxDepth: 1 << 20}

// take handles a message of the service.
func (l *link) take(a answer) {
	own := func(w *waiting) bool { return w != nil && w.token == a.ClientToken }
	switch {
	case a.topic.Op == shadow.OpGet && a.topic.Kind == shadow.Accepted:
		if own(l.getting) {
			l.got(a)
		}
	case a.topic.Op == shadow.OpGet:
		if own(l.getting) {
			l.getting = nil
			if a.Code == 404 {
				l.missing()
				return
			}
			l.refused(a, "get")
		}
	case a.topic.Op == shadow.OpUpdate && a.topic.Kind == shadow.Rejected:
		if own(l.updating) {
			what := l.updating.what
			l.updating = nil
			l.rejected(a, what)
		}
	case l.doubt || l.getting != nil:
		// The document that is got will have it, or it comes after.
		if len(l.held) < maxHeld {
			l.held = append(l.held, a)
		} else {
			l.doubt = true
		}
	case a.topic.Op == shadow.OpDelete:
		l.deleted(a)
	case a.topic.Kind == shadow.Accepted:
		l.accepted(a)
	default:
		l.delta(a)
	}
}

// got takes over the document and with it whatever was under way.
func (l *link) got(a answer) {
	l.getting, l.updating = nil, nil
	l.partial, l.settleBy, l.inexact = 0, time.Time{}, false
	l.failures = 0
	if base := l.d.seen.Load().base; base.exists && a.Version < base.version {
		l.d.o.Log.Warn("the cloud's shadow began anew", "version", a.Version, "was", base.version)
	}
	desired, _ := a.State["desired"].(map[string]any)
	reported, _ := a.State["reported"].(map[string]any)
	l.join(desired, reported, a.Version, others, true)
	l.release()
	l.d.o.Synced()
}

// join takes over a document of the cloud and makes that durable. exact says
// that it is known to be whole.
func (l *link) join(desired, reported map[string]any, version uint64, from origin, exact bool) {
	err := l.d.change(func(s *state) {
		mine := s.reported
		known := s.base.exists
		s.join(desired, reported, version, from, l.d.winners())
		if exact {
			s.accounted(version)
		}
		if foreign := shadow.Diff(mine, s.reported); foreign != nil {
			// What is reported now is not from here: a wiped device, or
			// another writer. Whether it is so, only the handlers know.
			l.again = true
			if known {
				l.d.o.Log.Warn("another writer changed reported", "members", len(foreign), "version", version)
			}
		}
		s.lastSync = time.Now().Unix()
		if from == ours {
			s.parked, s.parkedErr = "", ""
		}
	})
	if err != nil {
		l.d.o.Log.Error("shadow state not stored", "err", err)
		l.fail()
	}
}

// missing handles the answer that there is no shadow.
func (l *link) missing() {
	l.updating = nil
	l.failures = 0
	s := l.d.seen.Load()
	_, newer := s.pending()
	l.lose(s.base.version, s.base.exists && !newer)
	l.release()
	l.d.o.Synced()
}

// deleted handles that somebody deleted the shadow.
func (l *link) deleted(a answer) {
	s := l.d.seen.Load()
	if !s.base.exists || a.Version < s.base.version {
		return // of an earlier document
	}
	l.updating = nil
	_, newer := s.pending()
	l.lose(a.Version, !newer)
}

// lose takes over that the cloud has no shadow; deleted tells that it had one
// and that nothing here is newer.
func (l *link) lose(version uint64, deleted bool) {
	l.partial, l.settleBy, l.inexact = 0, time.Time{}, false
	err := l.d.change(func(s *state) {
		s.gone(version)
		s.deleted = s.deleted || deleted && !l.d.o.Recreate
		s.lastSync = time.Now().Unix()
	})
	if err != nil {
		l.d.o.Log.Error("shadow state not stored", "err", err)
		l.fail()
		return
	}
	if deleted {
		l.d.o.Log.Info("shadow deleted in the cloud", "version", version)
	}
}

// next tells whether version directly follows what is known. If it is
// further on, or the shadow was made anew, the document has to be got.
func (l *link) next(version uint64) bool {
	base := l.d.seen.Load().base
	switch {
	case !base.exists && base.version != 0:
		l.doubt = true // counting may have begun at 1 again
	case version == base.version+1:
		l.inexact = l.inexact || l.partial != 0
		return true
	case version > base.version:
		l.doubt = true
	}
	return false
}

// accepted handles an update that the service has taken, ours or another's.
// It holds the request's patch, so versions without a gap give the exact
// document without asking for it.
func (l *link) accepted(a answer) {
	own := l.updating != nil && l.updating.token == a.ClientToken
	from := others
	if strings.HasPrefix(a.ClientToken, l.d.seen.Load().id+"-") {
		from = late
	}
	if own {
		from = ours
		l.updating = nil
		l.tries, l.failures = 0, 0
	}
	completes := l.partial != 0 && l.partial == a.Version && l.d.seen.Load().base.version == a.Version
	if !completes && !l.next(a.Version) {
		// With doubt, this update is in the document to come. Our own never
		// has an old version unless the service has lost some.
		l.doubt = l.doubt || own
		return
	}
	u, err := shadow.ParseUpdate(a.payload, anySize)
	if err != nil {
		l.d.o.Log.Warn("shadow message cannot be read", "topic", a.topic.String(), "err", err)
		l.doubt = true
		return
	}
	l.partial = 0
	if completes && !l.inexact {
		l.settleBy = time.Time{}
	}
	base := l.d.seen.Load().base
	desired, reported := base.desired, base.reported
	if u.Clear {
		desired, reported = nil, nil
	}
	for _, p := range []struct {
		tree    *map[string]any
		section shadow.Section
	}{{&desired, u.Desired}, {&reported, u.Reported}} {
		switch {
		case p.section.Set && p.section.Patch == nil:
			*p.tree = nil
		case p.section.Set:
			*p.tree = shadow.Merge(*p.tree, p.section.Patch)
		}
	}
	l.join(desired, reported, a.Version, from, !l.inexact)
}

// delta handles the service's list of differences. Where the accepted
// message came first there is nothing new in it.
func (l *link) delta(a answer) {
	if !l.next(a.Version) {
		return
	}
	if l.settleBy.IsZero() {
		l.settleBy = time.Now().Add(settle)
	}
	l.partial = a.Version
	base := l.d.seen.Load().base
	l.join(shadow.Merge(base.desired, a.State), base.reported, a.Version, others, false)
}

// rejected handles the refusal of an update.
func (l *link) rejected(a answer, what string) {
	switch a.Code {
	case 409:
		l.doubt = true
		l.notBefore = time.Now().Add(l.backoff(l.tries) / 4)
		l.tries++
	case 400, 413, 415:
		err := l.d.change(func(s *state) { s.parked, s.parkedErr = what, a.Message })
		l.d.o.Log.Error("the cloud refuses the shadow update for good", "code", a.Code, "message", a.Message,
			"store_err", err)
	default:
		l.refused(a, "update")
	}
}

func (l *link) refused(a answer, op string) {
	l.d.o.Log.Warn("shadow request refused", "op", op, "code", a.Code, "message", a.Message)
	l.fail()
}
