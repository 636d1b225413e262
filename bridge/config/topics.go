package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// A Topic is one of the bridge's own, to which sns actions publish.
type Topic struct {
	Name          string         `toml:"name"`     // the end of its ARN
	Webhooks      []string       `toml:"webhooks"` // URLs
	MQTT          []string       `toml:"mqtt"`     // topics
	Subscriptions []Subscription `toml:"subscriptions"`
}

// A Subscription is a subscriber of a topic.
type Subscription struct {
	Protocol     string `toml:"protocol"` // http, https, mqtt, sqs or lambda
	Endpoint     string `toml:"endpoint"` // URL, topic, name or ARN of a queue or function of the bridge
	Raw          bool   `toml:"raw"`      // http, https, sqs: the message alone
	FilterPolicy string `toml:"filter_policy"`

	key string // in the file
}

// All are the subscribers, those of the short lists first.
func (t *Topic) All() (all []Subscription) {
	for n, to := range t.Webhooks {
		scheme, _, _ := strings.Cut(to, ":")
		all = append(all, Subscription{Protocol: strings.ToLower(scheme), Endpoint: to, key: fmt.Sprintf("webhooks[%d]", n)})
	}
	for n, to := range t.MQTT {
		all = append(all, Subscription{Protocol: "mqtt", Endpoint: to, key: fmt.Sprintf("mqtt[%d]", n)})
	}
	for n, s := range t.Subscriptions {
		s.key = fmt.Sprintf("subscriptions[%d]", n)
		all = append(all, s)
	}
	return all
}

// topicName is what SNS takes (CreateTopic).
var topicName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,256}$`)

// maxSubscribers is of one topic: each has an outbox, and a message goes to all of them in
// one commit.
const maxSubscribers = 100

func (c *Config) checkTopics() (errs []error) {
	seen := map[string]bool{}
	for i, t := range c.Topics {
		bad := func(format string, args ...any) { errs = append(errs, badTable(i, "topics", format, args...)) }
		all := t.All()
		switch n := len(all); {
		case !topicName.MatchString(t.Name):
			bad("name: %q, want 1 to 256 of a-z A-Z 0-9 _ -", t.Name)
		case seen[t.Name]:
			bad("name: %q stands twice", t.Name)
		case n == 0 || n > maxSubscribers:
			bad("webhooks: %d with mqtt and subscriptions, want 1 to %d", n, maxSubscribers)
		}
		seen[t.Name] = true
		subscribed := map[string]bool{}
		for _, s := range all {
			if err := s.check(); err != nil {
				bad("%s: %v", s.key, err)
			} else if subscribed[s.Protocol+" "+s.Endpoint] {
				bad("%s: the endpoint is subscribed already", s.key)
			}
			subscribed[s.Protocol+" "+s.Endpoint] = true
		}
	}
	return errs
}

// subscribable are names and ARNs of queues and functions. Topics give nothing to FIFO
// queues, as with SNS.
var subscribable = map[string]*regexp.Regexp{
	"sqs": regexp.MustCompile(`^(arn:aws[a-z-]*:sqs:[a-z0-9-]+:[0-9]{12}:)?[a-zA-Z0-9_-]{1,80}$`),
	"lambda": regexp.MustCompile(`^(arn:aws[a-z-]*:lambda:[a-z0-9-]+:[0-9]{12}:function:)?` +
		`[a-zA-Z0-9_-]{1,64}(:[$a-zA-Z0-9_-]+)?$`),
}

func (s *Subscription) check() error {
	to := s.Endpoint
	switch s.Protocol {
	case "mqtt":
		if to == "" || len(to) > 65535 || strings.ContainsAny(to, "+#\x00") || strings.HasPrefix(to, "$") {
			return fmt.Errorf("%q, want a topic without +, # and $ at its beginning", to)
		}
	case "sqs", "lambda":
		if !subscribable[s.Protocol].MatchString(to) {
			return fmt.Errorf("endpoint: %q, want the name or ARN of a standard queue or a function of the bridge", to)
		}
	default:
		u, err := url.Parse(to)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			return errors.New("want http://HOST/... or https://HOST/..., without a user")
		}
		if s.Protocol != u.Scheme {
			return fmt.Errorf("protocol: %q, want http, https, mqtt, sqs or lambda, and that of the endpoint",
				s.Protocol)
		}
	}
	if s.Raw && (s.Protocol == "mqtt" || s.Protocol == "lambda") {
		return fmt.Errorf("raw: %s has no other form", s.Protocol)
	}
	if s.FilterPolicy != "" && !json.Valid([]byte(s.FilterPolicy)) {
		return errors.New("filter_policy: it is no JSON")
	}
	return nil
}

// secretTopic is the key of the first webhook that may let in; "" for none.
func (c *Config) secretTopic() string {
	for i, t := range c.Topics {
		for _, s := range t.All() {
			if (s.Protocol == "http" || s.Protocol == "https") && mayLetIn(s.Endpoint) {
				return fmt.Sprintf("topics[%d].%s", i, s.key)
			}
		}
	}
	return ""
}
