package route

import (
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Subscribers are the clients of the gateway; a gateway.Subscribers has them.
type Subscribers interface {
	// Deliver sends m to subscribers. What has to be durable before goes into b,
	// and out when later, which may be nil, is called.
	Deliver(m *message.Message, b *streams.Batch) (later func())
	// Stage is Deliver of which nothing goes out before done, which may be nil, is
	// called without an error.
	Stage(m *message.Message, b *streams.Batch) (done func(error))
	// Answer sends m to one client and to nobody else, and returns whether it did.
	Answer(c *gateway.Client, m *message.Message) bool
	// Check says why a message that comes by HTTPS may not be published, whoever
	// sends it.
	Check(m *message.Message) error
}

// Watchers are people who look at what passes; a watch.Hub shows it to them.
type Watchers interface {
	// Show does not block and keeps nothing of m.
	Show(m *message.Message)
}

// A Publisher is how the bridge's own services publish: to the log, so that rules
// see it, and to subscribers; or to the broker, if one has the devices, from which
// it comes back. Its methods may be called from several goroutines.
type Publisher struct {
	ingest      *ingest.Ingest
	subscribers Subscribers
	watchers    Watchers
	broker      Broker
	growth      func() error
}

// NewPublisher returns a Publisher. Subscribers are s's, or if b is not nil b's. growth
// is nil while there is room for what the bridge itself publishes, else it says why
// there is none, and then that is not taken.
func NewPublisher(in *ingest.Ingest, s Subscribers, b Broker, w Watchers, growth func() error) *Publisher {
	return &Publisher{ingest: in, subscribers: s, broker: b, watchers: w, growth: growth}
}

// Publish publishes with quality of service 1, and neither waits nor tells whether
// that was durable. It keeps payload.
func (p *Publisher) Publish(topic string, payload []byte) {
	p.PublishThen(topic, payload, func(error) {})
}

// PublishThen is Publish with a call of done once the message is durable, or the
// broker has it.
func (p *Publisher) PublishThen(topic string, payload []byte, done func(error)) {
	m := &message.Message{Topic: topic, Payload: payload, QoS: 1, Protocol: "mqtt"}
	if p.broker != nil {
		p.broker.Queue(m, done)
		return
	}
	if err := p.growth(); err != nil {
		done(err)
		return
	}
	p.take(m, nil, nil, done)
}

// take takes a message to the log, and to subscribers if they are not the
// broker's. stage, unless nil, adds what is to be durable with it; may is asked for
// the topics in a batch, nil allows all. done is ingest.Begin's.
func (p *Publisher) take(m *message.Message, stage func(*streams.Batch), may func(topic string) bool,
	done func(error)) (cost ingest.Cost) {
	e := p.ingest.Begin(m, may, done)
	if e == nil {
		return cost
	}
	cost = e.Cost()
	if stage != nil {
		stage(e.Batch())
	}
	for m := range e.Messages {
		p.watchers.Show(m)
		if p.broker == nil {
			e.Then(p.subscribers.Deliver(m, e.Batch()))
		}
	}
	e.Commit()
	return cost
}
