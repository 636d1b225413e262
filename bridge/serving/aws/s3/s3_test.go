package s3

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire/wiretest"
	"github.com/tidemill/tidemill/bridge/sigv4"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// A site is the service on loopback, and AWS's SDK for Go as its client.
type site struct {
	store  *objects.Store
	server *httptest.Server
	*s3.Client
}

func newSite(t testing.TB, secure bool, change ...func(*wire.Options)) *site {
	t.Helper()
	store, err := objects.Open(t.TempDir(), objects.Options{})
	if err != nil {
		t.Fatal(err)
	}
	o := wiretest.Options(Service(Options{Store: store, Account: "000000000000", Region: wiretest.Region,
		Public: []string{"public"}}))
	v := wiretest.Verifier(wiretest.Key.ID)
	v.Region, v.Unsigned = wiretest.Region, func(service string) bool { return service == "s3" }
	o.Verifier = v
	for _, f := range change {
		f(&o)
	}
	x := &site{store: store, server: httptest.NewUnstartedServer(wire.New(o))}
	if secure {
		x.server.StartTLS()
	} else {
		x.server.Start()
	}
	t.Cleanup(func() { x.server.Close(); store.Close() })
	x.Client = s3.New(s3.Options{BaseEndpoint: &x.server.URL, Region: "us-east-1", UsePathStyle: true,
		HTTPClient: x.server.Client(), RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(wiretest.Key.ID, wiretest.Key.Secret, "")})
	if err := store.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	return x
}

var bucket = aws.String("bucket")

func (x *site) put(t testing.TB, key, text string) {
	t.Helper()
	if _, err := x.PutObject(t.Context(), &s3.PutObjectInput{Bucket: bucket, Key: &key,
		Body: strings.NewReader(text)}); err != nil {
		t.Fatal(err)
	}
}

// code is the name of an API's error, "" for none.
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func TestBuckets(t *testing.T) {
	x, ctx := newSite(t, false), t.Context()
	name := aws.String("second.bucket")
	if _, err := x.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: name}); err != nil {
		t.Error(err)
	}
	for _, c := range []struct{ name, want string }{{"second.bucket", "BucketAlreadyOwnedByYou"},
		{"Upper", "InvalidBucketName"}} {
		if _, err := x.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: &c.name}); code(err) != c.want {
			t.Errorf("create %s: %v", c.name, err)
		}
	}
	list, err := x.ListBuckets(ctx, nil)
	if err != nil || len(list.Buckets) != 2 || *list.Buckets[1].Name != "second.bucket" {
		t.Errorf("%+v, %v", list, err)
	}
	var names []string
	for pages := s3.NewListBucketsPaginator(x, &s3.ListBucketsInput{MaxBuckets: aws.Int32(1)}); pages.HasMorePages(); {
		p, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, *p.Buckets[0].Name)
	}
	if !slices.Equal(names, []string{"bucket", "second.bucket"}) {
		t.Errorf("pages: %q", names)
	}
	at, err := x.GetBucketLocation(ctx, &s3.GetBucketLocationInput{Bucket: name})
	if err != nil || at.LocationConstraint != wiretest.Region {
		t.Errorf("%+v, %v", at, err)
	}
	if _, err := x.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("none")}); code(err) != "NotFound" {
		t.Errorf("head: %v", err)
	}
	x.put(t, "k", "v")
	if _, err := x.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket}); code(err) != "BucketNotEmpty" {
		t.Errorf("delete: %v", err)
	}
	if _, err := x.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: name}); err != nil {
		t.Error(err)
	}
	if _, err := x.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: name}); code(err) != "NoSuchBucket" {
		t.Errorf("delete again: %v", err)
	}
}

// Over HTTP the body is signed, over HTTPS it comes in chunks with a checksum
// behind it; a stream is signed by its chunks.
func TestObjects(t *testing.T) {
	for _, secure := range []bool{false, true} {
		x := newSite(t, secure)
		for _, key := range []string{"a/b", "a", "a/", "x//../y", "ü+ %&=?#"} {
			for _, alg := range append(types.ChecksumAlgorithm("").Values(), "") {
				if alg == "" || slices.Contains(objects.Algorithms, objects.Algorithm(alg)) {
					t.Run(fmt.Sprint(secure, key, alg), func(t *testing.T) { roundTrip(t, x, key, alg) })
				}
			}
		}
	}
}

