package search

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// Bounds of a bulk request: services take 10 MiB at least (OpenSearch Service
// quotas, network limits), and gain little beyond some MiB.
const (
	StandardBulk = 5 << 20
	bulkItems    = 5000
)

var errNoObject = errors.New("want one JSON object")

// Line is a document's source: one JSON object on one line. An error says that
// doc is none.
func Line(doc []byte) ([]byte, error) {
	var line bytes.Buffer
	if err := json.Compact(&line, doc); err != nil || line.Len() == 0 || line.Bytes()[0] != '{' {
		return nil, errNoObject
	}
	return line.Bytes(), nil
}

// Write writes documents in requests of at most so many bytes and tells which were
// refused; a nil one is passed over. An error says that it is not known which are
// written.
func (c *Client) Write(ctx context.Context, docs []*Document, most int) ([]sink.Refusal, error) {
	var idx []int
	for i, d := range docs {
		if d != nil {
			idx = append(idx, i)
		}
	}
	w := sink.Writer{Most: bulkItems, Bytes: most, Refused: tooLarge, Size: func(i int) int { return docs[i].Wire() },
		Put: func(ctx context.Context, idx []int) ([]sink.Refusal, error) {
			part := make([]*Document, len(idx))
			for n, i := range idx {
				part[n] = docs[i]
			}
			errs, err := c.Bulk(ctx, part)
			var refused []sink.Refusal
			for n, err := range errs {
				if err != nil {
					refused = append(refused, sink.Refusal{Index: idx[n], Err: err, Permanent: permanent(err)})
				}
			}
			return refused, err
		}}
	if len(idx) == 0 {
		return nil, nil
	}
	return w.Write(ctx, idx)
}
