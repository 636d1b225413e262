package audit

import (
	"context"
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

const (
	moveAtOnce = 100 // records in one go
	moveAgain  = time.Second
)

// A Mover takes the records that the registry keeps to the log, in order. The
// registry forgets them once they are durable there. After a crash one may come
// twice, with the same id.
type Mover struct {
	registry *registry.Registry
	to       *Log
	log      *slog.Logger
	woken    chan struct{} // of one
	turn     chan struct{} // of one: who has put something in moves
	after    uint64        // the last that was moved; of who has the turn
}

// NewMover returns a Mover. It moves nothing until Move or Run.
func NewMover(r *registry.Registry, to *Log, log *slog.Logger) *Mover {
	return &Mover{registry: r, to: to, log: log, woken: make(chan struct{}, 1), turn: make(chan struct{}, 1)}
}

// Wake says that there may be something to move. It does not wait.
func (m *Mover) Wake() {
	select {
	case m.woken <- struct{}{}:
	default:
	}
}

// Move moves what there is.
func (m *Mover) Move(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-m.turn }()
	for {
		all, err := m.next()
		if err != nil || len(all) == 0 {
			return err
		}
		texts := make([][]byte, len(all))
		for i := range all {
			texts[i] = all[i].Text
		}
		if err := m.to.write(ctx, texts...); err != nil {
			return err
		}
		m.after = all[len(all)-1].Sequence
		m.registry.RecordsTaken(m.after)
	}
}

// Waiting says whether the registry keeps records that are not moved.
func (m *Mover) Waiting() bool {
	m.turn <- struct{}{}
	defer func() { <-m.turn }()
	all, err := m.next()
	return err == nil && len(all) > 0
}

func (m *Mover) next() (all []registry.Record, err error) {
	err = m.registry.View(func(tx *registry.Tx) error {
		all = tx.Records(m.after, moveAtOnce)
		return nil
	})
	return all, err
}

// Run moves what there is, and then what comes, until ctx ends, and last the rest.
func (m *Mover) Run(ctx context.Context) error {
	for {
		var again <-chan time.Time
		if err := m.Move(ctx); err != nil && ctx.Err() == nil {
			m.log.Warn("audit records cannot be moved from the registry to the log, they stay there",
				"again_in", moveAgain, "err", err)
			again = time.After(moveAgain)
		}
		select {
		case <-m.woken:
		case <-again:
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), moving)
			defer cancel()
			if err := m.Move(last); err != nil {
				return nil // they stay, and the next start moves them
			}
			return m.registry.ForgetRecords()
		}
	}
}
