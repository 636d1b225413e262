package gateway

import "testing"

// A session that ends between its look-up and its record leaves none: with its
// subscriptions gone it would come back after a crash without them.
func TestNoRecordOfEndedSession(t *testing.T) {
	srv := &Subscribers{sessions: map[string]*session{}}
	x := srv.newSession("pump-1", "owner")
	x.durable.Store(true)
	srv.sessions[x.id] = x
	if r := (memory{srv}).Session(x.id); r == nil || r.Owner != "owner" {
		t.Fatalf("record %+v", r)
	}
	x.over = true
	if r := (memory{srv}).Session(x.id); r != nil {
		t.Errorf("record %+v of a session that ended", r)
	}
}
