package trial

import (
	"flag"
	"testing"
	"time"

	"github.com/tidemill/tidemill/deploy/nightly"
)

var seedFlag = flag.Uint64("seed", 0, "seed of the first history; 0: a new one")

// Agents and a bridge for an hour, with faults: nothing is lost but what was in memory at
// a power cut, nothing comes twice, and each thing's order holds.
func TestHour(t *testing.T) {
	p := plan{devices: 20, length: time.Hour, every: 6 * time.Minute, bridge: 6 * time.Minute}
	if testing.Short() {
		p.devices, p.length = 5, 20*time.Minute
	}
	if nightly.Is() {
		p.devices, p.length = 200, 6*time.Hour
	}
	seed := firstSeed(t)
	began := time.Now()
	out, err := run(t, seed, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d devices for %v, in %v: %v", p.devices, p.length, time.Since(began).Round(time.Millisecond), &out)
}

func firstSeed(t *testing.T) uint64 {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) >> 10
	}
	t.Logf("seed %d (-seed)", seed)
	return seed
}

// small is a world with much trouble.
var small = plan{devices: 5, length: 30 * time.Minute, every: 2 * time.Minute, bridge: 3 * time.Minute}

// Many small worlds hold too, and the same seed comes to the same stream.
func TestSeeds(t *testing.T) {
	first := firstSeed(t)
	for seed := first; seed < first+uint64(nightly.Or(2, 100)); seed++ {
		out, err := run(t, seed, small)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if seed < first+uint64(nightly.Or(1, 20)) {
			again, err := run(t, seed, small)
			if err != nil || again.digest != out.digest {
				t.Fatalf("seed %d: %v, and another time %v, %v", seed, &out, &again, err)
			}
			t.Logf("seed %d, twice: %v", seed, &out)
		}
	}
}

// seeds is how many histories may be made until a planted bug is found.
const seeds = 10

// The test finds what it is there to find: faults of the programs, planted in what they
// are given, are each found within a few histories; and the histories in which they are
// found are clean without them.
func TestPlantedBugs(t *testing.T) {
	for _, c := range []struct {
		name string
		bugs bugs
	}{
		{"skipped fsync", bugs{skipSync: true}},
		{"early ack", bugs{earlyAck: true}},
		{"dropped delta", bugs{dropDelta: true}},
		{"reordered batch", bugs{reorder: true}},
		{"lost mark", bugs{loseMark: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := small
			p.bugs = c.bugs
			for seed := uint64(1); seed <= seeds; seed++ {
				_, err := run(t, seed, p)
				if err == nil {
					continue
				}
				t.Logf("found with seed %d of %d: %v", seed, seeds, err)
				if _, err := run(t, seed, small); err != nil {
					t.Errorf("seed %d without the bug: %v", seed, err)
				}
				return
			}
			t.Errorf("not found in %d histories", seeds)
		})
	}
}
