// Package telemetry is the batch codec that agent and bridge share: readings
// of several sensors in one small, checksummed, columnar block. FORMAT.md has
// the layout. It imports nothing else of ours, since both programs link it.
package telemetry

import "errors"

// Topic is where an agent publishes encoded batches. The bridge expands them
// to records on their own topics before policy and rules see them.
const Topic = "$tidemill/batch"

// MaxBytes is the largest encoded batch: 128 KiB, the largest PUBLISH payload
// AWS IoT Core takes (service quotas, message broker).
const MaxBytes = 128 << 10

// Errors of Append and Decode; match with errors.Is.
var (
	ErrTooLarge = errors.New("telemetry: batch too large")
	ErrCorrupt  = errors.New("telemetry: corrupt batch")
	ErrVersion  = errors.New("telemetry: unknown format version")
)

// Kind is the type of a column.
type Kind uint8

// The kinds of columns.
const (
	Float Kind = iota + 1
	Int
	Bool
	Text
)

// Clock says how far the time stamps of a batch can be trusted.
type Clock uint8

// The clock states.
const (
	ClockUnknown  Clock = iota
	ClockSynced         // the kernel says that NTP or the like holds the clock
	ClockUnsynced       // set once (RTC, saved time), drifting
)

// A Header names a batch: (thing, Spool, Seq) is unique, and the thing comes
// from the connection.
type Header struct {
	Spool [16]byte // random, made with the spool file
	Seq   uint64   // from 1, +1 for each batch of the spool
	Boot  [16]byte // random for each start of the agent
	Clock Clock
}

// A Batch is what one flush of the spool wrote.
type Batch struct {
	Header
	Series []Series
}

// A Series holds the readings of one sensor, oldest first.
type Series struct {
	Sensor  string  // [A-Za-z0-9_:-]+, at most 64 bytes: one level of a topic
	Times   []int64 // epoch ms, ascending or nearly so
	Columns []Column
}

// A Column holds one channel's values. The slice of its Kind has one element
// for each of the series' Times; the elements whose Present is false are zero
// and mean that the reading had no such value.
type Column struct {
	Name    string
	Unit    string
	Kind    Kind
	Present []bool // nil: all are there
	Floats  []float64
	Ints    []int64
	Bools   []bool
	Texts   []string
}
