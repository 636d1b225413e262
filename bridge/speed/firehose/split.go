package firehose

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// maxSplit is how many records one may be taken apart into (Firehose developer
// guide, record deaggregation).
const maxSplit = 500

// A splitter takes records apart: RecordDeAggregation.
type splitter struct {
	JSON      bool   `json:"json,omitempty"`      // values after one another
	Delimiter []byte `json:"delimiter,omitempty"` // or what stands between
}

var errSplit = fmt.Errorf("more than %d records in one", maxSplit)

// split returns the parts of a record, which share its memory. A nil splitter
// leaves the record as it is.
func (s *splitter) split(data []byte) (parts [][]byte, err error) {
	switch {
	case s == nil:
		return [][]byte{data}, nil
	case !s.JSON:
		if parts = bytes.Split(bytes.TrimSuffix(data, s.Delimiter), s.Delimiter); len(parts) > maxSplit {
			return nil, errSplit
		}
		return parts, nil
	}
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var v json.RawMessage
		switch err := dec.Decode(&v); {
		case errors.Is(err, io.EOF) && len(parts) > 0:
			return parts, nil
		case err != nil:
			return nil, fmt.Errorf("not JSON: %w", err)
		case len(parts) == maxSplit:
			return nil, errSplit
		}
		parts = append(parts, v)
	}
}

// parseSplit reads the parameters of the processor RecordDeAggregation.
func parseSplit(parameters map[string]string) (*splitter, error) {
	switch kind, text := parameters["SubRecordType"], parameters["Delimiter"]; {
	case kind == "JSON" && text == "":
		return &splitter{JSON: true}, nil
	case kind == "DELIMITED":
		d, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(d) == 0 {
			return nil, fmt.Errorf("Delimiter: %q, want base64", text) //lint:ignore ST1005 the member's name
		}
		return &splitter{Delimiter: d}, nil
	default:
		return nil, fmt.Errorf("SubRecordType: %q, want JSON, or DELIMITED with a Delimiter", kind)
	}
}

// A failure is what is kept of a record that could not be processed, one line of
// JSON each (Firehose developer guide, "Data delivery failure handling").
type failure struct {
	Attempts int    `json:"attemptsMade"`
	Arrived  int64  `json:"arrivalTimestamp"` // epoch ms
	Code     string `json:"errorCode"`
	Message  string `json:"errorMessage"`
	Ended    int64  `json:"attemptEndingTimestamp"` // epoch ms; of the plan, so that a repetition is the same
	Raw      []byte `json:"rawData"`                // base64
}

func writeFailure(w io.Writer, data []byte, arrived, ended int64, why error) error {
	// AWS's code for this is not known to us.
	return json.NewEncoder(w).Encode(failure{1, arrived, "RecordDeAggregation.Failed", why.Error(), ended, data})
}

// failedType is the folder, and the error-output-type, of those.
const failedType = "processing-failed"

// ParseErrorPrefix is ParsePrefix for an ErrorOutputPrefix, which may have
// !{firehose:error-output-type} and must if it has any expression. Without one
// it is as it stands, then the type, then the hour.
func ParseErrorPrefix(text string, zone *time.Location) (Prefix, error) {
	typed := bytes.Contains([]byte(text), []byte("!{firehose:error-output-type}"))
	expressions := bytes.Contains([]byte(text), []byte("!{"))
	if expressions && !typed {
		return Prefix{}, fmt.Errorf("%q: want !{firehose:error-output-type} where there are expressions", text)
	}
	if !expressions {
		return parsePrefix(text+failedType+"/", zone, "")
	}
	p, err := parsePrefix(text, zone, failedType)
	if err == nil && !p.timed {
		p.parts = p.parts[:len(p.parts)-1] // AWS adds the hour to Prefix only
	}
	return p, err
}
