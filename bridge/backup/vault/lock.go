package vault

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/tidemill/tidemill/agent/durable"
)

// Writers and prunes take turns, since what one deletes another may be about to name.
// Each puts a lock of its own and looks for others then; of two at once both may give
// way. A lock is renewed while its owner works, and one that was not for lockStale is
// dead. Ages are differences of the target's times, so clocks need not agree.
const (
	lockRenew = 5 * time.Minute
	lockStale = time.Hour
)

// A lock is held in a target.
type lock struct {
	t       Target
	owner   string
	purpose string
	name    string
	since   time.Time // by our clock: when it was put
}

// A lockNote is what a lock says to people.
type lockNote struct {
	Host    string    `json:"host"`
	PID     int       `json:"pid"`
	Purpose string    `json:"purpose"`
	Time    time.Time `json:"time"`
}

var lockPattern = regexp.MustCompile(`^locks/([0-9a-f]{32})-[0-9a-f]{16}\.json(\.[0-9a-f]{8}\.new)?$`)

// acquire locks t. owner has the folder's lock, so that other locks of owner are dead.
func acquire(ctx context.Context, t Target, owner, purpose string) (*lock, error) {
	l := &lock{t: t, owner: owner, purpose: purpose}
	if err := l.put(ctx); err != nil {
		return nil, err
	}
	if err := l.excludeOthers(ctx); err != nil {
		return nil, errors.Join(err, l.release(ctx))
	}
	return l, nil
}

// put writes a lock with a new name.
func (l *lock) put(ctx context.Context) error {
	host, _ := os.Hostname() // "" tells less
	data, err := json.Marshal(lockNote{host, os.Getpid(), l.purpose, time.Now().UTC()})
	if err != nil {
		return err
	}
	var n [8]byte
	_, _ = rand.Read(n[:])
	name := fmt.Sprintf("%s%s-%x.json", lockFolder, l.owner, n)
	err = l.t.Put(ctx, name, bytes.NewReader(data), int64(len(data)))
	if errors.Is(err, ErrFull) { // a file without bytes needs no block, and a prune makes room
		err = l.t.Put(ctx, name, bytes.NewReader(nil), 0)
	}
	if err != nil {
		return err
	}
	l.name, l.since = name, time.Now()
	return nil
}

// excludeOthers removes dead locks, and returns ErrLocked if there is one that lives.
func (l *lock) excludeOthers(ctx context.Context) error {
	locks := map[string]time.Time{}
	for e, err := range l.t.List(ctx, lockFolder) {
		if err != nil {
			return err
		}
		locks[e.Name] = e.Modified
	}
	ours, ok := locks[l.name]
	if !ok {
		return fmt.Errorf("%s is gone: %w", l.name, ErrLocked)
	}
	for name, modified := range locks {
		m := lockPattern.FindStringSubmatch(name)
		if name == l.name || m == nil {
			continue
		}
		if m[1] != l.owner && ours.Sub(modified) < lockStale {
			return l.held(ctx, name, modified)
		}
		if err := l.t.Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// held is the error that tells who has the lock name.
func (l *lock) held(ctx context.Context, name string, modified time.Time) error {
	var note lockNote
	data, err := getSmall(ctx, l.t, name, maxLock)
	if err == nil {
		err = json.Unmarshal(data, &note)
	}
	if err != nil {
		note = lockNote{Purpose: "another", Host: "an unknown host"}
	}
	return fmt.Errorf("%s: %w: %.40s of process %d on %.100q works on it, as of %s", l.t, ErrLocked, note.Purpose,
		note.PID, note.Host, modified.UTC().Format(time.RFC3339))
}

// renew puts a fresh lock in the place of one that gets old.
func (l *lock) renew(ctx context.Context) error {
	if time.Since(l.since) < lockRenew {
		return nil
	}
	if err := l.check(ctx); err != nil {
		return err
	}
	old := l.name
	if err := l.put(ctx); err != nil {
		return err
	}
	return l.t.Delete(ctx, old)
}

// check returns ErrLocked if the lock was taken away.
func (l *lock) check(ctx context.Context) error {
	for e, err := range l.t.List(ctx, lockFolder) {
		if err != nil {
			return err
		}
		if e.Name == l.name {
			return nil
		}
	}
	return fmt.Errorf("%s: %w: the lock was taken for dead after %v without a sign of life", l.t, ErrLocked, lockStale)
}

// release removes the lock, in a minute at most.
func (l *lock) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return l.t.Delete(ctx, l.name)
}

// A home is a folder of the writer, held by one process at a time. It has the
// indexes, and a random name by which the folder's locks are known.
type home struct {
	folder string
	owner  string
	file   *os.File
}

var ownerPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// openHome makes the folder if need be and locks it.
func openHome(folder string) (h *home, err error) {
	if !filepath.IsAbs(folder) {
		return nil, fmt.Errorf("folder of the index %q: want an absolute path", folder)
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(folder, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close())
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: %w by another process", f.Name(), ErrLocked)
	}
	path := filepath.Join(folder, "owner")
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if !ownerPattern.Match(data) {
		data = []byte(randomHex(16))
		if err := durable.Write(path, data, 0o600); err != nil {
			return nil, err
		}
	}
	return &home{folder, string(data), f}, nil
}

func (h *home) close() error { return h.file.Close() }

func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never fails
	return fmt.Sprintf("%x", b)
}
