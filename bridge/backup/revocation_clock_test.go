package backup

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

func emptyTarget(t *testing.T) vault.Target {
	t.Helper()
	target, err := vault.Open(t.Context(), t.TempDir(), vault.TargetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func signed(t *testing.T, at time.Time) []byte {
	t.Helper()
	v := Revocations{Format: 1, Directory: "0123", At: at.UTC(), Salt: make([]byte, saltLen)}
	raw, err := v.Sign([]byte("key"))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// The file that was written last is the newest, also where the clock was ahead when the
// others were written, and is not removed in their place.
func TestRevocationsWhenTheClockWentBack(t *testing.T) {
	target, now := emptyTarget(t), time.Now()
	for _, ahead := range []time.Duration{0, 72 * time.Hour, 72 * time.Hour, 72*time.Hour + time.Second, 0,
		-time.Hour} {
		at := now.Add(ahead)
		if err := PublishRevocations(t.Context(), target, at, signed(t, at)); err != nil {
			t.Fatal(err)
		}
		is, err := NewestRevocations(t.Context(), target)
		if err != nil || !is.At.Equal(at) {
			t.Fatalf("with a clock %v ahead the newest is of %v, want %v: %v", ahead, is.At, at, err)
		}
	}
	if names, err := listRevocations(t.Context(), target); err != nil || len(names) != revocationKept {
		t.Errorf("%q, %v", names, err)
	}
}

func TestRevocationsBehindNothing(t *testing.T) {
	for _, name := range []string{"99991231T235959.999Z-00000000.json", "zzz.json"} {
		target := emptyTarget(t)
		if err := target.Put(t.Context(), revocationFolder+name, new(none), 0); err != nil {
			t.Fatal(err)
		}
		err := PublishRevocations(t.Context(), target, time.Now(), signed(t, time.Now()))
		if !errors.Is(err, vault.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

type none struct{}

func (none) Read([]byte) (int, error) { return 0, io.EOF }

// A liar says that it takes what it is given, and takes nothing.
type liar struct{ vault.Target }

func (liar) Put(context.Context, string, io.Reader, int64) error { return nil }

func TestRevocationsToALiar(t *testing.T) {
	err := PublishRevocations(t.Context(), liar{emptyTarget(t)}, time.Now(), signed(t, time.Now()))
	if !errors.Is(err, vault.ErrDamaged) {
		t.Errorf("%v", err)
	}
}

// quiet is a registry without anything, that never changes.
type quiet struct{ registry.Viewer }

func (quiet) Revision() uint64 { return 1 }

// A clock that goes back after a backup neither has a file written each time that one
// looks, nor one that says that it is older than the backup.
func TestRevokerWhenTheClockWentBack(t *testing.T) {
	b := newBridge(t)
	openRegistry(t, b.dir, func(r *registry.Registry) {
		dir := t.TempDir()
		synctest.Test(t, func(t *testing.T) {
			cut := time.Now().Add(24 * time.Hour)
			x := NewRevoker(RevokerOptions{Target: dir, Registry: quiet{r}, Key: []byte("key"),
				Keys:  func() (map[string]pki.AccessKey, error) { return nil, nil },
				About: About{Account: testAccount, Directory: "0123"},
				Last:  func() time.Time { return cut }, Log: slog.New(slog.DiscardHandler)})
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			defer stop()
			if err := x.Run(ctx); err != nil {
				t.Fatal(err)
			}
			target, err := vault.Open(t.Context(), dir, vault.TargetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			names, err := listRevocations(t.Context(), target)
			if err != nil || len(names) != 1 {
				t.Errorf("%q, %v, want one file", names, err)
			}
			is, err := NewestRevocations(t.Context(), target)
			if err != nil || is.At.Before(cut) {
				t.Errorf("as of %v, the backup is of %v: %v", is.At, cut, err)
			}
		})
	})
}

// A second bridge does not write into the repository of the first.
func TestRevokerOfAnotherBridge(t *testing.T) {
	b, dir := newBridge(t), t.TempDir()
	openRegistry(t, b.dir, func(r *registry.Registry) {
		for i, want := range []error{nil, vault.ErrForeign} {
			x := NewRevoker(RevokerOptions{Target: dir, Registry: quiet{r}, Key: []byte("key"),
				Keys:  func() (map[string]pki.AccessKey, error) { return nil, nil },
				About: About{Account: testAccount, Directory: string(rune('a' + i))},
				Last:  func() time.Time { return time.Time{} }, Log: slog.New(slog.DiscardHandler)})
			if err := x.publish(t.Context()); !errors.Is(err, want) {
				t.Errorf("bridge %d: %v, want %v", i, err, want)
			}
		}
	})
}
