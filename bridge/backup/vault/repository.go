package vault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"time"
)

// A repository is what repository.json says.
type repository struct {
	Format  int       `json:"format"`
	ID      string    `json:"id"` // 32 hexadecimal digits
	Account string    `json:"account"`
	Owner   string    `json:"owner,omitempty"` // as of WriterOptions; "": of before there were any
	Created time.Time `json:"created"`
}

var repositoryID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// parseRepository reads the description of a repository.
func parseRepository(data []byte) (repository, error) {
	var r repository
	if err := json.Unmarshal(data, &r); err != nil {
		return r, fmt.Errorf("%s: %w: %v", repositoryName, ErrDamaged, err)
	}
	if r.Format > Format {
		return r, fmt.Errorf("%s: format %d, this program knows %d: %w", repositoryName, r.Format, Format, ErrVersion)
	}
	if r.Format < 1 || !repositoryID.MatchString(r.ID) {
		return r, fmt.Errorf("%s: %w: format %d, id %.40q", repositoryName, ErrDamaged, r.Format, r.ID)
	}
	return r, nil
}

// Claim makes t a repository of account and owner if it is none. It is ErrForeign if it
// is another's: two that share one would remove each other's backups.
func Claim(ctx context.Context, t Target, account, owner string) error {
	_, err := openRepository(ctx, t, account, owner)
	return err
}

// openRepository is Claim, and reads what t is.
func openRepository(ctx context.Context, t Target, account, owner string) (repository, error) {
	r, err := readRepository(ctx, t)
	if errors.Is(err, ErrNotFound) {
		r = repository{Format, randomHex(16), account, owner, time.Now().UTC().Truncate(time.Second)}
		var data []byte
		if data, err = json.Marshal(r); err == nil {
			err = t.Put(ctx, repositoryName, bytes.NewReader(data), int64(len(data)))
		}
		if errors.Is(err, ErrExists) { // another was faster
			r, err = readRepository(ctx, t)
		}
	}
	if err == nil && r.Account != account {
		err = fmt.Errorf("%s: %w account, %.100q, not %q", t, ErrForeign, r.Account, account)
	}
	if err == nil && r.Owner != "" && owner != "" && r.Owner != owner {
		err = fmt.Errorf("%s: %w bridge's data directory, %.100q, not %q: give each a folder or prefix of its own", t,
			ErrForeign, r.Owner, owner)
	}
	return r, err
}

// Exists returns ErrNotFound if t is no repository.
func Exists(ctx context.Context, t Target) error {
	_, err := readRepository(ctx, t)
	return err
}

func readRepository(ctx context.Context, t Target) (repository, error) {
	data, err := getSmall(ctx, t, repositoryName, maxRepository)
	if errors.Is(err, ErrNotFound) {
		return repository{}, fmt.Errorf("%s: no repository of backups: %w", t, ErrNotFound)
	}
	if err != nil {
		return repository{}, err
	}
	r, err := parseRepository(data)
	if err != nil {
		err = fmt.Errorf("%s: %w", t, err)
	}
	return r, err
}

// listPacks lists the packs of the target with their lengths.
func listPacks(ctx context.Context, t Target) (map[Digest]int64, error) {
	there := map[Digest]int64{}
	for e, err := range t.List(ctx, packFolder) {
		if err != nil {
			return nil, err
		}
		if sum, ok := packOf(e.Name); ok {
			there[sum] = e.Size
		}
	}
	return there, nil
}
