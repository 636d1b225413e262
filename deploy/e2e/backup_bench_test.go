package e2e

import (
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
)

// backupFill is how much is in the log before it is measured, bytes of payloads.
const backupFill = 512 << 20

// BenchmarkBackup measures what a backup takes from ingest, and how long it takes beside
// cp -a of the same bytes. Each iteration publishes for four seconds without a backup and
// for as long while full ones are made, one after the other, each into a repository of
// its own: QoS 1, 50 clients with 20 in flight, 200 bytes, mutual TLS. kept is the second
// rate over the first, and noise that of a third, again without a backup, over the first.
// Then, without load, it makes a full backup, one that finds nothing
// new, and a copy. held-ms is the longest time for which writers waited.
//
//	go test ./deploy/e2e -run '^$' -bench Backup -benchtime 3x
func BenchmarkBackup(b *testing.B) {
	bin, err := buildOnce()
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	br := benchBridge(b, bin, filepath.Join(dir, "bridge"), "[log]\nlevel = \"warn\"\n", nil)
	load := mqtttest.Options{Addr: br.MQTT, TLS: benchIdentity(b, br), InFlight: 20, Duration: 4 * time.Second}
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
	take := func(to string) (t backup.Taken, took time.Duration) {
		began := time.Now()
		out, err := br.Command(b.Context(), "backup", "-json", "-to", to, "-recipient", key.Recipient().String())
		if err == nil {
			err = json.Unmarshal(out, &t)
		}
		if err != nil {
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
	var alone, beside, after float64
	var held, full, again, copied time.Duration
	var size int64
	n := 0
	for ; b.Loop(); n++ {
		alone += rate()
		over, ended := make(chan bool), make(chan bool)
		go func() {
			defer close(ended)
			for {
				to := fresh()
				t, _ := take(to)
				held = max(held, time.Duration(t.About.Held))
				_ = os.RemoveAll(to)
				select {
				case <-over:
					return
				default:
				}
			}
		}()
		beside += rate()
		close(over)
		<-ended
		after += rate()
		to := fresh()
		t, took := take(to)
		full, size = full+took, t.Size
		_, took = take(to)
		again += took
		began := time.Now()
		cp := exec.CommandContext(b.Context(), "cp", "-a", br.Dir, filepath.Join(dir, "copy"))
		if out, err := cp.CombinedOutput(); err != nil {
			b.Log(string(out), err) // files that go away meanwhile
		}
		copied += time.Since(began)
		_ = os.RemoveAll(filepath.Join(dir, "copy"))
		b.Logf("%d bytes, of which %d are stored", size, folderSize(to))
		_ = os.RemoveAll(to)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(beside/alone, "kept")
	b.ReportMetric(after/alone, "noise")
	b.ReportMetric(alone/float64(n), "alone-msgs/s")
	b.ReportMetric(float64(held.Microseconds())/1000, "held-ms")
	b.ReportMetric(float64(size)/1e6/(full.Seconds()/float64(n)), "full-MB/s")
	b.ReportMetric(again.Seconds()/float64(n), "again-s")
	b.ReportMetric(float64(size)/1e6/(copied.Seconds()/float64(n)), "cp-MB/s")
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
