package events

import (
	"github.com/tidemill/tidemill/bridge/control/audit"
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

// inRegistry are they in a registry.
var inRegistry audit.Records[records] = func(tx *registry.Tx) records { return tx }
