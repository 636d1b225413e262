package send

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// A Topic is one of the bridge's own, to which sns actions publish.
type Topic struct {
	Webhooks []string // URLs that its messages are posted to, in SNS's form
	MQTT     []string // topics that its messages are published on
}

// topicsTogether is by how many messages a subscriber may be ahead of one that does
// not take them.
const topicsTogether = 100

// topic returns the bridge's own topic of an ARN.
func (o *Options) topic(target string) (Topic, bool) {
	name, ok := arn.Parse(target)
	if !ok || name.Service != "sns" {
		return Topic{}, false
	}
	t, own := o.Topics[name.Resource]
	return t, own
}

// publish gives the messages of one topic to its subscribers, side by side. One that is
// to be tried again, or does not answer, holds none of the others, and only what it has
// not got is sent again.
func (r *remembered) publish(ctx context.Context, o *Options, t Topic, run deliveries) []error {
	errs := make([]error, len(run))
	parts := r.split(run, errs, func(d *action.Delivery) ([]part, error) {
		if _, err := texts(d); err != nil {
			return nil, err
		}
		return make([]part, len(t.Webhooks)+len(t.MQTT)), nil
	})
	results := make([]error, len(parts))
	of := map[int][]int{} // parts by subscriber
	for i, p := range parts {
		of[p.at] = append(of[p.at], i)
	}
	var wg sync.WaitGroup
	for subscriber, mine := range of {
		wg.Go(func() {
			again := false
			for _, i := range mine {
				if again {
					results[i] = errBefore
					continue
				}
				results[i] = final(t.give(ctx, o, run[parts[i].of], subscriber))
				again = results[i] != nil && !permanent(results[i])
			}
		})
	}
	wg.Wait()
	return r.join(run, errs, parts, results)
}

// give gives a message to the subscriber of that number.
func (t Topic) give(ctx context.Context, o *Options, d *action.Delivery, subscriber int) error {
	text, err := texts(d)
	if err != nil {
		return action.Permanent(err)
	}
	if subscriber >= len(t.Webhooks) {
		to := t.MQTT[subscriber-len(t.Webhooks)]
		if d.Hops > action.MaxHops {
			return action.Permanent(fmt.Errorf("topic %s: the message was republished %d times already", to, d.Hops-1))
		}
		return o.Publish(ctx, &action.Delivery{Kind: "republish", Rule: d.Rule, Name: to, QoS: 1, Hops: d.Hops,
			Data: []byte(text("mqtt")), ClientID: d.ClientID})
	}
	to := t.Webhooks[subscriber]
	scheme, _, _ := strings.Cut(to, ":")
	arn := d.Parameter("targetArn")
	body, err := json.Marshal(notification{"Notification", d.ID, arn, text(scheme),
		d.At().UTC().Format("2006-01-02T15:04:05.000Z")})
	if err != nil {
		return action.Permanent(err)
	}
	req, err := post.Request(ctx, "POST", to, body, map[string]string{"Content-Type": "text/plain; charset=UTF-8",
		"x-amz-sns-message-type": "Notification", "x-amz-sns-message-id": d.ID, "x-amz-sns-topic-arn": arn})
	if err != nil {
		return action.Permanent(err)
	}
	// An outbox waits for one answer after the other.
	ctx, cancel := context.WithTimeout(ctx, webhookLimit)
	defer cancel()
	if err := post.Do(o.webOfRules(), req.WithContext(ctx)); err != nil {
		return fmt.Errorf("webhook %d of the topic: %w", subscriber, err) // its URL may be a key
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
