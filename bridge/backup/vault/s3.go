package vault

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	sinks3 "github.com/tidemill/tidemill/bridge/speed/sink/s3"
)

// A bucket is a Target in S3, Amazon's or another's that speaks its protocol.
type bucket struct {
	api    *s3.Client
	name   string
	prefix string // "" or with a slash at its end
	// noConditions is set by a server that does not know If-None-Match. Before it is
	// asked then whether there is an object; the repository's lock keeps others away.
	noConditions atomic.Bool
}

// attempts is how often a request is tried that fails on the way.
const attempts = 5

// openS3 returns the target at "BUCKET/PREFIX" or "BUCKET".
func openS3(ctx context.Context, at string, o TargetOptions) (Target, error) {
	name, prefix, _ := strings.Cut(at, "/")
	prefix = strings.Trim(prefix, "/")
	if name == "" || len(prefix) > 512 || strings.ContainsFunc(prefix, func(r rune) bool { return r <= ' ' }) {
		return nil, fmt.Errorf("target %q: want s3://bucket/prefix", "s3://"+at)
	}
	if prefix != "" {
		prefix += "/"
	}
	place := awsapi.Place{Region: o.Region, EndpointURL: o.EndpointURL, Profile: o.Profile, RoleARN: o.RoleARN}
	c, err := place.Once(ctx)
	if err != nil {
		return nil, fmt.Errorf("target s3://%s: %w", at, err)
	}
	c.Retryer = func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts = attempts })
	}
	c.HTTPClient = pacedClient{c.HTTPClient, newPace(o.MaxBandwidth), maxStall}
	return &bucket{api: sinks3.Client(c), name: name, prefix: prefix}, nil
}

// String implements Target.
func (b *bucket) String() string { return "s3://" + b.name + "/" + b.prefix }

func (b *bucket) key(name string) *string { return aws.String(b.prefix + name) }

// fail is an error of an operation on an object, with what it means.
func (b *bucket) fail(operation, name string, err error) error {
	if err == nil {
		return nil
	}
	code, status := "", 0
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		code = e.ErrorCode()
	}
	if e, ok := errors.AsType[*smithyhttp.ResponseError](err); ok {
		status = e.HTTPStatusCode()
	}
	var kind error
	switch {
	case code == "NoSuchKey", code == "NotFound":
		kind = ErrNotFound
	case code == "PreconditionFailed":
		kind = ErrExists
	case status == http.StatusInsufficientStorage, slices.Contains(fullCodes, code):
		kind = ErrFull
	default:
		return fmt.Errorf("%s %s%s: %w", operation, b, name, err)
	}
	if kind == ErrFull {
		return fmt.Errorf("%s %s%s: %w: %w", operation, b, name, kind, err)
	}
	return fmt.Errorf("%s %s%s: %w", operation, b, name, kind)
}

// fullCodes are what servers call it that there is no room: ours, MinIO and Ceph.
var fullCodes = []string{"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull",
	"XMinioAdminBucketQuotaExceeded", "InsufficientCapacity"}

// List implements Target.
func (b *bucket) List(ctx context.Context, folder string) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		pages := s3.NewListObjectsV2Paginator(b.api, &s3.ListObjectsV2Input{Bucket: &b.name, Prefix: b.key(folder)})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				yield(Entry{}, b.fail("list", folder, err))
				return
			}
			for _, o := range page.Contents {
				name, ok := strings.CutPrefix(aws.ToString(o.Key), b.prefix)
				if !ok || checkName(name) != nil {
					continue // not ours
				}
				e := Entry{name, aws.ToInt64(o.Size), aws.ToTime(o.LastModified)}
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Delete implements Target.
func (b *bucket) Delete(ctx context.Context, name string) error {
	err := checkName(name)
	if err == nil {
		_, err = b.api.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.name, Key: b.key(name)})
	}
	if err = b.fail("delete", name, err); errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}
