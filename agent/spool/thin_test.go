package spool

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
)

var (
	noise = []telemetry.Channel{{Name: "n", Kind: telemetry.Int}, {Name: "v", Kind: telemetry.Float},
		{Name: "open", Kind: telemetry.Bool}}
	eventsOnly = func(sensor string) bool { return sensor == "event" }
)

const doorEvery = 997 // readings between two changes of a door

// thinAdd appends reading n, which does not compress, and now and then an event.
func thinAdd(s *Spool, r *rand.Rand, n int64) error {
	err := s.Append("count", noise, n*1000, []telemetry.Value{telemetry.IntValue(n),
		telemetry.FloatValue(r.Float64()), telemetry.BoolValue(n/doorEvery%2 == 1)})
	if err == nil && n%100 == 0 {
		err = s.Append("event", counts, n*1000, []telemetry.Value{telemetry.IntValue(n)})
	}
	return err
}

// thinContent returns the numbers of both sensors in a file or a batch.
func thinContent(t testing.TB, payload []byte, into map[string][]int64) {
	t.Helper()
	b, err := telemetry.Decode(payload)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range b.Series {
		into[s.Sensor] = append(into[s.Sensor], s.Columns[0].Ints...)
	}
}

// A spool that took 15 times what it has room for has the whole time, at a resolution
// that falls with age; each change of a bool and each event is there.
func TestThinOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s := open(t, path, Options{MaxBytes: minMaxBytes, Overflow: ThinOut, Keep: eventsOnly})
	r := rand.New(rand.NewPCG(1, 1))
	const all = 200_000
	for n := range int64(all) {
		if err := thinAdd(s, r, n); err != nil {
			t.Fatal(err)
		}
		if n%200 == 199 {
			flushed(t, s)
			if n%5000 == 4999 && s.Stats().Bytes > minMaxBytes {
				t.Fatalf("%d bytes", s.Stats().Bytes)
			}
		}
	}
	st := s.Stats()
	got := map[string][]int64{}
	for seq, p := take(t, s, 0); seq != 0; seq, p = take(t, s, seq) {
		thinContent(t, p, got)
	}
	count := got["count"]
	if !slices.IsSorted(count) || len(got["event"]) != all/100 {
		t.Fatalf("%d events of %d; %v", len(got["event"]), all/100, slices.IsSorted(count))
	}
	if st.Appended != st.Dropped+st.Readings || st.Dropped != st.Thinned ||
		st.Readings != uint64(len(count)+len(got["event"])) {
		t.Fatalf("%+v", st)
	}
	var parts [8]int // readings of each eighth of the time
	for i, n := range count {
		parts[n*8/all]++
		if i > 0 && n-count[i-1] > 2048 {
			t.Errorf("nothing from %d to %d", count[i-1], n)
		}
	}
	for n := int64(doorEvery); n < all; n += doorEvery {
		if _, ok := slices.BinarySearch(count, n); !ok {
			t.Fatalf("the change at %d is lost", n)
		}
	}
	if parts[7] < 4*parts[0] || parts[0] < 50 || count[len(count)-1] != all-1 {
		t.Errorf("readings by time: %v", parts)
	}
	t.Logf("%v of %d each, %d batches, %d bytes, levels %v", parts, all/8, st.Batches, st.Bytes, s.thin.levels)
}

