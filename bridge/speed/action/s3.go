package action

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/iotsql"
	"github.com/tidemill/tidemill/bridge/speed/sink"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// cannedACLs are those of CannedAccessControlList. Objects of the bridge's own
// have none.
var cannedACLs = []string{"private", "public-read", "public-read-write", "aws-exec-read", "authenticated-read",
	"bucket-owner-read", "bucket-owner-full-control", bucketACL}

// bucketACL is allowed in rules, and S3 has it for buckets only (PutObject,
// x-amz-acl).
const bucketACL = "log-delivery-write"

// maxObjectKey is S3's limit, bytes of UTF-8.
const maxObjectKey = 1024

// toObject is the s3 action: the document becomes an object.
type toObject struct {
	outbox
	bucket, key *iotsql.Template
	acl         string // "" for none
	resource    string
	remote      bool // the bucket is elsewhere
}

func compileS3(p *parser) Target {
	t := &toObject{outbox: p.outbox, bucket: p.template("bucketName", ""), key: p.template("key", ""),
		acl: p.oneOf("cannedAcl", cannedACLs...), resource: p.raw("bucketName")}
	if t.bucket != nil {
		if name, same := t.bucket.Const(); same && sink.CheckBucket(name) != nil {
			p.bad("bucketName: %w", sink.CheckBucket(name))
		}
	}
	t.remote = p.catalog != nil && p.catalog.Remote("s3")
	if len(p.errs) == 0 {
		t.never = judged("key", t.key, t.checkKey)
	}
	return t
}

func (t *toObject) Kind() string     { return "s3" }
func (t *toObject) Resource() string { return t.resource }

func (t *toObject) resolve(ctx context.Context, in *Input) (*Delivery, error) {
	d := t.fill(in, &Delivery{Kind: "s3"})
	if t.acl != "" {
		d.set("cannedAcl", t.acl)
	}
	var err error
	if d.Bucket, err = t.bucket.Text(ctx, in.Input); err != nil {
		return d, err
	}
	if d.Name, err = t.key.Text(ctx, in.Input); err != nil {
		return d, err
	}
	if err := sink.CheckBucket(d.Bucket); err != nil {
		return d, err
	}
	return d, t.checkKey(d.Name)
}

// checkKey judges an object's key as where the bucket is.
func (t *toObject) checkKey(key string) error {
	switch {
	case !t.remote:
		return sink.CheckKey(key)
	case len(key) == 0 || len(key) > maxObjectKey || !utf8.ValidString(key):
		return fmt.Errorf("key of %d bytes, want 1 to %d of UTF-8", len(key), maxObjectKey)
	case t.acl == bucketACL:
		return fmt.Errorf("cannedAcl: S3 has %s for buckets, not for objects", t.acl)
	}
	return nil
}

func (t *toObject) Stage(ctx context.Context, b *streams.Batch, in *Input) error {
	d, err := t.resolve(ctx, in)
	return t.stage(b, d, err)
}

func (t *toObject) Describe(ctx context.Context, in *Input) ([]Parameter, error) {
	d, err := t.resolve(ctx, in)
	return t.describe(d, err, slices.Concat([]Parameter{{"bucketName", d.Bucket}, {"key", d.Name}}, d.Parameters)...)
}
