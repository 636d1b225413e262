package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/datadir"
	"github.com/tidemill/tidemill/bridge/speed/hold"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// Held is what waits and is not delivered.
type Held = hold.Held

// finish makes what was fetched a bridge that goes on after others: numbers skip ahead,
// what was revoked is taken away, and what waits is held.
func (r *restore) finish(ctx context.Context) error {
	if err := r.setAttributes(ctx); err != nil {
		return err
	}
	if r.Revocations != nil {
		if err := r.revoke(); err != nil {
			return err
		}
	}
	for _, dir := range []string{"objects", "log", "pki"} { // parts that may have no file of ours yet
		if err := os.MkdirAll(filepath.Join(r.staging, dir), 0o700); err != nil {
			return err
		}
	}
	if r.Moved {
		return nil
	}
	if err := r.skipVersions(); err != nil {
		return err
	}
	return r.finishLog(ctx)
}

// setAttributes gives files and folders what they have beside their content. Folders that
// are empty are made by it.
func (r *restore) setAttributes(ctx context.Context) error {
	in, err := r.backup.Open(ctx, AttributesFile)
	if errors.Is(err, vault.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	defer in.Close()
	return ReadAttributes(in, func(a Attributes) error {
		if r.wants(strings.TrimSuffix(a.Name, "/")) {
			return a.Set(r.staging)
		}
		return nil
	})
}

// revoke checks whose the revocations are and applies them.
func (r *restore) revoke() error {
	pkiDir := filepath.Join(r.staging, "pki")
	if r.only != "" {
		pkiDir = "" // it stays as it is
	}
	reg, err := datadir.OpenRegistry(r.staging)
	if err != nil {
		return err
	}
	r.out.Revoked, err = r.Revocations.apply(reg, pkiDir)
	return errors.Join(err, reg.Close())
}

// skipVersions raises versions in the registry and of shadows.
func (r *restore) skipVersions() error {
	reg, err := datadir.OpenRegistry(r.staging)
	if err != nil {
		return err
	}
	if err := errors.Join(reg.SkipVersions(), reg.Close()); err != nil {
		return err
	}
	path := filepath.Join(r.staging, "shadow.db")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	shadows, err := boltstore.Open(path, boltstore.Options{})
	if err != nil {
		return err
	}
	return errors.Join(shadows.SkipVersions(), shadows.Close())
}

// finishLog has the shards go on behind a gap, and holds what waits.
func (r *restore) finishLog(ctx context.Context) (err error) {
	log, err := datadir.OpenLog(r.staging, r.Log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	if err := log.SkipAhead(); err != nil {
		return err
	}
	if r.Deliver {
		return nil
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	ran := make(chan error, 1)
	go func() { ran <- log.Run(running) }()
	err = hold.All(ctx, log, r.out.Info.ID, time.Now())
	if err == nil {
		r.out.Held, err = hold.List(log)
	}
	stop()
	return errors.Join(err, <-ran)
}

// maxSecret bounds what is read of a secret in a backup, bytes.
const maxSecret = 4 << 10

// revocationKey reads the key of the bridge from its backup.
func (r *restore) revocationKey(ctx context.Context) ([]byte, error) {
	in, err := r.backup.Open(ctx, "pki/"+pki.TemporarySecretFile)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	secret, err := io.ReadAll(io.LimitReader(in, maxSecret))
	if err != nil {
		return nil, err
	}
	return pki.RevocationKey(secret)
}

// String tells in words what was restored.
func (r *Restored) String() string {
	return fmt.Sprintf("%d files, %d bytes, as the bridge was at %s", r.Files, r.Bytes, stamp(r.About.Cut))
}
