// Package device is the device half of a thing's shadow: it keeps both
// sections on the device, applies what is desired through handlers, reports
// what is so, and brings both ends together again after any time apart.
//
// The device owns reported, the cloud owns desired. A Device works without a
// connection: Report is durable on the device before it returns, and desired
// values seen once are applied at every start. While connected it sends at
// most one update at a time and one per Options.Every, each holding the
// difference between what the cloud is known to hold and what the device
// holds, so a day offline costs one message.
//
// Every doubt about what the cloud holds (a new connection, a gap in the
// versions, an answer that does not come) ends in one way: get the document,
// join it with the local one leaf by leaf against the last common document,
// apply, and send what is left. A place changed on both ends is the device's
// in reported and the cloud's in desired, unless Options say otherwise.
//
// Use: New, Handle for each property, then Run in a goroutine of the caller;
// on each connection subscribe to Topics, then call Connected, hand every
// message on those topics to Receive, and call Disconnected when it is lost.
package device

import (
	"context"
	"log/slog"
	"time"
)

// A Store keeps a shadow's records on the device. boltstore.Store is one.
type Store interface {
	// Load returns the records of a shadow by key, empty when there are none.
	Load(thing, name string) (map[string][]byte, error)
	// Save replaces the given records in one step that has reached the disk
	// when it returns; others stay. A nil value removes a record.
	Save(thing, name string, records map[string][]byte) error
}

// A Handler applies a property. desired is a JSON value as package shadow
// holds it: bool, json.Number, string, []any or map[string]any; it must not
// be changed.
//
// The value returned is what is now really so, read back where the hardware
// can; nil with a nil error means desired itself. Reported then holds at path
// this value and nothing else. An error refuses: reported
// stays as it is, the error's text appears in reported under
// Options.ErrorKey, and the same desired value is not tried again before the
// next start. Apply is called from Run, one at a time, also with a value
// that is in force already, so it must be idempotent. It may call Report.
type Handler interface {
	Apply(ctx context.Context, path []string, desired any) (reported any, err error)
}

// A Clearer is a Handler that is told when desired has no value at path any
// more, for which Apply was called in this run: the device's own setting holds
// again. An error is logged. Clear is called from Run, like Apply.
type Clearer interface {
	Handler
	Clear(ctx context.Context, path []string) error
}

// HandlerFunc is a function that is a Handler.
type HandlerFunc func(ctx context.Context, path []string, desired any) (any, error)

// Apply calls f.
func (f HandlerFunc) Apply(ctx context.Context, path []string, desired any) (any, error) {
	return f(ctx, path, desired)
}

// A Publish sends one message with QoS 1, not retained. It may block until
// the broker has acknowledged or ctx is done.
type Publish func(ctx context.Context, topic string, payload []byte) error

// Options of a Device. The zero value is good.
type Options struct {
	Log      *slog.Logger  // says already which thing it is
	Every    time.Duration // least time between two updates; default 1 s
	Timeout  time.Duration // wait for an answer; default 10 s
	MaxSize  int           // of the document, bytes; default shadow.DefaultMaxSize
	MaxDepth int           // of a section; default shadow.DefaultMaxDepth
	ErrorKey string        // member of reported that holds refusals; default "errors"
	// LocalDesired: an edit of desired on the device wins over what the cloud
	// wants since. CloudReported: what another writer reported wins over what
	// the device reports since. Both are for a place that both ends changed
	// while apart, and off by default.
	LocalDesired, CloudReported bool
	// re-create a shadow deleted in the cloud at once, not with the next Report
	Recreate bool
	Jitter   func() float64 // in [0,1), spreads retries; default math/rand/v2
	// Synced is called from Run each time that the cloud has said what its document is,
	// or that there is none, before handlers are called for what it desires. It must not
	// block. nil: nobody wants to know.
	Synced func()
}
