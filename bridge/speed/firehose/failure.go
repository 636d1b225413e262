package firehose

import (
	"encoding/json"
	"strconv"
)

// A Failure is what is kept of a record that could not be processed or delivered,
// one line of JSON each (Firehose developer guide, "Data delivery failure
// handling"). A member that does not go with a kind of failure is not there.
type failure struct {
	Attempts int    `json:"attemptsMade"`
	Arrived  int64  `json:"arrivalTimestamp"` // epoch ms
	Code     string `json:"errorCode"`
	Message  string `json:"errorMessage"`
	Ended    int64  `json:"attemptEndingTimestamp"` // epoch ms; of the plan, so that a repetition is the same
	Raw      []byte `json:"rawData"`                // base64; the record as it came

	Lambda     string `json:"lambdaArn,omitempty"`    // of a function
	DocumentID string `json:"esDocumentId,omitempty"` // of a search service
	Index      string `json:"esIndexName,omitempty"`
	Type       string `json:"esTypeName,omitempty"`
	EventID    string `json:"EventId,omitempty"`   // of Splunk
	DataID     string `json:"dataId,omitempty"`    // of an HTTP endpoint
	RequestID  string `json:"requestId,omitempty"` // of an HTTP endpoint, ours: the request that it was in
}

// Append writes the line after dst, with its end.
func (f *failure) Append(dst []byte) []byte {
	raw, err := json.Marshal(f)
	if err != nil { // never, of texts and numbers
		return dst
	}
	return append(append(dst, raw...), '\n')
}

// Error codes of what the bridge does itself. AWS's codes for these are not known
// to us: all are guesses.
const (
	codeSplit      = "RecordDeAggregation.Failed"
	codeDecompress = "Decompression.Failed"
	codeLogEvents  = "CloudWatchLogProcessing.Failed"
	codePartition  = "DynamicPartitioning.MetadataExtractionFailed"
	codePrefix     = "DynamicPartitioning.InvalidPartitionKey"
	codeActive     = "DynamicPartitioning.ActivePartitionLimitExceeded"
)

// A conversionFailure is a Failure under format-conversion-failed/.
type conversionFailure struct {
	Attempts    int    `json:"attemptsMade"`
	Arrived     int64  `json:"arrivalTimestamp"`
	Code        string `json:"lastErrorCode"`
	Message     string `json:"lastErrorMessage"`
	Ended       int64  `json:"attemptEndingTimestamp"`
	Raw         []byte `json:"rawData"`
	Sequence    string `json:"sequenceNumber"`
	SubSequence *int   `json:"subSequenceNumber"` // of a record of a container; else null

	Table struct {
		Catalog  string `json:"catalogId"`
		Database string `json:"databaseName"`
		Table    string `json:"tableName"`
		Region   string `json:"region"`
		Version  string `json:"versionId"`
	} `json:"dataCatalogTable"`
}

// newConversionFailure returns the line of a record of a log's offset that table t
// could not take.
func newConversionFailure(t Table, offset uint64, arrived, ended int64, code, message string,
	raw []byte) *conversionFailure {
	f := &conversionFailure{Attempts: 1, Arrived: arrived, Code: code, Message: message, Ended: ended, Raw: raw,
		Sequence: strconv.FormatUint(offset, 10)}
	f.Table.Database, f.Table.Table, f.Table.Version = t.Database, t.Name, t.VersionID
	return f
}

// Append writes the line after dst, with its end.
func (f *conversionFailure) Append(dst []byte) []byte {
	raw, err := json.Marshal(f)
	if err != nil { // never, of texts and numbers
		return dst
	}
	return append(append(dst, raw...), '\n')
}
