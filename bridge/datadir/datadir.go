// Package datadir knows what a bridge's data directory is made of and whether
// all of it is there.
//
// A directory that lost a part must not look like a new one: a log that starts
// anew beside things that are known, or a certificate authority that no device
// has heard of. So each part carries the identity of the directory (Dir.Check), and how
// far the log has got is noted outside of it (Note). What was there once and
// is not, or ends early, is an error that names it, until Accept.
//
//	identity   JSON: the identity, and whether all parts carry it
//	note       two slots of 512 bytes: how far log and clock are, see Note
//	lock       held while a program uses the directory
//
// A folder carries the identity in .identity, a bbolt file in its bucket
// "identity". A directory of an earlier version gets one when it is first
// opened.
package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/shadow/boltfile"
)

// A Part is a file or folder that a data directory does not do without.
type Part struct {
	Name  string // as messages name it: its path below the data directory
	Path  string
	Holds string // what is lost with it
	Kind  Kind
}

// A Kind says how a part carries its identity.
type Kind int

// The kinds of parts.
const (
	Folder Kind = iota // with at least one file that is not ours
	Bolt               // a bbolt file
	File               // of a folder that is a part; it carries no identity itself, and is not empty
)

// Parts lists the parts of the data directory dir, whose objects may be elsewhere.
func Parts(dir, objects string) []Part {
	at := func(name, holds string, k Kind) Part { return Part{name, filepath.Join(dir, name), holds, k} }
	return []Part{
		at("pki", "the certificate authority, which devices trust, and the access keys", Folder),
		at("pki/ca.pem", "the certificate authority, which devices trust", File),
		at("pki/ca-key.pem", "the key of the certificate authority, which signs devices' certificates", File),
		at("pki/access-keys", "the keys of those who call the APIs", File),
		at("registry.db", "things, certificates, policies and the rules made through the API", Bolt),
		at("log", "messages, streams, sessions and positions", Folder),
		at("shadow.db", "shadows", Bolt),
		{"objects", objects, "objects that were delivered", Folder},
	}
}

// An identity is the content of the file identity.
type identity struct {
	ID    string    `json:"id"`
	Made  time.Time `json:"made"`
	State state     `json:"state"`
}

type state string

const (
	making    state = "making"    // parts may not be there yet
	accepting state = "accepting" // parts may be lost, somebody said so
	complete  state = "complete"
)

const (
	identityFile = "identity"
	stampFile    = ".identity"
)

// A Dir is a data directory that this process holds.
type Dir struct {
	path    string
	log     *slog.Logger
	release func() error
	parts   []Part
	is      identity
	notes   *notes
}

