package spool

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
)

// With crashEnv set, the test binary is a child that uses the spool of that
// path until it is killed.
const crashEnv = "SPOOL_TEST_CRASH_CHILD"

// crashChild appends readings that count up from the file's Appended, and says
// on its output what is flushed ("flushed N": all below N) and which batches it
// is about to acknowledge ("ack SEQ").
func crashChild(path string) {
	if thin, ok := strings.CutPrefix(path, "thin:"); ok {
		thinChild(thin)
	}
	fail := func(err error) {
		fmt.Println("error", err)
		os.Exit(3)
	}
	s, err := Open(path, Options{FlushEvery: 3 * time.Millisecond, MaxBytes: 1 << 20})
	if err != nil {
		fail(err)
	}
	go func() {
		if err := s.Run(context.Background()); err != nil {
			fail(err)
		}
	}()
	go func() { // three batches in flight, acknowledged in any order
		var after uint64
		var flight []uint64
		for {
			seq, _, err := s.Next(context.Background(), after)
			if err != nil {
				fail(err)
			}
			after = seq
			if flight = append(flight, seq); len(flight) > 3 {
				i := rand.IntN(len(flight))
				fmt.Println("ack", flight[i])
				s.Ack(flight[i])
				flight = append(flight[:i], flight[i+1:]...)
			}
		}
	}()
	fmt.Println("open", s.Stats().Appended)
	pad := []telemetry.Channel{counts[0], {Name: "pad", Kind: telemetry.Text}}
	text := telemetry.TextValue(string(bytes.Repeat([]byte("xyz"), rand.IntN(300))))
	for n := s.Stats().Appended; ; n++ {
		if err := s.Append("count", pad, int64(n), []telemetry.Value{telemetry.IntValue(int64(n)), text}); err != nil {
			fail(err)
		}
		if rand.IntN(20) == 0 {
			if err := s.Flush(); err != nil {
				fail(err)
			}
			fmt.Println("flushed", n+1)
		}
		if rand.IntN(50) == 0 {
			time.Sleep(time.Millisecond)
		}
	}
}

// What the child said was flushed survives kill -9, except what it was about to
// acknowledge; nothing is there twice; the sums agree.
func TestKill(t *testing.T) {
	rounds := 10
	if v, err := strconv.Atoi(os.Getenv("SPOOL_TEST_KILLS")); err == nil {
		rounds = v
	}
	if testing.Short() {
		rounds = 3
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "spool.db")
	acked := make(map[uint64]bool)
	sent := make(map[uint64][]int64) // what each batch held when first seen
	for round := range rounds {
		child := exec.Command(exe)
		child.Env = append(os.Environ(), crashEnv+"="+path)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		var durable uint64
		lines := bufio.NewScanner(out)
		for killed := false; lines.Scan(); {
			var word string
			var n uint64
			if _, err := fmt.Sscan(lines.Text(), &word, &n); err != nil || word == "error" {
				t.Errorf("child: %s", lines.Text())
				break
			}
			switch word {
			case "open", "flushed":
				durable = n
			case "ack":
				acked[n] = true
			}
			if !killed { // once it is at work
				killed = true
				time.AfterFunc(time.Duration(r.Int64N(int64(120*time.Millisecond))), func() {
					_ = child.Process.Kill()
				})
			}
		}
		_ = child.Process.Kill()
		_ = child.Wait()

		there := make(map[int64]bool)
		var last uint64
		st, bad, err := inspect(path, func(seq uint64, p []byte) {
			h, ns := numbers(t, p)
			if seq <= last || h.Seq != seq {
				t.Fatalf("batch %d (%d) after %d", seq, h.Seq, last)
			}
			last = seq
			if old, ok := sent[seq]; ok && fmt.Sprint(old) != fmt.Sprint(ns) {
				t.Fatalf("batch %d held %v and now %v", seq, old, ns)
			}
			sent[seq] = ns
			for _, n := range ns {
				if there[n] {
					t.Fatalf("reading %d twice", n)
				}
				there[n] = true
			}
		})
		if err != nil || bad != 0 {
			t.Fatalf("round %d: %d bad batches, %v", round, bad, err)
		}
		if st.Appended < durable {
			t.Fatalf("round %d: %d readings, child had flushed %d", round, st.Appended, durable)
		}
		if uint64(len(there)) != st.Readings || st.Appended != st.Acked+st.Dropped+st.Readings {
			t.Fatalf("round %d: %d readings in %+v", round, len(there), st)
		}
		// Batches that were never seen were written and acknowledged in one
		// round; those seen before and gone must have been acknowledged.
		for seq, ns := range sent {
			for _, n := range ns {
				if !there[n] && !acked[seq] && st.Dropped == 0 {
					t.Fatalf("round %d: reading %d of batch %d is lost", round, n, seq)
				}
			}
		}
		if missing := st.Appended - st.Readings; missing > 0 && len(acked) == 0 && st.Dropped == 0 {
			t.Fatalf("round %d: %d readings lost and nothing acknowledged", round, missing)
		}
		t.Logf("round %d: flushed %d, found %d in %d batches, acked %d, dropped %d", round, durable, st.Readings,
			st.Batches, st.Acked, st.Dropped)
	}
}
