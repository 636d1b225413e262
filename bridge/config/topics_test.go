package config

import (
	"strings"
	"testing"
)

func TestTopics(t *testing.T) {
	c, err := load(t, "[[topics]]\nname = \"a\"\nwebhooks = [\"https://x/y\"]\nmqtt = [\"b/c\"]\n")
	if err != nil || len(c.Topics) != 1 || c.Topics[0].MQTT[0] != "b/c" {
		t.Errorf("%+v, %v", c, err)
	}
	for text, want := range map[string]string{
		"name = \"a/b\"\nmqtt = [\"t\"]":                                         "topics[0].name",
		"name = \"a\"":                                                           "want 1 to 100",
		"name = \"a\"\nmqtt = [\"a/#\"]":                                         "topics[0].mqtt",
		"name = \"a\"\nwebhooks = [\"ftp://x\"]":                                 "webhooks[0]",
		"name = \"a\"\nwebhooks = [\"http://u:p@x\"]":                            "without a user",
		"name = \"a\"\nmqtt = [\"t\"]\n[[topics]]\nname = \"a\"\nmqtt = [\"t\"]": "stands twice",
	} {
		if _, err := load(t, "[[topics]]\n"+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want word of %q", text, err, want)
		}
	}
}
