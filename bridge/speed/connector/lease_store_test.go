package connector

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// All lease stores do the same.
func testLeases(t *testing.T, leases Leases) {
	ctx := t.Context()
	want := Lease{
		Shard: "shardId-000000000002", Parents: []string{"shardId-000000000000", "shardId-000000000001"},
		Range:      streams.Even(3)[1],
		Start:      Position{Sequence: AtTimestamp, Time: time.UnixMilli(1234567).UTC()},
		Checkpoint: Position{Sequence: TrimHorizon},
	}
	check := func() {
		t.Helper()
		all, err := leases.List(ctx)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d leases, %v, want 1", len(all), err)
		}
		slices.Sort(all[0].Parents)
		if d := cmp.Diff(want, all[0]); d != "" {
			t.Errorf("the lease (-want +got):\n%s", d)
		}
	}
	if all, err := leases.List(ctx); err != nil || len(all) != 0 {
		t.Fatalf("at first: %v, %v", all, err)
	}
	for range 2 {
		if err := leases.Create(ctx, want); err != nil {
			t.Fatal(err)
		}
	}
	check()
	l := want
	l.Owner = "me"
	if err := leases.Update(ctx, &l); err != nil || l.Counter != want.Counter+1 {
		t.Fatalf("counter %d, %v", l.Counter, err)
	}
	want = l
	check()
	l.Checkpoint, l.Switches = Position{Sequence: "49600000000000000000000000000000000000000000000000000002", Sub: 7}, 3
	l.Pending = &Span{l.Checkpoint, Position{Sequence: "49600000000000000000000000000000000000000000000000000003"}}
	if err := leases.Update(ctx, &l); err != nil {
		t.Fatal(err)
	}
	want = l
	check()
	stale := want
	stale.Counter--
	stale.Owner = "other"
	if err := leases.Update(ctx, &stale); !errors.Is(err, errLost) {
		t.Errorf("update of an old counter: %v", err)
	}
	if err := leases.Delete(ctx, stale); !errors.Is(err, errLost) {
		t.Errorf("delete of an old counter: %v", err)
	}
	check()
	// Of many who want it one gets it.
	var mu sync.Mutex
	got, before := 0, want
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			l := before
			l.Owner = fmt.Sprint("racer ", i)
			err := leases.Update(ctx, &l)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				got++
				want = l
			case !errors.Is(err, errLost):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if got != 1 {
		t.Errorf("%d workers took the same lease", got)
	}
	check()
	if err := leases.Delete(ctx, want); err != nil {
		t.Fatal(err)
	}
	if err := leases.Delete(ctx, want); err != nil {
		t.Errorf("delete of none: %v", err)
	}
	gone := want
	if err := leases.Update(ctx, &gone); !errors.Is(err, errLost) {
		t.Errorf("update of none: %v", err)
	}
	if all, err := leases.List(ctx); err != nil || len(all) != 0 {
		t.Errorf("at the end: %v, %v", all, err)
	}
}

func TestMemoryLeases(t *testing.T) { testLeases(t, inMemory()) }

