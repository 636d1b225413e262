package vault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
)

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
