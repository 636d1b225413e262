package action

import (
	"fmt"

	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// A Spreader has what rules publish to topics go to each of their subscribers, of which
// some have outboxes of their own: one that takes nothing holds none of the others.
// Several goroutines may use it.
type Spreader interface {
	// Spreads says whether a delivery is for subscribers.
	Spreads(d *Delivery) bool
	// Spread adds to b what subscribers get of a delivery of a slot of its rule. A
	// permanent error is of some of them, and the others get it; with any other
	// nothing was added.
	Spread(b *streams.Batch, d *Delivery, slot string) error
}

// Parameters of a delivery that waits for a subscriber, beside those of its action: which
// it is, and the slot of the action in the delivery's rule.
const (
	subscriberParameter = "subscriber"
	slotParameter       = "slot"
)

// topicPrefix begins what subscribers' outboxes have in the place of a rule, whose names
// have no colons.
const topicPrefix = "topic:"

// SubscriberStream names the outbox of a subscriber of a topic.
func SubscriberStream(topic, subscriber string) string {
	return OutboxStream(topicPrefix+topic, subscriber)
}

// Subscriber is whom a delivery waits for; "": it is of no subscriber's outbox.
func (d *Delivery) Subscriber() string { return d.Parameter(subscriberParameter) }

// AppendTo adds to b what a subscriber of a topic gets of d, into its outbox.
func (d *Delivery) AppendTo(b *streams.Batch, topic, subscriber, slot string) error {
	own := *d
	own.Parameters = append(d.Parameters[:len(d.Parameters):len(d.Parameters)],
		Parameter{subscriberParameter, subscriber}, Parameter{slotParameter, slot})
	data := own.append(nil)
	if len(data) > streams.MaxData {
		return Permanent(fmt.Errorf("delivery of %d bytes, want at most %d", len(data), streams.MaxData))
	}
	b.Append(SubscriberStream(topic, subscriber), 0, streams.Record{Key: d.Topic[:min(len(d.Topic), 256)], Data: data})
	return nil
}