func roundTrip(t *testing.T, x *site, key string, alg types.ChecksumAlgorithm) {
	ctx := t.Context()
	text := strings.Repeat("0123456789abcdef", 20_000)
	put, err := x.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: &key, Body: strings.NewReader(text),
		ContentType: aws.String("text/plain"), Metadata: map[string]string{"Name": "value"}, ChecksumAlgorithm: alg,
		CacheControl: aws.String("no-cache")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := x.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(got.Body)
	if err != nil || string(b) != text || *got.ETag != *put.ETag || *got.ContentType != "text/plain" ||
		got.Metadata["name"] != "value" || *got.CacheControl != "no-cache" || got.ContentEncoding != nil {
		t.Errorf("%d bytes, %v, %+v", len(b), err, got)
	}
	head, err := x.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &key})
	if err != nil || *head.ContentLength != int64(len(text)) || *head.ETag != *put.ETag {
		t.Errorf("%+v, %v", head, err)
	}
	if _, err := x.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: &key}); err != nil {
		t.Error(err)
	}
	if _, err := x.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key}); code(err) != "NoSuchKey" {
		t.Errorf("after delete: %v", err)
	}
}

func TestRangesAndConditions(t *testing.T) {
	x, ctx := newSite(t, false), t.Context()
	x.put(t, "k", "0123456789")
	head, err := x.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("k")})
	if err != nil {
		t.Fatal(err)
	}
	before, after := head.LastModified.Add(-1e9), head.LastModified.Add(1e9)
	for name, c := range map[string]struct {
		in   s3.GetObjectInput
		want string // content or error
		of   string // Content-Range
	}{
		"first":        {s3.GetObjectInput{Range: aws.String("bytes=0-3")}, "0123", "bytes 0-3/10"},
		"open":         {s3.GetObjectInput{Range: aws.String("bytes=7-")}, "789", "bytes 7-9/10"},
		"last":         {s3.GetObjectInput{Range: aws.String("bytes=-2")}, "89", "bytes 8-9/10"},
		"beyond":       {s3.GetObjectInput{Range: aws.String("bytes=8-100")}, "89", "bytes 8-9/10"},
		"none":         {s3.GetObjectInput{Range: aws.String("bytes=10-")}, "InvalidRange", ""},
		"several":      {s3.GetObjectInput{Range: aws.String("bytes=0-1,3-4")}, "0123456789", ""},
		"turned":       {s3.GetObjectInput{Range: aws.String("bytes=3-1")}, "0123456789", ""},
		"lines":        {s3.GetObjectInput{Range: aws.String("lines=3-4")}, "0123456789", ""},
		"match":        {s3.GetObjectInput{IfMatch: head.ETag}, "0123456789", ""},
		"no match":     {s3.GetObjectInput{IfMatch: aws.String(`"x"`)}, "PreconditionFailed", ""},
		"none match":   {s3.GetObjectInput{IfNoneMatch: head.ETag}, "NotModified", ""},
		"modified":     {s3.GetObjectInput{IfModifiedSince: &before}, "0123456789", ""},
		"not modified": {s3.GetObjectInput{IfModifiedSince: &after}, "NotModified", ""},
		"changed":      {s3.GetObjectInput{IfUnmodifiedSince: &before}, "PreconditionFailed", ""},
		"unchanged":    {s3.GetObjectInput{IfUnmodifiedSince: &after}, "0123456789", ""},
		"match first":  {s3.GetObjectInput{IfMatch: head.ETag, IfUnmodifiedSince: &before}, "0123456789", ""},
		"part":         {s3.GetObjectInput{PartNumber: aws.Int32(1)}, "0123456789", "bytes 0-9/10"},
		"no part":      {s3.GetObjectInput{PartNumber: aws.Int32(2)}, "InvalidPartNumber", ""},
	} {
		c.in.Bucket, c.in.Key = bucket, aws.String("k")
		out, err := x.GetObject(ctx, &c.in)
		got := code(err)
		if err == nil {
			b, _ := io.ReadAll(out.Body)
			got = string(b)
			if of := aws.ToString(out.ContentRange); of != c.of {
				t.Errorf("%s: %q, want %q", name, of, c.of)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	for name, c := range map[string]struct {
		in   s3.PutObjectInput
		want string
	}{
		"absent":    {s3.PutObjectInput{Key: aws.String("k"), IfNoneMatch: aws.String("*")}, "PreconditionFailed"},
		"new":       {s3.PutObjectInput{Key: aws.String("l"), IfNoneMatch: aws.String("*")}, ""},
		"match":     {s3.PutObjectInput{Key: aws.String("k"), IfMatch: head.ETag}, ""},
		"gone":      {s3.PutObjectInput{Key: aws.String("n"), IfMatch: head.ETag}, "NoSuchKey"},
		"tagged":    {s3.PutObjectInput{Key: aws.String("n"), Tagging: aws.String("a=b")}, "NotImplemented"},
		"public":    {s3.PutObjectInput{Key: aws.String("n"), ACL: "public-read"}, "AccessControlListNotSupported"},
		"encrypted": {s3.PutObjectInput{Key: aws.String("n"), ServerSideEncryption: "AES256"}, "NotImplemented"},
		"bad md5": {s3.PutObjectInput{Key: aws.String("n"), ContentMD5: aws.String("1B2M2Y8AsgTpgAmY7PhCfg==")},
			"BadDigest"},
		"no md5":  {s3.PutObjectInput{Key: aws.String("n"), ContentMD5: aws.String("x")}, "InvalidDigest"},
		"bad crc": {s3.PutObjectInput{Key: aws.String("n"), ChecksumCRC32: aws.String("AAAAAA==")}, "BadDigest"},
		"no crc":  {s3.PutObjectInput{Key: aws.String("n"), ChecksumCRC32: aws.String("AA==")}, "InvalidRequest"},
		"much": {s3.PutObjectInput{Key: aws.String("n"), Metadata: map[string]string{"a": strings.Repeat("x", 2100)}},
			"MetadataTooLarge"},
		"cold":      {s3.PutObjectInput{Key: aws.String("n"), StorageClass: "GLACIER"}, "InvalidStorageClass"},
		"long key":  {s3.PutObjectInput{Key: aws.String(strings.Repeat("k", 1025))}, "InvalidArgument"},
		"no bucket": {s3.PutObjectInput{Bucket: aws.String("none"), Key: aws.String("n")}, "NoSuchBucket"},
	} {
		if c.in.Bucket == nil {
			c.in.Bucket = bucket
		}
		c.in.Body = strings.NewReader("changed")
		if _, err := x.PutObject(ctx, &c.in); code(err) != c.want {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
	if _, err := x.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: aws.String("n")}); code(err) != "NotFound" {
		t.Errorf("what was refused is there: %v", err)
	}
	if _, err := x.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: aws.String("k"),
		IfMatch: head.ETag}); code(err) != "PreconditionFailed" {
		t.Errorf("delete: %v", err)
	}
}

