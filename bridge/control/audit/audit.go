// Package audit keeps who changed what on the bridge: one [Record] for each change
// of control, in an append-only stream that nothing but its retention takes from.
// FORMAT.md has the records.
//
// Who takes requests puts a [Change] into the context of each that changes
// something ([With]), and ends it ([Log.End]) before it answers. Who changes the
// registry does so by [Update], which stores the record in the transaction of the
// change, with what was before and after: where the change is, its record is,
// whatever happens then. A [Mover] takes such records to the stream. A change of
// something else, such as a data stream, is recorded when it is done; where that
// record cannot be kept, the answer says so.
//
// What strangers can cause goes through [Refusals], which writes some of it and
// counts the rest.
package audit

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Stream is where records are kept.
const Stream = "$audit"

// Topic is where records are published, followed by SOURCE/ACTION, for rules.
const Topic = "$tidemill/events/audit/"

const (
	// maxShown bounds Before and After, each, in bytes; what is longer is left away.
	maxShown = 64 << 10
	// maxText bounds each of the other texts, in bytes, which strangers may choose.
	maxText = 1 << 10
)

// Sources of records.
const (
	SourceAdmin           = "admin"            // the admin socket and the command line
	SourceAWS             = "aws"              // the AWS APIs
	SourceFiles           = "bridge.d"         // files
	SourcePKI             = "pki"              // files of keys, grants and certificates
	SourceProvisioning    = "provisioning"     // devices that ask for certificates and things
	SourceFirstConnection = "first-connection" // devices of registered CAs
	SourceSignIn          = "sign-in"          // whoever was not let in, and who got temporary credentials
	SourceConnection      = "connection"       // clients whose connection was ended
	SourceBridge          = "bridge"           // the bridge itself
)

// A Record is one change, done or refused. It holds no secrets.
type Record struct {
	ID      string          `json:"id"`                // UUID, the same where a record comes twice
	Time    time.Time       `json:"time"`              // when it was written; set when it is
	Source  string          `json:"source"`            // where changes come in
	Who     string          `json:"who,omitempty"`     // such as "uid 1000", an access key, a certificate's id
	Key     string          `json:"key,omitempty"`     // access key that signed it, and was proven to
	From    string          `json:"from,omitempty"`    // such as "pid 4711", an address
	Client  string          `json:"client,omitempty"`  // MQTT client id
	Request string          `json:"request,omitempty"` // id of the request, as its answer has it
	Action  string          `json:"action"`            // such as CreateThing; letters
	Target  string          `json:"target,omitempty"`  // what was changed, such as things/pump-1
	Before  json.RawMessage `json:"before,omitempty"`  // of it, at most maxShown
	After   json.RawMessage `json:"after,omitempty"`   // likewise, or what was asked for
	Error   string          `json:"error,omitempty"`   // why it was refused; "" where it was done
	Left    uint64          `json:"left,omitempty"`    // refusals of the same kind that have no record, before this one
}

// Claimed is Who of a request whose signature did not hold, or was not looked at: the
// key that it names is anybody's to name, and so is its user.
func Claimed(keyID string) string { return "claimed key " + keyID + ", not proven" }

// text is the record as it is kept, with an id and the time.
func (r Record) text() ([]byte, error) {
	r.ID, r.Time = uuid.NewString(), time.Now().UTC()
	r.Before, r.After = shown(r.Before), shown(r.After)
	return json.Marshal(r.bounded())
}

// bounded is the record with texts of at most maxText.
func (r Record) bounded() Record {
	for _, s := range []*string{&r.Who, &r.Key, &r.From, &r.Client, &r.Request, &r.Action, &r.Target, &r.Error} {
		if len(*s) > maxText {
			*s = strings.ToValidUTF8((*s)[:maxText], "")
		}
	}
	return r
}

// shown is a document of a record without its secrets, nil if it is too long or none.
func shown(doc json.RawMessage) json.RawMessage {
	if len(doc) > maxShown || !json.Valid(doc) {
		return nil
	}
	return withoutSecrets(doc)
}

// A Writer keeps records. Write returns when the record is durable, or with the
// reason why it is not. It may be called from several goroutines, which share
// syncs of the disk.
type Writer interface {
	Write(ctx context.Context, r Record) error
}

// A Log writes records to a stream and then publishes them.
type Log struct {
	Append  func(ctx context.Context, records ...[]byte) error // durable when it returns
	Publish func(topic string, record []byte)                  // must not block; nil: nobody hears
	Mover   *Mover                                             // of records that the registry keeps; nil: none
	Bound   *Refusals                                          // of changes that End is told were refused; nil: none
}

// Write implements Writer.
func (l *Log) Write(ctx context.Context, r Record) error {
	text, err := r.text()
	if err != nil {
		return err
	}
	return l.write(ctx, text)
}

// write keeps records and publishes them.
func (l *Log) write(ctx context.Context, records ...[]byte) error {
	if err := l.Append(ctx, records...); err != nil {
		return err
	}
	if l.Publish == nil {
		return nil
	}
	for _, text := range records {
		var r struct{ Source, Action string }
		if json.Unmarshal(text, &r) == nil {
			l.Publish(Topic+r.Source+"/"+r.Action, HiddenRecord(text)) // the log of messages has it then
		}
	}
	return nil
}
