package route

import (
	"context"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A Broker takes the place of the gateway: what is published goes to it, and comes
// in from it. The bridge does not know who published a message, so rules see no
// clientid() and no principal(), and no message belongs to a thing: batches of
// readings, which are told apart by the thing, go to the quarantine, and devices
// publish plain JSON (uplink.format = "json"). A broker.Broker is one.
type Broker interface {
	// Queue publishes m when it can, and calls done once the broker has it.
	Queue(m *message.Message, done func(error))
	// Publish is Queue that waits for done.
	Publish(ctx context.Context, m *message.Message) error
}

// FromBroker takes a message that a broker sent; it is a broker.Handler. done is
// called when the log has the message and, if it is a request, its shadow.
func (r *Router) FromBroker(m *message.Message, done func(error)) {
	if topic.CheckPublish(m.Topic, topic.ByBroker, false) != nil {
		r.stats.reserved.Add(1)
		done(nil)
		return
	}
	if r.o.Room != nil {
		if err := r.o.Room(); err != nil { // the broker keeps it
			done(err)
			return
		}
	}
	of, _ := topic.Lookup(m.Topic)
	if of.RequestTo(topic.Shadows) && r.o.OtherShadows { // of a subscription that this bridge had before
		r.stats.unanswered.Add(1)
		of = topic.Reserved{}
	}
	// What services answer comes here as well, and may be a device's: the broker
	// does not say who published it, and its access rules have to.
	r.publish(m, of, nil, nil, done)
}

// Stats are counts of what came from a broker since New.
type Stats struct {
	Reserved   uint64 // messages on reserved topics that no service here takes from a broker
	Unanswered uint64 // requests for shadows that another bridge answers
}

// Stats returns the counts.
func (r *Router) Stats() Stats {
	return Stats{Reserved: r.stats.reserved.Load(), Unanswered: r.stats.unanswered.Load()}
}
