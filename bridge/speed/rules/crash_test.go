package rules

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
)

var (
	seedFlag  = flag.Uint64("seed", 0, "seed of the random tests; 0: a new one")
	powerCuts = flag.Int("powercuts", 20, "how many power cuts TestOutputsOnceAcrossPowerCuts makes")
)

// Whatever the ingest log holds after power cuts, the rule's output stream
// holds once and in the same order for each client.
func TestOutputsOnceAcrossPowerCuts(t *testing.T) {
	seed := *seedFlag
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (-seed)", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	rule := map[string]string{"all": toOut("SELECT n, clientid() AS c FROM 'dt/#'")}
	clients := []string{"a", "b", "c"}
	var published sync.Map // client -> last n, across cuts
	fs := vfs.NewCrashableMem()
	for range *powerCuts {
		r := newRig(t, fs)
		r.rules(rule)
		r.run()
		var wg sync.WaitGroup
		for i, c := range clients {
			from := rand.New(rand.NewPCG(rnd.Uint64(), uint64(i)))
			wg.Go(func() {
				for range 1 + from.IntN(8) {
					last, _ := published.LoadOrStore(c, 0)
					for range 1 + from.IntN(5) {
						last = last.(int) + 1
						r.in.Publish(&message.Message{Topic: "dt/x", Payload: fmt.Appendf(nil, `{"n":%d}`, last),
							ClientID: c, Protocol: "mqtt",
							Time: time.Now().UnixMilli()}, nil, func(error) {})
					}
					published.Store(c, last)
					time.Sleep(time.Duration(from.IntN(400)) * time.Microsecond)
				}
			})
		}
		time.Sleep(time.Duration(rnd.IntN(4000)) * time.Microsecond)
		cut := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rnd.IntN(101), RNG: rnd})
		wg.Wait()
		r.stop()
		fs = cut
	}
	r := newRig(t, fs)
	r.rules(rule)
	r.run()
	defer r.stop()
	logged := map[string][]string{}
	total := 0
	for shard := range 2 {
		recs, err := r.store.Read(ingest.Stream, shard, 0, 1_000_000, 1<<30)
		if err != nil {
			t.Fatal(err)
		}
		total += len(recs)
		for _, rec := range recs {
			m, err := message.Decode(rec.Data)
			if err != nil {
				t.Fatal(err)
			}
			logged[m.ClientID] = append(logged[m.ClientID], string(m.Payload[:len(m.Payload)-1])+`,"c":"`+m.ClientID+
				`"}`)
		}
	}
	out := r.records("out", total)
	for _, c := range clients {
		got := slices.DeleteFunc(slices.Clone(out), func(s string) bool { return s[len(s)-3:len(s)-2] != c })
		if !slices.Equal(got, logged[c]) {
			t.Errorf("client %s:\n%d outputs %v\n%d logged  %v", c, len(got), got, len(logged[c]), logged[c])
		}
	}
	t.Logf("%d messages in the log, %d outputs", total, len(out))
	if total == 0 {
		t.Error("nothing was logged; the test shows nothing")
	}
}
