package vault

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"filippo.io/age"
)

// WriterOptions are the settings of a Writer.
type WriterOptions struct {
	Recipients []age.Recipient // one at least
	// Directory is the folder of the index, an absolute path. It is made if need be, and
	// one Writer or Prune uses it at a time.
	Directory string
	Account   string // whose the repository is: a Writer of another is refused
	Owner     string // of one repository there is one in an account; "": none is asked for
	Version   string // of the program, for Info
	// New has a repository made where backups were made before and is none now. Without
	// it that is ErrGone.
	New   bool
	Total int64 // bytes that all files will have, for Progress; 0: unknown
	// Progress is called in the goroutine that writes, after each piece; nil: nobody is.
	Progress func(Progress)
	Log      *slog.Logger // nil: slog.Default

	packSize uint32 // of tests; 0: packTarget
}

// A Progress is how far a Writer or Verify is.
type Progress struct {
	File  string // that is being read
	Done  int64  // bytes of files
	Total int64  // as of WriterOptions, or of the backup; 0: unknown
	Sent  int64  // bytes given to the target
}

// A Writer writes one backup. It is used by one goroutine, and closed.
//
// It takes some 40 MB of memory for two packs, and for each piece that is in the index
// or in the backup some 200 bytes: 3 KB for 1 MB of files that may change, 0.2 KB for
// 1 MB of those with a FileMeta.Same.
type Writer struct {
	t     Target
	o     WriterOptions
	repo  repository
	id    string
	began time.Time

	home  *home
	lock  *lock
	index *index

	packer  *packer
	spare   *bytes.Buffer // for the next pack; nil: the one on its way has it
	sending chan error    // one result; nil: no pack is on its way
	onWay   pack
	fresh   map[mac]bool // pieces of packs that are not stored yet

	files []writtenFile
	names map[string]bool
	same  map[string]bool // FileMeta.Same of files
	done  int64           // bytes of files
	sent  int64           // bytes put
	buf   []byte
	err   error // why nothing more can be written
}

// NewWriter begins a backup. It locks the target and the folder of the index, makes the
// repository if there is none, and compares the index with it.
func NewWriter(ctx context.Context, t Target, o WriterOptions) (w *Writer, err error) {
	if len(o.Recipients) == 0 {
		return nil, errors.New("backup: no recipients")
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	w = &Writer{t: t, o: o, began: time.Now().UTC(), spare: newPackBuffer(), fresh: map[mac]bool{},
		names: map[string]bool{}, same: map[string]bool{}}
	defer func() {
		if err != nil {
			w, err = nil, errors.Join(err, w.Close())
		}
	}()
	if w.home, err = openHome(o.Directory); err != nil {
		return w, err
	}
	if !o.New {
		if err := CheckThere(ctx, t, o.Directory); err != nil {
			return w, err
		}
	}
	if w.repo, err = openRepository(ctx, t, o.Account, o.Owner); err != nil {
		return w, err
	}
	if w.lock, err = acquire(ctx, t, w.home.owner, "a backup"); err != nil {
		return w, err
	}
	if w.id, err = nextID(ctx, t, w.began); err != nil {
		return w, err
	}
	id, _ := hex.DecodeString(w.repo.ID) // as parseRepository checked
	x, why, err := openIndex(o.Directory, [16]byte(id), readersOf(o.Recipients))
	if err != nil {
		return w, err
	}
	if why != nil {
		o.Log.Info("the backup stores everything", "target", t.String(), "why", why)
	}
	w.index = x
	there, err := listPacks(ctx, t)
	if err != nil {
		return w, err
	}
	x.keep(there)
	w.packer, err = newPacker(o.Recipients, x.key)
	return w, err
}

func newPackBuffer() *bytes.Buffer {
	b := new(bytes.Buffer)
	b.Grow(packTarget + 2*pieceFixed)
	return b
}

// idTime is the time in an ID, as time.Format has it.
const idTime = "20060102T150405Z"

// nextID is a name after those of all backups, whatever the clock did since: they are
// in order by their names.
func nextID(ctx context.Context, t Target, now time.Time) (string, error) {
	ids, err := listIDs(ctx, t)
	if err != nil {
		return "", err
	}
	if len(ids) > 0 {
		last, err := time.Parse(idTime, ids[len(ids)-1][:len(idTime)])
		if err == nil && now.Before(last.Add(time.Second)) {
			now = last.Add(time.Second)
		}
		if err != nil || now.Year() > 9999 {
			return "", fmt.Errorf("%s: backup %s: %w: nothing sorts behind its name: remove it", t, ids[len(ids)-1],
				ErrDamaged)
		}
	}
	return now.Format(idTime) + "-" + randomHex(4), nil
}

// ID is what the backup will be called.
func (w *Writer) ID() string { return w.id }

// Close ends a writer, committed or not. It waits for the pack that is on its way.
func (w *Writer) Close() error {
	var err error
	if w.sending != nil {
		_ = w.sentOne() // the pack is of use to the next backup, if it arrived
	}
	if w.lock != nil {
		err = w.lock.release(context.Background())
	}
	if w.home != nil {
		err = errors.Join(err, w.home.close())
	}
	w.lock, w.home, w.err = nil, nil, errors.New("backup: it is closed")
	return err
}
