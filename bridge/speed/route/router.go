// Package route is the crossing of the message path. What clients publish goes to
// the ingest log and, with it, to subscribers and to the service that its topic is
// for; so does what rules republish and what comes by HTTPS. Where a broker takes
// the place of the gateway, what is published goes to it and comes back from it.
//
// A Publisher is made first, by which services publish, and a Router of it and of
// those services. No message is done before the log, or the broker, has it.
package route

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

// Shadows answers requests for shadows, as shadow/service.Service does.
type Shadows interface {
	// Handle calls done once when the shadow and its answers are durable, or with
	// why there is no answer. It does not block.
	Handle(ctx context.Context, topic string, payload []byte, done func(error))
}

// Private answers messages that concern their client and the bridge alone.
type Private interface {
	// Answer returns the answer to m of a client with that certificate, "" for
	// none. It may take seconds.
	Answer(ctx context.Context, m *message.Message, certificate string) *message.Message
}

// Options are the parts of a Router.
type Options struct {
	Publisher *Publisher
	Shadows   Shadows
	Private   Private
	// Time is now, and how far off it is at most. ok is false when nobody can say:
	// then clients that ask get no answer.
	Time func() (now time.Time, bound time.Duration, ok bool)
	// Log has what is durable of a message that the ingest log does not get.
	Log streams.Writer
	// OtherShadows: another bridge on the same broker answers requests for shadows.
	OtherShadows bool
	// Room is nil while there is room for new messages, else it says why a broker's
	// are not taken. A gateway asks by itself. nil: there is always room.
	Room func() error
}

// A Router takes messages to where they are for. It implements gateway.Router and
// action.Republisher. Its methods may be called from several goroutines.
type Router struct {
	o Options
	*Publisher

	stats struct{ reserved, unanswered atomic.Uint64 } // see Stats
}

// New returns a Router.
func New(o Options) *Router { return &Router{o: o, Publisher: o.Publisher} }

// Route implements gateway.Router.
func (r *Router) Route(p gateway.Publish) {
	m := p.Message
	of, _ := topic.Lookup(m.Topic)
	switch {
	case of.Service == topic.Time:
		r.answerPrivate(p, r.time(p.Message))
		return
	case of.Private:
		r.private(p)
		return
	}
	var stage func(*streams.Batch)
	if p.Keeps() {
		stage = p.Stage
	}
	switch {
	case of.Service == topic.Batches:
		r.batch(p, stage)
	case p.Will && r.growth() != nil:
		p.Done(r.growth())
	case p.Will: // no service acts on a will: who sent it is not there
		r.take(m, stage, nil, p.Done)
	default:
		r.publish(m, of, stage, nil, p.Done)
	}
}

// batch takes a device's batch of readings.
func (r *Router) batch(p gateway.Publish, stage func(*streams.Batch)) {
	m, c := p.Message, p.Client
	may := func(topic string) bool { return c.Session().MayPublish(topic, false) }
	cost := r.take(m, stage, may, func(err error) {
		if refused, ok := errors.AsType[*telemetry.Refused](err); ok {
			r.answerRefused(c, refused)
			err = gateway.ErrNotAuthorized
		}
		p.Done(err)
	})
	if cost.Messages > 1 { // the packet itself has been counted
		c.Charge(cost.Messages-1, max(0, cost.Bytes-len(m.Payload)))
	}
}

// answerRefused tells a client which readings of its batch policy refused.
func (r *Router) answerRefused(c *gateway.Client, refused *telemetry.Refused) {
	if text, err := json.Marshal(refused); err == nil { // it has texts and numbers alone
		r.subscribers.Answer(c, &message.Message{Topic: telemetry.RefusedTopic, Payload: text})
	}
}

// private answers a message that concerns its client and the bridge alone: it
// goes neither to the log nor to rules nor to other subscribers, since it, or its
// answer, holds keys and tokens. It may take as long as a pre-provisioning hook,
// for which that client is not read.
func (r *Router) private(p gateway.Publish) {
	c, certificate := p.Client, ""
	if s, ok := c.Session().(interface{ Certificate() string }); ok { // others have none
		certificate = s.Certificate()
	}
	r.answerPrivate(p, r.o.Private.Answer(context.Background(), p.Message, certificate))
}

// time answers a client that asks for the time, nil if it does not ask well or the
// time is not known.
func (r *Router) time(m *message.Message) *message.Message {
	now, bound, ok := r.o.Time()
	if !ok {
		return nil
	}
	text, err := telemetry.AnswerTime(m.Payload, now, bound)
	if err != nil {
		return nil
	}
	return &message.Message{Topic: telemetry.TimeAnswerTopic, Payload: text}
}

// answerPrivate tells a client the answer, if there is one, and ends its publish.
func (r *Router) answerPrivate(p gateway.Publish, answer *message.Message) {
	if answer != nil {
		r.subscribers.Answer(p.Client, answer)
	}
	b := r.o.Log.NewBatch()
	if p.Stage(b); b.Bytes() == 0 {
		p.Done(nil)
		return
	}
	p.Done(r.o.Log.Commit(context.Background(), b))
}

// publish hands a client's message to its shadow, if it is a request for one, and
// to the log and subscribers; of is the table's row for its topic.
func (r *Router) publish(m *message.Message, of topic.Reserved, stage func(*streams.Batch), may func(topic string) bool,
	done func(error)) {
	if of.RequestTo(topic.Shadows) {
		// Acknowledged when both the log and the shadow have it.
		done = join(2, done)
		r.o.Shadows.Handle(context.Background(), m.Topic, m.Payload, done)
	}
	r.take(m, stage, may, done)
}

// Republish implements action.Republisher. A shadow request is done before
// subscribers see it, so that a retry does not show it to them again; the request
// itself may be done twice. A broker has what it is sent before the outbox's
// position is durable, so a kill makes it get the latest again.
func (r *Router) Republish(ctx context.Context, b *streams.Batch, d *action.Delivery) (done func(error), err error) {
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
		r.o.Shadows.Handle(ctx, m.Topic, m.Payload, func(err error) { answered <- err })
		if err := await(ctx, answered); err != nil {
			return nil, err
		}
	}
	if err := r.growth(); err != nil {
		return nil, err
	}
	r.ingest.Stage(b, m)
	r.watchers.Show(m)
	return r.subscribers.Stage(m, b), nil
}

// await returns what comes of done, or ctx's error.
func await(ctx context.Context, done <-chan error) error {
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
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
