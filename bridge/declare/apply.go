package declare

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
)

// An outcome is what became of a file.
type outcome struct {
	sum   [sha256.Size]byte
	name  string // of the stream that it declares; "" for rules
	holds int    // declarations in force, perhaps of an earlier content
	err   error  // why the file, as it is now, is not in force
}

// A folder is what was found in a folder of bridge.d.
type folder struct {
	dir   string
	files []file
	err   error // why it cannot be seen
}

// Apply applies the files: streams, tables, delivery streams, rules and connectors. A
// file that is wrong changes nothing and is reported; what it declared before
// stays in force, over restarts too. It returns how many declarations of files
// hold. What was declared and is no longer there stays, data and all, except
// tables, rules and connectors: one without its file ends. Unless all is set, streams
// whose file did not change are left as they are, perhaps changed by hand since.
func (d *Dir) Apply(all bool) (holds int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.lastGood.load(); err != nil {
		return 0, fmt.Errorf("bridge_d.dir: what was declared before: %w", err)
	}
	found := d.read()
	d.warnNotRead()
	first, before := d.applied == nil, d.applied
	var now map[string]outcome
	var failed error
	if first {
		now, failed = d.applyAtStart(found)
	} else {
		now, failed = d.applyFolders(found, all)
	}
	if failed != nil {
		d.opts.Log.Error("rules could not be put in force", "err", failed)
	}
	changes := changesOf(before, now)
	d.logChanges(changes)
	if !first {
		d.report(changes)
	}
	d.applied = now
	d.noteMissing(first)
	gone, err := d.lastGood.keep(found, now)
	if err != nil {
		d.opts.Log.Error("what is declared cannot be kept for the next start, will retry", "err", err)
	}
	d.logGone(gone, now, first)
	var errs []error
	for _, path := range slices.Sorted(maps.Keys(now)) {
		holds += now[path].holds
		if err := now[path].err; err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
		}
	}
	d.refused.Store(int64(len(errs)))
	return holds, errors.Join(append(errs, failed)...)
}

// A kind is what one folder of bridge.d declares.
type kind struct {
	folder string
	// apply applies what was found there, which may be that it cannot be seen, notes
	// in now what became of each file, and returns why rules could not be put in force.
	apply func(f folder, all bool, now map[string]outcome) (failed error)
}

// kinds are all, in the order in which they are applied: later ones name the earlier.
func (d *Dir) kinds() []kind {
	return []kind{
		{"streams", d.applying(d.parseStream, nil)},
		{"tables", d.applying(d.parseTable, d.keepTables)},
		{"delivery-streams", d.applying(d.parseDelivery, nil)},
		{"rules", d.applyRules},
		{"connectors", d.applyConnectors},
	}
}

// applying applies a folder of streams or tables by parse; after, unless nil, is
// called then, also when the folder cannot be seen.
func (d *Dir) applying(parse func([]byte) (declaration, error), after func(dir string, now map[string]outcome)) func(
	folder, bool, map[string]outcome) error {
	return func(f folder, all bool, now map[string]outcome) error {
		if f.err == nil {
			d.applyStreams(f.files, parse, all, now)
		}
		if after != nil {
			after(f.dir, now)
		}
		return nil
	}
}

func (d *Dir) applyRules(f folder, _ bool, now map[string]outcome) error {
	if f.err != nil {
		return d.opts.Rules.keep()
	}
	held, failed := d.opts.Rules.apply(f.files)
	for path, r := range held {
		now[path] = outcome{sum: r.sum, holds: len(r.held), err: r.err}
	}
	return failed
}

func (d *Dir) applyConnectors(f folder, _ bool, now map[string]outcome) error {
	if f.err == nil {
		maps.Copy(now, d.opts.Connectors.apply(f.files))
	}
	return nil
}

// read reads all folders.
func (d *Dir) read() (found []folder) {
	for _, dir := range d.folders() {
		found = append(found, d.lastGood.read(dir))
	}
	return found
}

// applyAtStart is applyFolders of a start: what is wrong then has its last good
// version, as if it had become wrong while the bridge ran.
func (d *Dir) applyAtStart(found []folder) (now map[string]outcome, failed error) {
	now, failed = d.applyFolders(found, true)
	good, some := d.lastGood.substitute(found, now)
	if !some {
		return now, failed
	}
	d.applied, _ = d.applyFolders(good, true)
	return d.applyFolders(found, true)
}

// warnNotRead warns, once each, of files that may be meant as declarations.
func (d *Dir) warnNotRead() {
	now := map[string]bool{}
	for _, dir := range d.folders() {
		for _, path := range notRead(dir) {
			if now[path] = true; !d.notRead[path] {
				d.opts.Log.Warn("a file of bridge.d is not read: want a JSON document in a file whose name ends "+
					"in .json",
					"file", path)
			}
		}
	}
	d.notRead = now
}

// applyFolders applies what was found, in the place of d.applied, and returns
// what became of each file, and why rules could not be put in force.
func (d *Dir) applyFolders(found []folder, all bool) (now map[string]outcome, failed error) {
	now = map[string]outcome{}
	for _, f := range found {
		if f.err == nil {
			continue
		}
		for path, was := range d.applied { // what cannot be seen is not gone
			if filepath.Dir(path) == f.dir {
				now[path] = was
			}
		}
		now[f.dir] = outcome{err: f.err}
	}
	for i, k := range d.kinds() {
		if err := k.apply(found[i], all, now); err != nil {
			failed = err
		}
	}
	return now, failed
}

// stays says whether something is in force of the file at path, or of a file of
// the folder there.
func stays(all map[string]outcome, path string) bool {
	if all[path].holds > 0 {
		return true
	}
	for other, o := range all {
		if filepath.Dir(other) == path && o.holds > 0 {
			return true
		}
	}
	return false
}

// A takenError says that what a file declares is declared elsewhere already, so
// that nothing is missing.
type takenError struct{ error }

// noteMissing notes the files of a start that are wrong and have no earlier
// version: the bridge is not ready until each is mended or gone. One that comes
// while the bridge runs takes nothing away and is only refused.
func (d *Dir) noteMissing(first bool) {
	var missing []string
	for path, o := range d.applied {
		if o.err == nil || stays(d.applied, path) || errors.As(o.err, new(takenError)) {
			continue
		}
		if was := d.missing.Load(); first || was != nil && slices.Contains(*was, path) {
			missing = append(missing, path)
		}
	}
	slices.Sort(missing)
	d.missing.Store(&missing)
}
