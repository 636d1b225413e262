package backup

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/control/pki"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A slowTarget takes some time for each object.
type slowTarget struct {
	vault.Target
	takes time.Duration
}

func (t slowTarget) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	time.Sleep(t.takes)
	return t.Target.Put(ctx, name, r, size)
}

// What is revoked is at the target some seconds later, also where the target takes long for
// each file, and soon after a file was written: in the registry, and in the file of keys.
func TestRevocationsComeSoon(t *testing.T) {
	b := newBridge(t)
	openRegistry(t, b.dir, func(reg *registry.Registry) {
		synctest.Test(t, func(t *testing.T) {
			const takes = 3 * time.Second
			var keys atomic.Pointer[map[string]pki.AccessKey]
			keys.Store(&map[string]pki.AccessKey{"AKIAFILEAAAAAAAAAAAA": {Secret: "s"}})
			x := NewRevoker(RevokerOptions{Target: b.target.String(), Registry: reg, Key: []byte("key"),
				About: About{Account: testAccount, Directory: "0123"}, Log: slog.New(slog.DiscardHandler),
				Keys: func() (map[string]pki.AccessKey, error) { return *keys.Load(), nil },
				Last: func() time.Time { return time.Time{} }})
			x.open = func(context.Context) (vault.Target, error) { return slowTarget{b.target, takes}, nil }
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- x.Run(ctx) }()
			soon := func(what string) {
				at := time.Now()
				time.Sleep(revocationLook + takes + time.Second)
				synctest.Wait()
				if written, problem := x.Status(); written.Before(at) {
					t.Errorf("%s: after %s the file is as of %s before, %s", what, time.Since(at), at.Sub(written),
						problem)
				}
			}
			soon("at the start")
			keys.Store(&map[string]pki.AccessKey{})
			soon("a key of the file is taken out")
			if err := reg.Update(func(tx *registry.Tx) error {
				return tx.SetCertificateStatus(b.certs[0], registry.Revoked)
			}); err != nil {
				t.Error(err)
			}
			soon("a certificate is revoked")
			stop()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	})
}
