package action

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/delivery"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// lookAgain is how often an outbox that is empty is looked at: whether a rule still
// writes to it. unused is how long ago a rule must have asked for it, for one that is
// about to come into force has its outbox first.
const (
	lookAgain = time.Minute
	unused    = 10 * time.Minute
)

// ErrInUse says that a rule writes to an outbox: what waits in it is the rule's.
var ErrInUse = errors.New("a rule writes to the outbox")

// An OutboxInfo describes an outbox.
type OutboxInfo struct {
	Rule string `json:"rule"`
	Slot string `json:"slot"` // of the action in its rule
	// Unused: no rule writes to it any more. It ends when it is empty.
	Unused bool `json:"unused,omitempty"`
	// Unknown: what waits cannot be read, LastError says why. It is tried again.
	Unknown bool `json:"unknown,omitempty"`
	delivery.Backlog
	delivery.Status
}

// names are the rule and the slot of an outbox.
func names(stream string) (rule, slot string) {
	rest := strings.TrimPrefix(stream, outboxPrefix)
	i := strings.LastIndexByte(rest, '/')
	if i < 0 {
		return rest, ""
	}
	return rest[:i], rest[i+1:]
}

// List describes the outboxes that are drained, by name. Of one whose position cannot
// be read it is not known what waits: the error says why.
func (x *Drainer) List() []OutboxInfo {
	x.mu.Lock()
	boxes := make([]*box, 0, len(x.boxes))
	for _, bx := range x.boxes {
		boxes = append(boxes, bx)
	}
	x.mu.Unlock()
	slices.SortFunc(boxes, func(a, b *box) int { return strings.Compare(a.stream, b.stream) })
	all := make([]OutboxInfo, 0, len(boxes))
	for _, bx := range boxes {
		o := OutboxInfo{Unused: !x.opts.InUse(bx.stream), Status: bx.Status()}
		o.Rule, o.Slot = names(bx.stream)
		var err error
		if o.Backlog, err = bx.Backlog(x.store.Size); errors.Is(err, streams.ErrNotFound) {
			continue // it has just ended
		} else if err != nil {
			o.Unknown, o.LastError, o.Down = true, err.Error(), cmp.Or(o.Down, time.Now())
		}
		all = append(all, o)
	}
	return all
}

func (x *Drainer) box(rule, slot string) (*box, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if bx := x.boxes[OutboxStream(rule, slot)]; bx != nil {
		return bx, nil
	}
	return nil, fmt.Errorf("outbox of action %s of rule %s: %w", slot, rule, streams.ErrNotFound)
}

// Retry has an outbox try now what it would try later.
func (x *Drainer) Retry(rule, slot string) error {
	bx, err := x.box(rule, slot)
	if err == nil {
		bx.Kick()
	}
	return err
}

// Drop ends an outbox that no rule writes to, with all that waits in it. It returns
// how many deliveries those were. If ctx ends first, the outbox is drained on.
func (x *Drainer) Drop(ctx context.Context, rule, slot string) (dropped uint64, err error) {
	x.dropping.Lock()
	defer x.dropping.Unlock()
	bx, err := x.box(rule, slot)
	if err != nil {
		return 0, err
	}
	if x.opts.InUse(bx.stream) {
		return 0, fmt.Errorf("outbox of action %s of rule %s: %w; delete the rule first", slot, rule, ErrInUse)
	}
	b, err := bx.Backlog(x.store.Size)
	if err != nil {
		bx.log.Warn("it is not known what waits in an outbox that is dropped", "err", err)
	}
	bx.stop()
	<-bx.ended // soon: its attempt is given up
	if err = ctx.Err(); err == nil {
		err = x.remove(ctx, bx, 0)
	}
	if err != nil {
		x.outboxes.again(bx.stream)
		return 0, err
	}
	bx.log.Warn("outbox dropped", "deliveries", b.Records)
	return b.Records, nil
}

// end removes an outbox that is empty and that no rule writes to.
func (x *Drainer) end(ctx context.Context, bx *box, next uint64) error {
	stream := bx.stream
	if x.opts.InUse(stream) {
		return nil
	}
	waiting, err := x.store.Count(stream, 0, next)
	if err != nil || waiting > 0 {
		return err
	}
	err = x.remove(ctx, bx, unused)
	if errors.Is(err, ErrInUse) {
		return nil
	}
	if err == nil {
		bx.stop()
		x.opts.Log.Info("an outbox of a rule that is gone ended", "outbox", stream)
	}
	return err
}

// remove removes an outbox, unless a rule wants it or has asked for it less than so
// long ago. Its position goes after it.
func (x *Drainer) remove(ctx context.Context, bx *box, since time.Duration) error {
	if err := x.delete(bx.stream, since); err != nil {
		return err
	}
	b := x.store.NewBatch()
	b.Unset(bx.key)
	if err := x.store.Commit(ctx, b); err != nil {
		bx.log.Warn("the position of an outbox that is gone stays until the next start", "err", err)
	}
	return nil
}

func (x *Drainer) delete(stream string, since time.Duration) error {
	o := x.outboxes
	o.mu.Lock()
	defer o.mu.Unlock()
	if x.opts.InUse(stream) || time.Since(o.boxes[stream]) < since {
		return ErrInUse
	}
	if err := x.store.Delete(stream); err != nil {
		return err
	}
	delete(o.boxes, stream)
	return nil
}

// again has an outbox drained that was stopped.
func (x *Outboxes) again(stream string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, there := x.boxes[stream]; there && x.start != nil {
		x.start(stream)
	}
}