func TestLists(t *testing.T) {
	x, ctx := newSite(t, false), t.Context()
	var want []string
	for i := range 25 {
		for _, d := range []string{"a", "b/c"} {
			key := fmt.Sprintf("%s/%02d +ü", d, i)
			x.put(t, key, "v")
			want = append(want, key)
		}
	}
	slices.Sort(want)
	var got, got1 []string
	pages := s3.NewListObjectsV2Paginator(x, &s3.ListObjectsV2Input{Bucket: bucket, MaxKeys: aws.Int32(7)})
	for pages.HasMorePages() {
		p, err := pages.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range p.Contents {
			got = append(got, *o.Key)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	for in := (s3.ListObjectsInput{Bucket: bucket, MaxKeys: aws.Int32(7)}); ; {
		p, err := x.ListObjects(ctx, &in)
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range p.Contents {
			got1 = append(got1, *o.Key)
		}
		if !*p.IsTruncated {
			break
		}
		in.Marker = &got1[len(got1)-1]
	}
	if !slices.Equal(got1, want) {
		t.Errorf("version 1: %q, want %q", got1, want)
	}
	p, err := x.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, Delimiter: aws.String("/"),
		Prefix: aws.String("b/"), EncodingType: "url", FetchOwner: aws.Bool(true)})
	if err != nil || len(p.CommonPrefixes) != 1 || *p.CommonPrefixes[0].Prefix != "b/c/" || len(p.Contents) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
	p, err = x.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, StartAfter: aws.String("b/c/23 +ü"),
		EncodingType: "url"})
	if err != nil || len(p.Contents) != 1 || *p.Contents[0].Key != "b/c/24%20%2B%C3%BC" || *p.Contents[0].Size != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := x.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket,
		ContinuationToken: aws.String("x")}); code(err) != "InvalidArgument" {
		t.Errorf("token: %v", err)
	}
}

