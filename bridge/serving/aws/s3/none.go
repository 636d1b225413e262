package s3

import (
	"encoding/xml"
	"net/http"

	"github.com/tidemill/tidemill/bridge/serving/aws/wire"
)

// subresources are names of the query that make another operation of a request.
// One that is not served with them must not become the plain one.
var subresources = map[string]bool{}

func init() {
	for _, name := range []string{"acl", "accelerate", "analytics", "attributes", "cors", "delete", "encryption",
		"intelligent-tiering", "inventory", "legal-hold", "lifecycle", "list-type", "location", "logging",
		"metadataConfiguration", "metadataTable", "metrics", "notification", "object-lock", "ownershipControls",
		"partNumber", "policy", "policyStatus", "publicAccessBlock", "renameObject", "replication", "requestPayment",
		"restore", "retention", "select", "session", "tagging", "torrent", "uploadId", "uploads", "versioning",
		"versions", "website"} {
		subresources[name] = true
	}
}

// none are operations that ask for what a bucket or object may have in S3 and has
// not here: they are answered as S3 does for none.
func (a *api) none() []wire.Operation {
	type answer struct {
		name, path, query string
		xml               any    // the answer,
		code, message     string // or this error
	}
	element := func(name string) any {
		return &struct{ XMLName xml.Name }{xml.Name{Space: namespace, Local: name}}
	}
	acl := &struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ AccessControlPolicy"`
		Owner   owner
		Grants  []grant `xml:"AccessControlList>Grant"`
	}{Owner: a.owner, Grants: []grant{{grantee{"http://www.w3.org/2001/XMLSchema-instance", "CanonicalUser", a.owner},
		"FULL_CONTROL"}}}
	noTags := &struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
		TagSet  string
	}{}
	payer := &struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ RequestPaymentConfiguration"`
		Payer   string
	}{Payer: "BucketOwner"}
	rows := []answer{
		{"GetBucketAcl", bucketAt, "acl", acl, "", ""},
		{"GetObjectAcl", objectAt, "acl", acl, "", ""},
		{"GetObjectTagging", objectAt, "tagging", noTags, "", ""},
		{"GetBucketVersioning", bucketAt, "versioning", element("VersioningConfiguration"), "", ""},
		{"GetBucketLogging", bucketAt, "logging", element("BucketLoggingStatus"), "", ""},
		{"GetBucketNotification", bucketAt, "notification", element("NotificationConfiguration"), "", ""},
		{"GetAccelerateConfiguration", bucketAt, "accelerate", element("AccelerateConfiguration"), "", ""},
		{"GetBucketRequestPayment", bucketAt, "requestPayment", payer, "", ""},
		{"GetBucketTagging", bucketAt, "tagging", nil, "NoSuchTagSet", "The TagSet does not exist"},
		{"GetBucketPolicy", bucketAt, "policy", nil, "NoSuchBucketPolicy", "The bucket policy does not exist"},
		{"GetBucketPolicyStatus", bucketAt, "policyStatus", nil, "NoSuchBucketPolicy", "The bucket policy does not exist"},
		{"GetLifecycleConfiguration", bucketAt, "lifecycle", nil, "NoSuchLifecycleConfiguration",
			"The lifecycle configuration does not exist"},
		{"GetBucketCORS", bucketAt, "cors", nil, "NoSuchCORSConfiguration", "The CORS configuration does not exist"},
		{"GetEncryptionConfiguration", bucketAt, "encryption", nil, "ServerSideEncryptionConfigurationNotFoundError",
			"The server side encryption configuration was not found"},
		{"GetBucketWebsite", bucketAt, "website", nil, "NoSuchWebsiteConfiguration",
			"The specified bucket does not have a website configuration"},
		{"GetReplicationConfiguration", bucketAt, "replication", nil, "ReplicationConfigurationNotFoundError",
			"The replication configuration was not found"},
		{"GetBucketPublicAccessBlock", bucketAt, "publicAccessBlock", nil, "NoSuchPublicAccessBlockConfiguration",
			"The public access block configuration was not found"},
		{"GetBucketOwnershipControls", bucketAt, "ownershipControls", nil, "OwnershipControlsNotFoundError",
			"The bucket ownership controls were not found"},
		{"GetBucketObjectLockConfiguration", bucketAt, "object-lock", nil, "ObjectLockConfigurationNotFoundError",
			"Object Lock configuration does not exist for this bucket"},
		{"GetObjectRetention", objectAt, "retention", nil, "NoSuchObjectLockConfiguration",
			"The specified object does not have a ObjectLock configuration"},
		{"GetObjectLegalHold", objectAt, "legal-hold", nil, "NoSuchObjectLockConfiguration",
			"The specified object does not have a ObjectLock configuration"},
	}
	var ops []wire.Operation
	for _, row := range rows {
		ops = append(ops, wire.Operation{Name: row.name, Method: "GET", Path: row.path, Query: row.query,
			Run: func(r *wire.Request) (any, error) {
				if err := a.exists(r); err != nil {
					return nil, err
				}
				if row.code != "" {
					return nil, wire.Errorf(http.StatusNotFound, row.code, "%s", row.message)
				}
				return &wire.Reply{XML: row.xml}, nil
			}})
	}
	return ops
}

type grant struct {
	Grantee    grantee
	Permission string
}

type grantee struct {
	XSI  string `xml:"xmlns:xsi,attr"`
	Type string `xml:"xsi:type,attr"`
	owner
}

// exists says whether what a request is about is there.
func (a *api) exists(r *wire.Request) error {
	bucket, key, err := a.at(r)
	if err == nil && key != "" {
		_, err = a.store.Stat(bucket, key)
	}
	return err
}
