package connector

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Where a shard is read from, besides sequence numbers: the words of the
// Kinesis client library.
const (
	TrimHorizon = "TRIM_HORIZON" // from the oldest record kept
	Latest      = "LATEST"       // from now on; leases have AtTimestamp instead
	AtTimestamp = "AT_TIMESTAMP"
	ShardEnd    = "SHARD_END" // all was read
)

// A Position is a place between two user records of a shard: after the record
// of that sequence number and, within its container, of that sub-sequence
// number; or one of the words above.
type Position struct {
	Sequence string    `json:"sequence"` // decimal, or a word
	Sub      int       `json:"sub,omitempty"`
	Time     time.Time `json:"time,omitzero"` // of AtTimestamp
}

func (p Position) isNumber() bool {
	return p.Sequence != "" && p.Sequence[0] >= '0' && p.Sequence[0] <= '9'
}

// compare is of two positions that are numbers. Sequence numbers are compared
// as what they are, whatever their length.
func (p Position) compare(o Position) int {
	return cmp.Or(cmp.Compare(len(p.Sequence), len(o.Sequence)), cmp.Compare(p.Sequence, o.Sequence),
		cmp.Compare(p.Sub, o.Sub))
}

// whole is the first place in the container that p is in.
func (p Position) whole() Position { return Position{Sequence: p.Sequence} }

// String is the name that Batch.First and Batch.Last have.
func (p Position) String() string {
	switch {
	case p.Sequence == AtTimestamp:
		return p.Sequence + " " + p.Time.UTC().Format(time.RFC3339Nano)
	case p.Sub > 0:
		return p.Sequence + "." + strconv.Itoa(p.Sub)
	}
	return p.Sequence
}

// parsePosition reads what String writes of a number.
func parsePosition(s string) (Position, error) {
	number, sub, has := strings.Cut(s, ".")
	p := Position{Sequence: number}
	var err error
	if has {
		p.Sub, err = strconv.Atoi(sub)
	}
	if err != nil || p.Sub < 0 || !p.isNumber() {
		return p, fmt.Errorf("connector: %q is not the place of a record", s)
	}
	return p, nil
}

// A Span is the records of a delivery: those after the lease's checkpoint, up
// to and with Last. First is the first of them, for the name.
type Span struct {
	First Position `json:"first"`
	Last  Position `json:"last"`
}

// A Lease is what is durable of a shard: whose it is, and how far it was
// emitted. It exists from when its shard was first seen until the shard is
// gone.
type Lease struct {
	Shard   string        `json:"shard"`
	Parents []string      `json:"parents,omitempty"`
	Range   streams.Range `json:"range"` // hash keys of the shard
	Owner   string        `json:"owner,omitempty"`
	// grows with each write: a lease whose counter stands still has lost its owner
	Counter    int64    `json:"counter"`
	Start      Position `json:"start"`      // that it began with; that of shards made of this one
	Checkpoint Position `json:"checkpoint"` // what is up to here was emitted, or went to the dead letters
	Pending    *Span    `json:"pending,omitempty"`
	Switches   int64    `json:"switches,omitempty"` // of owners, since the checkpoint last moved
}

func (l *Lease) ended() bool { return l.Checkpoint.Sequence == ShardEnd }

// errLost says that somebody else wrote a lease since it was read: it is theirs.
var errLost = errors.New("connector: the lease was lost")

// Leases keep leases. Several workers may use them at once, in one process or,
// where the store allows, in many.
type Leases interface {
	// List returns all leases there are.
	List(ctx context.Context) ([]Lease, error)
	// Create makes a lease, unless its shard has one.
	Create(ctx context.Context, l Lease) error
	// Update stores l if the stored counter is l.Counter, and counts l.Counter
	// up; else it returns errLost. It is durable when it returns.
	Update(ctx context.Context, l *Lease) error
	// Delete removes the lease of a shard if its counter is that of l.
	Delete(ctx context.Context, l Lease) error
}

// A held lease is one that a worker has. Its methods may be called from
// several goroutines.
type held struct {
	leases   Leases
	failover time.Duration
	lost     context.CancelCauseFunc // ends who works on the shard

	lock  chan struct{} // of one, held while the lease is written; guards lease
	lease Lease
	until time.Time // nobody takes the lease before
}

func newHeld(leases Leases, l Lease, read time.Time, failover time.Duration, lost context.CancelCauseFunc) *held {
	return &held{leases: leases, failover: failover, lost: lost, lock: make(chan struct{}, 1), lease: l,
		until: read.Add(failover)}
}

func (h *held) acquire(ctx context.Context) error {
	select {
	case h.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (h *held) release() { <-h.lock }

// change writes the lease as f makes it, together with what is in b, which may
// be nil. A lease that was lost ends its shard's work.
func (h *held) change(ctx context.Context, b *streams.Batch, f func(*Lease)) error {
	if err := h.acquire(ctx); err != nil {
		return err
	}
	defer h.release()
	next, began := h.lease, time.Now()
	f(&next)
	var err error
	if b != nil {
		err = h.leases.(*LogLeases).updateWith(ctx, &next, b)
	} else {
		err = h.leases.Update(ctx, &next)
	}
	if errors.Is(err, errLost) {
		h.lost(errLost)
	}
	if err == nil {
		h.lease, h.until = next, began.Add(h.failover)
	}
	return err
}

// renew says that the owner lives.
func (h *held) renew(ctx context.Context) error { return h.change(ctx, nil, func(*Lease) {}) }

// ours says whether the lease is still surely ours: it was written so lately
// that nobody took it.
func (h *held) ours(ctx context.Context) error {
	if err := h.acquire(ctx); err != nil {
		return err
	}
	defer h.release()
	if time.Now().After(h.until) {
		h.lost(errLost)
		return errLost
	}
	return nil
}

// now is the lease as it was last written.
func (h *held) now() Lease {
	h.lock <- struct{}{}
	defer h.release()
	return h.lease
}
