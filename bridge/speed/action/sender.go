package action

import (
	"context"
	"time"
)

// A Sender does the deliveries of one kind of action at its target. Several
// goroutines may use it, each for another outbox.
type Sender interface {
	// Send does ds in their order, and returns one error for each: nil, it is
	// done; one that wraps ErrPermanent, it can never be had; any other, it is to
	// be sent again. What is sent again is the same Delivery, byte for byte. One
	// that another before it makes senseless to try may fail as that one did.
	//
	// ds are at least one and within Bound; a single one may have more bytes. Send
	// blocks until ctx ends or its own time limit, and keeps no reference to ds.
	Send(ctx context.Context, ds []*Delivery) []error
	// Bound says how much one Send takes.
	Bound() Bound
}

// A Gatherer is a Sender that sends fewer requests if it is given more at once.
type gatherer interface {
	// Gather says how long it is worth to wait for more than ds, since the first of
	// them came. It is asked again when one came.
	Gather(ds []*Delivery) time.Duration
}

// A Bound is how many deliveries go together, and how many bytes they have
// with their parameters (Delivery.Size).
type Bound struct {
	Deliveries int // at least 1
	Bytes      int
}

// Size is about how many bytes a delivery adds to a request.
func (d *Delivery) Size() int {
	n := len(d.Data)
	for i := range d.Parameters {
		n += len(d.Parameters[i].Value)
	}
	return n
}

// Parameter returns the value of a parameter after substitution, "" if there
// is none of that name.
func (d *Delivery) Parameter(name string) string {
	for i := range d.Parameters {
		if d.Parameters[i].Name == name {
			return d.Parameters[i].Value
		}
	}
	return ""
}