func TestDeleteObjects(t *testing.T) {
	x, ctx := newSite(t, true), t.Context()
	x.put(t, "a", "1")
	x.put(t, "b//", "2")
	out, err := x.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("a")}, {Key: aws.String("b//")}, {Key: aws.String("none")},
			{Key: aws.String(strings.Repeat("k", 1025))}}}})
	if err != nil || len(out.Deleted) != 3 || len(out.Errors) != 1 || *out.Errors[0].Code != "InvalidArgument" {
		t.Errorf("%+v, %v", out, err)
	}
	if p, err := x.store.List(ctx, "bucket", objects.Listing{Max: 10}); err != nil || len(p.Objects) != 0 {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestCopy(t *testing.T) {
	x, ctx := newSite(t, false), t.Context()
	if _, err := x.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("a ü"),
		Body:     strings.NewReader("text"),
		Metadata: map[string]string{"a": "b"}}); err != nil {
		t.Fatal(err)
	}
	for key, c := range map[string]struct {
		in   s3.CopyObjectInput
		want string
		user string
	}{
		"same": {s3.CopyObjectInput{}, "", "b"},
		"new": {s3.CopyObjectInput{MetadataDirective: "REPLACE", Metadata: map[string]string{"a": "c"}},
			"", "c"},
		"a ü":   {s3.CopyObjectInput{}, "InvalidRequest", "b"},
		"match": {s3.CopyObjectInput{CopySourceIfMatch: aws.String("x")}, "PreconditionFailed", ""},
		"none":  {s3.CopyObjectInput{CopySource: aws.String("bucket/none")}, "NoSuchKey", ""},
	} {
		c.in.Bucket, c.in.Key = bucket, &key
		if c.in.CopySource == nil {
			c.in.CopySource = aws.String("/bucket/a%20%C3%BC")
		}
		if _, err := x.CopyObject(ctx, &c.in); code(err) != c.want {
			t.Errorf("%s: %v, want %q", key, err, c.want)
		}
		if h, err := x.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: &key}); c.user != "" &&
			(err != nil || h.Metadata["a"] != c.user) {
			t.Errorf("%s: %+v, %v", key, h, err)
		}
	}
}

func TestMultipart(t *testing.T) {
	for _, c := range []struct {
		alg  types.ChecksumAlgorithm
		kind types.ChecksumType
	}{{"", ""}, {"CRC32", ""}, {"CRC32", "FULL_OBJECT"}, {"CRC64NVME", ""}, {"SHA256", "COMPOSITE"}} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(secure, c), func(t *testing.T) { multipart(t, secure, c.alg, c.kind) })
		}
	}
}

