package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"filippo.io/age"
)

// Commit ends the backup: from here on it is listed. about is kept for Reader.About. What no
// backup needs is removed then; a failure of that is logged alone.
func (w *Writer) Commit(ctx context.Context, about json.RawMessage) (info Info, err error) {
	if w.err != nil {
		return info, w.err
	}
	defer func() {
		if err != nil {
			w.err = fmt.Errorf("backup %s: %w", w.id, err)
			err = w.err
		}
	}()
	if w.packer.in != nil {
		if err := w.send(ctx); err != nil {
			return info, err
		}
	}
	if err := w.sentOne(); err != nil {
		return info, err
	}
	m, err := w.manifest(about)
	if err != nil {
		return info, err
	}
	if info, err = w.put(ctx, m); err != nil {
		return info, err
	}
	w.err = errors.New("backup: it is committed")
	w.tidy(ctx, m)
	return info, nil
}

// manifest is of all files, with the places of their pieces.
func (w *Writer) manifest(about json.RawMessage) (*manifest, error) {
	if len(about) == 0 {
		about = json.RawMessage("null")
	}
	if len(about) > maxAbout || !json.Valid(about) {
		return nil, fmt.Errorf("%d bytes about it, want JSON of at most %d", len(about), maxAbout)
	}
	m := &manifest{head: head{Format, w.id, w.repo.ID, w.began, w.index.key, about}}
	numbers := map[Digest]uint32{}
	for _, f := range w.files {
		f.first, f.pieces = len(m.pieces), len(f.macs)
		for _, name := range f.macs {
			p, ok := w.index.pieces[name]
			if !ok {
				return nil, fmt.Errorf("%s: no place of piece %v", f.Name, name)
			}
			n, ok := numbers[p.pack]
			if !ok {
				n = uint32(len(m.packs))
				numbers[p.pack] = n
				m.packs = append(m.packs, Object{w.index.packs[p.pack], p.pack})
			}
			m.pieces = append(m.pieces, pieceLine{n, p.offset, p.stored, p.size, name})
		}
		m.files = append(m.files, f.FileInfo)
	}
	if len(m.files) > maxFiles || len(m.packs) > maxPacks || len(m.pieces) > maxPieces {
		return nil, fmt.Errorf("%d files in %d pieces of %d packs, want at most %d, %d and %d", len(m.files),
			len(m.pieces), len(m.packs), maxFiles, maxPieces, maxPacks)
	}
	return m, nil
}

// put stores the manifest, and the description last.
func (w *Writer) put(ctx context.Context, m *manifest) (Info, error) {
	if err := w.complete(ctx, m.packs); err != nil {
		return Info{}, err
	}
	var b bytes.Buffer
	in, err := age.Encrypt(&b, w.o.Recipients...)
	if err == nil {
		err = errors.Join(m.write(in), in.Close())
	}
	if err != nil {
		return Info{}, err
	}
	info := Info{Format: Format, ID: w.id, Repository: w.repo.ID, Account: w.o.Account, Version: w.o.Version,
		Time: w.began, Took: time.Since(w.began).Round(time.Millisecond).Seconds(), Files: len(m.files), Size: w.size(),
		Stored: w.sent + int64(b.Len()), Parts: w.parts(), Packs: m.packs,
		Manifest: Object{int64(b.Len()), sha256.Sum256(b.Bytes())}}
	if err := w.t.Put(ctx, manifestName(w.id), &b, int64(b.Len())); err != nil {
		return Info{}, err
	}
	if err := w.took(ctx, manifestFolder, manifestName(w.id), info.Manifest.Size); err != nil {
		return Info{}, err
	}
	data, err := json.Marshal(info)
	if err != nil {
		return Info{}, err
	}
	if err := w.t.Put(ctx, infoName(w.id), bytes.NewReader(data), int64(len(data))); err != nil {
		return Info{}, err
	}
	return info, w.took(ctx, backupFolder, infoName(w.id), int64(len(data)))
}

// took checks that the target has what it said it took.
func (w *Writer) took(ctx context.Context, folder, name string, size int64) error {
	has := int64(0)
	for e, err := range w.t.List(ctx, folder) {
		if err != nil {
			return err
		}
		if e.Name == name {
			has = e.Size
		}
	}
	if has != size {
		return fmt.Errorf("%s: %s: %w: it has %d bytes, want %d", w.t, name, ErrDamaged, has, size)
	}
	return nil
}

// complete checks that all packs are in the target, and that nobody else may have
// taken one for needless.
func (w *Writer) complete(ctx context.Context, packs []Object) error {
	if err := w.lock.check(ctx); err != nil {
		return err
	}
	there, err := listPacks(ctx, w.t)
	if err != nil {
		return err
	}
	for _, p := range packs {
		if n, ok := there[p.Sum]; !ok || n != p.Size {
			return fmt.Errorf("%s: %s: %w: it has %d bytes, want %d", w.t, packName(p.Sum), ErrDamaged, n, p.Size)
		}
	}
	return nil
}

func (w *Writer) size() (n int64) {
	for _, f := range w.files {
		n += f.Size
	}
	return n
}

func (w *Writer) parts() (parts []Part) {
	for _, f := range w.files {
		i := slices.IndexFunc(parts, func(p Part) bool { return p.Name == f.Part })
		if i < 0 {
			i, parts = len(parts), append(parts, Part{Name: f.Part})
		}
		parts[i].Files++
		parts[i].Size += f.Size
	}
	return parts
}

// minUse is the part of a pack, 1/minUse, that a backup must use of it: the pieces of
// others are stored anew by the next, so that the pack goes with the older backups.
const minUse = 4

// tidy brings the index to what the next backup may use, and removes what no backup
// needs.
func (w *Writer) tidy(ctx context.Context, m *manifest) {
	used := make([]int64, len(m.packs))
	counted := make(map[mac]bool, len(m.pieces))
	for _, p := range m.pieces {
		if !counted[p.Mac] {
			counted[p.Mac] = true
			used[p.Pack] += int64(p.Stored)
		}
	}
	for i, p := range m.packs {
		if used[i]*minUse < p.Size {
			delete(w.index.packs, p.Sum)
		}
	}
	for name := range w.index.files {
		if !w.same[name] {
			delete(w.index.files, name)
		}
	}
	there, _, err := clean(ctx, w.t, w.lock)
	if err == nil {
		w.index.keep(there)
	}
	if err = errors.Join(err, w.index.save()); err != nil {
		w.o.Log.Warn("the backup is complete; what no backup needs could not all be removed", "id", w.id, "err", err)
	}
}
