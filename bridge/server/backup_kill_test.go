package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	agekey "filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/shadow"
)

const (
	backupKillDir = "TIDEMILL_BACKUP_KILL" // folder of the child that is to be killed
	backupKillKey = "TIDEMILL_BACKUP_TO"   // its recipient
	backupWriters = 3
)

// backupKillConfig is the configuration of a bridge below dir that is backed up there.
func backupKillConfig(t testing.TB, dir, recipient string) *config.Config {
	t.Helper()
	cfg, err := configureAt(filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Backup.Target, cfg.Backup.Recipients = filepath.Join(dir, "to"), []string{recipient}
	return cfg
}

// backUpUntilKilled is the child: a bridge to which devices send, which is backed up again
// and again. Each writer sends message n, then sets an attribute of its thing to n in the
// registry, then stores a shadow of version n; each waits for the one before. So at
// any instant the three differ by 1 at most, in this order. What is acknowledged and which
// backup begins is printed.
func backUpUntilKilled(t *testing.T, dir string) {
	b := start(t, backupKillConfig(t, dir, os.Getenv(backupKillKey)))
	var said sync.Mutex // held over a line
	say := func(format string, args ...any) {
		said.Lock()
		defer said.Unlock()
		fmt.Printf("# "+format+"\n", args...)
	}
	run := os.Getpid()
	for i := range backupWriters {
		name := fmt.Sprintf("w-%d-%d", run, i)
		d := b.connect(b.thing(name, all("", "")), name)
		go func() {
			for n := 1; ; n++ {
				tok := d.Publish("load/"+name, 1, false, fmt.Sprintf("%s %d;%1000d", name, n, n))
				tok.Wait()
				err := tok.Error()
				if err == nil {
					say("acked %s %d", name, n)
					err = b.registry.Update(func(tx *registry.Tx) error {
						return setCount(tx, name, n)
					})
				}
				if err == nil {
					err = b.shadows.Put(name, "", &shadow.Document{Version: uint64(n)})
				}
				if err != nil {
					panic(err)
				}
			}
		}()
	}
	for {
		say("begins")
		if _, err := b.backups.Take(context.Background(), backup.Request{}, nil); err != nil {
			panic(err)
		}
	}
}

// A killedRun is what a child said: what was acknowledged before each of its backups began.
type killedRun struct {
	backups []map[string]int // by writer
	acked   map[string]int
}

// Whatever instant of a backup the bridge is killed at, it starts again; each backup that
// is listed is a sound data directory of one instant, with all that was acknowledged
// before it began; and what was acknowledged before the kill is in the bridge.
func TestBackupKill(t *testing.T) {
	if dir := os.Getenv(backupKillDir); dir != "" {
		backUpUntilKilled(t, dir)
	}
	key, err := agekey.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "backup") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 1))
	target, err := vault.Open(t.Context(), filepath.Join(dir, "to"), vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen, kills, whole, messages := map[string]bool{}, nightly.Or(4, 30), 0, 0
	acked := map[string]int{}
	for range kills {
		after := time.Duration(rnd.IntN(1500)) * time.Millisecond
		run := killBackingUp(t, dir, key.Recipient().String(), after)
		for w, n := range run.acked {
			acked[w] = n
			messages += n
		}
		all, err := vault.List(t.Context(), target)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for _, info := range all {
			if seen[info.ID] {
				continue
			}
			seen[info.ID] = true
			if i >= len(run.backups) {
				t.Fatalf("%d backups began, and more are listed", len(run.backups))
			}
			checkKilledBackup(t, dir, info.ID, key, run.backups[i])
			i, whole = i+1, whole+1
		}
	}
	b := idle(t, backupKillConfig(t, dir, key.Recipient().String()))
	has := b.sent(t)
	for w, n := range acked {
		if len(has[w]) < n {
			t.Errorf("%s: %d of %d acknowledged messages are in the bridge", w, len(has[w]), n)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "backup", "cut")); err == nil {
		t.Error("what a kill left of a cut is there after the start")
	}
	t.Logf("%d kills, %d whole backups, %d messages acknowledged", kills, whole, messages)
}

// setCount notes n as an attribute of a thing.
func setCount(tx *registry.Tx, name string, n int) error {
	return tx.UpdateThing(name, 0, func(th *registry.Thing) error {
		th.Attributes = map[string]string{"n": fmt.Sprint(n)}
		return nil
	})
}

