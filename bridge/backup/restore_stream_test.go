package backup

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// digest is how many records a stream has, and a hash of all that readers see of it.
func digest(t *testing.T, s *pebble.Store, stream string) (records int, hash string) {
	t.Helper()
	h := sha256.New()
	shards, err := streams.Shards(s, stream)
	if err != nil {
		t.Fatal(err)
	}
	for _, sh := range shards {
		fmt.Fprintf(h, "%d %v %v %v %v %d\n", sh.Index, sh.Range, sh.Parents, sh.Created.UnixMilli(), sh.Open(), sh.End)
		for from := uint64(0); ; {
			recs, err := s.Read(stream, sh.Index, from, 1000, 0)
			if err != nil {
				t.Fatal(err)
			}
			if len(recs) == 0 {
				break
			}
			for _, r := range recs {
				fmt.Fprintf(h, "%d %d %q %x\n", r.Offset, r.Time, r.Key, r.Data)
			}
			records += len(recs)
			from = recs[len(recs)-1].Offset + 1
		}
	}
	return records, hex.EncodeToString(h.Sum(nil))
}

// withStream is a bridge with a stream that was split, in a backup; after that it went on.
func withStream(t *testing.T, each int) (b *bridge, records int, hash string) {
	t.Helper()
	b = newBridge(t)
	b.ok(os.WriteFile(filepath.Join(b.dir, "lock"), nil, 0o600))
	b.log(func(s *pebble.Store) {
		b.ok(s.Create("split", streams.Config{Shards: 2, Retention: 24 * time.Hour,
			Attributes: []byte(`{"tags":{"a":"b"}}`)}))
		for i := range 40 {
			x := s.NewBatch()
			for j := range 5 {
				k := fmt.Sprint(i, "-", j)
				x.Put("split", streams.HashOf(k), streams.Record{Key: k, Time: int64(i),
					Data: bytes.Repeat([]byte{byte(i)}, each)})
			}
			b.ok(s.Commit(t.Context(), x))
			if i == 20 {
				l, err := s.Lineage("split")
				b.ok(err)
				r := l.All()[0].Range
				mid := streams.Even(4)[0].End
				next := streams.Even(4)[1].Start
				_, err = s.Reshard("split", streams.Change{Parents: []int{0},
					Ranges: []streams.Range{{Start: r.Start, End: mid}, {Start: next, End: r.End}}})
				b.ok(err)
			}
		}
		records, hash = digest(t, s, "split")
	})
	b.backup(func(a *About) { a.Cut = a.Cut.Add(-90 * time.Minute) })
	return b, records, hash
}

