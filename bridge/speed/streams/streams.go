// Package streams is the contract of the bridge's one durable, sharded,
// replayable log. The ingest log, the user's data streams, the buffers of delivery
// streams and the action outboxes are all streams of one Log, so one Batch can
// commit records to several of them, together with a reader's position, in one
// atomic durable write.
//
// An engine implements Log, and Keys if it can; package streams/pebble is the one
// inside the bridge. Users state which parts of Log they need. Package streamstest
// is the suite that each engine passes; ENGINES.md has what others can promise.
//
// Caveats:
//   - Readers see only what is durable.
//   - Retention and Trim may leave records that are due to go: an engine takes
//     whole blocks, a block being what it wrote to one shard at once.
package streams

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Errors that callers branch on; match with errors.Is.
var (
	ErrNotFound = errors.New("streams: no such stream")
	ErrExists   = errors.New("streams: stream exists")
	ErrClosed   = errors.New("streams: store is closed")
	ErrShard    = errors.New("streams: no such shard")
	ErrTooLarge = errors.New("streams: record too large")
	ErrCorrupt  = errors.New("streams: corrupt block")

	// ErrShardClosed: the shard was split or merged; its children have what
	// follows.
	ErrShardClosed = errors.New("streams: shard is closed")
)

const (
	// MaxShards is the most shards a stream can have.
	MaxShards = 10_000

	// MaxKey is the longest partition key in bytes (Kinesis: 256 characters).
	MaxKey = 1024

	// MaxData is the longest record data in bytes: 10 MiB, the largest record
	// Kinesis can be set to take.
	MaxData = 10 << 20

	// MaxName is the longest stream name in bytes.
	MaxName = 255
)

// Config is what a stream is created with.
type Config struct {
	Shards    int           // that it begins with, 1 to MaxShards
	Retention time.Duration // records older than this are trimmed; 0: for ever
	MaxBytes  int64         // oldest records go when the stream is larger; 0: no limit

	// Attributes are the owner's, kept with the stream; SetAttributes replaces
	// them.
	Attributes []byte
}

// Check says whether a stream of that name can be created with c.
func (c *Config) Check(name string) error {
	switch {
	case name == "" || len(name) > MaxName || strings.ContainsFunc(name, unprintable):
		return fmt.Errorf("streams: name %.40q, want 1 to %d printable ASCII characters", name, MaxName)
	case c.Shards < 1 || c.Shards > MaxShards:
		return fmt.Errorf("streams: create %s: %d shards, want 1 to %d", name, c.Shards, MaxShards)
	case c.Retention < 0 || c.MaxBytes < 0:
		return fmt.Errorf("streams: create %s: negative limit", name)
	}
	return nil
}

// unprintable says that r is no printable ASCII character, or a space.
func unprintable(r rune) bool { return r < 0x21 || r > 0x7e }

// Info describes a stream.
type Info struct {
	Name    string
	ID      uint32    // never given twice: a stream deleted and created again has another
	Created time.Time // to the millisecond
	Open    int       // shards that are open
	Config
}

// Size says how much a stream or shard holds.
type Size struct {
	Records uint64
	Bytes   int64 // as stored, before compression

	// Ever is how many records there ever were, trimmed ones too, in the shards that
	// there are. What Bounds returns says that not: see Reader.Count.
	Ever uint64
}
