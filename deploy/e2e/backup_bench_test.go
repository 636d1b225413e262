package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
	"github.com/tidemill/tidemill/deploy/rig"
)

// backupFill is how much is in the log before it is measured, bytes of payloads.
const backupFill = 512 << 20

// BenchmarkBackup measures what a backup takes from ingest, and how long it takes beside
// cp -a of the same bytes. Each iteration publishes for three seconds without a backup, as
// long while a full one is read and stored, after its cut, and as long without one again:
// QoS 1, 50 clients with 20 in flight, 200 bytes, mutual TLS. kept is the second rate over
// the mean of the others; noise is the third over the first. At the end, without load, it
// makes a full backup, one that finds little new, and a copy. held-ms is the mean time
// for which writers waited in a cut of those at the end.
//
//	go test ./deploy/e2e -run '^$' -bench Backup -benchtime 6x
func BenchmarkBackup(b *testing.B) {
	bin, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	br := benchBridge(b, bin, filepath.Join(dir, "bridge"), "[log]\nlevel = \"warn\"\n", nil)
	load := mqtttest.Options{Addr: br.MQTT, TLS: benchIdentity(b, br), InFlight: 20, Duration: 3 * time.Second}
	fill := load
	fill.Payload, fill.Duration = 64<<10, time.Second
	for filled := uint64(0); filled < backupFill; {
		r, err := mqtttest.Run(b.Context(), fill)
		if err != nil {
			b.Fatal(err)
		}
		filled += r.Acked * uint64(fill.Payload)
	}
	key, err := age.GenerateX25519Identity()
	if err != nil {
		b.Fatal(err)
	}
	made := 0
	take := func(ctx context.Context, to string) (t backup.Taken, took time.Duration) {
		began := time.Now()
		out, err := br.Command(ctx, "backup", "-json", "-to", to, "-recipient", key.Recipient().String())
		if err == nil {
			err = json.Unmarshal(out, &t)
		}
		if err != nil && ctx.Err() == nil {
			b.Error(err)
		}
		made++
		return t, time.Since(began)
	}
	fresh := func() string { return filepath.Join(dir, fmt.Sprint("to-", made)) }
	rate := func() float64 {
		r, err := mqtttest.Run(b.Context(), load)
		if err != nil {
			b.Fatal(err)
		}
		return r.PerSecond
	}
	var before, beside, after float64
	n := 0
	for ; b.Loop(); n++ {
		before += rate()
		to := fresh()
		ctx, callOff := context.WithCancel(b.Context())
		ended := make(chan bool)
		go func() {
			defer close(ended)
			take(ctx, to)
		}()
		err := rig.Until(b.Context(), "the cut", func() (bool, error) { // then the repository is made
			_, err := os.Stat(filepath.Join(to, "repository.json"))
			return err == nil, err
		})
		if err != nil {
			b.Fatal(err)
		}
		beside += rate()
		select {
		case <-ended:
			b.Log("the backup ended before the load")
		default:
		}
		callOff()
		<-ended
		_ = os.RemoveAll(to)
		after += rate()
	}
	to := fresh()
	t, full := take(b.Context(), to)
	_, again := take(b.Context(), to)
	began := time.Now()
	cp := exec.CommandContext(b.Context(), "cp", "-a", br.Dir, filepath.Join(dir, "copy"))
	if out, err := cp.CombinedOutput(); err != nil {
		b.Log(string(out), err) // files that go away meanwhile
	}
	copied := time.Since(began)
	b.Logf("%d bytes, of which %d are stored; the cut held for %s", t.Size, folderSize(to), time.Duration(t.About.Held))
	m, err := br.Metrics(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(2*beside/(before+after), "kept")
	b.ReportMetric(after/before, "noise")
	b.ReportMetric(before/float64(n), "alone-msgs/s")
	b.ReportMetric(1000*m["tidemill_backup_hold_seconds_sum"]/max(m["tidemill_backup_hold_seconds_count"], 1), "held-ms")
	b.ReportMetric(float64(t.Size)/1e6/full.Seconds(), "full-MB/s")
	b.ReportMetric(again.Seconds(), "again-s")
	b.ReportMetric(float64(t.Size)/1e6/copied.Seconds(), "cp-MB/s")
}

// folderSize is the bytes of all files below a folder.
func folderSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}
