package send

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
	"github.com/tidemill/tidemill/bridge/speed/sink/sns"
	"github.com/tidemill/tidemill/bridge/speed/streams"
)

// Topics are the bridge's own, to which sns actions publish; all others are SNS's. It
// implements action.Spreader: each subscriber has an outbox of its own, but for queues,
// which are of the log themselves.
type Topics struct {
	// Of are the subscribers of each topic, by its name.
	Of map[string][]Subscriber
	// Queue has b send a message to the bridge's queue of that name when it is
	// committed; needed for subscribers of protocol sqs.
	Queue func(b *streams.Batch, name string, m *queue.Message) error
	// Room returns an error when so much waits in an outbox that no more may be added.
	Room func(stream string) error
}

// A Subscriber gets the messages of a topic.
type Subscriber struct {
	// ID is of its protocol and endpoint alone, so that its outbox is found again.
	ID       string
	Protocol string // http, https, mqtt, sqs or lambda
	Endpoint string // URL, MQTT topic, name of a queue, name or ARN of a function
	Raw      bool   // http, https, sqs: it gets the message alone
	Filter   *sns.Filter
}

// NewSubscriber returns a subscriber; raw and filter, which may be nil, can be set.
func NewSubscriber(protocol, endpoint string) Subscriber {
	sum := sha256.Sum256([]byte(endpoint))
	return Subscriber{ID: protocol + "-" + hex.EncodeToString(sum[:6]), Protocol: protocol, Endpoint: endpoint}
}

// find returns the topic of an ARN, if it is the bridge's own.
func (x *Topics) find(target string) (name string, all []Subscriber, ok bool) {
	if x == nil {
		return "", nil, false
	}
	n, ok := arn.Parse(target)
	if !ok || n.Service != "sns" {
		return "", nil, false
	}
	all, ok = x.Of[n.Resource]
	return n.Resource, all, ok
}

// names are those of all topics.
func (x *Topics) names() []string {
	if x == nil {
		return nil
	}
	return slices.Sorted(maps.Keys(x.Of))
}

// Uses says whether an outbox is that of a subscriber.
func (x *Topics) Uses(stream string) bool {
	for topic, all := range x.Of {
		for _, s := range all {
			if action.SubscriberStream(topic, s.ID) == stream {
				return true
			}
		}
	}
	return false
}

// Outboxes are the streams of all subscribers.
func (x *Topics) Outboxes() (streams []string) {
	for topic, all := range x.Of {
		for _, s := range all {
			if s.Protocol != "sqs" {
				streams = append(streams, action.SubscriberStream(topic, s.ID))
			}
		}
	}
	return streams
}

// Spreads implements action.Spreader.
func (x *Topics) Spreads(d *action.Delivery) bool {
	if d.Kind != "sns" || d.Subscriber() != "" {
		return false
	}
	_, _, own := x.find(d.Parameter("targetArn"))
	return own
}

// Spread implements action.Spreader.
func (x *Topics) Spread(b *streams.Batch, d *action.Delivery, slot string) error {
	text, err := texts(d)
	if err != nil {
		return action.Permanent(err)
	}
	topic, all, _ := x.find(d.Parameter("targetArn"))
	var errs []error
	for _, s := range all {
		if s.Filter != nil && !s.Filter.Match([]byte(text(s.Protocol))) {
			continue
		}
		if s.Protocol == "sqs" {
			err = x.enqueue(b, d, s, text("sqs"))
		} else if err = x.Room(action.SubscriberStream(topic, s.ID)); err == nil {
			err = d.AppendTo(b, topic, s.ID, slot)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("subscriber %s: %w", s.ID, err))
		}
	}
	return action.Permanent(errors.Join(errs...))
}

// enqueue sends a message to a queue.
func (x *Topics) enqueue(b *streams.Batch, d *action.Delivery, s Subscriber, text string) error {
	body := []byte(text)
	if !s.Raw {
		var err error
		if body, err = json.Marshal(notify(d, text)); err != nil {
			return err
		}
	}
	return x.Queue(b, s.Endpoint, &queue.Message{Body: string(body), Sender: "sns"})
}

// give gives deliveries of one subscriber's outbox to it, in their order.
func (x *Topics) give(ctx context.Context, o *Options, ds deliveries) []error {
	return inOrder(func(ctx context.Context, d *action.Delivery) error {
		_, all, _ := x.find(d.Parameter("targetArn"))
		for i := range all {
			if all[i].ID == d.Subscriber() {
				return all[i].give(ctx, o, d)
			}
		}
		return action.Permanent(fmt.Errorf("subscriber %s: the topic has it no more", d.Subscriber()))
	})(ctx, ds)
}