// A stream comes back with all its records, under its name or another, and goes on where
// nobody has been; what is there is not touched.
func TestRestoreStream(t *testing.T) {
	b, records, hash := withStream(t, 100)
	next := map[int]uint64{}
	b.log(func(s *pebble.Store) { // the bridge goes on
		for i := range 10 {
			x := s.NewBatch()
			x.Put("split", streams.HashOf(fmt.Sprint(i)), streams.Record{Key: "k", Data: []byte("later")})
			b.ok(s.Commit(t.Context(), x))
		}
		for _, i := range []int{1, 2, 3} {
			_, n, err := s.Bounds("split", i)
			b.ok(err)
			next[i] = n
		}
	})
	o := b.options(b.dir)
	refused := func(name, as, want string) {
		t.Helper()
		_, err := RestoreStream(t.Context(), o, name, as)
		if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s as %q: %v, want %s", name, as, err, want)
		}
		if _, err := os.Stat(b.dir + Staging); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the staging folder is left: %v", err)
		}
	}
	refused("split", "", "-as")
	refused("split", "data", "-as")
	refused("none", "", "it has data, split")
	refused("$outbox/hot/0", "", "want a data stream")
	held, err := stopped(b.dir)
	b.ok(err)
	refused("split", "again", "stop it first")
	held()

	dry := o
	dry.DryRun = true
	if _, err := RestoreStream(t.Context(), dry, "split", "again"); err != nil {
		t.Error(err)
	}
	r, err := RestoreStream(t.Context(), o, "split", "again")
	b.ok(err)
	if r.Stream == nil || r.Stream.Records != uint64(records) || len(r.Notes) != 1 {
		t.Errorf("%+v", r)
	}
	b.log(func(s *pebble.Store) { b.ok(s.Delete("split")) })
	_, err = RestoreStream(t.Context(), o, "split", "")
	b.ok(err)
	b.log(func(s *pebble.Store) {
		for _, name := range []string{"split", "again"} {
			if n, h := digest(t, s, name); n != records || h != hash {
				t.Errorf("%s has %d records and hash %s, want %d and %s", name, n, h, records, hash)
			}
			info, err := s.Describe(name)
			if err != nil || !strings.Contains(string(info.Attributes), `"a":"b"`) || info.Retention != 26*time.Hour {
				t.Errorf("%+v, %v", info, err)
			}
			for i, n := range next {
				x := s.NewBatch()
				x.Append(name, i, streams.Record{Key: "k", Data: []byte("new")})
				b.ok(s.Commit(t.Context(), x))
				if at := x.Offset(0); at < n+1<<40 {
					t.Errorf("%s shard %d gives %d, which the old one may have given", name, i, at)
				}
			}
		}
		if n, _ := digest(t, s, "data"); n != 10 {
			t.Errorf("the other stream has %d records", n)
		}
	})
}

const killedStream = "TIDEMILL_RESTORE_STREAM_KILLED"

// TestRestoreStreamKilled kills the restore of a stream at 30 instants: there is nothing of it,
// or all of it, and the next run makes it whole.
func TestRestoreStreamKilled(t *testing.T) {
	if os.Getenv(killedStream) != "" {
		_, err := RestoreStream(t.Context(), killedOptions(t, killedStream), "split", os.Getenv(killedStream+"_AS"))
		if err != nil && !errors.Is(err, streams.ErrExists) {
			t.Fatal(err)
		}
		return
	}
	b, records, hash := withStream(t, 100<<10)
	run := func(as string, after time.Duration) (whole bool) {
		cmd := exec.Command(os.Args[0], "-test.run=^TestRestoreStreamKilled$")
		cmd.Env = append(os.Environ(), killedStream+"="+b.dir, killedStream+"_KEY="+b.identity.String(),
			killedStream+"_TARGET="+b.target.String(), killedStream+"_AS="+as)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		b.ok(cmd.Start())
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
		defer timer.Stop()
		err := cmd.Wait()
		if err != nil && cmd.ProcessState.Exited() {
			t.Fatalf("%v: %s", err, out.String())
		}
		return err == nil
	}
	began := time.Now()
	if !run("first", time.Minute) {
		t.Fatal("it takes a minute")
	}
	took := time.Since(began)
	const kills = 30
	killed, nothing := 0, 0
	for i := range kills {
		as := fmt.Sprint("copy-", i)
		whole := run(as, took*time.Duration(i+1)/(kills+1))
		b.log(func(s *pebble.Store) {
			if _, err := s.Describe(as); errors.Is(err, streams.ErrNotFound) && !whole {
				nothing++
				return
			}
			if n, h := digest(t, s, as); n != records || h != hash {
				t.Errorf("kill %d: %d records and hash %s", i, n, h)
			}
		})
		if !whole {
			killed++
			if !run(as, time.Minute) {
				t.Fatalf("kill %d: the next run did not end", i)
			}
		}
		if _, err := os.Stat(b.dir + Staging); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("kill %d: the staging folder is left: %v", i, err)
		}
		b.log(func(s *pebble.Store) {
			if n, h := digest(t, s, as); n != records || h != hash {
				t.Errorf("kill %d, and run again: %d records and hash %s", i, n, h)
			}
			b.ok(s.Delete(as))
		})
	}
	t.Logf("%d of %d runs were killed, %d before the stream was made; a whole one took %v", killed, kills, nothing,
		took)
}