func multipart(t *testing.T, secure bool, alg types.ChecksumAlgorithm, kind types.ChecksumType) {
	x, ctx, key := newSite(t, secure), t.Context(), aws.String("big/object")
	data := make([]byte, 12<<20)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	up, err := x.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key,
		ChecksumAlgorithm: alg, ChecksumType: kind, ContentType: aws.String("application/x")})
	if err != nil {
		t.Fatal(err)
	}
	var done types.CompletedMultipartUpload
	for i := range 3 {
		piece := data[i*5<<20 : min(len(data), (i+1)*5<<20)]
		n := aws.Int32(int32(i + 1))
		p, err := x.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: key, UploadId: up.UploadId, PartNumber: n,
			Body: bytes.NewReader(piece), ChecksumAlgorithm: alg})
		if err != nil {
			t.Fatal(err)
		}
		done.Parts = append(done.Parts, types.CompletedPart{PartNumber: n, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32,
			ChecksumCRC64NVME: p.ChecksumCRC64NVME, ChecksumSHA256: p.ChecksumSHA256})
	}
	parts, err := x.ListParts(ctx, &s3.ListPartsInput{Bucket: bucket, Key: key, UploadId: up.UploadId,
		MaxParts: aws.Int32(2)})
	if err != nil || len(parts.Parts) != 2 || !*parts.IsTruncated || *parts.NextPartNumberMarker != "2" {
		t.Errorf("%+v, %v", parts, err)
	}
	open, err := x.ListMultipartUploads(ctx, &s3.ListMultipartUploadsInput{Bucket: bucket})
	if err != nil || len(open.Uploads) != 1 || *open.Uploads[0].UploadId != *up.UploadId {
		t.Errorf("%+v, %v", open, err)
	}
	complete := &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key, UploadId: up.UploadId,
		MultipartUpload: &done}
	first, err := x.CompleteMultipartUpload(ctx, complete)
	if err != nil {
		t.Fatal(err)
	}
	again, err := x.CompleteMultipartUpload(ctx, complete)
	if err != nil || *again.ETag != *first.ETag || !strings.HasSuffix(*first.ETag, `-3"`) {
		t.Errorf("again: %+v, %v", again, err)
	}
	got, err := x.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(got.Body); err != nil || !bytes.Equal(b, data) || *got.ContentType != "application/x" {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	part, err := x.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, PartNumber: aws.Int32(3)})
	if err != nil || *part.ContentLength != 2<<20 || *part.PartsCount != 3 {
		t.Errorf("%+v, %v", part, err)
	}
	attr, err := x.GetObjectAttributes(ctx, &s3.GetObjectAttributesInput{Bucket: bucket, Key: key,
		ObjectAttributes: []types.ObjectAttributes{"ETag", "Checksum", "ObjectParts", "ObjectSize", "StorageClass"}})
	if err != nil || *attr.ObjectSize != 12<<20 || *attr.ObjectParts.TotalPartsCount != 3 {
		t.Errorf("%+v, %v", attr, err)
	}
	if _, err := x.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: bucket, Key: key,
		UploadId: up.UploadId}); code(err) != "NoSuchUpload" {
		t.Errorf("abort: %v", err)
	}
}

func TestPartCopy(t *testing.T) {
	x, ctx, key := newSite(t, false), t.Context(), aws.String("k")
	x.put(t, "from", "0123456789")
	up, err := x.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	p, err := x.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: up.UploadId,
		PartNumber: aws.Int32(1), CopySource: aws.String("bucket/from"), CopySourceRange: aws.String("bytes=2-4")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := x.UploadPartCopy(ctx, &s3.UploadPartCopyInput{Bucket: bucket, Key: key, UploadId: up.UploadId,
		PartNumber: aws.Int32(2), CopySource: aws.String("bucket/from"),
		CopySourceRange: aws.String("bytes=2-40")}); code(err) != "InvalidArgument" {
		t.Errorf("beyond the end: %v", err)
	}
	if _, err := x.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: key,
		UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: []types.CompletedPart{
			{PartNumber: aws.Int32(1), ETag: p.CopyPartResult.ETag}}}}); err != nil {
		t.Fatal(err)
	}
	if got, _, err := x.store.Get(ctx, "bucket", "k", 10); string(got) != "234" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWhatThereIsNot(t *testing.T) {
	x, ctx := newSite(t, false), t.Context()
	x.put(t, "k", "v")
	tags, err := x.GetObjectTagging(ctx, &s3.GetObjectTaggingInput{Bucket: bucket, Key: aws.String("k")})
	if err != nil || len(tags.TagSet) != 0 {
		t.Errorf("tags: %+v, %v", tags, err)
	}
	if v, err := x.GetBucketVersioning(ctx, &s3.GetBucketVersioningInput{Bucket: bucket}); err != nil || v.Status != "" {
		t.Errorf("versioning: %+v, %v", v, err)
	}
	acl, err := x.GetObjectAcl(ctx, &s3.GetObjectAclInput{Bucket: bucket, Key: aws.String("k")})
	if err != nil || len(acl.Grants) != 1 || acl.Grants[0].Grantee.Type != "CanonicalUser" {
		t.Errorf("acl: %+v, %v", acl, err)
	}
	if _, err := x.GetBucketPolicy(ctx, &s3.GetBucketPolicyInput{Bucket: bucket}); code(err) != "NoSuchBucketPolicy" {
		t.Errorf("policy: %v", err)
	}
	_, err = x.PutObjectTagging(ctx, &s3.PutObjectTaggingInput{Bucket: bucket, Key: aws.String("k"),
		Tagging: &types.Tagging{TagSet: []types.Tag{}}})
	if code(err) != "NotImplemented" {
		t.Errorf("put tags: %v", err)
	}
	put := func(bucket, key string, acl types.ObjectCannedACL) error {
		_, err := x.PutObjectAcl(ctx, &s3.PutObjectAclInput{Bucket: &bucket, Key: &key, ACL: acl})
		return err
	}
	for want, err := range map[string]error{"": put("bucket", "k", "private"), "NoSuchKey": put("bucket", "x", "private"),
		"AccessControlListNotSupported": put("bucket", "k", "public-read"),
		"NoSuchBucket":                  put("none", "k", "private")} {
		if code(err) != want {
			t.Errorf("put ACL: %v, want %s", err, want)
		}
	}
	page, err := x.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket, ContinuationToken: aws.String("")})
	if err != nil || page.ContinuationToken == nil || len(page.Contents) != 1 {
		t.Errorf("an empty token: %+v, %v", page, err)
	}
	if got, _, err := x.store.Get(ctx, "bucket", "k", 10); string(got) != "v" {
		t.Errorf("the object is %q, %v", got, err)
	}
	versions, err := x.ListObjectVersions(ctx, &s3.ListObjectVersionsInput{Bucket: bucket})
	if err != nil || len(versions.Versions) != 1 || *versions.Versions[0].VersionId != "null" {
		t.Errorf("versions: %+v, %v", versions, err)
	}
}

