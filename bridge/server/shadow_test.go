package server

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/control/registry"
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

// overREST is a System that is asked by HTTPS and heard by MQTT.
type overREST struct {
	overMQTT
	r *requester
}

func (o *overREST) Request(thing, name, op string, payload []byte) ([]shadowtest.Message, error) {
	path, topic := "/things/"+url.PathEscape(thing+o.suffix)+"/shadow", "$aws/things/"+thing+"/shadow/"
	if name != "" {
		path += "?name=" + url.QueryEscape(name)
		topic += "name/" + name + "/"
	}
	// By HTTPS a thing has to be there; those that cannot be are refused first.
	_ = o.b.registry.Update(func(tx *registry.Tx) error {
		return tx.CreateThing(registry.Thing{Name: thing + o.suffix})
	})
	method := map[string]string{"get": "GET", "update": "POST", "delete": "DELETE"}[op]
	status, _, body := o.r.do(method, path, string(payload))
	body = strings.ReplaceAll(body, o.suffix, "")
	var got []shadowtest.Message
	if status == 200 {
		got = append(got, shadowtest.Message{Topic: topic + op + "/accepted", Payload: []byte(body)})
	} else {
		var e map[string]any
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			return nil, err
		}
		e["code"] = status
		text, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		got = append(got, shadowtest.Message{Topic: topic + op + "/rejected", Payload: text})
	}
	o.d.publish("fence", "")
	for {
		topic, payload, _ := strings.Cut(o.d.next(), " ")
		switch {
		case topic == "fence":
			return got, nil
		case strings.HasSuffix(topic, "/delta"), strings.HasSuffix(topic, "/documents"):
			got = append(got, shadowtest.Message{Topic: strings.Replace(topic, o.suffix, "", 1),
				Payload: []byte(strings.ReplaceAll(payload, o.suffix, ""))})
		case strings.HasSuffix(topic, "/rejected"):
			return nil, fmt.Errorf("told on MQTT: %s %s", topic, payload)
		}
	}
}

func (o *overREST) List(thing string) ([]byte, error) {
	status, _, body := o.r.do("GET", "/api/things/shadow/ListNamedShadowsForThing/"+url.PathEscape(thing+o.suffix), "")
	if status != 200 {
		return nil, fmt.Errorf("%d %s", status, body)
	}
	return []byte(body), nil
}

// The vectors hold over REST, with delta and documents on MQTT: for a client
// certificate and for a signature.
func TestShadowVectorsREST(t *testing.T) {
	scenarios := shadowtest.OverREST(t, shadowtest.Load(t))
	b := start(t, configure(t))
	id := b.thing("tester", all("", ""))
	d := b.connect(id, "tester")
	for _, filter := range []string{"$aws/things/+/shadow/#", "fence"} {
		if code := d.subscribe(filter); code != 1 {
			t.Fatalf("%s: %d", filter, code)
		}
	}
	for name, r := range map[string]*requester{"certificate": b.requester("", id.tls(t)),
		"signature": b.requester("iotdata", nil)} {
		t.Run(name, func(t *testing.T) {
			shadowtest.Run(t, scenarios, func(*testing.T) shadowtest.System {
				return &overREST{overMQTT{b, d, fmt.Sprint("-of-system-", systems.Add(1))}, r}
			})
		})
	}
}
