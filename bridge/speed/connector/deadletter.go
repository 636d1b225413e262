package connector

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// A Letter is a record for the dead-letter stream.
type Letter struct {
	Key  string
	Data []byte
}

// DeadLetters take what could not be delivered.
type DeadLetters interface {
	// Put stores letters, durably. After an error some may be there.
	Put(ctx context.Context, letters []Letter) error
	// limit is the most bytes that a letter may have.
	limit() int
}

// errNoDeadLetters holds a shard: nothing is thrown away.
var errNoDeadLetters = errors.New("an item cannot be delivered and there is no DeadLetter stream: the shard waits")

// A dead item is one that was given up.
type dead struct {
	item  Item
	stage string // "transform" or "emit"
	err   error
}

// letterDoc is a letter's data; the members have the names that delivery
// streams give to theirs.
type letterDoc struct {
	ConnectorName      string `json:"connectorName"`
	StreamName         string `json:"streamName"`
	ShardID            string `json:"shardId"`
	SequenceNumber     string `json:"sequenceNumber"`
	SubSequenceNumber  int    `json:"subSequenceNumber"`
	PartitionKey       string `json:"partitionKey"`
	ArrivalTimestamp   int64  `json:"arrivalTimestamp"` // epoch ms
	Stage              string `json:"stage"`
	ErrorMessage       string `json:"errorMessage"`
	AttemptEnding      int64  `json:"attemptEndingTimestamp"` // epoch ms
	RawData            []byte `json:"rawData"`                // base64
	RawDataTruncatedAt int    `json:"rawDataTruncatedAt,omitempty"`
}

// envelope is room for the other members of a letter, keys and error cut to
// what fits.
const (
	envelope   = 16 << 10
	errorBytes = 4 << 10
)

func newLetter(connector, stream, shard string, d *dead, limit int) Letter {
	doc := letterDoc{
		ConnectorName: connector, StreamName: stream, ShardID: shard,
		SequenceNumber: d.item.Sequence, SubSequenceNumber: d.item.Sub,
		PartitionKey: d.item.Key, ArrivalTimestamp: d.item.Time.UnixMilli(),
		Stage: d.stage, ErrorMessage: d.err.Error(), AttemptEnding: time.Now().UnixMilli(), RawData: d.item.Data,
	}
	if len(doc.ErrorMessage) > errorBytes {
		doc.ErrorMessage = doc.ErrorMessage[:errorBytes]
	}
	if most := (limit - envelope) / 4 * 3; len(doc.RawData) > most {
		doc.RawData, doc.RawDataTruncatedAt = doc.RawData[:most], most
	}
	raw, err := json.Marshal(doc) // of strings, numbers and bytes
	if err != nil {
		panic(err)
	}
	key := d.item.Key
	if key == "" {
		key = shard
	}
	return Letter{Key: key, Data: raw}
}
