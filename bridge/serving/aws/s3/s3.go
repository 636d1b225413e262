// Package s3 serves the bridge's objects as Amazon S3 serves objects, to AWS's
// SDKs and command line, rclone, DuckDB and what else speaks S3: the table of the
// operations, API version 2006-03-01, path style. What an object is, is package
// speed/sink/objects. README.md says what is served, what is not, and the limits.
package s3

import (
	"net/http"
	"slices"
	"strings"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
	"github.com/tidemill/tidemill/bridge/speed/sink/objects"
)

// maxTransfers are under way at once. Each has a place from its signature's check
// to the end of its answer.
const maxTransfers = 256

// Options of the service.
type Options struct {
	Store   *objects.Store
	Account string   // 12 digits: the owner of all
	Region  string   // that buckets are told to be in
	Public  []string // buckets that everybody reads
}

// api is the service.
type api struct {
	store  *objects.Store
	owner  owner
	region string
}

// Paths of operations.
const (
	all      = "/"
	bucketAt = "/:bucket"
	objectAt = "/:bucket/:key+"
)

// Service serves o.Store.
func Service(o Options) *wire.Service {
	a := &api{o.Store, owner{o.Account, "tidemill"}, o.Region}
	s := &wire.Service{
		Name:       "s3",
		Signing:    []string{"s3"},
		Protocol:   wire.RESTXML{Public: func(bucket string) bool { return slices.Contains(o.Public, bucket) }},
		Concurrent: maxTransfers,
		Errors:     errorNames,
		Operations: slices.Concat(a.operations(), a.none(), refused()),
	}
	for i := range s.Operations {
		a.finish(&s.Operations[i])
	}
	return s
}

// operations are those that do something.
func (a *api) operations() []wire.Operation {
	op := func(name, action, method, path, query, having string,
		run func(*wire.Request) (*wire.Reply, error)) wire.Operation {
		return wire.Operation{Name: name, Action: action, Method: method, Path: path, Query: query, Having: having,
			Run: func(r *wire.Request) (any, error) { return run(r) }}
	}
	const copySource = "X-Amz-Copy-Source"
	return []wire.Operation{
		op("ListBuckets", "ListAllMyBuckets", "GET", all, "", "", a.listBuckets),
		op("CreateBucket", "", "PUT", bucketAt, "", "", a.createBucket),
		op("PutBucketAcl", "", "PUT", bucketAt, "acl", "", a.putACL),
		op("PutObjectAcl", "", "PUT", objectAt, "acl", "", a.putACL),
		op("HeadBucket", "ListBucket", "HEAD", bucketAt, "", "", a.headBucket),
		op("DeleteBucket", "", "DELETE", bucketAt, "", "", a.deleteBucket),
		op("GetBucketLocation", "", "GET", bucketAt, "location", "", a.getBucketLocation),
		op("ListObjects", "ListBucket", "GET", bucketAt, "", "", a.listObjects),
		op("ListObjectsV2", "ListBucket", "GET", bucketAt, "list-type", "", a.listObjectsV2),
		op("ListObjectVersions", "ListBucketVersions", "GET", bucketAt, "versions", "", a.listObjectVersions),
		op("DeleteObjects", "DeleteObject", "POST", bucketAt, "delete", "", a.deleteObjects),
		op("GetObject", "", "GET", objectAt, "", "", a.getObject),
		op("HeadObject", "GetObject", "HEAD", objectAt, "", "", a.getObject),
		op("GetObjectAttributes", "", "GET", objectAt, "attributes", "", a.getObjectAttributes),
		op("PutObject", "", "PUT", objectAt, "", "", a.putObject),
		op("CopyObject", "PutObject", "PUT", objectAt, "", copySource, a.copyObject),
		op("DeleteObject", "", "DELETE", objectAt, "", "", a.deleteObject),
		op("CreateMultipartUpload", "PutObject", "POST", objectAt, "uploads", "", a.createUpload),
		op("UploadPart", "PutObject", "PUT", objectAt, "partNumber uploadId", "", a.uploadPart),
		op("UploadPartCopy", "PutObject", "PUT", objectAt, "partNumber uploadId", copySource, a.uploadPartCopy),
		op("CompleteMultipartUpload", "PutObject", "POST", objectAt, "uploadId", "", a.completeUpload),
		op("AbortMultipartUpload", "", "DELETE", objectAt, "uploadId", "", a.abortUpload),
		op("ListParts", "ListMultipartUploadParts", "GET", objectAt, "uploadId", "", a.listParts),
		op("ListMultipartUploads", "ListBucketMultipartUploads", "GET", bucketAt, "uploads", "", a.listUploads),
	}
}

// finish gives an operation what all have.
func (a *api) finish(op *wire.Operation) {
	op.Resource = resource
	op.Judges = op.Name == "DeleteObjects"
	op.Changes = op.Name == "CreateBucket" || op.Name == "DeleteBucket"
	named := strings.Fields(op.Query)
	if op.Name == "GetObject" || op.Name == "HeadObject" {
		named = append(named, "partNumber")
	}
	op.Read = func(r *wire.Request) (any, error) {
		for name := range r.Query {
			if subresources[name] && !slices.Contains(named, name) {
				return nil, wire.Errorf(http.StatusNotImplemented, "NotImplemented",
					"%s with ?%s is not served here", r.Method(), name)
			}
		}
		if id := r.Header.Get("X-Amz-Expected-Bucket-Owner"); id != "" && id != a.owner.ID {
			return nil, wire.Errorf(http.StatusForbidden, "AccessDenied", "the buckets are of %s, not of %.20s",
				a.owner.ID, id)
		}
		if v, ok := r.Query["versionId"]; ok && v[0] != "null" {
			return nil, wire.Errorf(http.StatusNotFound, "NoSuchVersion", "there are no versions here")
		}
		return nil, nil
	}
}

// resource is the ARN of what a request is about.
func resource(r *wire.Request) string {
	if key := r.Path("key"); key != "" {
		return objectARN(r.Path("bucket"), key)
	}
	if bucket := r.Path("bucket"); bucket != "" {
		return bucketARN(bucket)
	}
	return "*"
}

func bucketARN(bucket string) string      { return arn.Bucket(bucket) }
func objectARN(bucket, key string) string { return arn.Bucket(bucket + "/" + key) }

// at is the bucket and the key of a request, of which the bucket is there.
func (a *api) at(r *wire.Request) (bucket, key string, err error) {
	bucket, key = r.Path("bucket"), r.Path("key")
	_, err = a.store.Bucket(bucket)
	return bucket, key, err
}
