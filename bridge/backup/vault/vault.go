// Package vault keeps backups in a repository: a folder, or a prefix of an S3
// bucket. It knows files with names, and nothing of bridges.
//
// A Writer cuts files in pieces, stores those that the repository does not have
// yet in encrypted packs, and puts a manifest last. A Reader gives the files of one
// backup back; each backup stands by itself. Verify reads a backup without
// restoring it, and Prune removes old ones. FORMAT.md has the bytes, and how they
// are restored by hand.
//
// Everything but a short plain list of the backups is encrypted to age recipients.
// Who writes needs no private key and cannot read what was written. What the
// repository has already is known from an index in a folder of the writer. Without
// that folder the next backup is a full one.
package vault

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/bridge/bounded"
)

// Errors of this package; match with errors.Is.
var (
	// ErrNotFound means that the target has no such backup or object.
	ErrNotFound = errors.New("not found")
	// ErrExists is a Target's answer to a Put under a name that is taken.
	ErrExists = errors.New("exists already")
	// ErrDamaged means that bytes of the repository are not what was written. The
	// error names the object.
	ErrDamaged = errors.New("damaged")
	// ErrKey means that none of the identities opens the backup.
	ErrKey = errors.New("none of the identities is a recipient")
	// ErrGone means that the target had a repository of this writer, and has none.
	ErrGone = errors.New("backups were made there, and now there is no repository")
	// ErrForeign means that a repository or an object belongs to another account or
	// to another repository.
	ErrForeign = errors.New("belongs to another")
	// ErrFull means that the target has no room.
	ErrFull = errors.New("the target is full")
	// ErrLocked means that another writer or prune is at work. The error says which,
	// and since when.
	ErrLocked = errors.New("in use")
	// ErrVersion means that a later version of this program wrote the repository.
	ErrVersion = errors.New("of a later version")
)

// Format is the number of the layout that this program writes, and the highest that
// it reads.
const Format = 1

// An Info is the plain description of a backup, which anyone sees who may read the
// target. It is written last: a backup that has one is complete.
type Info struct {
	Format     int       `json:"format"`
	ID         string    `json:"id"`
	Repository string    `json:"repository"`
	Account    string    `json:"account"` // as of WriterOptions
	Version    string    `json:"version"` // as of WriterOptions
	Time       time.Time `json:"time"`    // at which the writer began
	Took       float64   `json:"took"`    // seconds
	Files      int       `json:"files"`
	Size       int64     `json:"size"`   // bytes of all files
	Stored     int64     `json:"stored"` // bytes that this backup added to the repository
	Parts      []Part    `json:"parts,omitempty"`
	Manifest   Object    `json:"manifest"`
	Packs      []Object  `json:"packs"` // all that the backup needs
}

// A Part sums up the files that have one FileMeta.Part.
type Part struct {
	Name  string `json:"name"`
	Files int    `json:"files"`
	Size  int64  `json:"size"` // bytes
}

// An Object is one of the target's, with the length and SHA-256 of its bytes.
type Object struct {
	Size int64  `json:"size"`
	Sum  Digest `json:"sha256"`
}

// A Digest is 32 bytes, in JSON as hexadecimal digits.
type Digest [32]byte

// String is the digest in hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	if len(text) != 2*len(d) || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("%q, want %d hexadecimal digits", text, 2*len(d))
	}
	_, err := hex.Decode(d[:], text)
	return err
}

// The folders of a repository, and what is in them.
const (
	repositoryName = "repository.json"
	backupFolder   = "backups/"   // ID.json
	manifestFolder = "manifests/" // ID.age
	packFolder     = "packs/"     // SHA-256.age
	lockFolder     = "locks/"     // OWNER-NUMBER.json
)

func infoName(id string) string     { return backupFolder + id + ".json" }
func manifestName(id string) string { return manifestFolder + id + ".age" }
func packName(sum Digest) string    { return packFolder + sum.String() + ".age" }

// packOf is the digest in a pack's name.
func packOf(name string) (d Digest, ok bool) {
	text, ok := strings.CutPrefix(name, packFolder)
	if text, ok2 := strings.CutSuffix(text, ".age"); ok && ok2 {
		return d, d.UnmarshalText([]byte(text)) == nil
	}
	return d, false
}

// idPattern is of backups: the second in which it began, or a later one to be after
// all others, and 4 random bytes.
var idPattern = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{8}$`)

// The bounds of what is read of a target, in bytes.
const (
	maxRepository = 4 << 10
	maxInfo       = 64 << 20 // 500,000 packs, of 16 MiB: 8 TB
	maxLock       = 4 << 10
)

// parseInfo reads the plain description of the backup id.
func parseInfo(id string, data []byte) (Info, error) {
	var i Info
	name := infoName(id)
	if err := json.Unmarshal(data, &i); err != nil {
		return i, fmt.Errorf("%s: %w: %v", name, ErrDamaged, err)
	}
	if i.Format > Format {
		return i, fmt.Errorf("%s: format %d, this program knows %d: %w", name, i.Format, Format, ErrVersion)
	}
	if i.Format < 1 || i.ID != id || !repositoryID.MatchString(i.Repository) {
		return i, fmt.Errorf("%s: %w: format %d, id %.40q of repository %.40q", name, ErrDamaged, i.Format, i.ID,
			i.Repository)
	}
	if i.Manifest.Size <= 0 || i.Files < 0 || i.Size < 0 || i.Stored < 0 {
		return i, fmt.Errorf("%s: %w: sizes of %d, %d, %d and %d", name, ErrDamaged, i.Manifest.Size, i.Files, i.Size,
			i.Stored)
	}
	for _, p := range i.Packs {
		if p.Size <= 0 || p.Size > maxPack {
			return i, fmt.Errorf("%s: %w: pack %v of %d bytes", name, ErrDamaged, p.Sum, p.Size)
		}
	}
	return i, nil
}

// getSmall reads a whole object of at most so many bytes.
func getSmall(ctx context.Context, t Target, name string, most int64) (data []byte, err error) {
	r, err := t.Get(ctx, name, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if data, err = bounded.ReadAll(r, most); errors.Is(err, bounded.ErrTooLong) {
		err = fmt.Errorf("%s: %w: %w", name, ErrDamaged, err)
	}
	return data, err
}

// full adds ErrFull to an error that says that there is no room.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// within stops r with the context's error.
type within struct {
	ctx context.Context
	r   io.Reader
}

func (w within) Read(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}
