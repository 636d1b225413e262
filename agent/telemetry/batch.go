// Package telemetry is the batch codec that agent and bridge share: readings
// of several sensors in one small, checksummed, columnar block. FORMAT.md has
// the layout. It imports nothing else of ours, since both programs link it.
//
// A Builder collects readings into a Batch, Append encodes one, Decode reads
// it back, and Series.AppendJSON writes one reading as the JSON record that
// rules and sinks see. Numbers come back bit for bit, -0 and the infinities
// included; only NaN loses its payload.
package telemetry

import (
	"errors"
	"fmt"
)

// Topic is where an agent publishes encoded batches. The bridge expands them
// to records on their own topics before policy and rules see them.
const Topic = "$tidemill/batch"

// RefusedTopic is where the bridge tells an agent, which speaks MQTT 3.1.1 and so
// gets no reason in a PUBACK, of readings that policy refused: a Refused as JSON.
// It is for the connection that sent the batch alone and needs no right; bridges
// of before refuse the subscription.
const RefusedTopic = "$tidemill/batch/refused"

// A Refused is what the bridge did not take of a batch. The rest is stored, so
// sending it again does not help.
type Refused struct {
	Readings int          `json:"readings"`
	Topics   []TopicCount `json:"topics"` // in the batch's order, at most MaxRefused
}

// A TopicCount is the number of readings for a topic.
type TopicCount struct {
	Topic    string `json:"topic"`
	Readings int    `json:"readings"`
}

// MaxRefused is how many topics a Refused names. Its Readings count all.
const MaxRefused = 20

// Error says it as an error, which is not for a retry.
func (r *Refused) Error() string {
	text := fmt.Sprintf("policy refuses %d readings", r.Readings)
	for i, t := range r.Topics {
		if i == 3 {
			return text + ", ..."
		}
		text += fmt.Sprintf(", %d on %s", t.Readings, t.Topic)
	}
	return text
}

// Add counts readings that were refused on a topic.
func (r *Refused) Add(topic string, readings int) {
	r.Readings += readings
	for i := range r.Topics {
		if t := &r.Topics[i]; t.Topic == topic { // a sensor whose channels changed is in a batch twice
			t.Readings += readings
			return
		}
	}
	if len(r.Topics) < MaxRefused {
		r.Topics = append(r.Topics, TopicCount{topic, readings})
	}
}

// MaxBytes is the largest encoded batch: 128 KiB, the largest PUBLISH payload
// AWS IoT Core takes (service quotas, message broker).
const MaxBytes = 128 << 10

// Limits on what one batch holds once decoded. Append keeps them and Decode
// checks them before it allocates, so a hostile batch of MaxBytes costs its
// reader at most about 4 MiB.
const (
	MaxSeries    = 1 << 10
	MaxColumns   = 1 << 12 // of all series
	MaxPerSeries = 1 << 8  // columns of one series
	MaxReadings  = 1 << 14 // of all series
	MaxValues    = 1 << 17 // readings times columns, absent ones included
	MaxText      = 1 << 10 // bytes of one text
	MaxTexts     = 1 << 20 // bytes of all texts, each repetition counted
)

// Errors of Append, Decode and Builder.Add; match with errors.Is.
var (
	ErrTooLarge = errors.New("telemetry: batch too large") // or more in it than its bytes may carry
	errCorrupt  = errors.New("telemetry: corrupt batch")
	errVersion  = errors.New("telemetry: unknown format version")
	errInvalid  = errors.New("telemetry: invalid batch") // names, kinds or lengths that no batch may have
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
	ClockUnknown  Clock = iota // nothing says how late the readings may really be; see Time.Bound
	ClockSynced                // right within Time.Bound, or within PlainBound where the batch has no Time
	ClockUnsynced              // of agents of before: set once (RTC, saved time), drifting
)

// A Header names a batch: (thing, Spool, Seq) is unique, and the thing comes
// from the connection.
type Header struct {
	Spool [16]byte // random, made with the spool file
	Seq   uint64   // from 1, rising with each batch of the spool; gaps are batches dropped
	Boot  [16]byte // random for each start of the agent
	Clock Clock
	Time  Time // zero: of a good clock, or of an agent of before; the batch is of format version 1
}

// A Batch is what one flush of the spool wrote.
type Batch struct {
	Header
	Series []Series
}

// A Series holds the readings of one sensor, oldest first.
type Series struct {
	Sensor  string  // [A-Za-z0-9_:-]+, at most 64 bytes: one level of a topic
	Times   []int64 // epoch ms, ascending or nearly so; at least one
	Columns []Column
}

// A Column holds one channel's values. The slice of its Kind has one element
// for each of the series' Times; the elements whose Present is false are zero
// and mean that the reading had no such value.
type Column struct {
	Name    string // [a-z][a-z0-9_]*, at most 32 bytes, not "ts", once in a series
	Unit    string // printable UTF-8, at most 16 bytes
	Kind    Kind
	Present []bool // nil: all are there
	Floats  []float64
	Ints    []int64
	Bools   []bool
	Texts   []string // any bytes, at most MaxText each
}

// Readings returns the number of readings of all series.
func (b *Batch) Readings() int {
	n := 0
	for i := range b.Series {
		n += len(b.Series[i].Times)
	}
	return n
}

func (c *Column) definition() definition { return definition{c.Name, c.Unit, c.Kind} }

// rows returns the length of the slice of c's kind.
func (c *Column) rows() int {
	switch c.Kind {
	case Float:
		return len(c.Floats)
	case Int:
		return len(c.Ints)
	case Bool:
		return len(c.Bools)
	}
	return len(c.Texts)
}
