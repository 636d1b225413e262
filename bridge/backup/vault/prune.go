package vault

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"
	"time"
)

// A Keep says which backups stay: those that one of its fields keeps, and the newest.
type Keep struct {
	Last   int           // so many of the newest
	Within time.Duration // those that began so long before the newest or later
}

// A Pruned is what Prune removed.
type Pruned struct {
	Backups []string // IDs
	Objects int      // packs and others
	Bytes   int64    // of these
}

// Prune removes backups, and the packs that no other needs. It needs no key. directory
// is the folder of the machine's index, or "" elsewhere: a prune with it that is killed
// does not keep the next from its work. A description that cannot be read stops it,
// since what it needs is not known.
func Prune(ctx context.Context, t Target, keep Keep, directory string) (p Pruned, err error) {
	if keep.Last < 0 || keep.Within < 0 || keep == (Keep{}) {
		return p, errors.New("prune: nothing says what is kept")
	}
	if _, err := readRepository(ctx, t); err != nil {
		return p, err
	}
	owner := randomHex(16)
	if directory != "" {
		h, err := openHome(directory)
		if err != nil {
			return p, err
		}
		defer func() { err = errors.Join(err, h.close()) }()
		owner = h.owner
	}
	l, err := acquire(ctx, t, owner, "a prune")
	if err != nil {
		return p, err
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()
	infos, err := List(ctx, t)
	if err != nil {
		return p, fmt.Errorf("prune: nothing is removed: %w", err)
	}
	now := today(infos)
	for i, info := range infos {
		left := len(infos) - i // with this one
		if left == 1 || left <= keep.Last || now.Sub(info.Time) <= keep.Within {
			continue
		}
		if err := l.renew(ctx); err != nil {
			return p, err
		}
		if err := t.Delete(ctx, infoName(info.ID)); err != nil {
			return p, err
		}
		p.Backups = append(p.Backups, info.ID)
	}
	_, removed, err := clean(ctx, t, l)
	p.Objects, p.Bytes = removed.Objects, removed.Bytes
	return p, err
}

// today is when the newest backup began, or now if that is before it. Ages are counted from
// there: a clock that is ahead, or a time without backups, makes none of them old.
func today(infos []Info) time.Time {
	now := time.Now()
	if n := len(infos); n > 0 && infos[n-1].Time.Before(now) {
		now = infos[n-1].Time
	}
	return now
}

// clean removes manifests without a description, packs that no description names, and what a
// kill left half written. It returns the packs that stay. The lock is held.
func clean(ctx context.Context, t Target, l *lock) (stay map[Digest]int64, p Pruned, err error) {
	infos, err := List(ctx, t)
	if err != nil {
		return nil, p, err
	}
	needed := map[string]bool{}
	for _, i := range infos {
		needed[manifestName(i.ID)] = true
		for _, o := range i.Packs {
			needed[packName(o.Sum)] = true
		}
	}
	if err := l.check(ctx); err != nil {
		return nil, p, err
	}
	stay = map[Digest]int64{}
	for _, folder := range []string{backupFolder, manifestFolder, packFolder} {
		var gone []Entry
		for e, err := range t.List(ctx, folder) {
			if err != nil {
				return nil, p, err
			}
			if sum, ok := packOf(e.Name); ok && needed[e.Name] {
				stay[sum] = e.Size
			}
			if needless(e.Name, needed) {
				gone = append(gone, e)
			}
		}
		for _, e := range gone {
			if err := errors.Join(l.renew(ctx), t.Delete(ctx, e.Name)); err != nil {
				return nil, p, err
			}
			p.Objects++
			p.Bytes += e.Size
		}
	}
	return stay, p, nil
}

// needless tells that an object is one of ours and of no use. What is not ours stays.
func needless(name string, needed map[string]bool) bool {
	if strings.HasSuffix(name, newSuffix) {
		return true
	}
	if _, ok := packOf(name); ok {
		return !needed[name]
	}
	id, ok := strings.CutSuffix(path.Base(name), ".age")
	return ok && strings.HasPrefix(name, manifestFolder) && idPattern.MatchString(id) && !needed[name]
}

func ignoreExists(err error) error {
	if errors.Is(err, ErrExists) {
		return nil
	}
	return err
}
