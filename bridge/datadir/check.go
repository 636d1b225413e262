package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/boltfile"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// A Report is told what Check and Salvage find.
type Report struct {
	Part func(name string) // that is looked at now
	Read func(bytes int)   // so many more bytes
	Lost func(error)       // a piece that is missing or cannot be read; it names the file
}

// Check reads all parts of a data directory that no program uses and changes
// nothing. It asks all that a start asks. What is wrong goes to r.Lost; the error is
// that of a directory that cannot be looked at. objects and declared are where the
// objects and the declarations (bridge.d) are.
func Check(dir, objects, declared string, r Report) error {
	release, err := hold(dir)
	if err != nil {
		return err
	}
	defer release()
	look(dir, objects, declared, "", r)
	return nil
}

// Salvage is Check that copies what can be read into the new directory to, objects
// included, and secrets and functions as far as they are in the data directory. The
// copy does without the parts that were reported lost, and its first start logs them.
func Salvage(dir, objects, declared, to string, r Report) error {
	release, err := hold(dir)
	if err != nil {
		return err
	}
	defer release()
	switch err := os.Mkdir(to, 0o700); {
	case errors.Is(err, fs.ErrExist):
		return fmt.Errorf("the new directory: %s is there already: name one that is not, or remove it", to)
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("the new directory: %s, in which %s is to be, is not there: make it first",
			filepath.Dir(to), filepath.Base(to))
	case err != nil:
		return fmt.Errorf("the new directory: %w", err)
	}
	part, logLost := "", false
	report := r
	report.Part = func(name string) { part = name; r.Part(name) }
	report.Lost = func(err error) { logLost = logLost || part == "log"; r.Lost(err) }
	look(dir, objects, declared, to, report)
	if err := copyBeside(dir, to, r); err != nil {
		return err
	}
	d := Dir{path: dir, parts: Parts(dir, objects)}
	if is, err := d.load(); err != nil {
		return err
	} else if is != sound {
		// Without one in any part the copy is what its first start finds.
		if part, err := d.inherit(); part == "" || err != nil {
			return err
		}
	}
	d.path = to
	for _, p := range Parts(to, filepath.Join(to, "objects")) {
		f, err := p.find(d.is)
		if err != nil {
			return err
		}
		if f.there && p.Name == "log" {
			if err := p.stamp(d.is.ID); err != nil {
				return err
			}
			continue
		}
		if f.why != "" {
			d.is.Lost = append(d.is.Lost, p.Name)
		}
	}
	if logLost {
		d.is.Lost = append(d.is.Lost, logPieces)
	}
	return d.save()
}

// beside are the folders of a data directory that are no parts of it: a start does without
// them. Of functions those that a start does not make anew.
var beside = []string{"bridge.d", "secrets", "lambda/functions", "lambda/code"}

// copyBeside copies what is beside the parts, as far as it is there, and the objects that
// S3 did not take.
func copyBeside(dir, to string, r Report) error {
	for _, name := range beside {
		from := filepath.Join(dir, name)
		if _, err := os.Stat(from); err != nil {
			continue
		}
		r.Part(name)
		if err := readTree(from, filepath.Join(to, name), r); err != nil {
			return err
		}
	}
	kept := filepath.Join(dir, "s3_failed")
	if _, err := os.Stat(kept); err != nil {
		return nil
	}
	r.Part("s3_failed")
	return readObjects(kept, filepath.Join(to, "s3_failed"), r)
}

// hold claims a data directory without writing to it.
func hold(dir string) (release func() error, err error) {
	if err := folder(dir); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "registry.db")); err != nil {
		if _, other := os.Stat(filepath.Join(dir, "log")); other != nil {
			return nil, fmt.Errorf("data_dir: %s is no bridge's data directory: %w", dir, err)
		}
	}
	release, err = claim(dir)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w; stop the bridge first", err)
	}
	return release, nil
}

