package vault

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
)

// A Report is what Verify looked at.
type Report struct {
	ID    string
	Packs int
	Files int   // that were decrypted
	Bytes int64 // that were read of packs, or of files
}

// maxDamages bounds the errors that Verify gathers.
const maxDamages = 100

// Verify looks at all of the backup id, or of the newest for Latest. Without
// identities, that every object is there with its length and SHA-256. With them, that each file is
// restored: packs are decrypted, and pieces and files have their sums. The error
// joins what was found, and is ErrDamaged, ErrNotFound or what prevented to look.
func Verify(ctx context.Context, t Target, id string, identities []age.Identity, progress func(Progress)) (Report,
	error) {
	info, err := Find(ctx, t, id)
	if err != nil {
		return Report{}, err
	}
	v := verification{t: t, info: info, report: Report{ID: info.ID, Packs: len(info.Packs)}, tell: progress}
	if progress == nil {
		v.tell = func(Progress) {}
	}
	if len(identities) == 0 {
		v.objects(ctx)
	} else {
		v.files(ctx, identities)
	}
	return v.report, errors.Join(v.errs...)
}

type verification struct {
	t      Target
	info   Info
	report Report
	tell   func(Progress)
	errs   []error
}

// note keeps an error, and says whether to go on: after damage one does.
func (v *verification) note(err error) (goOn bool) {
	if err == nil {
		return true
	}
	v.errs = append(v.errs, err)
	return len(v.errs) < maxDamages && (errors.Is(err, ErrDamaged) || errors.Is(err, ErrNotFound))
}

// objects reads every object of the backup.
func (v *verification) objects(ctx context.Context) {
	total := v.info.Manifest.Size
	for _, p := range v.info.Packs {
		total += p.Size
	}
	name, object := manifestName(v.info.ID), v.info.Manifest
	for i := 0; v.note(v.object(ctx, name, object)) && i < len(v.info.Packs); i++ {
		v.tell(Progress{File: name, Done: v.report.Bytes, Total: total})
		object = v.info.Packs[i]
		name = packName(object.Sum)
	}
	v.tell(Progress{File: name, Done: v.report.Bytes, Total: total})
}

func (v *verification) object(ctx context.Context, name string, o Object) error {
	r, err := v.t.Get(ctx, name, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	sum := sha256.New()
	n, err := io.Copy(sum, io.LimitReader(r, o.Size+1))
	v.report.Bytes += n
	if err != nil {
		return fmt.Errorf("%s: %s: %w", v.t, name, err)
	}
	if n != o.Size || Digest(sum.Sum(nil)) != o.Sum {
		return fmt.Errorf("%s: %s: %w: %d bytes of %d, with another SHA-256", v.t, name, ErrDamaged, n, o.Size)
	}
	return nil
}

// files reads every file of the backup.
func (v *verification) files(ctx context.Context, identities []age.Identity) {
	r, err := OpenReader(ctx, v.t, v.info.ID, identities)
	if err != nil {
		v.note(err)
		return
	}
	for _, f := range r.m.files {
		if !v.note(v.file(ctx, r, f)) {
			return
		}
	}
}

func (v *verification) file(ctx context.Context, r *Reader, f FileInfo) error {
	in, err := r.Open(ctx, f.Name)
	if err != nil {
		return err
	}
	defer in.Close()
	v.report.Files++
	_, err = io.Copy(watched{v, f.Name}, in)
	return err
}

// watched tells how far the verification of a file is.
type watched struct {
	v    *verification
	file string
}

func (w watched) Write(p []byte) (int, error) {
	w.v.report.Bytes += int64(len(p))
	w.v.tell(Progress{File: w.file, Done: w.v.report.Bytes, Total: w.v.info.Size})
	return len(p), nil
}
