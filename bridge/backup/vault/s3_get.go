package vault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
)

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
