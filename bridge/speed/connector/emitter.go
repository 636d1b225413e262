// Package connector moves the records of a stream to a store: it transforms,
// filters, buffers and emits them, shard by shard and in order. Streams are
// ours or real Kinesis.
//
// What is emitted has a name of its own, the range of sequence numbers that it
// covers, which is durable before the first attempt: after a crash the same
// range is emitted again, so an Emitter that names what it writes after the
// range writes it once.
package connector

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink"
)

// An Item is one record on its way, after the transform.
type Item struct {
	Sequence string    // of the record it was made of, decimal
	Sub      int       // of user records that shared a record: from 0
	Key      string    // partition key
	Time     time.Time // arrival, to the millisecond
	Data     []byte
}

// A Batch is what is emitted at once: of one shard, in order. It is the same
// at every attempt but for the items that were written already.
type Batch struct {
	Connector string // its name
	Stream    string
	Shard     string // shardId-000000000000
	First     string // of the first and last record covered: a name, see below
	Last      string
	Items     []Item // at least one

	// First and Last are sequence numbers, decimal. One that is not of the first
	// user record in its container has .SUB after it: a batch may begin and end
	// within a container, and no two batches have the same First and Last.
}

// An Emitter writes batches. A connector has one, which its shards use at the
// same time, each with one batch.
type Emitter interface {
	// Emit writes b. failed are the indexes of the items that were not
	// written, each with its reason: those alone are tried again. An error says
	// that the store could not be asked, or that it is not known what was
	// written: all of b is tried again.
	Emit(ctx context.Context, b *Batch) (failed []Failure, err error)
	// Close ends what New began.
	Close() error
}

// A Failure is an item that a store refused. One that is permanent goes to the dead
// letters.
type Failure = sink.Refusal

// NewEmitter makes the emitter that a file's Emit asks for: kind is the name of
// its one member, such as S3, and doc that member's value. It reports all that
// is wrong with doc, and asks no store.
type NewEmitter func(kind string, doc json.RawMessage) (Emitter, error)