// sentMessage is a writer and its number in the payload of a message.
var sentMessage = regexp.MustCompile(`(w-\d+-\d+) (\d+);`)

// sent returns the numbers of the messages in the ingest log, by writer.
func (b *bridge) sent(t testing.TB) map[string]map[int]bool {
	t.Helper()
	has := map[string]map[int]bool{}
	info, err := b.store.Describe(ingest.Stream)
	if err != nil {
		t.Fatal(err)
	}
	for shard := range info.Shards {
		first, next, err := b.store.Bounds(ingest.Stream, shard)
		for at := first; err == nil && at < next; {
			all, e := b.store.Read(ingest.Stream, shard, at, 1000, 1<<20)
			if e != nil || len(all) == 0 {
				t.Fatalf("shard %d at %d of %d: %v", shard, at, next, e)
			}
			for _, r := range all {
				at = r.Offset + 1
				if m := sentMessage.FindSubmatch(r.Data); m != nil {
					w := string(m[1])
					if has[w] == nil {
						has[w] = map[int]bool{}
					}
					n, _ := strconv.Atoi(string(m[2]))
					has[w][n] = true
				}
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return has
}

// checkKilledBackup extracts a backup, has check look at it, opens it and compares it with
// what was acknowledged before it began.
func checkKilledBackup(t *testing.T, dir, id string, key agekey.Identity, acked map[string]int) {
	t.Helper()
	to := filepath.Join(dir, "out", "data")
	defer os.RemoveAll(filepath.Dir(to))
	extract(t, filepath.Join(dir, "to"), id, key, to)
	err := datadir.Check(to, filepath.Join(to, "objects"), filepath.Join(to, "bridge.d"), datadir.Report{
		Part: func(string) {}, Read: func(int) {}, Lost: func(err error) { t.Errorf("%s: %v", id, err) }})
	if err != nil {
		t.Fatalf("%s: %v", id, err)
	}
	cfg, err := configureAt(to)
	if err != nil {
		t.Fatal(err)
	}
	b := idle(t, cfg)
	defer b.Close()
	has := b.sent(t)
	for w := range acked {
		if has[w] == nil {
			t.Fatalf("%s: nothing of %s", id, w)
		}
	}
	for w := range has {
		n := acked[w]
		for i := 1; i <= n; i++ {
			if !has[w][i] {
				t.Fatalf("%s: message %d of %s is missing, %d were acknowledged before", id, i, w, n)
			}
		}
		inLog, inRegistry, inShadow := len(has[w]), 0, 0
		err := b.registry.View(func(tx *registry.Tx) error {
			thing, err := tx.Thing(w)
			if err == nil && thing.Attributes["n"] != "" {
				_, err = fmt.Sscan(thing.Attributes["n"], &inRegistry)
			}
			return err
		})
		doc, e := b.shadows.Get(w, "")
		if err != nil || e != nil {
			t.Fatalf("%s: %s: %v, %v", id, w, err, e)
		}
		if doc != nil {
			inShadow = int(doc.Version)
		}
		if inShadow > inRegistry || inRegistry > inLog || inLog > inShadow+1 {
			t.Errorf("%s: %s is at %d in the log, at %d in the registry, at %d in its shadow: not of one instant",
				id, w, inLog, inRegistry, inShadow)
		}
	}
}

// killBackingUp runs the child and kills it some time after its first backup began.
func killBackingUp(t *testing.T, dir, recipient string, after time.Duration) killedRun {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestBackupKill$")
	cmd.Env = append(os.Environ(), backupKillDir+"="+dir, backupKillKey+"="+recipient)
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	run := killedRun{acked: map[string]int{}}
	lines := bufio.NewReader(out)
	for {
		line, err := lines.ReadString('\n')
		if err != nil { // a line that was cut is not acknowledged
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			break
		}
		var w string
		var n int
		switch {
		case line == "# begins\n":
			before := map[string]int{}
			for w, n := range run.acked {
				before[w] = n
			}
			if run.backups = append(run.backups, before); len(run.backups) == 1 {
				time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
			}
		case scanned(line, &w, &n):
			run.acked[w] = n
		default:
			t.Errorf("the child says: %s", line)
		}
	}
	_ = cmd.Wait() // it was killed
	if len(run.backups) == 0 {
		t.Fatalf("no backup began:\n%s", log.String())
	}
	return run
}

func scanned(line string, w *string, n *int) bool {
	_, err := fmt.Sscanf(line, "# acked %s %d\n", w, n)
	return err == nil
}
