package rig

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

// Bin holds the paths of the two programs.
type Bin struct{ Agent, Bridge string }

// In returns the programs that `make build` wrote to dir.
func In(dir string) Bin {
	return Bin{Agent: filepath.Join(dir, "tidemill-agent"), Bridge: filepath.Join(dir, "tidemill-bridge")}
}

// Build puts both programs into dir; root is the project's root. They are linked in
// a folder of the user's cache, where the go command finds them next time: linking
// takes some ten seconds, and several tests want the same programs. Several
// processes may call it.
func Build(ctx context.Context, root, dir string) (b Bin, err error) {
	b = In(dir)
	root, err = filepath.Abs(root)
	if err != nil {
		return b, err
	}
	if err := Look(root, "agent", "bridge", "hal", "shadow"); err != nil {
		return b, err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	kept := filepath.Join(cache, "tidemill-test", fmt.Sprintf("bin-%x", sha256.Sum256([]byte(root)))[:20])
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return b, err
	}
	lock, err := os.OpenFile(filepath.Join(kept, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return b, err
	}
	defer lock.Close() // which unlocks it
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return b, err
	}
	for pkg, names := range map[string][2]string{
		"./agent":  {In(kept).Agent, b.Agent},
		"./bridge": {In(kept).Bridge, b.Bridge},
	} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", names[0], pkg)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return b, fmt.Errorf("build %s: %w\n%s", pkg, err, text)
		}
		// A copy: the next build must not change a program that runs.
		if err := copyProgram(names[0], names[1]); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Look reads folders of the project, whose sources are of programs that a test runs. The go
// command keeps a test's result for as long as what the test has looked at stays the same, and it
// does not know what those programs are made of.
func Look(root string, folders ...string) error {
	var all []error
	for _, name := range folders {
		all = append(all, filepath.WalkDir(filepath.Join(root, name), func(_ string, _ fs.DirEntry, err error) error {
			return err
		}))
	}
	_, err := os.ReadFile(filepath.Join(root, "go.mod"))
	return errors.Join(append(all, err)...)
}

func copyProgram(from, to string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o755)
}
