package provision

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
)

// Names in the data directory; FORMAT.md says what is in them.
const (
	link         = "identity" // a symbolic link into identities
	identities   = "identities"
	certFile     = "cert.pem"
	keyFile      = "key.pem"
	identityFile = "identity.json"
	pendingFile  = "certificate.json"
	outcomeFile  = "outcome"
	oldEnd       = ".old" // of a folder that is being deleted
	lockFile     = "provision.lock"
	provisioning = "provisioning" // folders of what is not taken up yet
	rotation     = "rotation"
)

// commit takes an identity up: its files are complete and durable before the
// link is turned to them, and the link is turned at once.
func (w *work) commit(id *Identity, p *pending, key []byte) error {
	name := filepath.Join(identities, p.ID[:min(16, len(p.ID))])
	dir := filepath.Join(w.o.Dir, name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{certFile, []byte(p.PEM)}, {keyFile, key}} {
		if err := durable.Write(filepath.Join(dir, f.name), f.text, 0o600); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dir, identityFile), id); err != nil {
		return err
	}
	if err := errors.Join(durable.SyncFolder(filepath.Join(w.o.Dir, identities)),
		durable.SyncFolder(w.o.Dir)); err != nil {
		return err
	}
	w.o.Step("written")
	next := filepath.Join(w.o.Dir, link+".new")
	if err := os.Remove(next); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Symlink(name, next); err != nil {
		return err
	}
	if err := os.Rename(next, filepath.Join(w.o.Dir, link)); err != nil {
		return err
	}
	if err := durable.SyncFolder(w.o.Dir); err != nil {
		return err
	}
	w.o.Step("taken up")
	// What follows may be lost: it is done again.
	return errors.Join(w.discard(), w.tidy())
}

// discard takes away at once what was not taken up: of a folder that is half
// deleted the key might be left, and be used for the next certificate too.
func (w *work) discard() error {
	err := os.RemoveAll(w.dir + oldEnd)
	if err == nil {
		err = os.Rename(w.dir, w.dir+oldEnd)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, durable.SyncFolder(w.o.Dir))
}

// tidy deletes what was discarded, and the identities before the one that is
// taken up.
func (w *work) tidy() error {
	if err := os.RemoveAll(w.dir + oldEnd); err != nil {
		return err
	}
	name, err := os.Readlink(filepath.Join(w.o.Dir, link))
	if err != nil {
		return err
	}
	all, err := os.ReadDir(filepath.Join(w.o.Dir, identities))
	if err != nil {
		return err
	}
	for _, e := range all {
		if e.Name() != filepath.Base(name) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(w.o.Dir, identities, e.Name())))
		}
	}
	return err
}

// left says whether there is something of a folder that tidy and discard would
// take away.
func left(dir, name string) bool {
	_, no := os.Lstat(filepath.Join(dir, name))
	_, old := os.Lstat(filepath.Join(dir, name+oldEnd))
	return !errors.Is(no, fs.ErrNotExist) || !errors.Is(old, fs.ErrNotExist)
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return durable.Write(path, append(text, '\n'), 0o600)
}

func readJSON(path string, v any) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// errBusy says that another process works on the data directory.
var errBusy = errors.New("another process provisions this device")

// lock keeps other processes away until the file is closed, or the process ends.
func lock(path string) (f *os.File, err error) {
	if f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, err
	}
	for range 5 { // Busy holds it for a moment
		if err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return f, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = f.Close()
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errBusy
	}
	return nil, fmt.Errorf("%s: %w", path, err)
}

// Busy says whether a process provisions the device now, or rotates its
// certificate, and so may be connected as the device.
func Busy(dir string) bool {
	f, err := os.Open(filepath.Join(dir, lockFile))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // which unlocks it
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}

// SystemRoots in place of a path takes the CAs that the system trusts.
const SystemRoots = "system"

// Roots are the CAs in the file at path, in PEM, or those that the system trusts
// for SystemRoots.
func Roots(path string) (*x509.CertPool, error) {
	if path == SystemRoots {
		return x509.SystemCertPool()
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("no certificate in %s", path)
	}
	return pool, nil
}

// serialFiles say what this device is, the best first: a board's serial number in
// the device tree, the installation's id. A PC's number is only for root to read,
// and often a placeholder that many have.
var serialFiles = []string{"/proc/device-tree/serial-number", "/etc/machine-id"}

// Serial returns the device's serial number, or "".
func Serial() string {
	for _, path := range serialFiles {
		if text, err := os.ReadFile(path); err == nil {
			if s := serial(text); s != "" {
				return s
			}
		}
	}
	return ""
}

// serial returns the serial number in a file, or "" if it holds none: a board
// without a number shows zeros, and machine-id(5) is "uninitialized" until the
// end of the first boot.
func serial(text []byte) string {
	s := strings.Trim(string(text), "\x00\n ")
	if s == "uninitialized" || strings.Trim(s, "0") == "" || strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~'
	}) {
		return ""
	}
	return s
}
