package server

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Damage anywhere in a data directory never ends the program, and an error about
// it names the file. What replaceable files held is made anew.
func TestDamagedDataDirectory(t *testing.T) {
	was := used(t, true)
	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	var files []string
	err := filepath.WalkDir(was.DataDir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			files = append(files, strings.TrimPrefix(path, was.DataDir+"/"))
		}
		return err
	})
	if err != nil || len(files) < 15 {
		t.Fatal(files, err)
	}
	refused := 0
	for _, name := range files {
		for _, way := range []string{"emptied", "cut", "changed", "changed", "zeroed"} {
			cfg := copied(t, was)
			path := filepath.Join(cfg.DataDir, name)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			at := 0
			if len(raw) > 0 {
				at = rnd.IntN(len(raw))
			}
			switch way {
			case "emptied":
				raw = nil
			case "cut":
				raw = raw[:at]
			case "changed":
				if len(raw) > 0 {
					raw[at] ^= byte(1 + rnd.IntN(255))
				}
			case "zeroed":
				clear(raw[at/4096*4096 : min(len(raw), at/4096*4096+4096)])
			}
			if err := os.WriteFile(path, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			id := fmt.Sprintf("seed %d: %s %s at %d", seed, name, way, at)
			b, err := reopen(t, cfg)
			if err == nil {
				_, err = b.Reload()
				if e := b.Close(); err == nil {
					err = e
				}
			}
			switch {
			case err == nil:
			case !strings.Contains(err.Error(), filepath.Base(name)) &&
				!strings.Contains(err.Error(), "/log ends early") && !strings.Contains(err.Error(), "/log has a hole"):
				t.Errorf("%s: the file is not named: %v", id, err)
			// text that a person mends, or without which a new one is made
			case strings.HasPrefix(name, "pki/") && !strings.Contains(name, "/ca"):
				refused++
			case !strings.Contains(err.Error(), "salvage") && !strings.Contains(err.Error(), "-accept-loss"):
				t.Errorf("%s: it does not say what to do: %v", id, err)
			default:
				refused++
			}
			if err := os.RemoveAll(filepath.Dir(cfg.DataDir)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if refused < 20 {
		t.Errorf("only %d of %d damages were seen", refused, 5*len(files))
	}
	t.Log(len(files), "files,", refused, "refused")
}
