package s3

import (
	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// refused are operations that would change what there is not here: each is refused
// by its name, so that a client's log says what it wanted.
func refused() []wire.Operation {
	var ops []wire.Operation
	for _, row := range []struct{ name, method, path, query string }{
		{"PutBucketTagging", "PUT", bucketAt, "tagging"},
		{"PutObjectTagging", "PUT", objectAt, "tagging"},
		{"DeleteObjectTagging", "DELETE", objectAt, "tagging"},
		{"PutBucketVersioning", "PUT", bucketAt, "versioning"},
		{"PutBucketPolicy", "PUT", bucketAt, "policy"},
		{"DeleteBucketPolicy", "DELETE", bucketAt, "policy"},
		{"PutLifecycleConfiguration", "PUT", bucketAt, "lifecycle"},
		{"PutBucketCORS", "PUT", bucketAt, "cors"},
		{"PutEncryptionConfiguration", "PUT", bucketAt, "encryption"},
		{"PutBucketNotification", "PUT", bucketAt, "notification"},
		{"PutBucketLogging", "PUT", bucketAt, "logging"},
		{"PutBucketWebsite", "PUT", bucketAt, "website"},
		{"PutReplicationConfiguration", "PUT", bucketAt, "replication"},
		{"PutBucketPublicAccessBlock", "PUT", bucketAt, "publicAccessBlock"},
		{"PutBucketOwnershipControls", "PUT", bucketAt, "ownershipControls"},
		{"PutBucketObjectLockConfiguration", "PUT", bucketAt, "object-lock"},
		{"PutObjectRetention", "PUT", objectAt, "retention"},
		{"PutObjectLegalHold", "PUT", objectAt, "legal-hold"},
		{"RestoreObject", "POST", objectAt, "restore"},
		{"SelectObjectContent", "POST", objectAt, "select"},
		{"PostObject", "POST", bucketAt, ""},
	} {
		ops = append(ops, wire.Operation{Name: row.name, Method: row.method, Path: row.path, Query: row.query,
			Run: func(*wire.Request) (any, error) { return nil, notImplemented("%s is not served here", row.name) }})
	}
	return ops
}
