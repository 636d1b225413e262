package firehose

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// A Refusal is why a record goes no further: the code and the words of its line.
type Refusal struct{ Code, Message string }

func refusal(code string, err error) *Refusal { return &Refusal{code, err.Error()} }

// maxInflated is how large a record may get when it is decompressed, in bytes. AWS
// tells no limit; this bounds what one record takes of memory.
const maxInflated = 16 << 20

// Prepare does what comes before a function: it decompresses a record, takes log
// events out of it and takes it apart, as far as p says so. A part may share data's
// memory. No parts and no refusal: there is nothing to deliver.
func (p *Processing) Prepare(data []byte) ([][]byte, *Refusal) {
	var err error
	if p.Decompress {
		if data, err = inflate(data); err != nil {
			return nil, refusal(codeDecompress, err)
		}
	}
	parts := [][]byte{data}
	if p.LogEvents {
		if parts, err = logEvents(data); err != nil {
			return nil, refusal(codeLogEvents, err)
		}
	}
	if p.Split == nil {
		return parts, nil
	}
	var all [][]byte
	for _, part := range parts {
		some, err := p.Split.split(part)
		if err != nil {
			return nil, refusal(codeSplit, err)
		}
		all = append(all, some...)
	}
	return all, nil
}

var inflaters = sync.Pool{New: func() any { return new(gzip.Reader) }}

// inflate undoes gzip.
func inflate(data []byte) ([]byte, error) {
	z := inflaters.Get().(*gzip.Reader)
	defer inflaters.Put(z)
	if err := z.Reset(bytes.NewReader(data)); err != nil {
		return nil, fmt.Errorf("not gzip: %w", err)
	}
	out, err := io.ReadAll(io.LimitReader(z, maxInflated+1))
	if err != nil {
		return nil, fmt.Errorf("not gzip: %w", err)
	}
	if len(out) > maxInflated {
		return nil, fmt.Errorf("more than %d bytes when decompressed", maxInflated)
	}
	return out, nil
}

// logEvents returns the messages of a subscription's document (CloudWatch Logs user
// guide, subscription filters). One of no data, which tells that the subscription is
// alive, has none.
func logEvents(data []byte) ([][]byte, error) {
	var parts [][]byte
	for dec := json.NewDecoder(bytes.NewReader(data)); ; {
		var d struct {
			MessageType string `json:"messageType"`
			LogEvents   []struct {
				Message *string `json:"message"`
			} `json:"logEvents"`
		}
		err := dec.Decode(&d)
		switch {
		case errors.Is(err, io.EOF):
			return parts, nil
		case err != nil:
			return nil, fmt.Errorf("not a document of CloudWatch Logs: %w", err)
		case d.MessageType == "CONTROL_MESSAGE":
			continue
		case d.MessageType != "DATA_MESSAGE":
			return nil, fmt.Errorf("messageType %.100q, want DATA_MESSAGE", d.MessageType)
		}
		for i, e := range d.LogEvents {
			if e.Message == nil {
				return nil, fmt.Errorf("logEvents[%d] has no message", i)
			}
			parts = append(parts, []byte(*e.Message))
		}
	}
}
