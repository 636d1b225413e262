package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/bridge/speed/hold"
)

// Our choices for what status calls trouble.
const (
	certificateSoon = 21 * 24 * time.Hour // the default of cert expiry
	roomLow         = 10                  // percent of the disk
)

// status is what there is to say of the bridge at one look.
func (s *Server) status() admin.Status {
	info := s.info()
	st := admin.Status{Info: info, Started: s.started,
		Uptime:    backup.Duration(time.Since(s.started).Round(time.Second)),
		Directory: s.dir.ID(), Backup: s.backups.Status()}
	room := s.disk.Status()
	st.Free, st.Room = room.Free, room.Size
	for _, i := range s.store.List() {
		if size, err := s.store.Size(i.Name); err == nil {
			st.Log.Bytes += size.Bytes
		}
	}
	c := s.store.Counters()
	st.Log.Records, st.Log.Written = c.Records, int64(c.Bytes)
	if up := time.Since(s.started).Seconds(); up > 0 {
		st.Log.RecordsPerSecond, st.Log.BytesPerSecond = float64(c.Records)/up, float64(c.Bytes)/up
	}
	st.Trouble = s.trouble(&st)
	return st
}

// trouble is what is held or wrong now, and what will be soon. It also sets what st says
// of certificates.
func (s *Server) trouble(st *admin.Status) (all []string) {
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	if err := s.ready(); err != nil && s.logRuns.Load() {
		say("%v", err)
	}
	if c := s.clock.Status(); c.Held {
		say("the clock is not trusted, it is %s ahead: nothing is deleted for its age; clock show",
			c.Ahead.Round(time.Second))
	}
	if st.Room > 0 && st.Free*100 < st.Room*roomLow {
		say("the disk of the data directory has %d MiB left, %d %%", st.Free>>20, st.Free*100/st.Room)
	}
	if held, err := hold.List(s.store); err != nil {
		say("what a restore holds cannot be read: %v", err)
	} else if len(held) > 0 {
		say("%d outboxes, delivery streams and the like are held after a restore: restore held", len(held))
	}
	for _, part := range s.disk.Status().Full {
		say("80 %% are used of %s; tidemill-bridge disk", part)
	}
	if b := st.Backup; b.Problem != "" {
		say("the last backup failed: %s", b.Problem)
	} else if b.Every > 0 && b.Last != nil && time.Since(b.Last.Time) > 2*time.Duration(b.Every) {
		say("the last good backup is %s old, one is due every %s", time.Since(b.Last.Time).Round(time.Second),
			time.Duration(b.Every))
	}
	if _, problem := s.revocations.Status(); problem != "" {
		say("what was revoked is not beside the backups, and a restore would not know of it: %s", firstLine(problem))
	}
	if n := s.declared.NumRefused(); n > 0 {
		say("%d files of bridge.d are wrong: the log says which", n)
	}
	for _, o := range s.drainer.List() {
		if o.Unknown || !o.Down.IsZero() {
			say("outbox %s %s: %d records wait: %s", o.Rule, o.Slot, o.Records, firstLine(o.LastError))
		}
	}
	for _, c := range s.connectors.List() {
		if c.Trouble != "" {
			say("connector %s: %s", c.Name, firstLine(c.Trouble))
		}
	}
	st.Certificate, all = s.soonest(all)
	return all
}

// soonest is the certificate of the bridge's own that ends first.
func (s *Server) soonest(trouble []string) (*admin.StatusCertificate, []string) {
	own := s.pki.Expiries()
	if len(own) == 0 {
		return nil, trouble
	}
	first := slices.MinFunc(own, func(a, b pki.Expiry) int { return a.NotAfter.Compare(b.NotAfter) })
	left := time.Until(first.NotAfter)
	if left < certificateSoon {
		trouble = append(trouble, fmt.Sprintf("the certificate %s ends in %d days", first.Of, int(left.Hours()/24)))
	}
	return &admin.StatusCertificate{Of: first.Of, NotAfter: first.NotAfter, Days: int(left.Hours() / 24)}, trouble
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(s, "\n")
	return line
}
