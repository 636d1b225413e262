// Package datadir knows what a bridge's data directory is made of and whether
// all of it is there.
//
// A directory that lost a part must not look like a new one: a log that starts
// anew beside things that are known, or a certificate authority that no device
// has heard of. So each part carries the identity of the directory (Dir.Check), and how
// far the log has got is noted outside of it (Note). What was there once and
// is not, or ends early, is an error that names it, unless this run accepts the
// loss. A directory of an earlier version gets an identity when it is first opened.
//
// FORMAT.md has the files that are of this package.
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
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/seal"
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
	Late               // a file of JSON that is a part from when Dir.Write first wrote it
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
		at("broker.json", "the client id at the broker, which keeps a session with messages for it, and the "+
			"subscriptions there",
			Late),
		at(sealFile, "the key of the passwords of delivery streams, which are lost without it", Late),
		{"objects", objects, "objects that were delivered", Folder},
	}
}

// An identity is the content of the file identity.
type identity struct {
	ID    string    `json:"id"`
	Made  time.Time `json:"made"`
	State state     `json:"state"`
	Late  []string  `json:"late,omitempty"` // parts of kind Late that there are
	Seal  string    `json:"seal,omitempty"` // seal.ID of the key in seal.json; "" for not known
	// Version is that of the program that last had all parts, and Formats the numbers
	// that it brought them to: until they differ from a program's own, none is looked up.
	Version string            `json:"version,omitempty"`
	Formats map[string]uint64 `json:"formats,omitempty"`
	Lost    []string          `json:"lost,omitempty"` // parts that Salvage did without, as the first start does
}

type state string

// An earlier version left a third state after a start with -accept-loss that
// failed; it is read as complete, since that start accepted nothing.
const (
	making   state = "making" // parts may not be there yet
	complete state = "complete"
)

const (
	identityFile = "identity"
	stampFile    = ".identity"
	sealFile     = "seal.json"
	logPieces    = "pieces of log" // in identity.Lost: the log is there, but for those
)

// A Dir is a data directory that this process holds.
type Dir struct {
	path    string
	log     *slog.Logger
	release func() error
	parts   []Part
	is      identity
	notes   *notes
	accept  bool // what this run finds missing is accepted
}

