package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/backup"
	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// A stopped bridge is backed up, and its backups are listed, verified and pruned.
func TestBackupOfAStoppedBridge(t *testing.T) {
	dir := t.TempDir()
	data, to, key := newData(t), filepath.Join(dir, "to"), filepath.Join(dir, "key")
	public, _, err := runText(t, "backup", "keygen", key)
	public = strings.TrimSpace(public)
	info, e := os.Stat(key)
	if err != nil || e != nil || info.Mode() != 0o600 || !strings.HasPrefix(public, "age1") {
		t.Fatalf("%q, %v, %v, %v", public, err, e, info)
	}
	step{"backup keygen " + key, 1, "", "is there already"}.run(t)
	here := " -data " + data
	step{"backup" + here, 1, "", "no target: set backup.target"}.run(t)
	step{"backup -to " + to + here, 1, "", "no recipient"}.run(t)
	step{"backup -to " + filepath.Join(data, "to") + " -recipient " + public + here, 1, "",
		"in the data directory"}.run(t)
	step{"backup -to " + to + " -recipient " + key + "x" + here, 1, "", "no such file"}.run(t)
	for range 2 {
		step{"backup -verify -limit 50MB/s -to " + to + " -recipient " + public + here, 0,
			" stored, writers held for ", ""}.run(t)
	}
	out, _, err := runText(t, "backup", "list", "-to", to, "-data", data)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil || len(lines) != 3 || !strings.Contains(lines[1], "000000000000") {
		t.Fatalf("%s %v", out, err)
	}
	first := strings.Fields(lines[1])[0]
	step{"backup verify " + first + " -to " + to + here, 0, first + " is whole", ""}.run(t)
	step{"backup verify -identity " + key + " -to " + to + here, 0, "files can be restored as they were", ""}.run(t)
	step{"backup verify -identity " + filepath.Join(data, "identity") + " -to " + to + here, 1, "",
		"want lines AGE-SECRET-KEY-1"}.run(t)
	leaveLock(t, data, to) // of a prune that was killed
	step{"backup prune -keep 1 -to " + to + " -data " + dir, 1, "", "in use"}.run(t)
	step{"backup prune -keep 1 -to " + to + here, 0, "removed " + first, ""}.run(t)
	step{"backup verify " + first + " -to " + to + here, 1, "", "not found"}.run(t)
	step{"backup list -to " + to + "x" + here, 1, "", "no repository of backups"}.run(t)
	for _, remote := range []string{"nas:/export/x", "pi@nas:x", "nfs://nas/x", "s3:/bucket/x", "sftp:nas:x"} {
		says := "want a folder, or s3://BUCKET/PREFIX"
		step{"backup -to " + remote + " -recipient " + public + here, 1, "", says}.run(t)
		step{"backup list -to " + remote + here, 1, "", says}.run(t)
	}
	step{"backup -to " + to + " -recipient " + key + here, 1, "", "the file has a private key"}.run(t)
	// What is mounted at the target is away: no backup goes to the disk below it.
	if err := errors.Join(os.Rename(to, to+"-away"), os.Mkdir(to, 0o700)); err != nil {
		t.Fatal(err)
	}
	step{"backup -to " + to + " -recipient " + public + here, 1, "", "is it mounted"}.run(t)
	if left, err := os.ReadDir(to); err != nil || len(left) > 0 {
		t.Fatalf("written to where nothing is mounted: %v, %v", left, err)
	}
	out, _, err = runText(t, "backup", "-new", "-json", "-to", to, "-recipient", public, "-data", data)
	if err != nil || !strings.Contains(out, `"about": {`) {
		t.Fatalf("%s %v", out, err)
	}
	step{"backup -to " + to + " -recipient " + public + here, 0, "stored", ""}.run(t)
	step{"status" + here, 1, "", "no bridge runs over"}.run(t)
	step{"backup -limit 1" + here, 2, "", "want a rate such as 20MB/s"}.run(t)
}

func TestParseRate(t *testing.T) {
	for text, want := range map[string]int64{"20MB/s": 20e6, "512KiB/s": 512 << 10, "1.5 MiB": 3 << 19, "20000": 20000,
		"1GB/s": 1e9} {
		if got, err := parseRate(text); err != nil || got != want {
			t.Errorf("%s: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "-1MB/s", "NaN", "Inf", "1", "1e300GB", "20 MB per s"} {
		if got, err := parseRate(text); err == nil {
			t.Errorf("%q is taken for %d", text, got)
		}
	}
}

// Whatever parseRate takes is within its bounds.
func FuzzParseRate(f *testing.F) {
	f.Add("20MB/s")
	f.Add("1e9")
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := parseRate(text); err == nil && (n < vault.MinBandwidth || n > 1<<50) {
			t.Fatalf("%q is %d", text, n)
		}
	})
}

// leaveLock puts a lock into a target that a command of the bridge with the data left.
func leaveLock(t *testing.T, data, to string) {
	t.Helper()
	target, err := vault.Open(t.Context(), to, vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	owner, err := os.ReadFile(filepath.Join(backup.KnownIndex(data, target), "owner"))
	if err != nil {
		t.Fatal(err)
	}
	name := "locks/" + strings.TrimSpace(string(owner)) + "-0123456789abcdef.json"
	if err := target.Put(t.Context(), name, strings.NewReader("{}"), 2); err != nil {
		t.Fatal(err)
	}
}
