// Package s3 keeps objects in S3, Amazon's or another's that speaks its
// protocol.
package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/bounded"
	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// maxKey is S3's limit, bytes of UTF-8 (S3 user guide, object keys).
const maxKey = 1024

// A Store is a sink.Objects and a sink.Getter. Several goroutines may use it.
type Store struct{ api *s3.Client }

// New returns the store that c leads to. Nothing is asked.
func New(c aws.Config) *Store { return &Store{Client(c)} }

// Client returns the SDK's client that c leads to. At an endpoint of its own buckets are
// named in the path, and checksums are sent where the protocol wants them only:
// both are what other stores understand. Nothing is asked.
func Client(c aws.Config) *s3.Client {
	return s3.NewFromConfig(c, func(o *s3.Options) {
		if o.BaseEndpoint != nil {
			o.UsePathStyle = true
			o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
			o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		}
	})
}

// limit is how long a request may take that moves so many bytes: a minute, and the time
// for them at 128 KiB/s, a slow line.
func limit(bytes int) time.Duration {
	return time.Minute + time.Duration(bytes/(128<<10))*time.Second
}

func check(bucket, key string) error {
	if key == "" || len(key) > maxKey || !utf8.ValidString(key) {
		return fmt.Errorf("%w: key of %d bytes: want 1 to %d of UTF-8", sink.ErrName, len(key), maxKey)
	}
	return sink.CheckBucket(bucket)
}

// Put implements sink.Objects. The object is held in memory and sent in one
// request, which S3 takes whole or not at all.
func (s *Store) Put(ctx context.Context, bucket, key string, write func(io.Writer) error) error {
	return s.PutACL(ctx, bucket, key, "", write)
}

// PutACL is Put of an object with a canned ACL; "" for none.
func (s *Store) PutACL(ctx context.Context, bucket, key, acl string, write func(io.Writer) error) error {
	err := check(bucket, key)
	var b bytes.Buffer
	if err == nil {
		err = write(&b)
	}
	if err == nil {
		within, cancel := context.WithTimeout(ctx, limit(b.Len()))
		defer cancel()
		_, err = s.api.PutObject(within, &s3.PutObjectInput{Bucket: &bucket, Key: &key,
			ACL: types.ObjectCannedACL(acl), Body: bytes.NewReader(b.Bytes())})
	}
	if err != nil {
		return fmt.Errorf("object %s/%s: %w", bucket, key, err)
	}
	return nil
}

// Get implements sink.Getter.
func (s *Store) Get(ctx context.Context, bucket, key string, most int) (data []byte, tag string, err error) {
	defer func() {
		if err != nil {
			data, err = nil, fmt.Errorf("object %s/%s: %w", bucket, key, err)
		}
	}()
	if err = check(bucket, key); err != nil {
		return nil, "", err
	}
	ctx, cancel := context.WithTimeout(ctx, limit(most))
	defer cancel()
	out, err := s.api.GetObject(ctx, &s3.GetObjectInput{Bucket: &bucket, Key: &key})
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "NoSuchKey" {
		return nil, "", sink.ErrNotFound
	}
	if err != nil {
		return nil, "", err
	}
	defer out.Body.Close()
	data, err = bounded.ReadAll(out.Body, int64(most))
	return data, aws.ToString(out.ETag), err
}
