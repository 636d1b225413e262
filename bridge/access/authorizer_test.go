package access

import (
	"fmt"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Things that are made do not cost other sessions a new look at their policies.
func TestSessionsFollowOnlyWhatConcernsThem(t *testing.T) {
	b := newSite(t)
	s := b.certSession("dev")
	before := s.rights()
	b.update(func(tx *registry.Tx) error { return tx.CreateThing(registry.Thing{Name: "other"}) })
	after := s.rights()
	if after.policy != before.policy || after.revision != b.registry.Revision() {
		t.Errorf("read anew: %+v, was %+v", after, before)
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(s.id, registry.Inactive) })
	if s.rights().policy != nil {
		t.Error("an inactive certificate has rights")
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(s.id, registry.Active) })
	if s.rights().policy == nil || s.Thing() != "dev" {
		t.Error("an active certificate has none")
	}
}

// A registry that cannot be read allows nothing.
func TestFailClosed(t *testing.T) {
	b := newSite(t)
	s := b.certSession("dev")
	if !s.MayPublish("dt/dev/x", false) {
		t.Fatal("may not publish")
	}
	// only the revision grows
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(s.id, registry.Active) })
	if !s.MayPublish("dt/dev/x", false) {
		t.Fatal("may not publish after nothing changed")
	}
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(s.id, registry.Inactive) })
	if err := b.registry.Close(); err != nil {
		t.Fatal(err)
	}
	if s.MayPublish("dt/dev/x", false) || s.MayReceive("cmd/dev/x") || s.MaySubscribe("cmd/dev/x") || s.mayConnect() {
		t.Error("allowed without a registry")
	}
}

// Rights are judged while they change, from several goroutines: no answer is
// older than the update that returned before it was asked for.
func TestRightsRace(t *testing.T) {
	b := newSite(t)
	s := b.certSession("dev")
	set := func(status registry.Status) {
		b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(s.id, status) })
	}
	for round := range 10 {
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
						s.MayReceive("cmd/dev/x")
					}
				}
			})
		}
		for _, status := range []registry.Status{registry.Inactive, registry.Active} {
			b.update(func(tx *registry.Tx) error {
				return tx.CreateThing(registry.Thing{Name: fmt.Sprint("t-", round, "-", status)})
			})
			set(status)
			if got := s.MayPublish("dt/dev/x", false); got != (status == registry.Active) {
				t.Errorf("round %d, %s: may publish: %v", round, status, got)
			}
		}
		close(stop)
		wg.Wait()
	}
}

// BenchmarkJudge is what the next message of a session costs after a change
// that does not concern it, and after one that does.
func BenchmarkJudge(b *testing.B) {
	br := newSite(b)
	s := br.certSession("dev")
	since := s.current.Load().revision
	br.update(func(tx *registry.Tx) error { return tx.CreateThing(registry.Thing{Name: "other"}) })
	b.Run("unrelated", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			j := *s.current.Load()
			j.revision = since
			s.current.Store(&j)
			s.rights()
		}
	})
	b.Run("concerned", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.read(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
