package server

import (
	"errors"

	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// openFleet makes the fleet index.
func (s *Server) openFleet() error {
	index, stop, err := index.New(s.registry, s.shadows, index.Options{
		Connectivity: s.cfg.Broker.URL == "", // else devices connect elsewhere
		Members:      s.membersChanged,
		Log:          s.log,
	})
	if err != nil {
		return err
	}
	s.fleet = index
	s.closers = append(s.closers, func() error { stop(); return nil })
	return nil
}

// heard is the gateway's hook for clients that come and go: it does not wait.
// As at AWS IoT it is by its client id that a client is a thing, whoever's
// policy let it have that.
func (s *Server) heard(v gateway.Event) {
	switch v.Kind {
	case gateway.Connected:
		s.fleet.Connected(v.Client.ID(), v.Client, v.Time)
	case gateway.Disconnected:
		s.fleet.Disconnected(v.Client.ID(), v.Client, v.Reason, v.Time)
	}
	s.lifecycle.Hear(v)
}

// indexedShadows is the shadow service's store, of whose changes the fleet index
// hears once they are durable.
type indexedShadows struct {
	*boltstore.Store
	index *index.Index
}

func (x indexedShadows) Put(thing, name string, d *shadow.Document) error {
	err := x.Store.Put(thing, name, d)
	if err == nil {
		x.index.Changed(thing)
	}
	return err
}

// atOnce is how many changes of membership are stored with one sync.
const atOnce = 1000

// membersChanged stores the changes of dynamic groups' membership that messages
// have to be published of, if any are wanted.
func (s *Server) membersChanged(all []index.Membership) {
	wanted := false
	err := s.registry.View(func(tx *registry.Tx) error {
		c, err := tx.EventConfig()
		wanted = c.Enabled[registry.MembershipEvent]
		return err
	})
	for len(all) > 0 && err == nil && wanted {
		some := all[:min(atOnce, len(all))]
		all = all[len(some):]
		err = s.registry.Update(func(tx *registry.Tx) error { return tellMembers(tx, some) })
	}
	if err != nil {
		s.log.Error("messages about members of dynamic thing groups are lost", "changes", len(all), "err", err)
	}
}

// tellMembers stores changes of what is still there: that a thing or group is
// gone is told as that.
func tellMembers(tx *registry.Tx, all []index.Membership) error {
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
		if err := tx.TellMember(&g, &th, op); err != nil {
			return err
		}
	}
	return nil
}

func (x series) fleet(s *Server) {
	i := s.fleet.Stats()
	x.gauge("fleet_things", "Things in the fleet index.", float64(i.Things))
	x.gauge("fleet_terms", "Different values of fields in the index of things.", float64(i.Terms))
	x.gauge("fleet_waiting", "Changed things that the fleet index has not taken up yet.", float64(i.Waiting))
	x.gauge("fleet_dynamic_groups", "Dynamic thing groups.", float64(i.DynamicGroups))
	active := 0.0
	if s.fleet.Status(index.Things) == index.Active {
		active = 1
	}
	x.gauge("fleet_active", "1 while the index of things is complete.", active)
}
