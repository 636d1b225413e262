package objects

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// Errors of uploads in parts.
var (
	ErrNoUpload       = errors.New("objects: there is no such upload")
	ErrTooManyUploads = errors.New("objects: too many uploads are open")
	ErrNoPart         = errors.New("objects: a part is not there, or has another ETag")
	ErrPartOrder      = errors.New("objects: the parts are not in order")
	ErrPartSmall      = errors.New("objects: a part but the last is too small")
)

// maxPart is the highest number of a part (S3 user guide, "Amazon S3 multipart
// upload limits").
const maxPart = 10_000

const (
	openUploads = own + "/uploads" // in a bucket: a folder for each
	uploadFile  = "upload"         // in that: the Upload; beside it parts by their number
)

// An Upload is an object that comes in parts.
type Upload struct {
	ID        string    `json:"id"`
	Key       string    `json:"key"`
	Made      time.Time `json:"made"`
	Algorithm Algorithm `json:"algorithm,omitempty"` // of the checksum that the object is to have; "": CRC64NVME
	Composite bool      `json:"composite,omitempty"` // it is one of the parts' checksums
	Owner     string    `json:"owner,omitempty"`     // who began it
	Attributes
}

// uploadName is the folder of an upload.
func uploadName(bucket, id string) string { return path.Join(bucket, openUploads, id) }

func partName(n int) string { return fmt.Sprintf("%05d", n) }

// Begin opens an upload of u.Key, and returns it with an ID. At most MaxUploads
// are open: then it is ErrTooManyUploads.
func (s *Store) Begin(bucket string, u Upload) (Upload, error) {
	if err := errors.Join(sink.CheckBucket(bucket), checkKey(u.Key)); err != nil {
		return u, err
	}
	r := record{ETag: strings.Repeat("f", 40), Headers: u.Headers, User: u.User, Upload: rand.Text()}
	if _, err := r.encode(); err != nil { // not only when all has come
		return u, err
	}
	u.ID, u.Made = rand.Text(), s.o.Now().UTC()
	doc, err := json.Marshal(u)
	if err != nil {
		return u, err
	}
	if !s.reserve(bucket, u.ID) {
		return u, ErrTooManyUploads
	}
	if err := s.begin(bucket, u.ID, doc); err != nil {
		s.ended(u.ID)
		return u, fmt.Errorf("upload to %s/%s: %w", bucket, u.Key, err)
	}
	return u, nil
}

// begin makes the upload's folder, which is seen when its file is on disk.
func (s *Store) begin(bucket, id string, doc []byte) error {
	folder := beside()
	if err := s.root.Mkdir(folder, 0o750); err != nil {
		return err
	}
	f, err := s.root.OpenFile(path.Join(folder, uploadFile), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err == nil {
		_, err = f.Write(doc)
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err == nil {
		err = s.sync(folder)
	}
	if err == nil {
		s.tree.shape.RLock()
		defer s.tree.shape.RUnlock()
		err = s.stands(bucket, false)
		if err == nil {
			err = s.rename(folder, uploadName(bucket, id))
		}
	}
	if err != nil {
		return errors.Join(err, s.root.RemoveAll(folder))
	}
	return nil
}

// Upload is one that is open: ErrNoUpload if there is none of that ID for the key.
func (s *Store) Upload(bucket, key, id string) (Upload, error) {
	u, err := s.readUpload(bucket, id)
	if err == nil && u.Key != key {
		err = ErrNoUpload
	}
	return u, err
}

func (s *Store) readUpload(bucket, id string) (u Upload, err error) {
	if err := sink.CheckBucket(bucket); err != nil {
		return u, err
	}
	if len(id) != 26 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") != "" { // crypto/rand.Text
		return u, ErrNoUpload
	}
	f, err := s.root.Open(path.Join(uploadName(bucket, id), uploadFile))
	if errors.Is(err, fs.ErrNotExist) {
		return u, ErrNoUpload
	}
	if err != nil {
		return u, err
	}
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&u); err != nil {
		return u, fmt.Errorf("%s: %w", f.Name(), err)
	}
	return u, nil
}

