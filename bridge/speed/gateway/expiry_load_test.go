package gateway

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

// What is left of a session's and a message's time at a start is counted by the
// time that does not jump: a clock that is three days ahead ends neither.
func TestLoadBySteadyTime(t *testing.T) {
	now := time.Now()
	made := now.Add(-72 * time.Hour) // by a clock that has jumped since
	for _, tc := range []struct {
		name   string
		steady time.Time
		kept   bool
		left   time.Duration // of the session
	}{
		{"jumped", made.Add(time.Minute), true, 59 * time.Minute},
		{"really three days later", now, false, -71 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := newServer(Config{Log: quiet()}, &policy{}, routerFunc(func(*Client, *message.Message, func(error)) {}))
			l := &loader{Subscribers: s.Subscribers, now: now, steady: tc.steady}
			if kept := l.LoadRetained(&sessions.Retained{Topic: "a", Payload: []byte("x"), QoS: 1, At: made,
				Expires: made.Add(time.Hour)}); kept != tc.kept {
				t.Errorf("retained message kept: %v, want %v", kept, tc.kept)
			}
			l.LoadSession("s", &sessions.Record{Life: 1, Expiry: time.Hour, Away: made})
			l.LoadQueued(sessions.Life{ID: "s", Number: 1}, 1,
				&sessions.Queued{QoS: 1, Topic: "a", Expires: made.Add(time.Hour)})
			x := s.sessions["s"]
			if got := x.pending[0].m.Expired(now); got == tc.kept {
				t.Errorf("queued message expired: %v, want %v", got, !tc.kept)
			}
			s.mu.Lock()
			s.schedule(x)
			s.mu.Unlock()
			if left := x.due.Sub(now); left != tc.left {
				t.Errorf("the session has %v left, want %v", left, tc.left)
			}
		})
	}
}

// What was stored while the machine's clock was years behind is there when it is
// right and the bridge starts again: a session, what is queued in it, and a
// retained message, the latter two with an expiry.
func TestStoredUnderWrongClock(t *testing.T) {
	at := time.Now().Add(-time.Minute)
	run := func() func() time.Time { // the steady clock of a run, a second after the last one's begin
		began := time.Now()
		at = at.Add(time.Second)
		return func() time.Time { return at.Add(time.Since(began)) }
	}
	fs := vfs.NewMem()
	synctest.Test(t, func(t *testing.T) { // it is 2000 here
		f := startDurable(t, Config{Steady: run()}, fs, startPipes)
		w := f.resume(t, "w", false)
		w.subscribe("t", 1)
		f.leaves(t, w, "w")
		for _, retain := range []bool{false, true} {
			m := &message.Message{Topic: "t", Payload: []byte("x"), QoS: 1, Retain: retain,
				Expires: time.Now().Add(time.Hour)}
			b := f.store.NewBatch()
			later := f.Deliver(m, b)
			if err := f.store.CommitWait(t.Context(), b, nil); err != nil {
				t.Fatal(err)
			}
			later()
		}
		f.stop()
	})
	for range 2 { // what is stored at the first start, too
		f := startDurable(t, Config{Steady: run()}, fs, start)
		w := f.resume(t, "w", true)
		for id := range uint16(2) {
			m := pub("t", "x", 1, id+1)
			m.Dup = true
			w.want(m)
		}
		f.leaves(t, w, "w")
		if _, _, ok := f.Retained().Get("t"); !ok {
			t.Error("the retained message has expired")
		}
		f.stop()
	}
}
