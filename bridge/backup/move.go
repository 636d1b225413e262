package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// moveFolder has, for each last backup of a bridge that was moved, who goes on from it: an
// object that is put once.
const moveFolder = "moves/"

// ErrClaimed is the error of a move that somebody else went on from. It names who.
var ErrClaimed = errors.New("another bridge goes on from this backup")

// The words of who may go on from a move's last backup: the bridge that it was made of,
// and the one that was restored from it.
const movedBack = "the bridge that was to be moved: the move was undone"

// MovedTo names a bridge that is restored from a move's last backup.
func MovedTo(host, dir string) string { return fmt.Sprintf("the bridge on %s in %s", host, dir) }

// UndoMove has the bridge that the backup id was made of go on, and nobody else from then
// on. It is ErrClaimed where a bridge was restored from it before.
func UndoMove(ctx context.Context, t vault.Target, id string) error {
	return ClaimMove(ctx, t, id, movedBack)
}

// ClaimMove has who, in words, go on from a move's last backup, and nobody else: the
// first that asks gets it, and may ask again.
func ClaimMove(ctx context.Context, t vault.Target, id, who string) error {
	has, err := claimOf(ctx, t, id)
	if errors.Is(err, vault.ErrNotFound) {
		err = t.Put(ctx, moveFolder+id, strings.NewReader(who), int64(len(who)))
		if err != nil && !errors.Is(err, vault.ErrExists) {
			return err
		}
		// What the target has counts, whatever it said: there are some that know no
		// condition of a Put, and do not say so.
		has, err = claimOf(ctx, t, id)
	}
	if err != nil {
		return err
	}
	if has != who {
		return fmt.Errorf("%w: %q", ErrClaimed, has)
	}
	return nil
}

// claimOf reads who goes on from a backup.
func claimOf(ctx context.Context, t vault.Target, id string) (string, error) {
	in, err := t.Get(ctx, moveFolder+id, 0, -1)
	if err != nil {
		return "", err
	}
	defer in.Close()
	has, err := io.ReadAll(io.LimitReader(in, 4096))
	return string(has), err
}