// Open claims the data directory dir, making it if it is not there, and finds
// out whose it is. parts are those of Parts.
func Open(dir string, parts []Part, log *slog.Logger) (_ *Dir, err error) {
	release, err := claim(dir)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	d := &Dir{path: dir, log: log, release: release, parts: parts}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.notes, err = openNotes(filepath.Join(dir, "note")); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	raw, err := os.ReadFile(filepath.Join(dir, identityFile))
	if err == nil && json.Unmarshal(raw, &d.is) == nil && d.is.ID != "" {
		return d, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	// The file is missing or damaged: what the parts carry counts.
	for _, p := range parts {
		id, err := p.stamped()
		if err != nil {
			return nil, err
		}
		if id != "" {
			d.log.Warn("the data directory's identity was missing, its parts still carry it", "file", filepath.Join(dir, identityFile), "part", p.Name)
			d.is = identity{ID: id, Made: time.Now().UTC(), State: complete}
			return d, d.save()
		}
	}
	var id [16]byte
	rand.Read(id[:])
	d.is = identity{ID: hex.EncodeToString(id[:]), Made: time.Now().UTC(), State: making}
	return d, d.save()
}

// Close lets go of the directory.
func (d *Dir) Close() error {
	var err error
	if d.notes != nil {
		err = d.notes.close()
	}
	return errors.Join(err, d.release())
}

// Accept has the next Check and CheckLog of dir accept what is lost, and tell it.
func (d *Dir) Accept() error {
	if d.is.State == complete {
		d.is.State = accepting
	}
	return d.save()
}

// HowOn adds to an error about a damaged file what to do.
func HowOn(err error) error {
	for _, damage := range []error{streams.ErrCorrupt, boltfile.ErrDamaged, registry.ErrCorrupt, pki.ErrDamaged} {
		if errors.Is(err, damage) {
			return fmt.Errorf("%w\nRestore it from a backup, or take what can be read into a new directory: tidemill-bridge salvage -data DIR NEW", err)
		}
	}
	return err
}

// howOn ends the errors about something that is lost.
const howOn = "\nPut back what is missing, or start with serve -accept-loss to go on without it"

// Check returns an error that lists the parts that were there once and are not,
// or are of another data directory. It comes before any of them is opened, and
// marks those that carry no identity yet.
func (d *Dir) Check() error {
	var lost []string
	for _, p := range d.parts {
		there, err := p.there()
		if err != nil {
			return fmt.Errorf("data_dir: %s: %w", p.Path, err)
		}
		id := ""
		if there {
			if id, err = p.stamped(); err != nil {
				return err
			}
		}
		why := ""
		switch {
		case !there:
			why = "is missing or empty"
		case p.Kind == File || id == d.is.ID:
			continue
		case id == "":
			why = "is not the one that was there: it carries no identity" + p.carriedIn()
		default:
			why = "belongs to another data directory" + p.carriedIn()
		}
		mark := there && p.Kind == Folder || p.Kind == Bolt // a bbolt file is made here
		if d.is.State == making && id == "" {
			if mark {
				if err := p.stamp(d.is.ID); err != nil {
					return fmt.Errorf("data_dir: %s: %w", p.Path, err)
				}
			}
			continue
		}
		lost = append(lost, fmt.Sprintf("%s %s; it held %s", p.Path, why, p.Holds))
		if d.is.State != accepting {
			continue
		}
		d.log.Error("a part of the data directory is lost, the bridge goes on without it, as accepted", "part", p.Path, "why", why, "held", p.Holds)
		if p.Kind == File { // an empty one is made anew only when it is not there
			if err := os.Remove(p.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("data_dir: %w", err)
			}
		}
		if mark {
			if err := p.stamp(d.is.ID); err != nil {
				return fmt.Errorf("data_dir: %s: %w", p.Path, err)
			}
		}
	}
	if len(lost) > 0 && d.is.State != accepting {
		return fmt.Errorf("data_dir: not all that %s tells of is there:\n%s%s", filepath.Join(d.path, identityFile), strings.Join(lost, "\n"), howOn)
	}
	return nil
}

// New says that Complete never came: the directory is new, or of an earlier
// version.
func (d *Dir) New() bool { return d.is.State == making }

// Complete comes when all parts are there, after CheckLog: from now on none may
// be missing.
func (d *Dir) Complete() error {
	for _, p := range d.parts {
		if p.Kind != Folder {
			continue
		}
		if err := p.stamp(d.is.ID); err != nil {
			return fmt.Errorf("data_dir: %s: %w", p.Path, err)
		}
	}
	if d.is.State == complete {
		return nil
	}
	d.is.State = complete
	return d.save()
}

func (d *Dir) save() error {
	raw, err := json.Marshal(d.is)
	if err == nil {
		err = writeFile(d.path, identityFile, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}

// writeFile makes a file durable as a whole: beside, sync, rename, sync the folder.
func writeFile(dir, name string, data []byte) error {
	to := filepath.Join(dir, name)
	f, err := os.OpenFile(to+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), to); err != nil {
		return err
	}
	at, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(at.Sync(), at.Close())
}
