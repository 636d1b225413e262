package backup

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/tidemill/tidemill/agent/durable"
	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/datadir"
)

// A stage is the folder in which a restore is under way, with the file in it that says
// which restore that is, and how far.
type stage struct {
	path string
	is   stageState
	lock *os.File // nil: the folder is not there yet
	dry  bool
}

// A stageState is the content of that file, JSON.
type stageState struct {
	Format int    `json:"format"` // 1
	Backup string `json:"backup"`
	Phase  phase  `json:"phase"`
	Claim  string `json:"claim,omitempty"` // of a move: random, by which it is known again
}

type phase string

const (
	fetching  phase = "fetching"  // files are as in the backup, or half written
	finishing phase = "finishing" // files are being changed: a restore that was stopped here begins anew
)

const stageFile = "restore.json"

// openStage looks at what an earlier restore left. One of another backup, or of a folder that
// is something else, is refused.
func openStage(path, id string, dry bool) (*stage, error) {
	anew, err := ours(path, dry)
	if err != nil {
		return nil, err
	}
	s := &stage{path: path, is: stageState{Format: 1, Backup: id, Phase: fetching}, dry: dry}
	f, err := os.OpenFile(filepath.Join(path, stageFile), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if errors.Is(err, fs.ErrNotExist) {
		entries, err := os.ReadDir(path)
		if err == nil && len(entries) > 0 {
			return nil, unfit("%s is there, and no restore has made it: move it away", path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, unfit("%w", err)
		}
		return s, nil
	}
	if err != nil {
		return nil, unfit("%w", err)
	}
	s.lock = f
	if ok, err := datadir.TryLock(f); !ok {
		return nil, errors.Join(err, unfit("another restore is at work in %s", path), f.Close())
	}
	var was stageState
	raw, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil || len(raw) > 0 && json.Unmarshal(raw, &was) != nil {
		was = stageState{} // torn at its first write: nothing is there
	}
	s.is.Claim = was.Claim
	switch {
	case was.Backup != "" && was.Backup != id:
		return nil, errors.Join(unfit("%s has a restore of backup %s that was not finished: finish it by -id %s, or "+
			"remove the folder", path, was.Backup, was.Backup), f.Close())
	case was.Phase == fetching && !anew || dry:
		s.is.Phase = cmp.Or(was.Phase, fetching)
		return s, nil
	}
	// Its files were changed already: it begins anew.
	if err := s.clear(); err != nil {
		return nil, errors.Join(unfit("%w", err), f.Close())
	}
	return s, nil
}

// clear removes all but the file that says what the folder is.
func (s *stage) clear() error {
	entries, err := os.ReadDir(s.path)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Name() == stageFile {
			continue
		}
		if err := os.RemoveAll(filepath.Join(s.path, e.Name())); err != nil {
			return err
		}
	}
	return durable.SyncFolder(s.path)
}

// begin makes the folder.
func (s *stage) begin() error {
	if s.lock == nil {
		if err := os.MkdirAll(s.path, 0o700); err != nil {
			return err
		}
		f, err := os.OpenFile(filepath.Join(s.path, stageFile), os.O_CREATE|os.O_RDWR|syscall.O_NOFOLLOW, 0o600)
		if err != nil {
			return err
		}
		s.lock = f
		if ok, err := datadir.TryLock(f); !ok {
			return errors.Join(err, fmt.Errorf("another restore is at work in %s", s.path))
		}
	}
	return s.enter(fetching)
}

// enter notes the phase, durably. The file is one sector: it is there as a whole.
func (s *stage) enter(p phase) error {
	s.is.Phase = p
	raw, err := json.Marshal(s.is)
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if err := s.lock.Truncate(int64(len(raw))); err != nil {
		return err
	}
	if _, err := s.lock.WriteAt(raw, 0); err != nil {
		return err
	}
	return errors.Join(s.lock.Sync(), durable.SyncFolder(s.path), durable.SyncFolder(filepath.Dir(s.path)))
}

// remove takes the file away from the folder that the stage has become.
func (s *stage) remove(dir string) error { return os.Remove(filepath.Join(dir, stageFile)) }

func (s *stage) close() {
	if s.lock != nil {
		s.lock.Close() // gives the lock back; nothing was written that is not synced
	}
}

// missing returns the files that are not in the folder as the backup has them.
func (s *stage) missing(all []vault.FileInfo) (missing []vault.FileInfo, err error) {
	if s.lock == nil || s.is.Phase != fetching {
		return all, nil
	}
	for _, f := range all {
		same, err := s.has(f)
		if err != nil {
			return nil, err
		}
		if !same {
			missing = append(missing, f)
		}
	}
	return missing, nil
}

// has says whether a file is there with the bytes that the backup has.
func (s *stage) has(f vault.FileInfo) (bool, error) {
	in, err := os.Open(filepath.Join(s.path, f.Name))
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer in.Close()
	if info, err := in.Stat(); err != nil || info.Size() != f.Size {
		return false, err
	}
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return false, err
	}
	return vault.Digest(sum.Sum(nil)) == f.Sum, nil
}

// fetchers are the files that are read at once: one waits for the target, one for the
// disk, and others unpack.
const fetchers = 4

// fetch writes the files that are missing.
func (r *restore) fetch(ctx context.Context, st *stage, missing []vault.FileInfo) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var done atomic.Int64
	done.Store(r.out.Resume)
	var telling sync.Mutex
	progress := func(name string, n int) {
		at := done.Add(int64(n))
		telling.Lock()
		defer telling.Unlock()
		r.Progress(RestoreProgress{File: name, Done: at, Total: r.out.Bytes})
	}
	next := make(chan vault.FileInfo)
	var wg sync.WaitGroup
	for range fetchers {
		wg.Go(func() {
			for f := range next {
				if err := r.fetchFile(ctx, st, f, progress); err != nil {
					cancel(err)
				}
			}
		})
	}
feeding:
	for _, f := range missing {
		select {
		case next <- f:
		case <-ctx.Done():
			break feeding
		}
	}
	close(next)
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return syncFolders(st.path)
}

func (r *restore) fetchFile(ctx context.Context, st *stage, f vault.FileInfo, progress func(string, int)) (err error) {
	to := filepath.Join(st.path, filepath.FromSlash(f.Name))
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := r.backup.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|syscall.O_NOFOLLOW, 0o600) // attributes come later
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(progressWriter{out, func(n int) { progress(f.Name, n) }}, in); err != nil {
		return err
	}
	return out.Sync()
}

// progressWriter tells how much is written.
type progressWriter struct {
	io.Writer
	progress func(n int)
}

func (t progressWriter) Write(b []byte) (int, error) {
	n, err := t.Writer.Write(b)
	t.progress(n)
	return n, err
}

// syncFolders makes the names of all that is below dir durable.
func syncFolders(dir string) error {
	return filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return durable.SyncFolder(path)
	})
}
