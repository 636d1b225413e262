package vault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"

	"filippo.io/age"
)

// Latest is the ID that means the newest backup.
const Latest = "latest"

// List lists the backups, oldest first. A description that cannot be read is an
// error, beside which all others are returned.
func List(ctx context.Context, t Target) ([]Info, error) {
	ids, err := listIDs(ctx, t)
	if err != nil {
		return nil, err
	}
	var infos []Info
	var errs []error
	for _, id := range ids {
		i, err := readInfo(ctx, t, id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		infos = append(infos, i)
	}
	return infos, errors.Join(errs...)
}

// listIDs lists the names of the backups, oldest first.
func listIDs(ctx context.Context, t Target) ([]string, error) {
	var ids []string
	for e, err := range t.List(ctx, backupFolder) {
		if err != nil {
			return nil, err
		}
		if id, ok := strings.CutSuffix(path.Base(e.Name), ".json"); ok && idPattern.MatchString(id) {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// readInfo reads the description of a backup.
func readInfo(ctx context.Context, t Target, id string) (Info, error) {
	data, err := getSmall(ctx, t, infoName(id), maxInfo)
	if err != nil {
		return Info{}, err
	}
	i, err := parseInfo(id, data)
	if err != nil {
		err = fmt.Errorf("%s: %w", t, err)
	}
	return i, err
}

// Find returns the description of the backup id, or of the newest for Latest.
func Find(ctx context.Context, t Target, id string) (Info, error) {
	if id == Latest {
		ids, err := listIDs(ctx, t)
		if err != nil {
			return Info{}, err
		}
		if len(ids) == 0 {
			return Info{}, fmt.Errorf("%s: any backup: %w", t, ErrNotFound)
		}
		id = ids[len(ids)-1]
	}
	if !idPattern.MatchString(id) {
		return Info{}, fmt.Errorf("%s: a backup %.40q: %w", t, id, ErrNotFound)
	}
	return readInfo(ctx, t, id)
}

// A Reader gives back the files of one backup. It takes some 10 MB of memory, and 50
// bytes for each piece. Several goroutines may use it.
type Reader struct {
	t          Target
	info       Info
	m          *manifest
	identities []age.Identity
}

// OpenReader opens the backup id, or the newest for Latest. The whole manifest is
// read and checked.
func OpenReader(ctx context.Context, t Target, id string, identities []age.Identity) (*Reader, error) {
	info, err := Find(ctx, t, id)
	if err != nil {
		return nil, err
	}
	m, err := openManifest(ctx, t, info, identities)
	if err != nil {
		return nil, fmt.Errorf("%s: %s: %w", t, manifestName(info.ID), err)
	}
	return &Reader{t, info, m, identities}, nil
}

func openManifest(ctx context.Context, t Target, info Info, identities []age.Identity) (*manifest, error) {
	src, err := t.Get(ctx, manifestName(info.ID), 0, -1)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	sum := sha256.New()
	raw := &countingReader{r: io.TeeReader(io.LimitReader(src, info.Manifest.Size+1), sum)}
	m, err := decryptManifest(raw, identities)
	if raw.err != nil {
		return nil, raw.err
	}
	if errors.Is(err, ErrVersion) {
		return nil, err
	}
	_, rest := io.Copy(io.Discard, raw) // of damage, all is looked at
	if rest != nil {
		return nil, rest
	}
	if raw.n != info.Manifest.Size || Digest(sum.Sum(nil)) != info.Manifest.Sum {
		return nil, damaged("it is not what %s says", infoName(info.ID))
	}
	if errors.Is(err, ErrKey) { // and not damage of what says who the recipients are
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	if m.head.ID != info.ID || m.head.Repository != info.Repository {
		return nil, fmt.Errorf("%w: it is of backup %s of repository %s", ErrForeign, m.head.ID, m.head.Repository)
	}
	return m, nil
}

func decryptManifest(r io.Reader, identities []age.Identity) (*manifest, error) {
	in, err := age.Decrypt(r, identities...)
	if err != nil {
		return nil, ageError(err)
	}
	return readManifest(in)
}

// ageError is what an error of age means.
func ageError(err error) error {
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok {
		return ErrKey
	}
	return damaged("%v", err)
}

// A countingReader counts, and keeps the error that was not the end.
type countingReader struct {
	r   io.Reader
	n   int64
	err error
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	if err != nil && err != io.EOF {
		c.err = err
	}
	return n, err
}

// Info is the plain description of the backup.
func (r *Reader) Info() Info { return r.info }

// About is what Commit was given.
func (r *Reader) About() json.RawMessage { return bytes.Clone(r.m.head.About) }

// Files lists the files, in the order in which they were written.
func (r *Reader) Files() []FileInfo { return slices.Clone(r.m.files) }

// Open opens a file of the backup. What it reads is checked before it is given out, piece by
// piece, and the whole file's sum at its end, where a Read fails instead of io.EOF.
func (r *Reader) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	i := slices.IndexFunc(r.m.files, func(f FileInfo) bool { return f.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("backup %s: file %.200q: %w", r.info.ID, name, ErrNotFound)
	}
	f := r.m.files[i]
	u, err := newUnpacker(r.m.head.Key)
	if err != nil {
		return nil, err
	}
	return &fileReader{ctx: ctx, r: r, f: f, pieces: r.m.pieces[f.first : f.first+f.pieces], unpacker: u,
		sum: sha256.New()}, nil
}

// A fileReader reads a file piece by piece. It lives as long as a call, whose context it keeps.
type fileReader struct {
	ctx      context.Context
	r        *Reader
	f        FileInfo
	pieces   []pieceLine // that are not read yet
	unpacker *unpacker
	packs    packs
	run      []byte // frames that are read, of the next pieces
	runs     int    // how many
	buf      []byte
	left     []byte // of the piece in buf
	sum      hash.Hash
	err      error
}

// maxRun bounds the frames that are asked for at once, in bytes.
const maxRun = 4 << 20

// Read implements io.Reader.
func (f *fileReader) Read(p []byte) (int, error) {
	for len(f.left) == 0 && f.err == nil {
		if f.err = f.next(); f.err != nil && f.err != io.EOF {
			f.err = fmt.Errorf("backup %s: %s: %w", f.r.info.ID, f.f.Name, f.err)
		}
	}
	if len(f.left) == 0 {
		return 0, f.err
	}
	n := copy(p, f.left)
	f.left = f.left[n:]
	return n, nil
}

// next reads a piece, or checks the sum at the end.
func (f *fileReader) next() error {
	if len(f.pieces) == 0 {
		if Digest(f.sum.Sum(nil)) != f.f.Sum {
			return damaged("its SHA-256 is another")
		}
		return io.EOF
	}
	if f.runs == 0 {
		if err := f.fetch(); err != nil {
			return err
		}
	}
	p := f.pieces[0]
	piece, err := f.unpacker.piece(p.Mac, p.Size, f.run[:p.Stored], f.buf)
	if err != nil {
		return fmt.Errorf("%s: %w", packName(f.r.m.packs[p.Pack].Sum), err)
	}
	f.sum.Write(piece)
	f.pieces, f.run, f.runs, f.buf, f.left = f.pieces[1:], f.run[p.Stored:], f.runs-1, piece, piece
	return nil
}

// fetch reads the frames of the next pieces that follow each other in a pack.
func (f *fileReader) fetch() error {
	first := f.pieces[0]
	size := int64(first.Stored)
	f.runs = 1
	for _, p := range f.pieces[1:] {
		if p.Pack != first.Pack || int64(p.Offset) != int64(first.Offset)+size || size+int64(p.Stored) > maxRun {
			break
		}
		size += int64(p.Stored)
		f.runs++
	}
	run, err := f.packs.read(f.ctx, f.r, first.Pack, int64(first.Offset), size)
	f.run = run
	return err
}

// Close implements io.Closer.
func (f *fileReader) Close() error {
	f.unpacker.zstd.Close()
	f.err, f.left = errors.New("backup: the file is closed"), nil
	return nil
}
