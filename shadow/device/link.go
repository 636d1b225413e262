package device

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/tidemill/tidemill/shadow"
)

// Times of the link beside Options.
const (
	idle       = time.Hour       // step again even if nothing happens
	settle     = 2 * time.Second // wait for the accepted message that belongs to a delta
	firstRetry = time.Second
	longRetry  = time.Minute
	maxHeld    = 64 // messages kept while a get is under way
	maxTries   = 5  // version conflicts in a row before a report goes without version
)

// A link is what Run knows that need not outlive it. Only Run's goroutine
// uses it.
type link struct {
	d       *Device
	pub     Publish
	session uint64
	boot    string // part of the tokens
	tokens  uint64

	getting  *waiting // a get is under way
	updating *waiting // an update is under way; never two
	doubt    bool     // base may not be the cloud's document: get it
	held     []answer // that came during doubt
	tries    int      // version conflicts in a row
	failures int      // other failures in a row

	// partial is a version known only by its delta, which does not show
	// removals; 0 is none. settleBy is when to get the document instead of
	// waiting for the accepted message; zero is never.
	partial  uint64
	settleBy time.Time
	inexact  bool // the accepted message of an earlier version is missing

	notBefore time.Time // of any request: back-off
	nextGet   time.Time // rate
	nextSend  time.Time // rate

	again   bool               // apply all, as at the start
	applied *state             // that apply last worked on
	tried   map[string]attempt // by place
	asked   []place            // whose handlers may have to be told that they are cleared
}

type waiting struct {
	token string
	until time.Time
	what  string // the update without token and version
}

// An answer is a message with its version, to put held ones in order.
type answer struct {
	message
	*shadow.Answer
}

// step does all that can be done now and returns how long until it should be
// called again if nothing happens.
func (l *link) step(ctx context.Context) time.Duration {
	d := l.d
	d.box.mu.Lock()
	messages, lost := d.box.messages, d.box.lost
	pub, session := d.box.pub, d.box.session
	d.box.messages, d.box.bytes, d.box.lost = nil, 0, false
	d.box.mu.Unlock()

	if session != l.session { // all that was under way is lost or will be got again
		l.session, l.pub = session, pub
		l.getting, l.updating, l.held = nil, nil, nil
		l.partial, l.settleBy, l.inexact = 0, time.Time{}, false
		l.doubt, l.tries, l.failures = true, 0, 0
		l.notBefore, l.nextGet = time.Time{}, time.Time{}
	}
	l.doubt = l.doubt || lost
	for _, m := range messages {
		a, err := shadow.ParseAnswer(m.payload)
		if err != nil {
			d.o.Log.Warn("shadow message cannot be read", "topic", m.topic.String(), "err", err)
			continue
		}
		l.take(answer{m, a})
	}
	now := time.Now()
	for _, w := range []**waiting{&l.getting, &l.updating} {
		if *w != nil && !now.Before((*w).until) {
			d.o.Log.Warn("no answer from the shadow service", "token", (*w).token)
			*w = nil
			l.fail()
		}
	}
	if !l.settleBy.IsZero() && !now.Before(l.settleBy) {
		l.settleBy, l.doubt = time.Time{}, true
	}
	if d.seen.Load() != l.applied {
		again := l.again
		l.again = false
		l.apply(ctx, again)
	}
	l.send(ctx)
	return l.pause()
}

// fail ends in a new get after a while.
func (l *link) fail() {
	l.doubt = true
	l.notBefore = time.Now().Add(l.backoff(l.failures))
	l.failures++
}

// backoff doubles with n and is spread over its upper half.
func (l *link) backoff(n int) time.Duration {
	wait := min(firstRetry<<min(n, 10), longRetry)
	return wait/2 + time.Duration(l.d.o.Jitter()*float64(wait/2))
}

