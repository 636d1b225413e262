// Package parts has Debian's programs and kernels that simulated devices are made of,
// fetched once and kept in the user's cache: QEMU 10, kernels for arm64 and ARMv6,
// QEMU's emulators of programs.
//
// apt resolves the versions of the day, in a state folder of its own: no root is
// needed, no foreign architecture is added to the machine's dpkg, and nothing is
// installed. What is there stays in use until its folder in the cache is removed.
package parts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A Part is something that Debian has in packages.
type Part struct {
	Name string // of its folder in the cache
	// Arch is Debian's name of the architecture that it is for, "" for this machine's.
	Arch string
	// Packages are unpacked. Of those in Resolve, it is what they depend on.
	Packages []string
	Resolve  bool
	// With says that the packages' own needs come along, as far as this machine has
	// not installed them: its shared libraries.
	With bool
	// Suite is taken instead of the stable one for Packages.
	Suite string
	// Has is a pattern of a file that is there when it is complete.
	Has string
	// Without are patterns, as tar takes them, of what is not unpacked.
	Without []string
}

// A Store keeps parts in a folder.
type Store struct {
	Dir    string
	Log    io.Writer // a line for each part and version
	Mirror string    // "" is Debian's
	// Pause is how long the second try waits, 0 is 10 s; the third waits twice that.
	Pause time.Duration
}

// Default is the store in the user's cache. Log may be nil.
func Default(log io.Writer) (*Store, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("parts: %w", err)
	}
	if log == nil {
		log = io.Discard
	}
	return &Store{Dir: filepath.Join(cache, "tidemill-test", "qemu"), Log: log}, nil
}

// tries is how often a part is asked for: a mirror that is half-way through its own
// update refuses for a minute.
const tries = 3

// Get returns the folder of a part as Debian's packages lay it out. What is not there
// is fetched, which takes seconds to minutes; update fetches what is newer. Several
// processes may call it.
func (s *Store) Get(ctx context.Context, p Part, update bool) (dir string, err error) {
	home := filepath.Join(s.Dir, p.Name)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return "", fmt.Errorf("parts: %w", err)
	}
	unlock, err := lock(ctx, filepath.Join(home, "lock"))
	if err != nil {
		return "", fmt.Errorf("parts: %w", err)
	}
	defer unlock()
	dir, version, err := current(home, p)
	if err == nil && !update {
		fmt.Fprintf(s.Log, "%-16s %s (kept)\n", p.Name, version)
		return dir, nil
	}
	for n := range tries {
		if n > 0 {
			fmt.Fprintf(s.Log, "%-16s again, as %v\n", p.Name, err)
			select {
			case <-time.After(time.Duration(n) * cmp.Or(s.Pause, 10*time.Second)):
			case <-ctx.Done():
				return "", ctx.Err()
			}
		}
		if version, err = s.fetch(ctx, p, home); err == nil {
			dir, version, err = current(home, p)
		}
		if err == nil {
			fmt.Fprintf(s.Log, "%-16s %s\n", p.Name, version)
			return dir, nil
		}
	}
	return "", fmt.Errorf("parts: %s could not be had in %d tries, of %s: %w", p.Name, tries, s.mirror(), err)
}

// versionFile names the versions of a folder's packages, and is written last.
const versionFile = "VERSION"

// current is the folder in use of a part, with its version.
func current(home string, p Part) (dir, version string, err error) {
	name, err := os.Readlink(filepath.Join(home, "current"))
	if err != nil {
		return "", "", err
	}
	dir = filepath.Join(home, name)
	text, err := os.ReadFile(filepath.Join(dir, versionFile))
	if err != nil {
		return "", "", err
	}
	found, err := filepath.Glob(filepath.Join(dir, p.Has))
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("%s has no %s", dir, p.Has)
	}
	return dir, strings.TrimSpace(string(text)), err
}

// fetch makes a folder of the newest packages and turns the link current to it.
func (s *Store) fetch(ctx context.Context, p Part, home string) (version string, err error) {
	work, err := os.MkdirTemp(home, "fetch-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	a, err := newApt(ctx, filepath.Join(work, "apt"), p, s.mirror())
	if err != nil {
		return "", err
	}
	debs, err := a.fetch(ctx, p)
	if err != nil {
		return "", err
	}
	root := filepath.Join(work, "root")
	var names []string
	for _, deb := range debs {
		if err := unpack(ctx, deb, root, p.Without); err != nil {
			return "", err
		}
		if name := packageOf(deb); belongs(name, p) {
			names = append(names, name)
		}
	}
	version = strings.Join(names, " ")
	if err := os.WriteFile(filepath.Join(root, versionFile), []byte(version+"\n"), 0o644); err != nil {
		return "", err
	}
	name := strings.ReplaceAll(names[0], ":", "_")
	if err := os.RemoveAll(filepath.Join(home, name)); err != nil {
		return "", err
	}
	if err := os.Rename(root, filepath.Join(home, name)); err != nil {
		return "", err
	}
	next := filepath.Join(work, "current")
	return version, errors.Join(os.Symlink(name, next), os.Rename(next, filepath.Join(home, "current")))
}

func (s *Store) mirror() string { return cmp.Or(s.Mirror, "http://deb.debian.org") }

// lock takes an exclusive lock on a file, and waits for it until ctx ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(err, f.Close())
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), f.Close())
		}
	}
}
