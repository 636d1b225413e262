package server

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/shadow/shadowtest"
)

// overMQTT is a System at the other end of a connection. Each has things of
// its own, so that all share a bridge.
type overMQTT struct {
	b      *bridge
	d      *device
	suffix string
}

var systems atomic.Int64

func (o *overMQTT) Request(thing, name, op string, payload []byte) ([]shadowtest.Message, error) {
	topic := "$aws/things/" + thing + o.suffix + "/shadow/"
	if name != "" {
		topic += "name/" + name + "/"
	}
	o.d.publish(topic+op, string(payload))
	// The answers were sent before the acknowledgement, so before this.
	o.d.publish("fence", "")
	var got []shadowtest.Message
	for {
		topic, payload, _ := strings.Cut(o.d.next(), " ")
		if topic == "fence" {
			return got, nil
		}
		if !strings.HasSuffix(topic, "/"+op) { // else it is the request
			got = append(got, shadowtest.Message{Topic: strings.Replace(topic, o.suffix, "", 1),
				Payload: []byte(strings.ReplaceAll(payload, o.suffix, ""))})
		}
	}
}

func (o *overMQTT) List(thing string) ([]byte, error) {
	names, _, err := o.b.shadow.List(thing+o.suffix, "", 0)
	if err != nil {
		return nil, err
	}
	if names == nil {
		names = []string{}
	}
	return json.Marshal(map[string]any{"results": names, "timestamp": o.b.now().Unix()})
}

func (o *overMQTT) Advance(d time.Duration) { o.b.advance.Add(int64(d)) }

// The vectors hold over MQTT against the whole bridge.
func TestShadowVectors(t *testing.T) {
	scenarios := shadowtest.Load(t)
	b := start(t, configure(t))
	id := b.thing("tester", all("", ""))
	d := b.connect(id, "tester")
	for _, filter := range []string{"$aws/things/+/shadow/#", "fence"} {
		if code := d.subscribe(filter); code != 1 {
			t.Fatalf("%s: %d", filter, code)
		}
	}
	shadowtest.Run(t, scenarios, func(*testing.T) shadowtest.System {
		return &overMQTT{b, d, fmt.Sprint("-of-system-", systems.Add(1))}
	})
}