// A bridge that knows batches by their numbers gets each reading once, however often
// the link and the power fail: what was sent never changes, and what is made of
// several batches has none that was sent.
func TestThinSentTwice(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	dir := t.TempDir()
	path, copies := filepath.Join(dir, "spool.db"), 0
	o := Options{MaxBytes: minMaxBytes, Overflow: ThinOut, Keep: eventsOnly}
	s := open(t, path, o)
	var n int64
	var mark uint64
	stored, sent := map[int64]bool{}, map[uint64][]byte{}
	for range 120 {
		switch r.IntN(10) {
		default: // offline
			for range r.IntN(1500) {
				if err := thinAdd(s, r, n); err != nil {
					t.Fatal(err)
				}
				if n++; n%60 == 0 {
					flushed(t, s)
				}
			}
		case 0, 1: // a connection, of which some acknowledgements get lost
			var after uint64
			for range 1 + r.IntN(100) {
				seq, p := hand(t, s, after)
				if seq == 0 {
					break
				}
				if old, ok := sent[seq]; ok && !bytes.Equal(old, p) {
					t.Fatalf("batch %d has changed since it was sent", seq)
				}
				sent[seq], after = p, seq
				if seq > mark && r.IntN(5) > 0 { // else it gets lost, and what follows
					mark = seq
					got := map[string][]int64{}
					thinContent(t, p, got)
					for _, v := range got["count"] {
						if stored[v] {
							t.Fatalf("reading %d is stored twice", v)
						}
						stored[v] = true
					}
				} else if seq > mark {
					break
				}
				if r.IntN(3) > 0 {
					s.Ack(seq)
				}
			}
		case 2: // the power fails, or the agent ends
			if r.IntN(2) == 0 {
				text, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				copies++
				path = filepath.Join(dir, fmt.Sprintf("%d.db", copies))
				if err := os.WriteFile(path, text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, path, o)
			n = max(n, 1)
		}
	}
	st := s.Stats()
	t.Logf("%d readings, %d thinned, %d dropped, %d stored", st.Appended, st.Thinned, st.Dropped, len(stored))
	if st.Thinned == 0 || st.Appended != st.Acked+st.Dropped+st.Readings {
		t.Errorf("%+v", st)
	}
}

// hand calls Next as a connection does; seq is 0 where there is no batch.
func hand(t testing.TB, s *Spool, after uint64) (uint64, []byte) {
	t.Helper()
	if seq, _ := take(t, s, after); seq == 0 {
		return 0, nil
	}
	seq, p, err := s.Next(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	return seq, p
}

// Of what a program left that does not thin, and so does not say what it sent,
// nothing is changed; the oldest goes instead.
func TestThinForeign(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	r := rand.New(rand.NewPCG(1, 1))
	var n int64
	fill := func(s *Spool, readings int) {
		t.Helper()
		for range readings {
			if err := thinAdd(s, r, n); err != nil {
				t.Fatal(err)
			}
			if n++; n%100 == 0 {
				flushed(t, s)
			}
		}
	}
	thinner := Options{MaxBytes: minMaxBytes, Overflow: ThinOut}
	s := open(t, path, thinner)
	fill(s, 100)
	for _, o := range []Options{{}, thinner} {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, path, o)
		if o.Overflow == DropOldest {
			fill(s, 4000)
		}
	}
	before, last := map[uint64][]byte{}, s.st.seq
	for seq, p := take(t, s, 0); seq != 0; seq, p = take(t, s, seq) {
		before[seq] = p
	}
	fill(s, 14000)
	there := 0
	for seq, p := take(t, s, 0); seq != 0 && seq <= last; seq, p = take(t, s, seq) {
		if there++; !bytes.Equal(p, before[seq]) {
			t.Fatalf("batch %d of before has changed", seq)
		}
	}
	if st := s.Stats(); st.Thinned == 0 || there == 0 {
		t.Errorf("%d left, %+v", there, st)
	}
}

// thinChild fills a spool until it is killed, and says what is flushed.
func thinChild(path string) {
	s, err := Open(path, Options{MaxBytes: minMaxBytes, Overflow: ThinOut, Keep: eventsOnly})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(3)
	}
	r := rand.New(rand.NewPCG(rand.Uint64(), 1))
	st := s.Stats()
	for n := int64(st.Appended); ; n++ { // some are left out: a number is never there twice
		if err = thinAdd(s, r, n); err == nil && n%100 == 0 {
			err = s.Flush()
		}
		if err != nil {
			fmt.Println("error", err)
			os.Exit(3)
		}
		if n%100 == 0 {
			fmt.Println("flushed", n)
		}
	}
}

// kill -9 in the middle of a thinning: the sums agree, nothing is there twice, and
// each event that was written is.
func TestKillThin(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 2
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "spool.db")
	events := map[int64]bool{} // that were flushed
	var from int64
	for round := range rounds {
		child := exec.Command(exe)
		child.Env, child.Stderr = append(os.Environ(), crashEnv+"=thin:"+path), os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		to := from
		for lines := bufio.NewScanner(out); lines.Scan(); {
			if _, err := fmt.Sscanf(lines.Text(), "flushed %d", &to); err != nil {
				t.Errorf("child: %s", lines.Text())
			}
			if to > from+25_000 { // once it thins
				time.AfterFunc(time.Duration(rand.Int64N(int64(50*time.Millisecond))),
					func() { _ = child.Process.Kill() })
				from = 1 << 60
			}
		}
		_ = child.Wait()
		got, last := map[string][]int64{}, uint64(0)
		st, bad, err := inspect(path, func(seq uint64, p []byte) {
			if h, err := telemetry.DecodeHeader(p); err != nil || h.Seq != seq || seq <= last {
				t.Fatalf("batch %d (%d) after %d: %v", seq, h.Seq, last, err)
			}
			last = seq
			thinContent(t, p, got)
		})
		if err != nil || bad != 0 {
			t.Fatalf("%d bad batches, %v", bad, err)
		}
		all := len(got["count"]) + len(got["event"])
		slices.Sort(got["count"])
		if uint64(all) != st.Readings || st.Appended != st.Dropped+st.Readings || st.Dropped != st.Thinned ||
			len(slices.Compact(got["count"])) != all-len(got["event"]) || st.Thinned == 0 {
			t.Fatalf("round %d: %d readings in %+v", round, all, st)
		}
		there := map[int64]bool{}
		for _, n := range got["event"] {
			there[n] = true
		}
		for n := range events {
			if !there[n] {
				t.Fatalf("round %d: event %d is lost", round, n)
			}
		}
		events, from = there, int64(st.Appended)
	}
}
