package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/rig"
)

// TestRestore loses a bridge's machine while agents send, some time after a backup, and
// restores it under its name. Agents go on without a change. What they had in their spools
// arrives once, in order; what was acknowledged after the backup, and nothing else, is lost.
func TestRestore(t *testing.T) {
	f := newFleet(t, 3, countSensor, map[string]string{
		"rules/count.json": countRule, "streams/readings.json": countStream,
		"delivery-streams/archive.json": countDelivery,
	})
	key, target := filepath.Join(f.dir, "backup.key"), filepath.Join(f.dir, "target")
	revoked := filepath.Join(f.dir, "revocations.json")
	text, err := exec.CommandContext(f.ctx, f.bridge.Path, "backup", "keygen", key).Output()
	f.must(err)
	m := &mover{fleet: f}
	m.arrives()
	run := func(args ...string) string {
		t.Helper()
		out, err := f.bridge.Command(f.ctx, args...)
		f.must(err)
		return string(out)
	}
	run("backup", "-to", target, "-recipient", strings.TrimSpace(string(text)))
	m.arrives()
	run("revocations", "export", revoked)
	m.arrives()
	f.bridge.Kill()
	acked := f.acked() // all that there will be: nobody answers
	f.must(os.RemoveAll(f.bridge.Dir))

	began := time.Now()
	run("restore", "-from", target, "-identity", key, "-revocations", revoked)
	f.must(f.bridge.Start())
	f.must(f.bridge.Ready(f.ctx))
	m.arrives()
	took := time.Since(began)
	if held := run("restore", "held"); !strings.Contains(held, "firehose/archive") {
		t.Errorf("held is %q", held)
	}
	durable := f.finished()
	got := f.streamReadings("readings")
	lost := recovered(t, got, acked, durable)
	t.Logf("%d readings, %d of them lost that were acknowledged after the backup; back after %v", len(got), lost,
		took.Round(10*time.Millisecond))
	f.must(f.bridge.Stop(patience))
	if _, err := f.bridge.Command(f.ctx, "check", "-data", f.bridge.Dir); err != nil {
		t.Error(err)
	}
}

// acked is how many readings of each agent were acknowledged.
func (f *fleet) acked() map[string]uint64 {
	f.t.Helper()
	all := map[string]uint64{}
	ctx, cancel := context.WithTimeout(f.ctx, patience)
	defer cancel()
	for _, a := range f.agents {
		f.must(rig.Until(ctx, "the end of the link of "+a.Thing, func() (bool, error) {
			var s struct {
				Link  struct{ State string }
				Spool struct{ Acked uint64 }
			}
			if err := a.Status(ctx, &s); err != nil {
				return false, err
			}
			all[a.Thing] = s.Spool.Acked
			return s.Link.State != "online", nil
		}))
	}
	return all
}

// recovered says how many readings of a restored stream are missing. Each thing's are one
// run of numbers, of one life of its agent, without those behind the backup that its agent
// had an acknowledgement for; all others are there once, in order.
func recovered(t *testing.T, got []reading, acked, durable map[string]uint64) (lost uint64) {
	t.Helper()
	last, gaps := map[string]int64{}, map[string]int{}
	for _, r := range got {
		switch want := last[r.Thing] + 1; {
		case r.N == want:
		case r.N > want && gaps[r.Thing] == 0 && uint64(r.N) == acked[r.Thing]+1:
			gaps[r.Thing]++
			lost += uint64(r.N - want)
		default:
			t.Errorf("%+v comes after %d; %d were acknowledged", r, last[r.Thing], acked[r.Thing])
		}
		last[r.Thing] = r.N
	}
	for thing, n := range durable {
		if gaps[thing] != 1 || uint64(last[thing]) != n {
			t.Errorf("%s: %d gaps, want 1; the last reading is %d, want %d", thing, gaps[thing], last[thing], n)
		}
	}
	return lost
}