// presigned asks for a URL.
func presigned(t *testing.T, x *site, method, url, body string) (status int, text string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	a, err := x.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, _ := io.ReadAll(a.Body)
	return a.StatusCode, string(b)
}

// A presigned URL lets in whoever has it: no log has its signature, neither of an
// answer nor of a refusal.
func TestPresigned(t *testing.T) {
	var mu sync.Mutex
	var log bytes.Buffer
	x, ctx := newSite(t, true, func(o *wire.Options) {
		o.Log = slog.New(slog.NewTextHandler(locked{&mu, &log}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}), t.Context()
	sign := s3.NewPresignClient(x.Client)
	put, err := sign.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: aws.String("a b")})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := presigned(t, x, "PUT", put.URL, "content"); status != 200 {
		t.Errorf("put: %d %s", status, text)
	}
	get, err := sign.PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("a b"),
		ResponseContentType: aws.String("text/x")})
	if err != nil {
		t.Fatal(err)
	}
	if status, text := presigned(t, x, "GET", get.URL, ""); status != 200 || text != "content" {
		t.Errorf("get: %d %s", status, text)
	}
	for name, url := range map[string]string{
		"another key": strings.Replace(get.URL, "/a%20b", "/c", 1),
		"more":        get.URL + "&x=y",
	} {
		if status, text := presigned(t, x, "GET", url, ""); status != 403 || !strings.Contains(text, "SignatureDoesNotMatch") {
			t.Errorf("%s: %d %s", name, status, text)
		}
	}
	x.server.Close() // after which all is logged
	mu.Lock()
	defer mu.Unlock()
	if said := log.String(); !strings.Contains(said, "GetObject") || strings.Contains(said, "Signature=") ||
		strings.Contains(said, "X-Amz") {
		t.Errorf("the log: %s", said)
	}
}

// locked writes for several goroutines.
type locked struct {
	mu *sync.Mutex
	io.Writer
}

func (l locked) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Writer.Write(b)
}

