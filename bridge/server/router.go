package server

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/control/provision"
	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/serving/watch"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
	"github.com/tidemill/tidemill/shadow/service"
)

// A router is the crossing of the message path: what clients publish goes to
// the ingest log and, once accepted there, to subscribers and to the shadow
// service. It implements gateway.Router and action.Republisher.
type router struct {
	store     streams.Writer
	ingest    *ingest.Ingest
	shadow    *service.Service
	provision *provision.Service
	gateway   *gateway.Subscribers
	registry  registry.Store
	broker    *brokerClient // nil: none
	onlookers *watch.Hub
}

// Route implements gateway.Router.
func (r *router) Route(p gateway.Publish) {
	m, c := p.Message, p.Client
	of, _ := topic.Lookup(m.Topic)
	if of.Private {
		r.private(p)
		return
	}
	var stage func(*streams.Batch)
	if p.Keeps() {
		stage = p.Stage
	}
	batch := of.Service == topic.Batches
	if p.Will {
		of = topic.Reserved{} // no service acts on a will: who sent it is not there
	}
	if !batch {
		r.publish(m, of, stage, nil, p.Done)
		return
	}
	may := func(topic string) bool { return c.Session().MayPublish(topic, false) }
	cost := r.publish(m, of, stage, may, func(err error) {
		if refused, ok := errors.AsType[*telemetry.Refused](err); ok {
			r.tellRefused(c, refused)
			err = gateway.ErrNotAuthorized
		}
		p.Done(err)
	})
	if cost.Messages > 1 { // the packet itself has been counted
		c.Charge(cost.Messages-1, max(0, cost.Bytes-len(m.Payload)))
	}
}

// tellRefused tells a client which readings of its batch policy refused.
func (r *router) tellRefused(c *gateway.Client, refused *telemetry.Refused) {
	if text, err := json.Marshal(refused); err == nil { // it has texts and numbers alone
		r.gateway.Answer(c, &message.Message{Topic: telemetry.RefusedTopic, Payload: text})
	}
}

// publish hands a client's message to its shadow, if it is a request for one, and
// to the log and subscribers; of is the table's row for its topic. stage, unless
// nil, adds what is to be durable with it.
func (r *router) publish(m *message.Message, of topic.Reserved, stage func(*streams.Batch), may func(topic string) bool,
	done func(error)) (cost ingest.Cost) {
	if of.RequestTo(topic.Shadows) {
		// Acknowledged when both the log and the shadow have it.
		done = join(2, done)
		r.shadow.Handle(context.Background(), m.Topic, m.Payload, done)
	}
	e := r.ingest.Begin(m, may, done)
	if e == nil {
		return cost
	}
	cost = e.Cost()
	if stage != nil {
		stage(e.Batch())
	}
	for m := range e.Messages {
		r.onlookers.Show(m)
		if r.broker == nil { // else subscribers are the broker's
			e.Then(r.gateway.Deliver(m, e.Batch()))
		}
	}
	e.Commit()
	return cost
}

// Publish is how the bridge's own services publish: to the log, so that rules
// see it, and to subscribers. It implements the shadow service's Publisher.
func (r *router) Publish(topic string, payload []byte) {
	r.publishOwn(topic, payload, func(error) {})
}

// publishOwn is Publish with a call of done once the message is durable, or the
// broker has it.
func (r *router) publishOwn(name string, payload []byte, done func(error)) {
	m := &message.Message{Topic: name, Payload: payload, QoS: 1, Protocol: "mqtt"}
	if r.broker != nil {
		r.broker.Queue(m, done)
		return
	}
	r.publish(m, topic.Reserved{}, nil, nil, done)
}

// Republish implements action.Republisher. A shadow request is done before
// subscribers see it, so that a retry does not show it to them again; the request
// itself may be done twice. A broker has what it is sent before the outbox's
// position is durable, so a kill makes it get the latest again.
func (r *router) Republish(ctx context.Context, b *streams.Batch, d *action.Delivery) (done func(error), err error) {
	m := &message.Message{Topic: d.Name, Payload: d.Data, QoS: d.QoS, Hops: d.Hops, ClientID: d.ClientID,
		Properties: d.Properties, Protocol: "mqtt"}
	if d.Expiry > 0 {
		m.Expires = time.Now().Add(time.Duration(d.Expiry) * time.Second)
	}
	if r.broker != nil {
		return nil, r.broker.Publish(ctx, m) // and it comes back
	}
	if of, _ := topic.Lookup(m.Topic); of.RequestTo(topic.Shadows) {
		answered := make(chan error, 1)
		r.shadow.Handle(ctx, m.Topic, m.Payload, func(err error) { answered <- err })
		select {
		case err := <-answered:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	r.ingest.Stage(b, m)
	r.onlookers.Show(m)
	return r.gateway.Stage(m, b), nil
}

// join returns a function that calls done at its n-th call, with the first
// error it was given.
func join(n int32, done func(error)) func(error) {
	var left atomic.Int32
	var failed atomic.Pointer[error]
	left.Store(n)
	return func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		if left.Add(-1) == 0 {
			if e := failed.Load(); e != nil {
				done(*e)
			} else {
				done(nil)
			}
		}
	}
}
