package objects

import (
	"errors"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"syscall"
)

// batch is how many names of one folder are held at once. A larger folder is
// read again for each.
const batch = 1000

// A walker goes through the keys of a bucket in the order of their bytes. It
// holds batch names for each folder on its way, whatever the bucket has.
type walker struct {
	s              *Store
	bucket, prefix string
	after          string // keys up to this one are passed over
	skip           string // as are those that begin with this; "": none do. It may change on the way
	fold           bool   // all keys of a folder behind the prefix are one, that ends with a slash
	err            error

	yield   func(key string, folded bool) bool
	escaped []string // the next keys of those that are no path
	last    string   // of those that escaped had
	more    bool     // there may be more than in escaped
}

// walk yields the keys of a bucket behind after. An error ends it and is put where
// failed points to, if anywhere.
func (s *Store) walk(bucket, prefix, after string, failed *error) iter.Seq[string] {
	return func(yield func(string) bool) {
		w := &walker{s: s, bucket: bucket, prefix: prefix, after: after}
		w.keys(func(key string, _ bool) bool { return yield(key) })
		if failed != nil {
			*failed = w.err
		}
	}
}

// keys calls yield for each key, or folder in fold, until that returns false.
func (w *walker) keys(yield func(key string, folded bool) bool) {
	w.yield, w.last, w.more = yield, w.after, true
	if !w.folder(w.bucket, "") {
		return
	}
	for {
		key, ok := w.nextEscaped()
		if !ok || !yield(key, false) {
			return
		}
	}
}

// passed says whether an entry is none of those that are wanted: a key, or with
// a slash at its end a folder.
func (w *walker) passed(entry string, folder bool) bool {
	switch {
	case w.skip != "" && strings.HasPrefix(entry, w.skip):
		return true
	case folder:
		return !strings.HasPrefix(entry, w.prefix) && !strings.HasPrefix(w.prefix, entry) ||
			entry <= w.after && !strings.HasPrefix(w.after, entry)
	}
	return !strings.HasPrefix(entry, w.prefix) || entry <= w.after
}

// folder goes through the folder dir, whose keys begin with base. It returns
// false when there is to be no more.
func (w *walker) folder(dir, base string) bool {
	for from := ""; ; {
		entries, all, err := w.entries(dir, base, from)
		if err != nil {
			w.err = err
			return false
		}
		for _, e := range entries {
			if from = e; !w.entry(dir, base, e) {
				return false
			}
		}
		if all {
			return true
		}
	}
}

// entry is folder for the entry e, which ends with a slash if it is one itself.
func (w *walker) entry(dir, base, e string) bool {
	key, folder := base+e, strings.HasSuffix(e, "/")
	switch {
	case w.passed(key, folder):
		return true
	case !folder:
		return w.emit(key, false)
	case !w.fold || !strings.HasPrefix(key, w.prefix) || key == w.prefix:
		return w.folder(path.Join(dir, e), key)
	}
	// Is there anything in it?
	found := false
	in := &walker{s: w.s, bucket: w.bucket, prefix: key, after: w.after}
	in.yield = func(string, bool) bool { found = true; return false }
	if !in.folder(path.Join(dir, e), key) && in.err != nil {
		w.err = in.err
		return false
	}
	return !found || w.emit(key, true)
}

// emit yields key, and those before it that are no path.
func (w *walker) emit(key string, folded bool) bool {
	for {
		next, ok := w.peekEscaped()
		if !ok || next > key || next == key && folded {
			break
		}
		w.escaped = w.escaped[1:]
		if next != key && !w.yield(next, false) { // what is at the path counts
			return false
		}
	}
	return w.passed(key, folded) || w.yield(key, folded)
}

// entries are the next of a folder behind from, sorted as keys are; all: there are
// no more.
func (w *walker) entries(dir, base, from string) (names []string, all bool, err error) {
	if len(base) > maxKey {
		return nil, true, nil
	}
	err = w.s.readFolder(dir, func(e fs.DirEntry) {
		name := e.Name()
		switch {
		case base == "" && name == own:
			return
		case isFolder(e):
			name += "/"
		case !isFile(e) || len(base)+len(name) > maxKey: // no object
			return
		}
		if name > from && !w.passed(base+name, strings.HasSuffix(name, "/")) {
			names = smallest(append(names, name))
		}
	})
	names, all = cut(names)
	return names, all, err
}

// smallest keeps the first of names once there are many.
func smallest(names []string) []string {
	if len(names) <= 4*batch {
		return names
	}
	slices.Sort(names)
	clear(names[batch+1:])
	return names[:batch+1]
}

// cut is a sorted batch of names; all: it has all.
func cut(names []string) (first []string, all bool) {
	slices.Sort(names)
	if len(names) <= batch {
		return names, true
	}
	return names[:batch], false
}

func isFolder(e fs.DirEntry) bool { return e.Type().IsDir() }
func isFile(e fs.DirEntry) bool   { return e.Type().IsRegular() }

// readFolder calls each for what a folder has; none if there is no such folder.
func (s *Store) readFolder(dir string, each func(fs.DirEntry)) error {
	f, err := s.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		entries, err := f.ReadDir(512)
		for _, e := range entries {
			each(e)
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		}
	}
}

// peekEscaped is the next key of those that are no path.
func (w *walker) peekEscaped() (string, bool) {
	for {
		for len(w.escaped) > 0 && w.passed(w.escaped[0], false) {
			w.escaped = w.escaped[1:]
		}
		if len(w.escaped) > 0 {
			return w.escaped[0], true
		}
		if !w.more || w.err != nil {
			return "", false
		}
		var names []string
		w.err = w.findEscaped("", &names)
		var all bool
		if w.escaped, all = cut(names); len(w.escaped) > 0 {
			w.last = w.escaped[len(w.escaped)-1]
		}
		w.more = !all
	}
}

func (w *walker) nextEscaped() (string, bool) {
	key, ok := w.peekEscaped()
	if ok {
		w.escaped = w.escaped[1:]
	}
	return key, ok
}

// findEscaped collects the keys behind w.last in the folder at, below
// escapedKeys.
func (w *walker) findEscaped(at string, names *[]string) error {
	var folders []string
	err := w.s.readFolder(path.Join(w.bucket, escapedKeys, at), func(e fs.DirEntry) {
		switch name := path.Join(at, e.Name()); {
		case isFolder(e) && strings.HasSuffix(name, "+"):
			folders = append(folders, name)
		case isFile(e):
			if key := unescape(name); key > w.last && !w.passed(key, false) {
				*names = smallest(append(*names, key))
			}
		}
	})
	for _, f := range folders {
		if err == nil {
			err = w.findEscaped(f, names)
		}
	}
	return err
}