// look asks all that is asked of a data directory and reads the parts, and copies
// them into the directory to, if that is not "".
func look(dir, objects, declared, to string, r Report) {
	d := Dir{path: dir, parts: Parts(dir, objects), is: identity{State: making}}
	if is, err := d.load(); err != nil {
		r.Lost(err)
	} else if is != sound {
		part, _ := d.inherit() // what cannot be read is told below
		if is == spoilt || part != "" {
			r.Lost(d.noIdentity(is, part))
		}
	}
	for _, p := range d.parts {
		if p.Kind != File {
			r.Part(p.Name)
		}
		f, err := p.find(d.is)
		if into := filepath.Join(to, p.Name); to != "" && p.Kind == Bolt &&
			(f.torn || errors.Is(err, boltfile.ErrDamaged)) {
			if err := salvageBolt(p, into, r); err != nil {
				r.Lost(errors.Join(err, os.Remove(into)))
			}
			continue
		}
		if err != nil {
			r.Lost(err)
			continue
		}
		if f.lost || f.why != "" && !f.there {
			r.Lost(errors.New(f.text()))
		}
		if !f.there || p.Kind == File || p.Kind == Late && f.why != "" {
			continue
		}
		into := ""
		if to != "" {
			into = filepath.Join(to, p.Name)
		}
		switch {
		case p.Kind == Bolt:
			err = readBolt(p, into, r)
		case p.Kind == Late:
			err = readFile(p.Path, into, r)
		case p.Name == "log":
			err = readLog(dir, into, d.is, r)
		case p.Name == "objects":
			err = readObjects(p.Path, into, r)
		default:
			err = readTree(p.Path, into, r)
		}
		if err != nil {
			r.Lost(fmt.Errorf("%s: %w", p.Path, err))
		}
		if p.Name == "pki" {
			lookPKI(p.Path, r)
			if to != "" {
				if err := pki.DropMade(into); err != nil {
					r.Lost(err)
				}
			}
		}
	}
	lookDeclared(filepath.Join(dir, "registry.db"), declared, r)
}

// noIdentity tells that the file identity is missing or damaged, and what a start
// makes of that.
func (d *Dir) noIdentity(is condition, part string) error {
	next := "a start is refused: put it back"
	if part != "" {
		next = "a start writes it anew, as " + part + " carries it"
	}
	return fmt.Errorf("%s is %s; it held the identity of the data directory: %s", filepath.Join(d.path, identityFile),
		is, next)
}

// readBolt reads a bbolt file whose pages are sound, and what its values are.
func readBolt(p Part, into string, r Report) error {
	var damaged []error
	err := verifyBolt(p, func(err error) { damaged = append(damaged, err) })
	if err == nil && len(damaged) > 0 && into != "" {
		return salvageBolt(p, into, r) // it tells them as well
	}
	for _, err := range damaged {
		r.Lost(err)
	}
	return errors.Join(err, readFile(p.Path, into, r))
}

func verifyBolt(p Part, lost func(error)) error {
	if p.Name != "registry.db" {
		return boltstore.Verify(p.Path, lost)
	}
	e, err := bolt.OpenReadOnly(p.Path)
	if err != nil {
		return err
	}
	return errors.Join(registry.Verify(e, lost), e.Close())
}

// salvageBolt writes what can be read of a damaged bbolt file into a new one.
func salvageBolt(p Part, into string, r Report) error {
	if p.Name == "registry.db" {
		return salvageRegistry(p.Path, into, r.Lost)
	}
	return boltstore.Salvage(p.Path, into, r.Lost)
}

