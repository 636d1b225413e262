package config

import (
	"strings"
	"testing"
)

// sub is a topic with one subscription.
func sub(protocol, endpoint, more string) string {
	return "name = \"a\"\n[[topics.subscriptions]]\nprotocol = \"" + protocol + "\"\nendpoint = \"" + endpoint + "\"\n" + more
}

func TestTopics(t *testing.T) {
	c, err := load(t, "[[topics]]\nname = \"a\"\nwebhooks = [\"https://x/y\"]\nmqtt = [\"b/c\"]\n")
	if err != nil || len(c.Topics) != 1 || c.Topics[0].MQTT[0] != "b/c" {
		t.Errorf("%+v, %v", c, err)
	}
	c, err = load(t, "[[topics]]\n"+sub("sqs", "arn:aws:sqs:eu-local-1:000000000000:q", "raw = true\n"+
		"filter_policy = '{\"a\":[1]}'")+"\n[[topics.subscriptions]]\nprotocol = \"lambda\"\nendpoint = \"f:live\"\n")
	if err != nil || len(c.Topics[0].All()) != 2 || !c.Topics[0].All()[0].Raw {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"name = \"a/b\"\nmqtt = [\"t\"]":                                         "topics[0].name",
		"name = \"a\"":                                                           "want 1 to 100",
		"name = \"a\"\nmqtt = [\"a/#\"]":                                         "topics[0].mqtt",
		"name = \"a\"\nwebhooks = [\"ftp://x\"]":                                 "webhooks[0]",
		"name = \"a\"\nwebhooks = [\"http://u:p@x\"]":                            "without a user",
		"name = \"a\"\nmqtt = [\"t\", \"t\"]":                                    "mqtt[1]: the endpoint is subscribed already",
		sub("sqs", "q.fifo", ""):                                                 "subscriptions[0]: endpoint",
		sub("sqs", "arn:aws:sns:eu-west-1:000000000000:q", ""):                   "standard queue",
		sub("lambda", "f/g", ""):                                                 "subscriptions[0]: endpoint",
		sub("https", "http://x/", ""):                                            "subscriptions[0]: protocol",
		sub("email", "https://x/", ""):                                           "want http, https, mqtt, sqs or lambda",
		sub("mqtt", "a", "raw = true"):                                           "mqtt has no other form",
		sub("sqs", "q", "filter_policy = \"{\""):                                 "it is no JSON",
		"name = \"a\"\nmqtt = [\"t\"]\n[[topics]]\nname = \"a\"\nmqtt = [\"t\"]": "stands twice",
	} {
		if _, err := load(t, "[[topics]]\n"+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", text, err, want)
		}
	}
}
