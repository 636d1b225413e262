package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
)

// CheckThere returns ErrGone if t has no repository though the folder of an index says that
// it had one: what is mounted there is not, say. A target that was never written to is all
// right.
func CheckThere(ctx context.Context, t Target, folder string) error {
	known, err := filepath.Glob(filepath.Join(folder, "*.index"))
	if err != nil || len(known) == 0 {
		return err
	}
	if _, err = readRepository(ctx, t); errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("%s: %w", t, ErrGone)
	}
	return err
}

// Probe asks whether a Writer with these options could begin: it makes the repository if there
// is none, and an object, which it removes. A target from which nothing may be deleted keeps
// that, of no bytes.
func Probe(ctx context.Context, t Target, o WriterOptions) error {
	if !o.New {
		if err := CheckThere(ctx, t, o.Directory); err != nil {
			return err
		}
	}
	if _, err := openRepository(ctx, t, o.Account, o.Owner); err != nil {
		return err
	}
	name := lockFolder + "probe-" + randomHex(8) // no name of a lock
	if err := t.Put(ctx, name, bytes.NewReader(nil), 0); err != nil {
		return err
	}
	_ = t.Delete(ctx, name)
	return nil
}