// readLog reads the log, and compares how far it has got with what was noted.
func readLog(dir, into string, is identity, r Report) (err error) {
	path, note := filepath.Join(dir, "log"), filepath.Join(dir, "note")
	var at streams.Position
	missing := 0
	if into == "" {
		at, missing, err = pebble.Verify(path, r.Read, r.Lost)
	} else {
		at, missing, err = pebble.Salvage(path, into, r.Read, r.Lost)
	}
	if err != nil || is.State != complete {
		return err
	}
	raw, err := os.ReadFile(note)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	last, err := lastNote(bytes.NewReader(raw))
	if err != nil {
		return err
	}
	if last.Number == 0 {
		r.Lost(fmt.Errorf("%s is missing, empty or damaged; it held how far log and clock had got: the log's end "+
			"cannot be checked",
			note))
	}
	for _, why := range logLost(path, last, at, missing) {
		r.Lost(errors.New(why))
	}
	return nil
}

// lookPKI tells of keys, certificates and grants that do not hold what they should.
func lookPKI(dir string, r Report) {
	grants, errs := pki.Verify(dir, time.Now())
	for _, err := range errs {
		r.Lost(err)
	}
	if _, err := config.ParseAccess(grants); err != nil {
		r.Lost(fmt.Errorf("%s is damaged, mend it or restore it from a backup: %w", pki.GrantsFile(dir), err))
	}
}

// lookDeclared tells of the folders of bridge.d that are gone with what was declared
// in them.
func lookDeclared(registryFile, declared string, r Report) {
	if there, err := (Part{Path: registryFile, Kind: Bolt}).there(); !there || err != nil {
		return
	}
	if _, err := checkBolt(registryFile); err != nil {
		return
	}
	folders, err := declaredIn(registryFile)
	if err != nil {
		r.Lost(fmt.Errorf("%s: %w", registryFile, err))
	}
	for _, name := range folders {
		gone := filepath.Join(declared, name)
		if _, err := os.Stat(gone); err != nil {
			r.Lost(fmt.Errorf("%s is gone; it held declarations, which stay in force as they were", gone))
		}
	}
}

// readObjects reads all objects and compares them with their checksums.
func readObjects(from, into string, r Report) error {
	if into == "" {
		return objects.Verify(from, r.Read, r.Lost)
	}
	// Also where there is none yet: a folder without anything is a lost part.
	if err := os.MkdirAll(filepath.Join(into, ".tmp"), 0o700); err != nil {
		return err
	}
	return objects.Salvage(from, into, r.Read, r.Lost)
}

// readTree reads the files of a folder, and copies them where into is not empty.
func readTree(from, into string, r Report) error {
	return filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			r.Lost(err)
			return nil
		}
		to := ""
		if into != "" {
			to = into + strings.TrimPrefix(path, from)
		}
		switch {
		case e.IsDir() && to != "":
			return os.MkdirAll(to, 0o700)
		case !e.Type().IsRegular():
			return nil
		}
		if err := readFile(path, to, r); err != nil {
			r.Lost(fmt.Errorf("%s: %w", path, err))
		}
		return nil
	})
}

// readFile reads a file, and copies it to the path to if that is not empty. A
// copy that failed is removed.
func readFile(path, to string, r Report) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := io.Reader(countingReader{f, r.Read})
	if to != "" {
		out, failed := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if failed != nil {
			return failed
		}
		defer func() {
			if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
				err = errors.Join(err, os.Remove(to))
			}
		}()
		in = io.TeeReader(in, out)
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// countingReader tells how much was read.
type countingReader struct {
	io.Reader
	read func(int)
}

func (c countingReader) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read(n)
	return n, err
}

// salvageRegistry writes what can be read of a damaged registry into a new file.
func salvageRegistry(from, into string, lost func(error)) error {
	e, err := bolt.Open(into, bolt.Options{})
	if err != nil {
		return err
	}
	return errors.Join(registry.Salvage(from, e, lost), e.Close())
}

// declaredIn lists the folders of what a registry's file keeps of declarations.
func declaredIn(file string) ([]string, error) {
	e, err := bolt.OpenReadOnly(file)
	if err != nil {
		return nil, err
	}
	folders, err := registry.DeclaredIn(e)
	return folders, errors.Join(err, e.Close())
}
