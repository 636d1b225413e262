package route

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// A Sender is who publishes without a connection of MQTT.
type Sender interface {
	// MayPublish is asked for topics that are in a message.
	MayPublish(topic string) bool
	// AsThing returns the thing whose batch of readings the Sender sends, and its
	// rights, or why there is none.
	AsThing() (thing string, rights gateway.Session, err error)
}

// Errors of Submit.
var (
	ErrThrottled = errors.New("the thing sends too much")
	// ErrRefused is of a batch of which policy refused some readings.
	ErrRefused = errors.New("the rest is stored, do not send it again")
)

// Submit publishes m, on whose topic the sender may publish, and returns when it is
// durable, or the broker has it. Its error wraps ErrThrottled or ErrRefused, or is
// Subscribers.Check's, the broker's, from.AsThing's or ctx's; any other means that m
// is perhaps not durable.
func (r *Router) Submit(ctx context.Context, m *message.Message, from Sender) error {
	if err := r.subscribers.Check(m); err != nil {
		return err
	}
	if r.broker != nil {
		return r.broker.Publish(ctx, m)
	}
	may := from.MayPublish
	if m.Topic == telemetry.Topic {
		thing, rights, err := from.AsThing()
		if err != nil {
			return err
		}
		if wait := r.ingest.Wait(thing); wait > 0 {
			return fmt.Errorf("%w: %s is over mqtt.max_thing_rate or max_thing_bytes for %v more", ErrThrottled, thing,
				wait.Round(time.Millisecond))
		}
		m.Thing, may = thing, func(topic string) bool { return rights.MayPublish(topic, false) }
	}
	answer := make(chan error, 1)
	of, _ := topic.Lookup(m.Topic)
	r.publish(m, of, nil, may, func(err error) { answer <- err })
	err := await(ctx, answer)
	if refused, ok := errors.AsType[*telemetry.Refused](err); ok {
		return fmt.Errorf("%w; %w", refused, ErrRefused)
	}
	return err
}
