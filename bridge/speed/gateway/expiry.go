package gateway

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// What happens to sessions whose clients are away: their wills with a delay go
// out, and they end. Run sees to both.

// A delayedWill is a will that waits for its delay or the end of its session.
type delayedWill struct {
	c  *Client
	m  *message.Message
	at time.Time
}

// publish hands the will, if there is one, to the router.
func (w *delayedWill) publish() {
	if w != nil {
		w.c.route(w.m)
	}
}

// takeWill takes the will that is delayed, if any. Subscribers.mu is held.
func (s *session) takeWill() *delayedWill {
	w := s.will
	s.will = nil
	return w
}

// delay keeps the will of c until its delay is over. It returns false if it is
// to go out now.
func (srv *Subscribers) delay(s *session, c *Client, will *message.Message) bool {
	if c.v5.willDelay == 0 || c.v5.expiry == 0 {
		return false
	}
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.stopped {
		return false
	}
	s.will = &delayedWill{c, will, time.Now().Add(min(c.v5.willDelay, c.v5.expiry))}
	return true
}

// left notes that the client of s is away, or ends s; then it returns when that
// is durable, so that who connects next is not told that there is no session of
// which there is one again after a crash.
func (srv *Subscribers) left(s *session, expiry time.Duration) {
	if expiry == 0 {
		srv.mu.Lock()
		srv.remove(s)
		srv.mu.Unlock()
		<-srv.discard(s)
		return
	}
	srv.mu.Lock()
	s.away, s.expiry = time.Now(), expiry
	srv.schedule(s)
	srv.mu.Unlock()
	if s.durable.Load() {
		srv.store.Session(srv.store, s.id)
	}
}

// enter makes s the session of its client id, counted among its owner's if it
// outlives its connection. Subscribers.mu is held.
func (srv *Subscribers) enter(s *session) {
	srv.sessions[s.id] = s
	srv.own(s, s.owner, s.expiry > 0)
}

// remove takes s away from its client id. Subscribers.mu is held.
func (srv *Subscribers) remove(s *session) {
	if srv.sessions[s.id] == s {
		delete(srv.sessions, s.id)
		srv.own(s, s.owner, false)
	}
}

// discard ends a session that was removed. done is closed when that is durable,
// or the store has failed.
func (srv *Subscribers) discard(s *session) (done chan struct{}) {
	done = make(chan struct{})
	b := srv.batch()
	then := s.discard(b)
	if b == nil || b.Bytes() == 0 {
		then()
		close(done)
		return done
	}
	srv.store.Commit(b, func(err error) {
		if err == nil { // else the bridge ends
			then()
		}
		close(done)
	})
	return done
}

// expired says whether the client of s has been away for too long. Subscribers.mu is
// held.
func (s *session) expired(now time.Time) bool {
	return !s.away.IsZero() && !s.away.Add(s.expiry).After(now)
}

// schedule sets when a session whose client is away has to be looked at.
// Subscribers.mu is held.
func (srv *Subscribers) schedule(s *session) {
	s.due = s.away.Add(s.expiry)
	if s.will != nil && s.will.at.Before(s.due) {
		s.due = s.will.at
	}
	if s.place == 0 {
		heap.Push(&srv.due, s)
	} else {
		heap.Fix(&srv.due, s.place-1)
	}
}

// unschedule is for a session whose client is back, or that has ended. Server.mu
// is held.
func (srv *Subscribers) unschedule(s *session) {
	if s.place > 0 {
		heap.Remove(&srv.due, s.place-1)
	}
	s.away = time.Time{}
}

// dues are sessions in a heap by their due times.
type dues []*session

func (d dues) Len() int           { return len(d) }
func (d dues) Less(i, j int) bool { return d[i].due.Before(d[j].due) }
func (d dues) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].place, d[j].place = i+1, j+1
}

// Push implements heap.Interface.
func (d *dues) Push(x any) {
	s := x.(*session)
	*d = append(*d, s)
	s.place = len(*d)
}

// Pop implements heap.Interface.
func (d *dues) Pop() any {
	last := len(*d) - 1
	s := (*d)[last]
	(*d)[last] = nil
	*d = (*d)[:last]
	s.place = 0
	return s
}

// Run ends the sessions of clients that stay away too long and publishes wills
// whose delay is over, until ctx ends; wills that are still delayed go out then,
// since nobody would wait for them.
func (s *Subscribers) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { s.refusals.Run(ctx) })
	if s.store != nil {
		wg.Go(func() { s.store.Run(ctx) })
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case now := <-tick.C:
			s.sweep(now)
		case <-ctx.Done():
			s.publishWills()
			return nil
		}
	}
}

// sweep does what is due.
func (s *Subscribers) sweep(now time.Time) {
	var wills []*delayedWill
	var over []*session
	s.mu.Lock()
	for len(s.due) > 0 && !s.due[0].due.After(now) {
		x := s.due[0]
		expired := x.expired(now)
		if x.will != nil && (expired || !x.will.at.After(now)) {
			wills = append(wills, x.takeWill())
		}
		if !expired {
			s.schedule(x)
			continue
		}
		s.unschedule(x)
		s.remove(x)
		over = append(over, x)
	}
	s.mu.Unlock()
	if now.Sub(s.swept) >= time.Minute {
		s.swept = now
		for _, t := range s.retained.sweep(now) {
			if s.store != nil {
				s.store.Retained(s.store, t, 0)
			}
		}
	}
	for _, w := range wills {
		w.publish()
	}
	for _, x := range over {
		s.count.expiredSessions.Add(1)
		s.discard(x)
	}
}

func (s *Subscribers) publishWills() {
	var wills []*delayedWill
	s.mu.Lock()
	s.stopped = true
	for _, x := range s.sessions {
		if w := x.takeWill(); w != nil {
			wills = append(wills, w)
		}
	}
	s.mu.Unlock()
	for _, w := range wills {
		w.publish()
	}
}
