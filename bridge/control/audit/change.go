package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// A Change is one that is under way. It is of one request, whose goroutine alone
// uses it.
type Change struct {
	Record
	// Asked is what the request asks for. It is shown where nothing says what is
	// after.
	Asked json.RawMessage
	// Quiet says that an update that changes nothing that is shown has no record.
	Quiet bool

	kept bool // in the registry, at least once
}

type changeKey struct{}

// With returns a context in which Update keeps the record of c.
func With(ctx context.Context, c *Change) context.Context {
	return context.WithValue(ctx, changeKey{}, c)
}

// Of is the change that a context is for, nil for none.
func Of(ctx context.Context) *Change {
	c, _ := ctx.Value(changeKey{}).(*Change)
	return c
}

// Kept says whether the registry has a record of the change, or of a part of it.
func (c *Change) Kept() bool { return c.kept }

// Show sets what was before and after, where that is not in the registry; End keeps
// it. c may be nil.
func (c *Change) Show(before, after any) {
	if c != nil {
		c.Before, c.After, c.kept = document(before), document(after), false
	}
}

// Name sets the target. c may be nil.
func (c *Change) Name(target string) {
	if c != nil {
		c.Target = target
	}
}

// document is v as JSON, nil if it is nil or cannot be.
func document(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil || string(text) == "null" {
		return nil
	}
	return text
}

// Update is s.Update, which stores the record of ctx's change with what f does, if
// there is one. Entries of the registry are shown as they were before and are after,
// in this very transaction. If the record cannot be kept, nothing is changed.
func Update(ctx context.Context, s registry.Store, f func(*registry.Tx) error) error {
	c := Of(ctx)
	if c == nil {
		return s.Update(f)
	}
	err := s.Update(func(tx *registry.Tx) error {
		tx.Journal()
		if err := f(tx); err != nil {
			return err
		}
		r := c.in(tx)
		if c.Quiet && r.Before == nil && r.After == nil {
			return nil
		}
		text, err := r.text()
		if err != nil {
			return err
		}
		return tx.KeepRecord(text)
	})
	if err == nil {
		c.kept = true
	}
	return err
}

// Keep stores records of what was changed outside of the registry there, all or none,
// durably when it returns. A Mover takes them to the log.
func Keep(s registry.Store, all ...Record) error {
	return s.Update(func(tx *registry.Tx) error {
		for _, r := range all {
			text, err := r.text()
			if err != nil {
				return err
			}
			if err := tx.KeepRecord(text); err != nil {
				return err
			}
		}
		return nil
	})
}

// in is the record of what a transaction has done.
func (c *Change) in(tx *registry.Tx) Record {
	r := c.Record
	before, after, first := tx.Changes()
	if r.Target == "" {
		r.Target = first
	}
	if before != nil || after != nil {
		r.Before, r.After = before, after
	}
	if r.Before == nil && r.After == nil {
		r.After = c.Asked
	}
	return r
}

// moving is how long End waits for a record that is safe in the registry to be in
// the stream too.
const moving = 5 * time.Second

// mostEnded are the changes refused to one caller that have a record of their own in a
// minute, where the log has a Bound. Our choice.
const mostEnded = 40

// End keeps the record of a change that is over, done or refused with refused, if
// the registry does not have it with the change. It returns refused, or why the
// record could not be kept. Whoever asked may have left: it was changed all the same.
func (l *Log) End(ctx context.Context, c *Change, refused error) error {
	ctx = context.WithoutCancel(ctx)
	if refused == nil && c.kept {
		ctx, cancel := context.WithTimeout(ctx, moving)
		defer cancel()
		_ = l.Mover.Move(ctx) // else it does so later
		return nil
	}
	r := c.Record
	if r.Before == nil && r.After == nil {
		r.After = c.Asked
	}
	if refused != nil {
		r.Error = refused.Error()
		if !c.kept && l.Bound != nil && !l.Bound.takes("ended "+r.Who, mostEnded, r) {
			return refused
		}
	}
	kept := l.Write(ctx, r)
	switch {
	case refused != nil && kept != nil:
		return fmt.Errorf("%w; and the audit log could not keep that it was asked for: %w", refused, kept)
	case kept != nil:
		return fmt.Errorf("it is done, but the audit log could not keep that: %w", kept)
	}
	return refused
}
