package firehose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxSplit is how many records one may be taken apart into (Firehose developer
// guide, record deaggregation).
const maxSplit = 500

// A Splitter takes records apart: RecordDeAggregation.
type Splitter struct {
	JSON      bool   `json:"json,omitempty"`      // values after one another
	Delimiter []byte `json:"delimiter,omitempty"` // or what stands between
}

var errSplit = fmt.Errorf("more than %d records in one", maxSplit)

// split returns the parts of a record, which share its memory. A nil Splitter
// leaves the record as it is.
func (s *Splitter) split(data []byte) (parts [][]byte, err error) {
	switch {
	case s == nil:
		return [][]byte{data}, nil
	case !s.JSON:
		data = bytes.TrimSuffix(data, s.Delimiter)
		if bytes.Count(data, s.Delimiter) >= maxSplit {
			return nil, errSplit
		}
		return bytes.Split(data, s.Delimiter), nil
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
