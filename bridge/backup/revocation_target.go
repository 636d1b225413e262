package backup

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
)

// revocationTime is the time in a name, as time.Format has it.
const revocationTime = "20060102T150405.000Z"

// PublishRevocations puts a file at the target, and removes all but the newest few. Its
// name is behind those of all that are there, whatever the clock did since: the last
// that was written is the newest. It is an error if the target does not list it then.
func PublishRevocations(ctx context.Context, t vault.Target, at time.Time, raw []byte) error {
	names, err := listRevocations(ctx, t)
	if err != nil {
		return err
	}
	name, err := nextRevocations(names, at.UTC())
	if err != nil {
		return err
	}
	if err := t.Put(ctx, name, bytes.NewReader(raw), int64(len(raw))); err != nil {
		return err
	}
	if names, err = listRevocations(ctx, t); err != nil {
		return err
	}
	if len(names) == 0 || names[len(names)-1] != name {
		return fmt.Errorf("%s: %w: the target took it and does not list it as the newest", name, vault.ErrDamaged)
	}
	for _, old := range names[:max(len(names)-revocationKept, 0)] {
		if err := t.Delete(ctx, old); err != nil {
			return err
		}
	}
	return nil
}

// nextRevocations is a name behind all others.
func nextRevocations(names []string, at time.Time) (string, error) {
	if len(names) > 0 {
		text := strings.TrimPrefix(names[len(names)-1], revocationFolder)
		last, err := time.Parse(revocationTime, text[:min(len(text), len(revocationTime))])
		if err != nil {
			return "", fmt.Errorf("%s: %w: its name is of nothing that was written here: remove it",
				names[len(names)-1], vault.ErrDamaged)
		}
		if !at.Truncate(time.Millisecond).After(last) {
			at = last.Add(time.Millisecond)
		}
	}
	if at.Year() > 9999 {
		return "", fmt.Errorf("%s: %w: nothing sorts behind its name: remove it", names[len(names)-1],
			vault.ErrDamaged)
	}
	var random [4]byte
	rand.Read(random[:]) // never fails
	return revocationFolder + at.Format(revocationTime) + "-" + hex.EncodeToString(random[:]) + ".json", nil
}

func listRevocations(ctx context.Context, t vault.Target) (names []string, err error) {
	for e, err := range t.List(ctx, revocationFolder) {
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(e.Name, ".json") {
			names = append(names, e.Name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// NewestRevocations reads the newest file of a target; vault.ErrNotFound if it has none.
func NewestRevocations(ctx context.Context, t vault.Target) (*Sealed, error) {
	names, err := listRevocations(ctx, t)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: revocations: %w", t, vault.ErrNotFound)
	}
	in, err := t.Get(ctx, names[len(names)-1], 0, -1)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	raw, err := io.ReadAll(io.LimitReader(in, MaxRevocations+1))
	if err != nil {
		return nil, err
	}
	return ParseRevocations(raw)
}
