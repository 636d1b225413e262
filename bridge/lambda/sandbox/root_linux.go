package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// system are the parts of the machine that processes may read: programs,
// libraries, certificates of the public authorities, time zones.
var system = []string{
	"/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32",
	"/etc/alternatives", "/etc/ca-certificates", "/etc/crypto-policies", "/etc/ld.so.cache", "/etc/ld.so.conf",
	"/etc/ld.so.conf.d", "/etc/localtime", "/etc/mime.types", "/etc/nsswitch.conf", "/etc/pki/tls/certs",
	"/etc/pki/ca-trust", "/etc/protocols", "/etc/services", "/etc/ssl/certs", "/etc/ssl/openssl.cnf",
}

// devices may be written by everybody.
var devices = []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"}

// readOnly is what all that is mounted from the machine gets, below it too.
const readOnly = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID

// makeRoot makes a root of the order's parts in memory, and makes it the
// process's own. The namespace of mounts is new: nothing of it is seen outside.
func makeRoot(o *order) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private: %w", err)
	}
	if err := unix.Mount("tmpfs", o.Root, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "size=1m,mode=0755"); err != nil {
		return fmt.Errorf("tmpfs: %w", err)
	}
	for _, path := range system {
		if err := bind(o.Root, path, path, readOnly|unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	for _, path := range devices {
		if err := bind(o.Root, path, path, readOnly|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return err
		}
	}
	mounts := map[string]string{o.Task: TaskRoot}
	for from, to := range o.Mounts {
		mounts[from] = to
	}
	for from, to := range mounts {
		if from == "" {
			continue
		}
		if err := bind(o.Root, from, to, readOnly|unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	if err := ownFiles(o); err != nil {
		return err
	}
	for _, path := range further(o.Binds) { // now, since one may be below /tmp
		if err := bind(o.Root, path, path, readOnly|unix.MOUNT_ATTR_NODEV); err != nil {
			return err
		}
	}
	// The old root is below the new one until it is unmounted: pivot_root(2), NOTES.
	if err := os.Chdir(o.Root); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount the old root: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV,
		""); err != nil {
		return fmt.Errorf("read-only root: %w", err)
	}
	if o.Task == "" {
		return os.Chdir("/")
	}
	return os.Chdir(TaskRoot)
}

// ownFiles makes what the process has for itself: /proc, /tmp, and names of its
// user and host.
func ownFiles(o *order) error {
	for _, dir := range []string{"/proc", "/tmp", "/etc"} {
		if err := os.MkdirAll(filepath.Join(o.Root, dir), 0o755); err != nil {
			return err
		}
	}
	if err := unix.Mount("proc", filepath.Join(o.Root, "proc"), "proc",
		unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("proc: %w", err)
	}
	size := int64(maxTmp)
	if o.Memory > 0 {
		size = min(size, o.Memory)
	}
	if err := unix.Mount("tmpfs", filepath.Join(o.Root, "tmp"), "tmpfs", unix.MS_NOSUID|unix.MS_NODEV,
		fmt.Sprintf("size=%d,mode=1777", size)); err != nil {
		return fmt.Errorf("tmp: %w", err)
	}
	for name, text := range map[string]string{
		"hosts":       "127.0.0.1 localhost\n",
		"passwd":      fmt.Sprintf("function:x:%d:%[1]d::/tmp:/bin/sh\n", o.UID),
		"group":       fmt.Sprintf("function:x:%d:\n", o.UID),
		"resolv.conf": "",
	} {
		if err := os.WriteFile(filepath.Join(o.Root, "etc", name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// bind shows what is at from as to in the new root. What is not on this machine is
// left out; a link stays one.
func bind(root, from, to string, attributes uint64) error {
	at := filepath.Join(root, to)
	info, err := os.Lstat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = os.MkdirAll(filepath.Dir(at), 0o755)
	}
	if err != nil {
		return err
	}
	switch {
	case info.Mode().Type() == fs.ModeSymlink:
		target, err := os.Readlink(from)
		if err == nil {
			err = os.Symlink(target, at)
		}
		return err
	case info.IsDir():
		err = os.MkdirAll(at, 0o755)
	default:
		err = os.WriteFile(at, nil, 0o644)
	}
	if err != nil {
		return err
	}
	if err := unix.Mount(from, at, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("bind %s: %w", from, err)
	}
	set := &unix.MountAttr{Attr_set: attributes}
	if err := unix.MountSetattr(unix.AT_FDCWD, at, unix.AT_RECURSIVE, set); err != nil {
		return fmt.Errorf("read-only %s: %w", from, err)
	}
	return nil
}

// further are the binds that nothing else shows: neither what all processes may read
// nor another bind. The machine's root is none: it has the files of everybody.
func further(binds []string) (out []string) {
	for _, path := range slices.Sorted(slices.Values(binds)) { // a folder comes before what is in it
		if path != "/" && !within(system, path) && !within(out, path) {
			out = append(out, path)
		}
	}
	return out
}

// within says whether a path is one of some, or below it.
func within(some []string, path string) bool {
	return slices.ContainsFunc(some, func(s string) bool { return path == s || strings.HasPrefix(path, s+"/") })
}
