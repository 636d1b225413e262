package firehose

import (
	"encoding/json"
	"regexp"
)

// Search is an index of Elasticsearch or OpenSearch.
type Search struct {
	Endpoint string // URL of the cluster
	Index    string // before its rotation
	Type     string // of documents, of clusters up to version 6
	Rotation string // NoRotation, OneHour, OneDay, OneWeek or OneMonth
	NoID     bool   // documents have no id of ours: a retry may double them

	FailedType string // error output type of documents that are not taken

	// Requests have a name and password, or are signed for Region, or neither.
	Username string
	Password Secret
	Region   string
}

type searchBlock struct {
	RoleARN                 string
	DomainARN               string
	ClusterEndpoint         string
	IndexName               string
	TypeName                string
	IndexRotationPeriod     string
	DocumentIdOptions       *struct{ DefaultDocumentIdFormat string }
	BufferingHints          *hints
	RetryOptions            *retryBlock
	S3BackupMode            string
	S3Configuration         *s3Block
	ProcessingConfiguration *processingBlock

	CloudWatchLoggingOptions json.RawMessage
	VpcConfiguration         json.RawMessage
}

// A searchHouse is how the bridge speaks with a search service.
type searchHouse struct {
	Username   string
	Password   Secret
	Region     string // requests are signed for it
	FailedType string // of failed documents' keys; else elasticsearch_failed
}

// indexForm are the characters of an index' name that both services take.
var indexForm = regexp.MustCompile(`^[a-z0-9.][a-z0-9._+-]*$`)

// search reads an Elasticsearch or OpenSearch destination (Firehose API,
// AmazonopensearchserviceDestinationConfiguration; a retry of standard 300 s).
func (r *reader) search(d *searchBlock) {
	r.keepText("RoleARN", d.RoleARN)
	r.keepText("DomainARN", d.DomainARN)
	r.keep("CloudWatchLoggingOptions", d.CloudWatchLoggingOptions)
	r.keep("VpcConfiguration", d.VpcConfiguration)
	c := &Search{Endpoint: d.ClusterEndpoint, Index: d.IndexName, Type: d.TypeName, FailedType: elasticsearchFailed}
	r.c.Search = c
	if c.Endpoint == "" {
		r.bad("ClusterEndpoint: missing; a DomainARN is not looked up")
	} else {
		r.url("ClusterEndpoint", c.Endpoint, anyHost)
	}
	r.length("IndexName", c.Index, 1, 80)
	if c.Index != "" && (!indexForm.MatchString(c.Index) || c.Index == "." || c.Index == "..") {
		r.bad("IndexName: %.100q, want a-z 0-9 . _ + -, beginning with one of a-z 0-9 .", c.Index)
	}
	r.length("TypeName", c.Type, 0, 100)
	c.Rotation = r.oneOf("IndexRotationPeriod", d.IndexRotationPeriod, "OneDay", "NoRotation", "OneHour", "OneWeek",
		"OneMonth")
	if o := d.DocumentIdOptions; o != nil {
		c.NoID = r.oneOf("DocumentIdOptions.DefaultDocumentIdFormat", o.DefaultDocumentIdFormat, "FIREHOSE_DEFAULT",
			"NO_DOCUMENT_ID") == "NO_DOCUMENT_ID"
	}
	r.c.Buffer = r.hints("", d.BufferingHints, searchHints)
	r.retry(d.RetryOptions, 300)
	r.processing("", d.ProcessingConfiguration)
	r.required(d.S3Configuration)
	r.c.BackupAll = r.oneOf("S3BackupMode", d.S3BackupMode, "FailedDocumentsOnly", "AllDocuments") == "AllDocuments"
}

// failedForm is what a key's part may be.
var failedForm = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

func (r *reader) searchHouse(h *searchHouse) {
	c := r.c.Search
	if c == nil {
		r.bad("Tidemill.Search: goes with a search destination")
		return
	}
	c.Username, c.Password, c.Region = h.Username, h.Password, h.Region
	if (h.Username == "") != (h.Password.Reveal() == "") {
		r.bad("Tidemill.Search: Username and Password go together")
	}
	if h.Username != "" && h.Region != "" {
		r.bad("Tidemill.Search: want a Username or a Region")
	}
	if h.Username != "" {
		r.url("ClusterEndpoint", c.Endpoint, secureHost)
	}
	if h.FailedType != "" {
		if !failedForm.MatchString(h.FailedType) {
			r.bad("Tidemill.Search.FailedType: %.100q, want 1 to 64 of A-Z a-z 0-9 _ -", h.FailedType)
		}
		c.FailedType = h.FailedType
	}
}
