package events

import (
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// records are what events need of a transaction of the registry.
type records interface {
	EventConfig() (registry.EventConfig, error)
	ForgetChanges(sequence uint64) error
	Group(name string) (registry.Group, error)
	StoreMembership(g *registry.Group, th *registry.Thing, op registry.Operation) error
	StoredChanges(n int) ([]registry.Change, error)
	Thing(name string) (registry.Thing, error)
}

// view runs f on the registry as it stands.
func view(r registry.Viewer, f func(records) error) error {
	return r.View(func(tx *registry.Tx) error { return f(tx) })
}

// store makes what f changes durable. It is no change that somebody asked for, so
// the audit log has none of it.
func store(r registry.Store, f func(records) error) error {
	return r.Update(func(tx *registry.Tx) error { return f(tx) })
}
