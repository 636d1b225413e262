package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
)

// smallDisk is a file system of so many bytes.
func smallDisk(t *testing.T, size int64) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size)); err != nil {
		t.Skipf("a small file system cannot be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// large is a bridge whose backup has some MB that do not shrink.
func large(t *testing.T) *bridge {
	b := newBridge(t)
	random := rand.NewChaCha8([32]byte{})
	b.log(func(s *pebble.Store) {
		for range 10 {
			data := make([]byte, 1<<20)
			_, _ = random.Read(data)
			x := s.NewBatch()
			x.Append("data", 0, streams.Record{Key: "k", Data: data})
			b.ok(s.Commit(t.Context(), x))
		}
	})
	b.backup(nil)
	return b
}

// Where there is too little room nothing is begun. Where room ends in the middle no data
// directory is there, and the next run goes on once there is some.
func TestRestoreFullDisk(t *testing.T) {
	b := large(t)
	o := b.options(filepath.Join(smallDisk(t, 100<<20), "new"))
	_, err := Restore(t.Context(), o)
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "make room") {
		t.Errorf("%v, want a refusal", err)
	}
	if _, err := os.Stat(o.Dir + Staging); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}

	const enough = 512 << 20
	disk := smallDisk(t, enough)
	resize := func(size int64) {
		t.Helper()
		b.ok(syscall.Mount("tmpfs", disk, "tmpfs", syscall.MS_REMOUNT, fmt.Sprintf("size=%d", size)))
	}
	o = b.options(filepath.Join(disk, "new"))
	var full atomic.Bool
	o.Progress = func(p RestoreProgress) {
		if p.Done > 2<<20 && full.CompareAndSwap(false, true) {
			resize(p.Done + 3<<20) // with what other goroutines write meanwhile, and less than the backup
		}
	}
	_, err = Restore(t.Context(), o)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "run the command again") {
		t.Fatalf("on a full disk: %v", err)
	}
	if _, err := os.Stat(o.Dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a data directory was made: %v", err)
	}
	resize(enough)
	o.Progress = nil
	_, err = Restore(t.Context(), o)
	b.ok(err)
	openStore(t, o.Dir, func(s *pebble.Store) {
		if n, err := s.Count("data", 0, 0); err != nil || n != 15 {
			t.Errorf("%d records, %v", n, err)
		}
	})
}

// A backup of a newer version is refused with both versions.
func TestRestoreNewer(t *testing.T) {
	b := newBridge(t)
	b.backup(func(a *About) { a.Format = aboutFormat + 1 })
	o := b.options(filepath.Join(t.TempDir(), "new"))
	o.Version = "v0.1.0"
	_, err := Restore(t.Context(), o)
	if !errors.Is(err, ErrUnfit) || !strings.Contains(err.Error(), "made by version test, this is v0.1.0") {
		t.Error(err)
	}
}

// A restore from S3 is one from a folder.
func TestRestoreFromS3(t *testing.T) {
	b := newBridge(t)
	mem := s3mem.New()
	b.ok(mem.CreateBucket("bucket"))
	srv := httptest.NewServer(gofakes3.New(mem).Server())
	defer srv.Close()
	t.Setenv("AWS_ACCESS_KEY_ID", "key")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	var err error
	b.target, err = vault.Open(t.Context(), "s3://bucket/of/this", vault.TargetOptions{Region: "us-east-1",
		EndpointURL: srv.URL})
	b.ok(err)
	b.backup(nil)
	o := b.options(filepath.Join(t.TempDir(), "new"))
	_, err = Restore(t.Context(), o)
	b.ok(err)
	openStore(t, o.Dir, func(s *pebble.Store) {
		if n, _ := digest(t, s, "data"); n != 10 {
			t.Errorf("%d records", n)
		}
	})
}

// A target that fails is logged once, told by Status, and has all once it works again.
func TestRevokerFails(t *testing.T) {
	b := newBridge(t)
	openRegistry(t, b.dir, func(reg *registry.Registry) {
		synctest.Test(t, func(t *testing.T) {
			var text bytes.Buffer
			x := NewRevoker(RevokerOptions{Target: b.target.String(), Registry: reg, Key: []byte("key"),
				About: About{Account: testAccount, Directory: "0123"}, Log: slog.New(slog.NewTextHandler(&text, nil)),
				Keys: func() (map[string]pki.AccessKey, error) { return nil, nil },
				Last: func() time.Time { return time.Time{} }})
			var works atomic.Bool
			x.open = func(context.Context) (vault.Target, error) {
				if !works.Load() {
					return nil, errors.New("the target is away")
				}
				return b.target, nil
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- x.Run(ctx) }()
			time.Sleep(10 * revocationRetry)
			synctest.Wait()
			if _, problem := x.Status(); !strings.Contains(problem, "away") {
				t.Errorf("the problem is %q", problem)
			}
			if n := strings.Count(text.String(), "away"); n != 1 {
				t.Errorf("logged %d times:\n%s", n, text.String())
			}
			works.Store(true)
			time.Sleep(2 * revocationRetry)
			synctest.Wait()
			if written, problem := x.Status(); written.IsZero() || problem != "" {
				t.Errorf("written %v, %q", written, problem)
			}
			if _, err := NewestRevocations(ctx, b.target); err != nil {
				t.Error(err)
			}
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
}
