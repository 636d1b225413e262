package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/rig"
)

// TestMove moves a bridge from one data directory to the next while agents send, its
// name and ports following it. Each phase is killed at random instants and run again, and
// so is the bridge that is moved. All readings that were durable in a spool are in the
// stream once, in their order, and Kinesis' shards go on without a gap.
func TestMove(t *testing.T) {
	moves, seed := nightly.Or(2, 14), rand.Uint64() // two or three phases are killed in each
	t.Logf("seed %d, %d moves", seed, moves)
	rnd := rand.New(rand.NewPCG(seed, 0))
	f := newFleet(t, 3, countSensor, map[string]string{
		"rules/count.json": countRule, "streams/readings.json": countStream,
		"delivery-streams/archive.json": countDelivery,
	})
	m := &mover{fleet: f, rnd: rnd, key: filepath.Join(f.dir, "backup.key"), target: filepath.Join(f.dir, "target")}
	text, err := exec.CommandContext(f.ctx, f.bridge.Path, "backup", "keygen", m.key).Output()
	f.must(err)
	m.recipient = strings.TrimSpace(string(text))
	for i := range moves {
		m.arrives()
		m.move(filepath.Join(f.dir, fmt.Sprint("bridge-", i)))
	}
	m.arrives()
	durable := f.finished()
	got := f.streamReadings("readings")
	missing, twice := account(t, "stream", got, durable, true)
	t.Logf("%d moves, %d kills of phases, %d of the bridge; %d readings, %d missing, %d twice; gap of devices: %v",
		moves, m.kills, m.bridgeKills, len(got), missing, twice, m.gaps)
	f.must(f.bridge.Stop(patience))
	if _, err := f.bridge.Command(f.ctx, "check", "-data", f.bridge.Dir); err != nil {
		t.Error(err)
	}
}

// A mover moves the bridge of a fleet.
type mover struct {
	*fleet
	rnd                    *rand.Rand
	key, recipient, target string
	kills, bridgeKills     int
	gaps                   []time.Duration // from move finish until each device had an answer of the new bridge
}

// move has the bridge go on in the folder to.
func (m *mover) move(to string) {
	m.t.Helper()
	from := m.bridge.Dir
	m.phase("prepare", "-data", from, "-to", m.target, "-recipient", m.recipient)
	began := time.Now()
	m.phase("finish", "-data", from, "-to", m.target, "-recipient", m.recipient)
	ended, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	m.must(rig.Until(ended, "the end of the old bridge", func() (bool, error) { return m.bridge.Exited() }))
	m.must(m.bridge.Start()) // as a service manager does
	m.must(rig.Until(ended, "the old bridge's refusal", func() (bool, error) { return m.bridge.Exited() }))
	m.phase("take", "-from", m.target, "-identity", m.key, to)
	if _, err := m.bridge.Command(m.ctx, "move", "undo", "-data", from); err == nil {
		m.t.Fatal("a move from which another bridge goes on was undone")
	}
	m.bridge.Dir = to
	m.bridge.Args = append(m.bridge.Args[:3:3], "-data", to)
	m.must(m.bridge.Start())
	m.must(m.bridge.Ready(m.ctx))
	m.arrives()
	m.gaps = append(m.gaps, time.Since(began).Round(10*time.Millisecond))
}

// phase runs `tidemill-bridge move ARGS`, kills it at a random instant, and runs it again
// until it is done.
func (m *mover) phase(name string, args ...string) {
	m.t.Helper()
	all := append([]string{"move", name}, args...)
	ctx, cancel := context.WithTimeout(m.ctx, time.Duration(m.rnd.IntN(400))*time.Millisecond)
	_, err := m.bridge.Command(ctx, all...)
	cancel()
	if err != nil {
		m.kills++
	}
	if gone, _ := m.bridge.Exited(); name == "finish" && gone == false && m.rnd.IntN(2) == 0 {
		m.bridge.Kill() // while it drains, or before
		m.bridgeKills++
		m.must(m.bridge.Start())
		time.Sleep(time.Duration(m.rnd.IntN(200)) * time.Millisecond)
	}
	done, cancel := context.WithTimeout(m.ctx, 2*patience)
	defer cancel()
	m.must(rig.Until(done, "move "+name, func() (bool, error) {
		_, err := m.bridge.Command(done, all...)
		return err == nil || name == "take" && strings.Contains(err.Error(), "is not empty"), err
	}))
}

// arrives waits until each agent's bridge has taken more than it had.
func (m *mover) arrives() {
	m.t.Helper()
	before := map[string]uint64{}
	ctx, cancel := context.WithTimeout(m.ctx, patience)
	defer cancel()
	for _, a := range m.agents {
		m.must(rig.Until(ctx, "acknowledgements for "+a.Thing, func() (bool, error) {
			var s struct{ Spool struct{ Acked uint64 } }
			if err := a.Status(ctx, &s); err != nil {
				return false, err
			}
			if _, known := before[a.Thing]; !known {
				before[a.Thing] = s.Spool.Acked
			}
			return s.Spool.Acked > before[a.Thing], nil
		}))
	}
}
