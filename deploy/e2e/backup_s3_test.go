package e2e

import (
	"bytes"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"filippo.io/age"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/tidemill/tidemill/bridge/backup/vault"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	sinks3 "github.com/tidemill/tidemill/bridge/speed/sink/s3"
)

// TestBackupIntoABridge keeps a repository of backups in a bucket of a bridge, over
// its S3 endpoint.
func TestBackupIntoABridge(t *testing.T) {
	f := newBridge(t, "", nil)
	for k, v := range (&awsShell{f: f, service: "s3"}).environment() {
		t.Setenv(k, v)
	}
	c, err := awsapi.Place{}.Once(f.ctx)
	f.must(err)
	_, err = sinks3.Client(c).CreateBucket(f.ctx, &s3.CreateBucketInput{Bucket: aws.String("backups")})
	f.must(err)
	target, err := vault.Open(f.ctx, "s3://backups/of/another", vault.TargetOptions{EndpointURL: *c.BaseEndpoint})
	f.must(err)
	key, err := age.GenerateX25519Identity()
	f.must(err)
	data := make([]byte, 40<<20)
	_, _ = rand.NewChaCha8([32]byte{}).Read(data)
	backup := func() vault.Info {
		w, err := vault.NewWriter(f.ctx, target, vault.WriterOptions{Recipients: []age.Recipient{key.Recipient()},
			Directory: filepath.Join(f.dir, "of another")})
		f.must(err)
		defer w.Close()
		f.must(w.File(f.ctx, "data", vault.FileMeta{Size: int64(len(data)), Mode: 0o600}, bytes.NewReader(data)))
		info, err := w.Commit(f.ctx, nil)
		f.must(err)
		return info
	}
	backup()
	copy(data[20<<20:], "changed")
	second := backup()
	if second.Stored > 200<<10 {
		t.Errorf("the second backup stored %d bytes, want some 64 KiB and the manifest", second.Stored)
	}
	for _, keys := range [][]age.Identity{nil, {key}} {
		_, err := vault.Verify(f.ctx, target, second.ID, keys, nil)
		f.must(err)
	}
	removed, err := vault.Prune(f.ctx, target, vault.Keep{Last: 1}, "")
	f.must(err)
	if len(removed.Backups) != 1 || removed.Objects == 0 {
		t.Errorf("%+v, want one backup removed, and packs", removed)
	}
	r, err := vault.OpenReader(f.ctx, target, vault.Latest, []age.Identity{key})
	f.must(err)
	in, err := r.Open(f.ctx, "data")
	f.must(err)
	sum := sha256.New()
	_, err = io.Copy(sum, in)
	f.must(err)
	f.must(in.Close())
	if vault.Digest(sum.Sum(nil)) != sha256.Sum256(data) {
		t.Error("the file comes back changed")
	}
}
