package provision

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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
		if err := write(filepath.Join(dir, f.name), f.text); err != nil {
			return err
		}
	}
	if err := writeJSON(filepath.Join(dir, identityFile), id); err != nil {
		return err
	}
	if err := errors.Join(syncDir(filepath.Join(w.o.Dir, identities)), syncDir(w.o.Dir)); err != nil {
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
	if err := syncDir(w.o.Dir); err != nil {
		return err
	}
	w.o.Step("taken up")
	// What follows may be lost: it is done again, or does no harm.
	return errors.Join(os.RemoveAll(w.dir), w.removeOthers(name))
}

// removeOthers deletes the identities before the one that is taken up.
func (w *work) removeOthers(name string) error {
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

// write replaces a file, mode 0600, durably: there is the old one or the new
// one, whenever the power goes.
func write(path string, text []byte) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func writeJSON(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	return write(path, append(text, '\n'))
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

// lock keeps other processes away until the file is closed, or the process ends.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("%s: another process provisions this device: %w", path, err)
	}
	return f, nil
}

// serialFiles say what this device is, the best first: a Raspberry Pi's serial
// number, a PC's, the installation's id.
var serialFiles = []string{"/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial", "/etc/machine-id"}

// Serial returns the device's serial number, or "".
func Serial() string {
	for _, path := range serialFiles {
		text, err := os.ReadFile(path)
		if s := strings.Trim(string(text), "\x00\n "); err == nil && s != "" && !strings.ContainsAny(s, " \t") {
			return s
		}
	}
	return ""
}