// send publishes the get or update that is due, if any.
func (l *link) send(ctx context.Context) {
	now := time.Now()
	if l.pub == nil || l.getting != nil || now.Before(l.notBefore) || ctx.Err() != nil {
		return
	}
	if l.doubt {
		if now.Before(l.nextGet) {
			return
		}
		l.nextGet = now.Add(l.d.o.Every)
		token := l.token()
		l.getting = &waiting{token: token}
		// From here on messages are held, so what is lost before the get
		// is in its answer.
		l.doubt = false
		l.publish(ctx, &l.getting, shadow.OpGet, shadow.AppendTokenRequest(nil, token))
		return
	}
	u, what, due := l.update()
	if !due || now.Before(l.nextSend) {
		return
	}
	l.nextSend = now.Add(l.d.o.Every)
	if u.Desired.Set || l.d.o.CloudReported {
		// Should its answer be lost, what the cloud then holds must not pass
		// for another's change and win over a later one made here.
		if err := l.d.change(func(s *state) { s.sending(u) }); err != nil {
			l.d.o.Log.Error("shadow state not stored", "err", err)
			l.fail()
			return
		}
	}
	u.ClientToken = l.token()
	l.updating = &waiting{token: u.ClientToken, what: what}
	l.publish(ctx, &l.updating, shadow.OpUpdate, u.Append(nil))
}

// update returns what has to be sent, if anything may be sent now.
func (l *link) update() (u *shadow.Update, what string, due bool) {
	s := l.d.seen.Load()
	if l.pub == nil || l.updating != nil || l.getting != nil || l.doubt || s.deleted {
		return nil, "", false
	}
	u, due = s.pending()
	if !due {
		return nil, "", false
	}
	if what = string(u.Append(nil)); what == s.parked {
		return nil, "", false
	}
	// With its version an update that is doubled or delayed on the way cannot
	// undo a later one. Reported is ours, so it may go without when others
	// write all the time; not so where the cloud's value wins.
	if s.base.exists && (l.tries < maxTries || u.Desired.Set || l.d.o.CloudReported) {
		u.Version = &s.base.version
	}
	return u, what, true
}

func (l *link) token() string {
	l.tokens++
	return l.d.seen.Load().id + "-" + l.boot + "-" + strconv.FormatUint(l.tokens, 10)
}

func (l *link) publish(ctx context.Context, w **waiting, op shadow.Op, payload []byte) {
	limited, cancel := context.WithTimeout(ctx, l.d.o.Timeout)
	defer cancel()
	err := l.pub(limited, l.d.topic(op, shadow.Request).String(), payload)
	if err != nil {
		if ctx.Err() == nil {
			l.d.o.Log.Warn("shadow request not sent", "op", string(op), "err", err)
		}
		*w = nil
		l.fail()
		return
	}
	(*w).until = time.Now().Add(l.d.o.Timeout)
}

// pause returns the time to the next thing that is due by itself.
func (l *link) pause() time.Duration {
	if l.d.seen.Load() != l.applied {
		return 0
	}
	now := time.Now()
	wait := idle
	at := func(t time.Time) { wait = min(wait, max(0, t.Sub(now))) }
	for _, w := range []*waiting{l.getting, l.updating} {
		if w != nil {
			at(w.until)
		}
	}
	if !l.settleBy.IsZero() {
		at(l.settleBy)
	}
	if l.pub != nil && l.getting == nil {
		start := l.notBefore
		if l.doubt {
			at(later(start, l.nextGet))
		} else if _, _, due := l.update(); due {
			at(later(start, l.nextSend))
		}
	}
	return wait
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// release handles the held messages in the order of their versions.
func (l *link) release() {
	held := l.held
	l.held = nil
	slices.SortStableFunc(held, func(a, b answer) int {
		switch {
		case a.Version < b.Version:
			return -1
		case a.Version > b.Version:
			return 1
		}
		return 0
	})
	for _, a := range held {
		l.take(a)
	}
}
