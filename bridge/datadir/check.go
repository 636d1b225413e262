package datadir

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Report is told what Check and Salvage find.
type Report struct {
	Part func(name string) // that is looked at now
	Read func(bytes int)   // so many more bytes
	Lost func(error)       // a piece that is missing or cannot be read; it names the file
}

// Check reads all parts of a data directory that no program uses and changes
// nothing. What is wrong goes to r.Lost; the error is that of a directory that
// cannot be looked at.
func Check(dir, objects string, r Report) error {
	release, err := hold(dir)
	if err != nil {
		return err
	}
	defer release()
	look(dir, Parts(dir, objects), r, nil)
	return nil
}

// Salvage is Check that copies what can be read into the new directory to,
// objects included. The copy does without the parts that were reported lost, and
// its first start logs them.
func Salvage(dir, objects, to string, r Report) error {
	release, err := hold(dir)
	if err != nil {
		return err
	}
	defer release()
	if err := os.Mkdir(to, 0o700); err != nil {
		return fmt.Errorf("the new directory: %w", err)
	}
	part, logLost := "", false
	told := r
	told.Part = func(name string) { part = name; r.Part(name) }
	told.Lost = func(err error) { logLost = logLost || part == "log"; r.Lost(err) }
	look(dir, Parts(dir, objects), told, &to)
	from := filepath.Join(dir, "bridge.d")
	if _, err := os.Stat(from); err == nil {
		r.Part("bridge.d")
		if err := readTree(from, filepath.Join(to, "bridge.d"), r); err != nil {
			return err
		}
	}
	d := Dir{path: dir}
	if ok, err := d.load(); !ok {
		return err
	}
	d.path = to
	for _, p := range Parts(to, filepath.Join(to, "objects")) {
		there, err := p.there()
		switch {
		case err != nil:
			return err
		case !there:
			d.is.Lost = append(d.is.Lost, p.Name)
		case p.Name == "log":
			if err := p.stamp(d.is.ID); err != nil {
				return err
			}
		}
	}
	if logLost {
		d.is.Lost = append(d.is.Lost, logPieces)
	}
	return d.save()
}

// hold claims a data directory without writing to it.
func hold(dir string) (release func() error, err error) {
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

// look reads the parts, and copies them where to is set.
func look(dir string, parts []Part, r Report, to *string) {
	d := Dir{path: dir}
	_, _ = d.load() // without it nobody knows of parts that came late
	for _, p := range parts {
		if p.Kind != File {
			r.Part(p.Name)
		}
		there, err := p.there()
		why := "is missing or empty"
		if p.Kind == Late && err == nil {
			if why, err = p.wrong(slices.Contains(d.is.Late, p.Name)); why == "" && !there && err == nil {
				continue
			}
			there = why == ""
		}
		if !there || err != nil {
			r.Lost(errors.Join(fmt.Errorf("%s %s", p.Path, why), err))
			continue
		}
		if p.Kind == File { // it is read with its folder
			continue
		}
		into := ""
		if to != nil {
			into = filepath.Join(*to, p.Name)
		}
		switch {
		case p.Kind == Bolt:
			if err = CheckBolt(p.Path); err == nil {
				err = readFile(p.Path, into, r)
			}
		case p.Kind == Late:
			err = readFile(p.Path, into, r)
		case p.Name == "log" && into == "":
			err = streams.Verify(p.Path, r.Read, r.Lost)
		case p.Name == "log":
			err = streams.Salvage(p.Path, into, r.Read, r.Lost)
		default:
			err = readTree(p.Path, into, r)
		}
		if err != nil {
			r.Lost(fmt.Errorf("%s: %w", p.Path, err))
		}
	}
}

// readTree reads the files of a folder, and copies them where into is not
// empty. What was not finished is left behind.
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
		case e.IsDir() && e.Name() == ".tmp":
			if to != "" { // objects that hold nothing yet are no lost part
				if err := os.MkdirAll(to, 0o700); err != nil {
					return err
				}
			}
			return fs.SkipDir
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

// readFile reads a file, and copies it to the path to if that is not empty; a
// *.gz is unpacked on the way, so that its sum is checked. A copy that failed is removed.
func readFile(path, to string, r Report) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	in := io.Reader(counted{f, r.Read})
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
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(in)
		if err == nil {
			_, err = io.Copy(io.Discard, z)
		}
		if err != nil {
			return err
		}
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

// counted tells how much was read.
type counted struct {
	io.Reader
	read func(int)
}

func (c counted) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read(n)
	return n, err
}
