package gateway

import (
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
)

// What is left of a session's and a message's time at a start is counted from
// the time that is trusted: a clock that is three days ahead ends neither.
func TestLoadByTrustedTime(t *testing.T) {
	now := time.Now()
	made := now.Add(-72 * time.Hour) // by a clock that has jumped since
	for _, tc := range []struct {
		name   string
		expiry time.Time
		kept   bool
		left   time.Duration // of the session
	}{
		{"jumped", made.Add(time.Minute), true, 59 * time.Minute},
		{"really three days later", now, false, -71 * time.Hour},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := New(Config{Log: quiet()}, &policy{}, routerFunc(func(*Client, *Message, func(error)) {}))
			l := &loader{Server: s, now: now, expiry: tc.expiry}
			if kept := l.LoadRetained(&sessions.Retained{Topic: "a", Payload: []byte("x"), QoS: 1, At: made, Expires: made.Add(time.Hour)}); kept != tc.kept {
				t.Errorf("retained message kept: %v, want %v", kept, tc.kept)
			}
			l.LoadSession("s", &sessions.Record{Life: 1, Expiry: time.Hour, Away: made})
			l.LoadQueued(sessions.Life{ID: "s", Number: 1}, 1, &sessions.Queued{QoS: 1, Topic: "a", Expires: made.Add(time.Hour)})
			x := s.sessions["s"]
			if got := x.pending[0].m.expired(now); got == tc.kept {
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
