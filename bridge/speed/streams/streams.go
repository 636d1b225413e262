// Package streams is the bridge's one durable, sharded, replayable log. The
// ingest log, the user's data streams, the buffers of delivery streams and the
// action outboxes are all streams of one Store, so one Batch can commit
// records to several of them, together with a reader's position, in one
// atomic durable write.
package streams

import (
	"errors"
	"time"
)

// Errors that callers branch on.
var (
	ErrNotFound = errors.New("streams: no such stream")
	ErrExists   = errors.New("streams: stream exists")
	ErrClosed   = errors.New("streams: store is closed")
)

// A Record is one entry of a shard.
type Record struct {
	Offset uint64 // dense per shard, from 0; given by the commit
	Time   int64  // arrival, epoch ms; given by the commit if zero
	Key    string // partition key, at most 256 bytes
	Data   []byte // at most 10 MiB
}

// Config is what a stream is created with.
type Config struct {
	Shards    int           // 1 to 10,000
	Retention time.Duration // records older than this are trimmed; 0: for ever
	MaxBytes  int64         // oldest records go when the stream is larger; 0: no limit
}