func TestFileLeases(t *testing.T) {
	path := filepath.Join(t.TempDir(), "leases")
	f, err := inFile(path, "here")
	if err != nil {
		t.Fatal(err)
	}
	testLeases(t, f)
	l := Lease{Shard: "s", Owner: "me", Checkpoint: Position{Sequence: "7"}}
	if err := f.Create(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := inFile(path, "elsewhere"); err == nil || !strings.Contains(err.Error(), "not of elsewhere") {
		t.Errorf("another source: %v", err)
	}
	if f, err = inFile(path, "here"); err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if all, _ := f.List(t.Context()); len(all) != 1 || all[0].Checkpoint.Sequence != "7" || all[0].Owner != "" {
		t.Errorf("opened again: %+v", all)
	}
}

func TestLogLeases(t *testing.T) {
	store, ctx := pebbletest.Start(t), t.Context()
	leases, err := InLog(store, "connector/c/1/")
	if err != nil {
		t.Fatal(err)
	}
	testLeases(t, leases)
	// A stream that is not there takes the lease down with it: neither is written.
	l := Lease{Shard: "s", Checkpoint: Position{Sequence: TrimHorizon}}
	if err := leases.Create(ctx, l); err != nil {
		t.Fatal(err)
	}
	b := store.NewBatch()
	b.Append("none", 0, streams.Record{Data: []byte("x")})
	l.Checkpoint.Sequence = "9"
	if err := leases.updateWith(ctx, &l, b); !errors.Is(err, streams.ErrNotFound) {
		t.Errorf("commit to no stream: %v", err)
	}
	again, err := InLog(store, "connector/c/1/")
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []Leases{leases, again} {
		if all, _ := x.List(ctx); len(all) != 1 || all[0].Checkpoint.Sequence != TrimHorizon {
			t.Errorf("after it: %+v", all)
		}
	}
}

// dynalite runs npm's server of the DynamoDB API and returns its URL. What
// cannot be had skips the test, or fails it in CI (CI=true).
func dynalite(t *testing.T) string {
	t.Helper()
	missing := t.Skipf
	if os.Getenv("CI") == "true" {
		missing = t.Fatalf
	}
	if _, err := exec.LookPath("npm"); err != nil {
		missing("npm is missing: install Debian's package npm")
	}
	dir := filepath.Join(os.TempDir(), "tidemill-dynalite-4.0.0")
	cli := filepath.Join(dir, "node_modules/dynalite/cli.js")
	var out []byte
	for try := range 3 {
		if _, err := os.Stat(cli); err == nil {
			break
		}
		time.Sleep(time.Duration(try) * 5 * time.Second)
		_ = os.MkdirAll(dir, 0o700)
		out, _ = exec.Command("flock", dir+".lock", "npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix",
			dir, "dynalite@4.0.0").CombinedOutput()
	}
	if _, err := os.Stat(cli); err != nil {
		missing("dynalite could not be installed:\n%s", out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.Command("node", cli, "--host", "127.0.0.1", "--port", fmt.Sprint(port), "--createTableMs", "50",
		"--updateTableMs", "50", "--deleteTableMs", "50")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url := fmt.Sprintf("http://127.0.0.1:%d", port)
	for end := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if resp, err := http.Get(url); err == nil {
			resp.Body.Close()
			http.DefaultClient.CloseIdleConnections()
			return url
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// Leases in a real server of the DynamoDB API, and two connectors that share
// shards through it while one of them is split.
func TestDynamoDBLeases(t *testing.T) {
	url := dynalite(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	open := func(table string) Leases {
		t.Helper()
		l, err := inDynamoDB(t.Context(), awsapi.Place{Region: "eu-local-1", EndpointURL: url}, table)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	testLeases(t, open("all-do-the-same"))

	b := newBench(4)
	c := b.config()
	c.Failover, c.SyncEvery, c.Age, c.Records = 2*time.Second, time.Second, 200*time.Millisecond, 5
	c.Leases = open("shared")
	_, stop1 := run(c)
	c.Leases = open("shared")
	_, stop2 := run(c)
	const records = 200
	for i := range records {
		b.stream.put(fmt.Sprint("k", i), fmt.Append(nil, i))
		if i == records/2 {
			b.stream.split(0)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for end := time.Now().Add(time.Minute); len(b.out.data()) < records && time.Now().Before(end); {
		time.Sleep(20 * time.Millisecond)
	}
	stop1()
	stop2()
	all := b.out.data()
	slices.Sort(all)
	if n := len(slices.Compact(all)); n != records {
		t.Errorf("%d records were emitted, want %d", n, records)
	}
	if b.out.bad != "" {
		t.Error(b.out.bad)
	}
}

// inMemory returns leases that nothing survives, for tests.
func inMemory() *Local {
	return &Local{
		save: func(context.Context, *Lease, *streams.Batch) error { return nil },
		drop: func(context.Context, string) error { return nil },
		all:  map[string]*entry{},
	}
}