func TestPublic(t *testing.T) {
	x := newSite(t, false)
	for _, b := range []string{"bucket", "public"} {
		if err := x.store.Put(t.Context(), b, "a/ü", func(w io.Writer) error {
			_, err := io.WriteString(w, "text")
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		method, path string
		status       int
		body         string
	}{
		{"GET", "/s3/public/a/%C3%BC", 200, "text"},
		{"HEAD", "/s3/public/a/%C3%BC", 200, ""},
		{"GET", "/s3/public/none", 404, "NoSuchKey"},
		{"GET", "/s3/public/", 403, "AccessDenied"},
		{"GET", "/s3/public", 403, "AccessDenied"},
		{"GET", "/s3/", 403, "AccessDenied"},
		{"GET", "/s3/public/a/%C3%BC?acl", 403, "AccessDenied"},
		{"PUT", "/s3/public/new", 403, "AccessDenied"},
		{"DELETE", "/s3/public/a/%C3%BC", 403, "AccessDenied"},
		{"GET", "/s3/bucket/a/%C3%BC", 403, "AccessDenied"},
		{"GET", "/s3/none/x", 403, "AccessDenied"},
		{"GET", "/s3/public/../bucket/a/%C3%BC", 404, "NoSuchKey"},
	} {
		status, text := presigned(t, x, c.method, x.server.URL+c.path, "")
		if status != c.status || !strings.Contains(text, c.body) {
			t.Errorf("%s %s: %d %.200s, want %d %s", c.method, c.path, status, text, c.status, c.body)
		}
	}
}

// Version 2 in the header is told what to use instead.
func TestVersion2InHeader(t *testing.T) {
	x := newSite(t, false)
	r, err := http.NewRequestWithContext(t.Context(), "GET", x.server.URL+"/bucket", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "AWS "+wiretest.Key.ID+":x")
	a, err := x.server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Body.Close()
	b, _ := io.ReadAll(a.Body)
	if a.StatusCode != 400 || !strings.Contains(string(b), "Please use AWS4-HMAC-SHA256") {
		t.Errorf("%d %s", a.StatusCode, b)
	}
}

// limited lets callers do what it has.
type limited map[string]bool

func (l limited) Admit(q wire.Question) (bool, error) { return false, nil }
func (l limited) Authorize(q wire.Question) error {
	if l[q.Action+" "+q.Resource] {
		return nil
	}
	return wire.ErrDenied
}

func TestRights(t *testing.T) {
	may := limited{"s3:GetObject arn:aws:s3:::bucket/a": true, "s3:PutObject arn:aws:s3:::bucket/b": true,
		"s3:DeleteObject arn:aws:s3:::bucket/b": true, "s3:ListBucket arn:aws:s3:::bucket": false}
	x, ctx := newSite(t, false, func(o *wire.Options) { o.Authorizer = may }), t.Context()
	if err := x.store.Put(ctx, "bucket", "c", func(io.Writer) error { return nil }); err != nil {
		t.Fatal(err)
	}
	get := func(key string) error {
		_, err := x.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: &key})
		return err
	}
	if err := get("a"); code(err) != "AccessDenied" {
		t.Errorf("what is not there: %v", err) // it may not list
	}
	if err := get("c"); code(err) != "AccessDenied" {
		t.Errorf("another: %v", err)
	}
	x.put(t, "b", "v")
	if _, err := x.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("b"),
		CopySource: aws.String("bucket/c")}); code(err) != "AccessDenied" {
		t.Errorf("copy: %v", err)
	}
	out, err := x.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: bucket, Delete: &types.Delete{
		Objects: []types.ObjectIdentifier{{Key: aws.String("b")}, {Key: aws.String("c")}}}})
	if err != nil || len(out.Deleted) != 1 || len(out.Errors) != 1 || *out.Errors[0].Code != "AccessDenied" {
		t.Errorf("%+v, %v", out, err)
	}
	if _, err := x.ListBuckets(ctx, nil); code(err) != "AccessDenied" {
		t.Errorf("list: %v", err)
	}
}

func TestUnknownKeys(t *testing.T) {
	x := newSite(t, false, func(o *wire.Options) {
		o.Verifier = &sigv4.Verifier{Secret: func(id string) (string, string, bool) { return "other", "", id == "known" }}
	})
	for id, want := range map[string]string{"known": "SignatureDoesNotMatch", "unknown": "InvalidAccessKeyId"} {
		c := s3.New(s3.Options{BaseEndpoint: &x.server.URL, Region: "r", UsePathStyle: true, RetryMaxAttempts: 1,
			Credentials: credentials.NewStaticCredentialsProvider(id, "secret", "")})
		if _, err := c.ListBuckets(t.Context(), nil); code(err) != want {
			t.Errorf("%s: %v, want %s", id, err, want)
		}
	}
}