func (s *Subscriber) give(ctx context.Context, o *Options, d *action.Delivery) error {
	text, err := texts(d)
	if err != nil {
		return action.Permanent(err)
	}
	switch s.Protocol {
	case "mqtt":
		return s.publish(ctx, o, d, text("mqtt"))
	case "lambda":
		return s.invoke(ctx, o, d, text("lambda"))
	}
	return s.post(ctx, o, d, text(s.Protocol))
}

// publish publishes on an MQTT topic.
func (s *Subscriber) publish(ctx context.Context, o *Options, d *action.Delivery, text string) error {
	if d.Hops > action.MaxHops {
		return action.Permanent(fmt.Errorf("topic %s: the message was republished %d times already", s.Endpoint,
			d.Hops-1))
	}
	return o.Publish(ctx, &action.Delivery{Kind: "republish", Rule: d.Rule, Name: s.Endpoint, QoS: 1, Hops: d.Hops,
		Data: []byte(text), ClientID: d.ClientID})
}

// invoke queues a call of a function with the event that SNS makes (Lambda developer
// guide, using Lambda with Amazon SNS).
func (s *Subscriber) invoke(ctx context.Context, o *Options, d *action.Delivery, text string) error {
	if o.Functions == nil {
		return action.Permanent(errors.New("the bridge runs no functions: lambda.enabled is not set"))
	}
	type record struct {
		EventVersion         string
		EventSubscriptionARN string `json:"EventSubscriptionArn"`
		EventSource          string
		SNS                  notification `json:"Sns"`
	}
	event, err := json.Marshal(map[string][]record{"Records": {{"1.0", d.Parameter("targetArn") + ":" + s.ID, "aws:sns",
		notify(d, text)}}})
	if err != nil {
		return action.Permanent(err)
	}
	return o.Functions.InvokeEvent(ctx, s.Endpoint, d.ID, event)
}

// post posts to a webhook, as SNS does.
func (s *Subscriber) post(ctx context.Context, o *Options, d *action.Delivery, text string) error {
	// A webhook has all of its time, or the next attempt.
	if at, ok := ctx.Deadline(); ok && time.Until(at) < webhookLimit {
		return errBefore
	}
	target := d.Parameter("targetArn")
	headers := map[string]string{"Content-Type": "text/plain; charset=UTF-8", "x-amz-sns-message-type": "Notification",
		"x-amz-sns-message-id": d.ID, "x-amz-sns-topic-arn": target}
	body := []byte(text)
	if s.Raw {
		headers["x-amz-sns-rawdelivery"] = "true"
	} else {
		var err error
		if body, err = json.Marshal(notify(d, text)); err != nil {
			return action.Permanent(err)
		}
	}
	req, err := post.Request(ctx, "POST", s.Endpoint, body, headers)
	if err != nil {
		return action.Permanent(err)
	}
	ctx, cancel := context.WithTimeout(ctx, webhookLimit)
	defer cancel()
	if err := post.Do(o.webOfRules(), req.WithContext(ctx)); err != nil {
		return fmt.Errorf("webhook %s of the topic: %w", s.ID, err) // its URL may be a key
	}
	return nil
}

// webhookLimit is how long a webhook may take, as SNS waits (SNS developer guide,
// delivery to HTTP endpoints).
const webhookLimit = 15 * time.Second

// A notification is what SNS posts (SNS developer guide, HTTP/HTTPS notification JSON
// format), without the signature, of which only Amazon has the key.
type notification struct {
	Type      string
	MessageID string `json:"MessageId"`
	TopicARN  string `json:"TopicArn"`
	Message   string
	Timestamp string
}

func notify(d *action.Delivery, text string) notification {
	return notification{"Notification", d.ID, d.Parameter("targetArn"), text,
		d.At().UTC().Format("2006-01-02T15:04:05.000Z")}
}

// errNoDefault is as SNS says it of MessageStructure json.
var errNoDefault = errors.New("messageFormat JSON: want an object with a text named default")

// texts returns the message for a protocol: the document, or, if messageFormat is JSON,
// the text of that protocol in it, else its default.
func texts(d *action.Delivery) (func(protocol string) string, error) {
	if d.Parameter("messageFormat") != "JSON" {
		return func(string) string { return string(d.Data) }, nil
	}
	var all map[string]any
	if err := json.Unmarshal(d.Data, &all); err != nil {
		return nil, errNoDefault
	}
	standard, ok := all["default"].(string)
	if !ok {
		return nil, errNoDefault
	}
	return func(protocol string) string {
		if text, ok := all[protocol].(string); ok {
			return text
		}
		return standard
	}, nil
}
