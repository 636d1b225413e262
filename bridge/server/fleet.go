package server

import (
	"github.com/tidemill/tidemill/bridge/control/index"
	"github.com/tidemill/tidemill/bridge/serving/events"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// openFleet makes the fleet index.
func (a *assembly) openFleet() error {
	index, stop, err := index.New(a.registry, a.shadows, index.Options{
		Connectivity: a.cfg.Broker.URL == "", // else devices connect elsewhere
		Members:      events.Members{Registry: a.registry, Log: a.log}.Changed,
		Log:          a.log,
	})
	if err != nil {
		return err
	}
	a.fleet = index
	a.closes(func() error { stop(); return nil })
	return nil
}

// clientEvent is the gateway's hook for clients that come and go: it does not wait,
// but for room in the log's queue where a client was put out.
// As at AWS IoT it is by its client id that a client is a thing, whoever's
// policy let it have that.
func (s *Server) clientEvent(v gateway.Event) {
	switch v.Kind {
	case gateway.Connected:
		s.fleet.Connected(v.Client.ID(), v.Client, v.Time)
	case gateway.Disconnected:
		s.fleet.Disconnected(v.Client.ID(), v.Client, v.Reason, v.Time)
	}
	s.kicked(v)
	if s.cfg.MQTT.Events {
		s.lifecycle.Add(v)
	}
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
