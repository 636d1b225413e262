package index

import (
	"github.com/tidemill/tidemill/bridge/control/audit"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// records are what the fleet index reads of a transaction of the registry.
type records interface {
	Group(name string) (registry.Group, error)
	Groups(after string, n int) (page []registry.Group, next string, err error)
	Indexing() (registry.Indexing, error)
	Thing(name string) (registry.Thing, error)
	ThingNames(after string, n int) (names []string, next string, err error)
}

// inRegistry are they in a registry.
var inRegistry audit.Records[records] = func(tx *registry.Tx) records { return tx }
