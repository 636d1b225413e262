package upgrade

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/deploy/nightly"
	"github.com/tidemill/tidemill/deploy/rig"
)

// refusal is what an earlier version says to data of formats that it does not know.
var refusal = regexp.MustCompile(`format \d+, this program knows up to \d+: a newer version wrote it`)

// A program that is rolled back to the last kept version, over data that today's left
// when it was killed under load, loses nothing or refuses them and names both formats.
// Then today's program finds all that was acknowledged.
func TestRollback(t *testing.T) {
	if !nightly.Is() {
		t.Skip("builds the programs of an earlier version; make nightly runs it")
	}
	today, err := build()
	if err != nil {
		t.Fatal(err)
	}
	version, manifest := lastKept(t)
	last := buildVersion(t, version)

	t.Run("today's data", func(t *testing.T) {
		out := t.TempDir()
		if err := Leave(t.Context(), today, "today", t.TempDir(), out); err != nil {
			t.Fatal(err)
		}
		both(t, last, today, filepath.Join(out, "today.json"))
	})
	// The same for data that today's program has only opened.
	t.Run("data of "+version, func(t *testing.T) {
		h := newHeir(t, today, manifest)
		h.must(h.bridge.Start())
		h.must(h.bridge.Ready(h.ctx))
		h.must(h.bridge.Stop(patience))
		back(h, last)
		h.again(today)
	})
}

// both runs last over data, and today's programs after it.
func both(t *testing.T, last, today rig.Bin, manifest string) {
	h := newHeir(t, last, manifest)
	if !refuses(h) {
		h.inherits() // all is there, and what waited has arrived
		h.again(today)
		return
	}
	h.program(today)
	h.inherits()
}

// back starts last over the data and stops it, if it does not refuse them.
func back(h *heir, last rig.Bin) {
	today := h.bin
	h.program(last)
	if !refuses(h) {
		h.must(h.bridge.Start())
		h.must(h.bridge.Ready(h.ctx))
		h.must(h.bridge.Stop(patience))
	}
	h.program(today)
}

// program has the heir use other programs over the same data.
func (h *heir) program(bin rig.Bin) {
	bridge, err := rig.NewBridge(bin, h.dir, "")
	h.must(err)
	h.bin, h.bridge = bin, bridge
}

// refuses starts the bridge and says whether it refused the data, as it should where
// it does not serve them, and touched none.
func refuses(h *heir) bool {
	h.t.Helper()
	before := files(h)
	h.must(h.bridge.Start())
	err := h.bridge.Ready(h.ctx)
	if err == nil {
		h.bridge.Kill()
		h.t.Log("it opens them")
		return false
	}
	said, failed := os.ReadFile(h.bridge.Log)
	h.must(failed)
	told := refusal.Find(said)
	if told == nil {
		h.t.Fatalf("the version before neither serves the data nor refuses them by their format: %v", err)
	}
	h.t.Logf("it refuses them: %s", told)
	if after := files(h); !bytes.Equal(before, after) {
		h.t.Errorf("the version that refuses the data has changed them:\n%s\n%s", before, after)
	}
	return true
}

// files are registry and identity, which a start opens first.
func files(h *heir) []byte {
	db, err := os.ReadFile(filepath.Join(h.bridge.Dir, "registry.db"))
	is, failed := os.ReadFile(filepath.Join(h.bridge.Dir, "identity"))
	h.must(errors.Join(err, failed))
	return append(is, db...)
}

// again starts today's programs over data of which all was looked at before.
func (h *heir) again(today rig.Bin) {
	h.program(today)
	h.must(h.bridge.Start())
	defer h.bridge.Kill()
	h.must(h.bridge.Ready(h.ctx))
	var err error
	h.api, err = newAPI(h.bridge)
	h.must(err)
	h.answers()
	if h.m.Keys != nil {
		h.people()
	}
	h.retained()
	if h.appended == 0 { // a second run might read the lamp twice in one millisecond, which look alike
		h.appended = h.agent()
	}
	h.readings(h.appended)
	h.put()
}

// lastKept is the version of testdata that was made last, and its manifest.
func lastKept(t *testing.T) (version, manifest string) {
	manifests, err := filepath.Glob("testdata/*.json")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no data of an earlier version: %v", err)
	}
	var last Manifest
	for _, path := range manifests {
		var m Manifest
		text, err := os.ReadFile(path)
		if err := errors.Join(err, json.Unmarshal(text, &m)); err != nil {
			t.Fatal(err)
		}
		if m.Made.After(last.Made) {
			last, manifest = m, path
		}
	}
	return last.Version, manifest
}

// buildVersion builds both programs of a commit from the history.
func buildVersion(t *testing.T, commit string) rig.Bin {
	if text, err := exec.Command("git", "cat-file", "-e", commit+"^{commit}").CombinedOutput(); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is not in the history: %v\n%s", commit, err, text)
		}
		t.Skipf("%s is not in the history", commit)
	}
	tree, bin := t.TempDir(), t.TempDir()
	archive := exec.Command("git", "archive", commit)
	archive.Dir = "../.."
	text, err := archive.Output()
	if err != nil {
		t.Fatal(err)
	}
	unpack := exec.Command("tar", "x", "-C", tree)
	unpack.Stdin = bytes.NewReader(text)
	if text, err := unpack.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, program := range []string{"agent", "bridge"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-ldflags", "-X main.version="+commit,
			"-o", filepath.Join(bin, "tidemill-"+program), "./"+program)
		build.Dir, build.Env = tree, append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
	}
	return rig.In(strings.TrimSuffix(bin, "/"))
}
