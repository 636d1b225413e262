package audit

import (
	"context"

	"github.com/tidemill/tidemill/bridge/control/registry"
)

// Records are what a user of the registry needs of its transactions: the methods of
// T, which the function takes a transaction for.
type Records[T any] func(*registry.Tx) T

// View runs f on the registry as it stands.
func (as Records[T]) View(r registry.Viewer, f func(T) error) error {
	return r.View(func(tx *registry.Tx) error { return f(as(tx)) })
}

// Update is Update: it makes what f changes durable, with the record of ctx's change.
func (as Records[T]) Update(ctx context.Context, s registry.Store, f func(T) error) error {
	return Update(ctx, s, func(tx *registry.Tx) error { return f(as(tx)) })
}

// Store makes what f changes durable. It is no change that somebody asked for, so
// the audit log has none of it.
func (as Records[T]) Store(s registry.Store, f func(T) error) error {
	return s.Update(func(tx *registry.Tx) error { return f(as(tx)) })
}