// Open claims the data directory dir, making it if it is not there, and finds
// out whose it is. parts are those of Parts. With acceptLoss, Check and CheckLog
// log what they find missing and go on without it; what a later run finds
// missing is not accepted by that.
func Open(dir string, parts []Part, acceptLoss bool, log *slog.Logger) (_ *Dir, err error) {
	release, err := claim(dir)
	if err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	d := &Dir{path: dir, log: log, release: release, parts: parts, accept: acceptLoss}
	defer func() {
		if err != nil {
			err = errors.Join(err, d.Close())
		}
	}()
	if d.notes, err = openNotes(filepath.Join(dir, "note")); err != nil {
		return nil, fmt.Errorf("data_dir: %w", err)
	}
	state, err := d.load()
	if state == sound || err != nil {
		return d, err
	}
	part, err := d.inherit()
	switch {
	case err != nil:
		return nil, fmt.Errorf("data_dir: %w", err)
	case part != "":
		d.log.Warn("the data directory's identity was "+string(state)+
			"; it is written anew as a part carries it: tidemill-bridge check, once the bridge is stopped, says "+
			"whether more is lost",
			"file", filepath.Join(dir, identityFile), "part", part)
		return d, d.save()
	case state == spoilt && !acceptLoss: // it was made with the directory, and synced
		return nil, lossError{fmt.Errorf(
			"data_dir: %s is damaged, and no part is there that carries the identity: all that the bridge held is lost",
			filepath.Join(dir, identityFile))}
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

// A lossError tells what is missing that was there once.
type lossError struct{ error }

// HowOn adds to an error about what is damaged or missing what to do.
func HowOn(err error) error {
	if errors.As(err, &lossError{}) {
		return fmt.Errorf("%w\nPut back what is missing, or start with serve -accept-loss to go on without it", err)
	}
	for _, damage := range []error{streams.ErrCorrupt, boltfile.ErrDamaged, registry.ErrCorrupt, pki.ErrDamaged} {
		if errors.Is(err, damage) {
			return fmt.Errorf(
				"%w\nRestore it from a backup, or take what can be read into a new directory: tidemill-bridge "+
					"salvage -data DIR NEW",
				err)
		}
	}
	return err
}

// A finding is what a look at a part tells.
type finding struct {
	Part
	there bool
	why   string // it is not as it was, or carries no identity yet; "" for all is well
	mark  bool   // it is to carry the identity now; a bbolt file is made with it
	lost  bool
	torn  bool // a bbolt file whose last commit may be taken back
	other bool // it is sound, and another directory's: it is not removed
}

// find asks of a part all that is asked, and changes nothing.
func (p Part) find(is identity) (f finding, err error) {
	f.Part = p
	if f.there, err = p.there(); err != nil {
		return f, fmt.Errorf("%s: %w", p.Path, err)
	}
	if p.Kind == Late {
		if f.why, err = p.wrong(slices.Contains(is.Late, p.Name)); f.why == "" && err == nil && f.there {
			f.why, f.other, err = p.otherKey(is.Seal)
		}
		f.lost = f.why != ""
		return f, err
	}
	id, torn := "", false
	defer func() { f.torn = torn }()
	if f.there {
		if id, torn, err = p.stamped(); err != nil {
			return f, err
		}
	}
	switch {
	case !f.there:
		f.why = "is missing or empty"
	case p.Kind != File && id != "" && id != is.ID:
		f.why = "belongs to another data directory" + p.carriedIn()
	case torn:
		f.why = "has one good meta page of two, so its last commit may be taken back"
	case p.Kind == File || id == is.ID:
		return f, nil
	default:
		f.why = "is not the one that was there: it carries no identity" + p.carriedIn()
	}
	f.mark, f.lost = f.there && p.Kind == Folder || p.Kind == Bolt, is.State == complete || id != "" || torn
	return f, nil
}

// text is the finding in words.
func (f finding) text() string { return fmt.Sprintf("%s %s; it held %s", f.Path, f.why, f.Holds) }

// find looks at the parts and changes nothing.
func (d *Dir) find() (all []finding, err error) {
	for _, p := range d.parts {
		f, err := p.find(d.is)
		if err != nil {
			return nil, fmt.Errorf("data_dir: %w", err)
		}
		if f.why != "" {
			all = append(all, f)
		}
	}
	return all, nil
}

// Check returns an error that lists the parts that were there once and are not,
// or are of another data directory. It comes before any of them is opened, and
// marks those that carry no identity yet. With an error nothing has changed.
func (d *Dir) Check() error {
	found, err := d.find()
	if err != nil {
		return err
	}
	var lost []string
	for _, f := range found {
		if f.lost && !d.accepts(f.Name) {
			lost = append(lost, f.text())
		}
	}
	if len(lost) > 0 {
		return lossError{fmt.Errorf("data_dir: not all that %s tells of is there:\n%s",
			filepath.Join(d.path, identityFile), strings.Join(lost, "\n"))}
	}
	for _, f := range found {
		if f.lost {
			d.log.Error("a part of the data directory is lost, the bridge goes on without it, as accepted", "part",
				f.Path, "why", f.why, "held", f.Holds)
			if f.Kind == File || f.Kind == Late && !f.other { // it is made anew only when it is not there
				if err := os.Remove(f.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return fmt.Errorf("data_dir: %w", err)
				}
			}
		}
		if f.mark {
			if err := f.stamp(d.is.ID); err != nil {
				return fmt.Errorf("data_dir: %s: %w", f.Path, err)
			}
		}
	}
	return nil
}

// ID is the identity of the directory.
func (d *Dir) ID() string { return d.is.ID }

// New says that Complete never came: the directory is new, or of an earlier
// version.
func (d *Dir) New() bool { return d.is.State == making }

// accepts says whether the bridge goes on without a part.
func (d *Dir) accepts(name string) bool { return d.accept || slices.Contains(d.is.Lost, name) }

// Write makes the content of a part of kind Late durable as a whole.
func (d *Dir) Write(name string, data []byte) error {
	if name == sealFile && d.is.Seal != "" { // a crash does not leave a key of another identity
		d.is.Seal = ""
		if err := d.save(); err != nil {
			return err
		}
	}
	if err := durable.Write(filepath.Join(d.path, name), data, 0o600); err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	if slices.Contains(d.is.Late, name) {
		return nil
	}
	d.is.Late = append(d.is.Late, name)
	return d.save()
}

// Complete comes when all parts are there, after CheckLog: from now on none may
// be missing. version is this program's.
func (d *Dir) Complete(version string) error {
	var late []string
	for _, p := range d.parts {
		switch p.Kind {
		case Folder:
			if err := p.stamp(d.is.ID); err != nil {
				return fmt.Errorf("data_dir: %s: %w", p.Path, err)
			}
		case Late:
			there, err := p.there()
			if err != nil {
				return fmt.Errorf("data_dir: %s: %w", p.Path, err)
			}
			if there {
				late = append(late, p.Name)
			}
		}
	}
	key := d.is.Seal
	if slices.Contains(late, sealFile) {
		raw, err := os.ReadFile(filepath.Join(d.path, sealFile))
		if err != nil {
			return fmt.Errorf("data_dir: %w", err)
		}
		key = seal.ID(raw)
	}
	if d.is.State == complete && d.is.Lost == nil && slices.Equal(late, d.is.Late) && key == d.is.Seal &&
		d.noted(version) {
		return nil
	}
	d.is.State, d.is.Late, d.is.Lost, d.is.Seal = complete, late, nil, key
	d.is.Version, d.is.Formats = version, knownFormats()
	return d.save()
}

// inherit takes the identity that the first of the parts carries, and names that
// part, "" for none. The error is that of parts that cannot be read, where none
// carries one.
func (d *Dir) inherit() (part string, err error) {
	var errs []error
	for _, p := range d.parts {
		id, _, err := p.stamped()
		if id != "" && err == nil {
			d.is = identity{ID: id, Made: time.Now().UTC(), State: complete}
			return p.Name, nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// condition is what load finds of the file identity, as messages say it.
type condition string

const (
	sound  condition = "sound"
	absent condition = "missing"
	spoilt condition = "damaged"
)

// load reads the file identity.
func (d *Dir) load() (condition, error) {
	raw, err := os.ReadFile(filepath.Join(d.path, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return absent, nil
	}
	if err != nil {
		return "", fmt.Errorf("data_dir: %w", err)
	}
	var is identity
	if json.Unmarshal(raw, &is) != nil || is.ID == "" {
		return spoilt, nil
	}
	if is.State != making {
		is.State = complete
	}
	d.is = is
	return sound, nil
}

func (d *Dir) save() error {
	raw, err := json.Marshal(d.is)
	if err == nil {
		err = durable.Write(filepath.Join(d.path, identityFile), append(raw, '\n'), 0o600)
	}
	if err != nil {
		return fmt.Errorf("data_dir: %w", err)
	}
	return nil
}
