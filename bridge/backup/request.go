package backup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"filippo.io/age"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/datadir"
)

// A Request asks for a backup. What is empty is as of Settings.
type Request struct {
	Target       string   `json:"target,omitempty"`
	Recipients   []string `json:"recipients,omitempty"`
	MaxBandwidth int64    `json:"max_bandwidth,omitempty"` // bytes per second
	Verify       bool     `json:"verify,omitempty"`        // the packs are read again, and compared
	New          bool     `json:"new,omitempty"`           // as Options.New
}

// Elsewhere says whether a request wants a target or readers that the settings do not
// have.
func (r Request) Elsewhere() bool { return r.Target != "" || len(r.Recipients) > 0 }

// options are those of a request.
func (x *Service) options(ctx context.Context, r Request) (o Options, err error) {
	target, readers := cmp.Or(r.Target, x.settings.Target), r.Recipients
	if len(readers) == 0 {
		readers = x.settings.Recipients
	}
	switch {
	case target == "":
		return o, fmt.Errorf("%w: no target: set backup.target, or name one with -to", ErrRequest)
	case len(readers) == 0:
		return o, fmt.Errorf("%w: no recipient: set backup.recipients, or name one with -recipient; "+
			"tidemill-bridge backup keygen makes one", ErrRequest)
	case Within(target, x.source.Dir):
		return o, fmt.Errorf("%w: target %s is in the data directory, which it is a backup of", ErrRequest, target)
	}
	if o.Recipients, err = ParseRecipients(readers); err != nil {
		return o, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	place := x.settings.Place
	if r.MaxBandwidth > 0 {
		place.MaxBandwidth = r.MaxBandwidth
	}
	if o.Target, err = vault.Open(ctx, target, place); err != nil {
		return o, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	o.New = r.New
	return o, nil
}

// Probe asks whether a backup of the data directory of source could begin as r says: its
// recipients are read, and the target is written to. Only Dir and Account of source count.
func Probe(ctx context.Context, source Source, s Settings, r Request) error {
	o, err := (&Service{source: source, settings: s}).options(ctx, r)
	if err != nil {
		return err
	}
	index, err := source.index(o.Target)
	if err != nil {
		return err
	}
	owner, err := datadir.IDOf(source.Dir)
	if err != nil {
		return err
	}
	return explain(vault.Probe(ctx, o.Target, vault.WriterOptions{Directory: index, Account: source.Account,
		Owner: owner, New: o.New}))
}

// explain says what to do about a target whose repository is gone, or that the unit keeps from
// being written.
func explain(err error) error {
	if errors.Is(err, syscall.EROFS) {
		err = fmt.Errorf("%w: mounted read-only, or not in ReadWritePaths= of the unit: systemctl edit tidemill-bridge",
			err)
	}
	if errors.Is(err, vault.ErrGone) {
		err = fmt.Errorf("%w: is it mounted, and is it the right one? "+
			"tidemill-bridge backup -new begins another repository there", err)
	}
	return err
}

// Within says whether the folder target is dir or below it.
func Within(target, dir string) bool {
	if !filepath.IsAbs(target) {
		return false
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return false
	}
	target = filepath.Clean(target)
	return target == abs || strings.HasPrefix(target, abs+"/")
}

// holdsIdentity says whether a file is one of backup keygen.
func holdsIdentity(f *os.File) bool {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return false
	}
	_, err := age.ParseIdentities(io.LimitReader(f, 64<<10))
	return err == nil
}

// ParseRecipients reads public keys: "age1…", or the path of a file that has them, one a
// line, with lines that begin with # for comments.
func ParseRecipients(list []string) (all []age.Recipient, err error) {
	for _, text := range list {
		if strings.HasPrefix(text, "age1") {
			r, err := age.ParseX25519Recipient(text)
			if err != nil {
				return nil, fmt.Errorf("recipient %.80q: %w", text, err)
			}
			all = append(all, r)
			continue
		}
		if strings.HasPrefix(text, "AGE-SECRET-KEY-") {
			return nil, errors.New("a recipient is a private key, which must not be on this machine: " +
				"want the public one, which begins with age1")
		}
		f, err := os.Open(text)
		if err != nil {
			return nil, fmt.Errorf("recipient: want age1… or a file: %w", err)
		}
		some, err := age.ParseRecipients(f)
		if err != nil && holdsIdentity(f) {
			err = errors.New("the file has a private key, which must not be on this machine: " +
				"want the public one, which begins with age1")
		}
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, fmt.Errorf("recipients of %s: %w", text, err)
		}
		all = append(all, some...)
	}
	return all, nil
}