// CommitPart makes what was written part n of the upload, in place of an older
// one. It is on disk then.
func (w *Writer) CommitPart(u Upload, n int) (Info, error) {
	if n < 1 || n > maxPart {
		return Info{}, fmt.Errorf("%w: number %d, want 1 to %d", ErrPartOrder, n, maxPart)
	}
	r := &record{ETag: w.MD5(), Sums: w.sums.all()}
	if err := w.finish(r); err != nil {
		return Info{}, err
	}
	folder := uploadName(w.bucket, u.ID)
	name := path.Join(folder, partName(n))
	unlock := w.s.lock(w.bucket, name)
	defer unlock()
	was := int64(0)
	if old, err := w.s.root.Stat(name); err == nil {
		was = old.Size()
	}
	if !w.s.addParts(u.ID, r.Size-was) {
		return Info{}, fmt.Errorf("%w: parts of open uploads have %d bytes, all they may", ErrNoRoom,
			w.s.o.MaxUploadBytes)
	}
	err := w.s.root.Rename(w.name, name)
	if err != nil {
		w.s.addParts(u.ID, was-r.Size)
	} else {
		w.name = ""
		w.release()
		err = w.s.sync(folder)
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = ErrNoUpload // ended meanwhile
	}
	if err != nil {
		return Info{}, err
	}
	w.s.count(func(c *Counters) { c.Parts++; c.BytesWritten += r.Size })
	return infoOf(w.f, u.Key)
}

// A Part is one of an upload, or what Complete is told of one.
type Part struct {
	Number int
	ETag   string
	Sums   map[Algorithm]string
	Info   Info // of one that is there
}

// Parts are those that an upload has with numbers above after, at most so many.
func (s *Store) Parts(bucket string, u Upload, after, most int) (parts []Part, more bool, err error) {
	var names []string
	err = s.readFolder(uploadName(bucket, u.ID), func(e fs.DirEntry) {
		if e.Name() != uploadFile && e.Name() > partName(after) {
			names = append(names, e.Name())
		}
	})
	slices.Sort(names)
	if more = len(names) > most; more {
		names = names[:most]
	}
	for _, name := range names {
		var n int
		if _, scan := fmt.Sscanf(name, "%d", &n); err != nil || scan != nil {
			continue
		}
		var p Part
		if p, err = s.part(bucket, u, n); err == nil {
			parts = append(parts, p)
		}
	}
	return parts, more, err
}

func (s *Store) part(bucket string, u Upload, n int) (Part, error) {
	f, err := s.openFile(path.Join(uploadName(bucket, u.ID), partName(n)))
	if err != nil {
		return Part{}, err
	}
	if f == nil {
		return Part{}, fmt.Errorf("%w: part %d", ErrNoPart, n)
	}
	defer f.Close()
	info, err := infoOf(f, u.Key)
	if err == nil && !info.Kept {
		err = fmt.Errorf("%w: part %d is damaged", ErrNoPart, n)
	}
	return Part{n, info.ETag, info.Sums, info}, err
}

// Uploads are the open ones of a bucket whose keys begin with prefix, by key and
// then by time.
func (s *Store) Uploads(ctx context.Context, bucket, prefix string) ([]Upload, error) {
	if _, err := s.Bucket(bucket); err != nil {
		return nil, err
	}
	var ids []string
	err := s.readFolder(path.Join(bucket, openUploads), func(e fs.DirEntry) { ids = append(ids, e.Name()) })
	var all []Upload
	for _, id := range ids {
		if err := errors.Join(err, ctx.Err()); err != nil {
			return nil, err
		}
		u, err := s.readUpload(bucket, id)
		switch {
		case errors.Is(err, ErrNoUpload): // ended since
		case err != nil:
			return nil, err
		case strings.HasPrefix(u.Key, prefix):
			all = append(all, u)
		}
	}
	slices.SortFunc(all, func(a, b Upload) int {
		if c := strings.Compare(a.Key, b.Key); c != 0 {
			return c
		}
		return a.Made.Compare(b.Made)
	})
	return all, err
}

// Abort ends an upload and drops its parts.
func (s *Store) Abort(bucket string, u Upload) error {
	gone, folder := beside(), uploadName(bucket, u.ID)
	switch err := s.root.Rename(folder, gone); {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNoUpload
	case err != nil:
		return err
	}
	s.ended(u.ID)
	return errors.Join(s.sync(path.Dir(folder)), s.root.RemoveAll(gone))
}
