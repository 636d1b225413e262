// Package audit keeps who changed what on the bridge: one [Record] for each change
// of control, durable before the change is answered, in an append-only stream that
// nothing but its retention takes from. FORMAT.md has the records.
//
// Who makes changes is handed a [Writer]. A [Log] is one over a stream.
package audit

import (
	"context"
	"encoding/json"
	"time"
)

// Stream is where records are kept.
const Stream = "$audit"

// Topic is where records are published, followed by SOURCE/ACTION, for rules.
const Topic = "$tidemill/events/audit/"

// MaxShown bounds Before and After, each, in bytes; what is longer is left away.
const MaxShown = 64 << 10

// A Record is one change, done or refused. It holds no secrets.
type Record struct {
	Time   time.Time       `json:"time"`             // when it was written; set by the Log
	Source string          `json:"source"`           // where changes come in: admin, bridge.d
	Who    string          `json:"who,omitempty"`    // such as "uid 1000"
	From   string          `json:"from,omitempty"`   // such as "pid 4711"
	Action string          `json:"action"`           // such as CreateThing; letters
	Target string          `json:"target,omitempty"` // what was changed, such as things/pump-1
	Before json.RawMessage `json:"before,omitempty"` // of it, at most MaxShown
	After  json.RawMessage `json:"after,omitempty"`  // likewise, or what was asked for
	Error  string          `json:"error,omitempty"`  // why it was refused; "" where it was done
}

// A Writer keeps records. Write returns when the record is durable, or with the
// reason why it is not. It may be called from several goroutines, which share
// syncs of the disk.
type Writer interface {
	Write(ctx context.Context, r Record) error
}

// A Log writes records to a stream and then publishes them.
type Log struct {
	Append  func(ctx context.Context, record []byte) error // durable when it returns
	Publish func(topic string, record []byte)              // must not block; nil: nobody hears
}

// Write implements Writer.
func (l *Log) Write(ctx context.Context, r Record) error {
	r.Time = time.Now().UTC()
	r.Before, r.After = shown(r.Before), shown(r.After)
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := l.Append(ctx, text); err != nil {
		return err
	}
	if l.Publish != nil {
		l.Publish(Topic+r.Source+"/"+r.Action, text)
	}
	return nil
}

// shown is a document of a record, nil if it is too long or none.
func shown(doc json.RawMessage) json.RawMessage {
	if len(doc) > MaxShown || !json.Valid(doc) {
		return nil
	}
	return doc
}
