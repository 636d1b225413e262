package datadir

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/control/registry/bolt"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/format"
)

// A Migration is a part whose format a start raises: an earlier version refuses it
// from then on.
type Migration struct {
	Part    string // its name
	Has, To uint64 // formats
}

func (m Migration) String() string {
	return fmt.Sprintf("%s from format %d to %d", m.Part, m.Has, m.To)
}

// Migrations tells what a start over the data directory dir would raise, and the
// version that last ran over it ("" for not known). No program may use the directory.
func Migrations(dir string) (all []Migration, last string, err error) {
	if err := Free(dir); err != nil {
		return nil, "", err
	}
	d := Dir{path: dir, parts: Parts(dir, "")}
	if _, err := d.load(); err != nil {
		return nil, "", err
	}
	all, err = d.Migrations()
	return all, d.is.Version, err
}

// Migrations tells what opening the parts of the directory will raise. The error names
// parts whose format could not be read; opening them says what is wrong.
func (d *Dir) Migrations() (all []Migration, err error) {
	for _, p := range d.parts {
		look := formats[p.Name]
		there, failed := p.there()
		if look.read == nil || !there || d.is.Formats[p.Name] == look.knows {
			err = errors.Join(err, failed)
			continue
		}
		has, failed := look.read(p.Path)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", p.Path, failed))
		} else if has < look.knows {
			all = append(all, Migration{p.Name, has, look.knows})
		}
	}
	return all, err
}

// WayBack says what raising formats means for who may want the earlier version back;
// last is its name, if that is known.
func WayBack(all []Migration, last string) string {
	var steps []string
	for _, m := range all {
		steps = append(steps, m.String())
	}
	from := "an earlier version"
	if last != "" {
		from = "version " + last
	}
	return fmt.Sprintf("a start brings data of %s to newer formats (%s), which that version refuses from then on: "+
		"the way back is a backup or a copy of the data directory made before the start", from, strings.Join(steps, ", "))
}

// Last is the version that last had the directory complete, "" for not known.
func (d *Dir) Last() string { return d.is.Version }

// Newer adds to an error about data of a newer version which one that was, and which
// this one is.
func (d *Dir) Newer(err error, version string) error {
	if d == nil || d.is.Version == "" || !errors.Is(err, format.ErrNewer) {
		return err
	}
	return fmt.Errorf("%w\n%s was last used by tidemill-bridge %s, and this is %s", err, d.path, d.is.Version, version)
}

// knownFormats are the formats that this program brings parts to.
func knownFormats() map[string]uint64 {
	all := map[string]uint64{}
	for name, f := range formats {
		all[name] = f.knows
	}
	return all
}

// formats are the parts that carry a number (package format), and how it is read.
var formats = map[string]struct {
	knows uint64
	read  func(path string) (uint64, error)
}{
	"registry.db": {registry.FormatNumber, func(path string) (uint64, error) {
		e, err := bolt.OpenReadOnly(path)
		if err != nil {
			return 0, err
		}
		has, err := registry.Format(e)
		return has, errors.Join(err, e.Close())
	}},
	"log":       {pebble.FormatNumber, pebble.Format},
	"shadow.db": {boltstore.FormatNumber, boltstore.Format},
}

// noted says that the directory's identity has this program's version and formats.
func (d *Dir) noted(version string) bool {
	return d.is.Version == version && maps.Equal(d.is.Formats, knownFormats())
}
