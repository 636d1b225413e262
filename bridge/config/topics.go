package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// A Topic is one of the bridge's own, to which sns actions publish.
type Topic struct {
	Name     string   `toml:"name"`     // the end of its ARN
	Webhooks []string `toml:"webhooks"` // URLs
	MQTT     []string `toml:"mqtt"`     // topics
}

// topicName is what SNS takes (CreateTopic).
var topicName = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,256}$`)

// maxSubscribers is of one topic: a message is given to all of them at once.
const maxSubscribers = 100

func (c *Config) checkTopics() (errs []error) {
	seen := map[string]bool{}
	for i, t := range c.Topics {
		bad := func(format string, args ...any) { errs = append(errs, badTable(i, "topics", format, args...)) }
		switch n := len(t.Webhooks) + len(t.MQTT); {
		case !topicName.MatchString(t.Name):
			bad("name: %q, want 1 to 256 of a-z A-Z 0-9 _ -", t.Name)
		case seen[t.Name]:
			bad("name: %q stands twice", t.Name)
		case n == 0 || n > maxSubscribers:
			bad("webhooks: %d with mqtt, want 1 to %d", n, maxSubscribers)
		}
		seen[t.Name] = true
		for n, to := range t.Webhooks {
			if u, err := url.Parse(to); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" ||
				u.User != nil {
				bad("webhooks[%d]: want http://HOST/... or https://HOST/..., without a user", n)
			}
		}
		for _, to := range t.MQTT {
			if to == "" || len(to) > 65535 || strings.ContainsAny(to, "+#\x00") || strings.HasPrefix(to, "$") {
				bad("mqtt: %q, want a topic without +, # and $ at its beginning", to)
			}
		}
	}
	return errs
}

// secretTopic is the key of the first webhook that may let in; "" for none.
func (c *Config) secretTopic() string {
	for i, t := range c.Topics {
		for n, to := range t.Webhooks {
			if mayLetIn(to) {
				return fmt.Sprintf("topics[%d].webhooks[%d]", i, n)
			}
		}
	}
	return ""
}
