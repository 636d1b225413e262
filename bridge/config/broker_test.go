package config

import (
	"strings"
	"testing"
)

func TestBroker(t *testing.T) {
	c, err := load(t, "[broker]\nurl = \"ssl://broker.example.org:8883\"\nusername = \"u\"\n"+
		"password_file = \"p\"\ncert = \"c\"\nkey = \"k\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.MQTT.Listen != "" || c.Broker.Share != "tidemill" || !c.Broker.Shadows {
		t.Errorf("%+v, listen %q", c.Broker, c.MQTT.Listen)
	}
	for text, want := range map[string]string{
		"url = \"tcp://h:1\"\n[mqtt]\nlisten = \":8883\"":   `mqtt.listen: ":8883", but devices connect to broker.url`,
		`url = "http://h:1"`:                                "broker.url: want tcp://",
		`url = "tcp://h"`:                                   "broker.url: want tcp://",
		`url = "tcp://user:secret@h:1"`:                     "broker.url: has a user in it",
		`url = "tcp://h:1/mqtt"`:                            "want no path",
		"url = \"tcp://h:1\"\nca = \"x\"":                   "has no TLS",
		"url = \"tcp://h:1\"\nclient_id = \"a/b\"":          "broker.client_id",
		"url = \"tcp://h:1\"\npassword_file = \"p\"":        "broker.username",
		"url = \"ssl://h:1\"\ncert = \"p\"":                 "want cert and key, or neither",
		"url = \"tcp://h:1\"\nshare = \"a/b\"":              "broker.share",
		"url = \"tcp://h:1\"\nconnections = 65":             "broker.connections",
		"url = \"tcp://h:1\"\nmax_inflight = 0":             "broker.max_inflight",
		"url = \"tcp://h:1\"\nkeep_alive = \"0s\"":          "broker.keep_alive",
		"url = \"tcp://h:1\"\nsubscribe = [\"$aws/#\"]":     "want shadows = true",
		"url = \"tcp://h:1\"\nsubscribe = [\"$share/a/b\"]": "the group is broker.share",
		"subscribe = []\nshadows = false":                   "broker.subscribe: empty",
	} {
		if _, err := load(t, "[broker]\n"+text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\ngives %v, want %s", text, err, want)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the password is shown: %v", err)
		}
	}
}
