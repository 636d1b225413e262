package index

import (
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

// view runs f on the registry as it stands.
func view(r registry.Viewer, f func(records) error) error {
	return r.View(func(tx *registry.Tx) error { return f(tx) })
}
