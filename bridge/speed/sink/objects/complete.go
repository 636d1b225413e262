package objects

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
)

// Complete makes an object of an upload's parts, which are said in order, if it
// has the checksums of want and cond holds; else it is ErrChecksum or
// ErrCondition. It may be called again when its answer was lost, and beside itself:
// one call makes the object, and all return it. The parts' content is copied; no
// checksum is computed anew, all follow from the parts'.
func (s *Store) Complete(ctx context.Context, bucket string, u Upload, said []Part,
	want map[Algorithm]string, cond Condition) (Info, error) {
	info, err := s.complete(ctx, bucket, u, said, want, cond)
	if errors.Is(err, ErrNoPart) || errors.Is(err, ErrNoUpload) {
		// Parts go after the object has come.
		if made, ok := s.Completed(bucket, u.Key, u.ID); ok {
			return made, nil
		}
		if _, open := s.Upload(bucket, u.Key, u.ID); open != nil {
			return Info{}, open // not the part that was missed first
		}
	}
	return info, err
}

func (s *Store) complete(ctx context.Context, bucket string, u Upload, said []Part,
	want map[Algorithm]string, cond Condition) (Info, error) {
	parts, size, err := s.check(bucket, u, said)
	if err != nil {
		return Info{}, err
	}
	r, err := join(u, parts)
	if err != nil {
		return Info{}, err
	}
	for a, sum := range want {
		if have := r.Sums[a]; have != sum && (!Composite(have) || have[:strings.IndexByte(have, '-')] != sum) {
			return Info{}, fmt.Errorf("%w: %s is %q, not %.60q", ErrChecksum, a, have, sum)
		}
	}
	w, err := s.Create(bucket, size)
	if err != nil {
		return Info{}, err
	}
	defer w.Close()
	for _, p := range parts {
		if err := errors.Join(ctx.Err(), w.copyPart(u, p)); err != nil {
			return Info{}, err
		}
	}
	info, err := w.commit(u.Key, r, cond)
	if err != nil {
		return Info{}, err
	}
	if err := s.Abort(bucket, u); err != nil && !errors.Is(err, ErrNoUpload) {
		// It is stored; Run drops the parts once they are old.
		s.o.Log.Warn("the parts of a complete object cannot be removed", "bucket", bucket, "upload", u.ID, "err", err)
	}
	return info, nil
}

// Completed is the object that an upload made which is not open any more, if it
// is there.
func (s *Store) Completed(bucket, key, id string) (Info, bool) {
	info, err := s.Stat(bucket, key)
	return info, err == nil && info.upload == id
}

// check finds the parts, and says what is wrong with them.
func (s *Store) check(bucket string, u Upload, said []Part) (parts []Part, size int64, err error) {
	if len(said) == 0 {
		return nil, 0, fmt.Errorf("%w: there are none", ErrNoPart)
	}
	for i, want := range said {
		if i > 0 && want.Number <= said[i-1].Number {
			return nil, 0, fmt.Errorf("%w: %d comes behind %d", ErrPartOrder, want.Number, said[i-1].Number)
		}
		p, err := s.part(bucket, u, want.Number)
		if err != nil {
			return nil, 0, err
		}
		if !Matches(want.ETag, p.ETag) {
			return nil, 0, fmt.Errorf("%w: part %d is %s, not %.40s", ErrNoPart, p.Number, p.ETag, want.ETag)
		}
		for a, sum := range want.Sums {
			if have := p.Sums[a]; have != sum {
				return nil, 0, fmt.Errorf("%w: part %d has not the %s %.60s", ErrNoPart, p.Number, a, sum)
			}
		}
		if i < len(said)-1 && p.Info.Size < s.o.MinPart {
			return nil, 0, fmt.Errorf("%w: part %d has %d bytes, want at least %d", ErrPartSmall, p.Number, p.Info.Size,
				s.o.MinPart)
		}
		parts, size = append(parts, p), size+p.Info.Size
	}
	return parts, size, nil
}

// join is the record of an object of parts.
func join(u Upload, parts []Part) (*record, error) {
	r := &record{Sums: map[Algorithm]string{}, Headers: u.Headers, User: u.User, Parts: len(parts), Upload: u.ID}
	tags := md5.New()
	r.PartSize = parts[0].Info.Size
	for i, p := range parts {
		if p.Info.Size != r.PartSize && (i < len(parts)-1 || p.Info.Size > r.PartSize) {
			r.PartSize = 0
			break
		}
	}
	for _, p := range parts {
		b, err := hex.DecodeString(p.ETag)
		if err != nil {
			return nil, err
		}
		tags.Write(b)
	}
	r.ETag = fmt.Sprintf("%x-%d", tags.Sum(nil), len(parts))
	var err error
	if r.Sums[CRC64NVME], err = joinSums(CRC64NVME, parts); err != nil {
		return nil, err
	}
	switch a := u.Algorithm; {
	case a == "" || a == CRC64NVME:
	case u.Composite:
		sums := make([]string, len(parts))
		for i, p := range parts {
			if sums[i] = p.Sums[a]; sums[i] == "" {
				return nil, fmt.Errorf("%w: part %d has no %s", ErrNoPart, p.Number, a)
			}
		}
		r.Sums[a], err = a.composite(sums)
	default:
		r.Sums[a], err = joinSums(a, parts)
	}
	return r, err
}

// joinSums is the CRC of all parts together.
func joinSums(a Algorithm, parts []Part) (string, error) {
	var all uint64
	for _, p := range parts {
		v, err := number(p.Sums[a])
		if err != nil {
			return "", fmt.Errorf("%w: part %d has no %s: %w", ErrNoPart, p.Number, a, err)
		}
		all = a.join(all, v, p.Info.Size)
	}
	return a.text(all), nil
}

// copyPart appends the content of a part, by the kernel where it can.
func (w *Writer) copyPart(u Upload, p Part) error {
	f, err := w.s.openFile(path.Join(uploadName(w.bucket, u.ID), partName(p.Number)))
	if err != nil {
		return err
	}
	if f == nil {
		return ErrNoUpload
	}
	defer f.Close()
	if info, err := infoOf(f, u.Key); err != nil || info.ETag != p.ETag || info.Size != p.Info.Size {
		return errors.Join(err, fmt.Errorf("%w: part %d has changed", ErrNoPart, p.Number))
	}
	n, err := io.Copy(w.f, f)
	if err == nil && n != p.Info.Size {
		err = io.ErrUnexpectedEOF
	}
	w.wrote(n)
	return err
}
