package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
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

// A pacedClient sends and reads bodies at a pace, and gives up those that rest.
type pacedClient struct {
	aws.HTTPClient
	pace  *pace
	stall time.Duration
}

// Do implements aws.HTTPClient.
func (c pacedClient) Do(r *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(r.Context())
	r = r.WithContext(ctx)
	if c.pace.rate > 0 && r.Body != nil && r.Body != http.NoBody {
		r.Body = readCloser{c.pace.reader(r.Context(), r.Body), r.Body}
	}
	resp, err := c.HTTPClient.Do(r)
	if err != nil {
		cancel(nil)
		return resp, err
	}
	resp.Body = lively{resp.Body, c.stall, cancel}
	if c.pace.rate > 0 {
		resp.Body = readCloser{c.pace.reader(r.Context(), resp.Body), resp.Body}
	}
	return resp, err
}

// maxStall is how long an answer may rest that has begun: a server that says nothing more
// would else keep a backup, and all after it, waiting for good.
const maxStall = time.Minute

// A lively body is given up when nothing of it comes.
type lively struct {
	io.ReadCloser
	stall  time.Duration
	cancel context.CancelCauseFunc // of the request
}

func (b lively) Read(p []byte) (int, error) {
	timer := time.AfterFunc(b.stall, func() { b.cancel(fmt.Errorf("the target has sent nothing for %v", b.stall)) })
	defer timer.Stop()
	return b.ReadCloser.Read(p)
}

func (b lively) Close() error {
	defer b.cancel(nil)
	return b.ReadCloser.Close()
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

// partSize is of uploads in parts, which longer objects are sent by. S3 takes 10,000 parts.
const partSize = 32 << 20

// timeLimit is how long a request may take that moves so many bytes: ten minutes, and the time for
// them at half of MinBandwidth.
func timeLimit(n int64) time.Duration {
	return 10*time.Minute + time.Duration(n/(MinBandwidth/2))*time.Second
}

// Put implements Target. At most a part of r is held in memory.
func (b *bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	err := checkName(name)
	if err == nil && b.noConditions.Load() {
		_, err = b.api.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.name, Key: b.key(name)})
		if err == nil {
			err = ErrExists
		} else if errors.Is(b.fail("", "", err), ErrNotFound) {
			err = nil
		}
	}
	if err == nil && size > partSize {
		err = b.putParts(ctx, name, r, size)
	} else if err == nil {
		err = b.putWhole(ctx, name, r, size)
	}
	return b.fail("put", name, err)
}

// none is the condition that there is no object, where the server knows it.
func (b *bucket) none() *string {
	if b.noConditions.Load() {
		return nil
	}
	return aws.String("*")
}

func (b *bucket) putWhole(ctx context.Context, name string, r io.Reader, size int64) error {
	body, ok := r.(io.ReadSeeker) // what is tried again is read again
	if !ok {
		part, err := readPart(r, size)
		if err != nil {
			return err
		}
		body = bytes.NewReader(part)
	}
	n, err := body.Seek(0, io.SeekEnd)
	if err == nil && n != size {
		err = fmt.Errorf("%d bytes came, want %d", n, size)
	}
	if err == nil {
		_, err = body.Seek(0, io.SeekStart)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, attempts*timeLimit(size))
	defer cancel()
	in := &s3.PutObjectInput{Bucket: &b.name, Key: b.key(name), Body: body, ContentLength: &size, IfNoneMatch: b.none()}
	_, err = b.api.PutObject(ctx, in)
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "NotImplemented" && in.IfNoneMatch != nil {
		b.noConditions.Store(true)
		if _, err := body.Seek(0, io.SeekStart); err != nil {
			return err
		}
		return b.Put(ctx, name, body, size)
	}
	return err
}

func readPart(r io.Reader, size int64) ([]byte, error) {
	part := make([]byte, size)
	if n, err := io.ReadFull(r, part); err != nil {
		return nil, fmt.Errorf("%d bytes came, want %d: %w", n, size, err)
	}
	return part, nil
}

func (b *bucket) putParts(ctx context.Context, name string, r io.Reader, size int64) (err error) {
	up, err := b.api.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: &b.name, Key: b.key(name)})
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			_, e := b.api.AbortMultipartUpload(last, &s3.AbortMultipartUploadInput{Bucket: &b.name, Key: b.key(name),
				UploadId: up.UploadId})
			err = errors.Join(err, e)
		}
	}()
	var parts []types.CompletedPart
	for left := size; left > 0; left -= partSize {
		part, err := readPart(r, min(left, partSize))
		if err != nil {
			return err
		}
		number := aws.Int32(int32(len(parts) + 1))
		out, err := b.putPart(ctx, &s3.UploadPartInput{Bucket: &b.name, Key: b.key(name), UploadId: up.UploadId,
			PartNumber: number, Body: bytes.NewReader(part), ContentLength: aws.Int64(int64(len(part)))})
		if err != nil {
			return err
		}
		parts = append(parts, types.CompletedPart{PartNumber: number, ETag: out.ETag})
	}
	_, err = b.api.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: &b.name, Key: b.key(name),
		UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}, IfNoneMatch: b.none()})
	return err
}

func (b *bucket) putPart(ctx context.Context, in *s3.UploadPartInput) (*s3.UploadPartOutput, error) {
	ctx, cancel := context.WithTimeout(ctx, attempts*timeLimit(*in.ContentLength))
	defer cancel()
	return b.api.UploadPart(ctx, in)
}

// Get implements Target. A connection that breaks is made anew, from where it broke.
func (b *bucket) Get(ctx context.Context, name string, offset, length int64) (io.ReadCloser, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if length == 0 {
		return io.NopCloser(strings.NewReader("")), nil
	}
	r := &objectReader{ctx: ctx, b: b, name: name, at: offset, end: -1}
	if length > 0 {
		r.end = offset + length
	}
	if err := r.open(); err != nil {
		return nil, b.fail("get", name, err)
	}
	return r, nil
}

// An objectReader reads an object. It lives as long as a call, whose context it keeps.
type objectReader struct {
	ctx     context.Context
	b       *bucket
	name    string
	at, end int64 // bytes of the object; end is negative: up to its end
	body    io.ReadCloser
	broken  int // times
}

func (r *objectReader) open() error {
	in := &s3.GetObjectInput{Bucket: &r.b.name, Key: r.b.key(r.name)}
	switch {
	case r.end >= 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-%d", r.at, r.end-1))
	case r.at > 0:
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", r.at))
	}
	out, err := r.b.api.GetObject(r.ctx, in)
	if e, ok := errors.AsType[smithy.APIError](err); ok && e.ErrorCode() == "InvalidRange" {
		r.body = io.NopCloser(strings.NewReader("")) // it ends before
		return nil
	}
	if err == nil {
		r.body = out.Body
	}
	return err
}

// Read implements io.Reader.
func (r *objectReader) Read(p []byte) (int, error) {
	n, err := r.body.Read(p)
	r.at += int64(n)
	if err == nil || err == io.EOF || context.Cause(r.ctx) != nil || r.broken == attempts {
		return n, err
	}
	r.broken++
	select {
	case <-r.ctx.Done():
		return n, context.Cause(r.ctx)
	case <-time.After(time.Duration(r.broken) * time.Second):
	}
	_ = r.body.Close()
	if r.end >= 0 && r.at >= r.end {
		r.body = io.NopCloser(strings.NewReader(""))
		return n, nil
	}
	return n, r.b.fail("get", r.name, r.open())
}

// Close implements io.Closer.
func (r *objectReader) Close() error { return r.body.Close() }

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
