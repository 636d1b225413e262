package events

import (
	"errors"
	"log/slog"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
)

// membersAtOnce is how many changes of membership are stored with one sync.
const membersAtOnce = 1000

// Members keeps changes of dynamic groups' membership, which the fleet index
// finds, for a Registry to publish.
type Members struct {
	Registry registry.Store
	Log      *slog.Logger
}

// Changed stores those changes that messages have to be published of, if any are
// wanted. It returns when they are durable; what could not be stored is logged
// and lost.
func (m Members) Changed(all []index.Membership) {
	wanted := false
	err := inRegistry.View(m.Registry, func(tx records) error {
		c, err := tx.EventConfig()
		wanted = c.Enabled[registry.MembershipEvent]
		return err
	})
	for len(all) > 0 && err == nil && wanted {
		some := all[:min(membersAtOnce, len(all))]
		all = all[len(some):]
		err = inRegistry.Store(m.Registry, func(tx records) error { return storeMembers(tx, some) })
	}
	if err != nil {
		m.Log.Error("messages about members of dynamic thing groups are lost", "changes", len(all), "err", err)
	}
}

// A memberTx is what storeMembers needs of a transaction.
type memberTx interface {
	Group(name string) (registry.Group, error)
	Thing(name string) (registry.Thing, error)
	StoreMembership(g *registry.Group, th *registry.Thing, op registry.Operation) error
}

// storeMembers stores changes of what is still there: that a thing or group is
// gone is an event of its own.
func storeMembers(tx memberTx, all []index.Membership) error {
	for _, m := range all {
		g, err := tx.Group(m.Group)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		th, err := tx.Thing(m.Thing)
		if errors.Is(err, registry.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		op := registry.Removed
		if m.Added {
			op = registry.Added
		}
		if err := tx.StoreMembership(&g, &th, op); err != nil {
			return err
		}
	}
	return nil
}
