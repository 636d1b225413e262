package vault

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/counterpart"
)

// The script of FORMAT.md restores, without any program of ours.
func TestRestoreByHand(t *testing.T) {
	for _, p := range []string{"age", "zstd", "jq"} {
		counterpart.Program(t, p, p)
	}
	manual, err := os.ReadFile("FORMAT.md")
	must(t, err)
	_, script, _ := strings.Cut(string(manual), "```sh\n")
	script, _, _ = strings.Cut(script, "```")
	folder := t.TempDir()
	must(t, os.WriteFile(filepath.Join(folder, "by-hand"), []byte(script), 0o700))
	b := newBench(t)
	must(t, os.WriteFile(filepath.Join(folder, "key"), []byte(b.key.String()+"\n"), 0o600))
	c := content{"log/000001.sst": noise(1, 3<<20), "registry.db": bytes.Repeat([]byte("page "), 100_000), "empty": {}}
	_, err = b.backup(t.Context(), c)
	must(t, err)
	c["registry.db"] = append(c["registry.db"], "more"...)
	info, err := b.backup(t.Context(), c)
	must(t, err)
	run := func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), filepath.Join(folder, "by-hand"), append([]string{
			filepath.Join(folder, "key"), b.url, info.ID}, args...)...)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		must(t, err)
		return string(out)
	}
	if list := run(); strings.Count(list, "\n") != len(c) {
		t.Errorf("the list: %q", list)
	}
	for name, want := range c {
		if got := run(name); got != string(want) {
			t.Errorf("%s: %d bytes, want %d", name, len(got), len(want))
		}
	}
}
