package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/tidemill/tidemill/bridge/serving/admin"
	"github.com/tidemill/tidemill/deploy/rig"
)

const allowAll = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iot:*","Resource":"*"}]}`

// newOperator makes an identity that may do everything; on a shared bridge it is
// this test's own.
func (f *fleet) newOperator() identity {
	f.t.Helper()
	name := "operator"
	if f.shared {
		name += "-of-" + f.t.Name()
	}
	op := f.thing(name)
	for _, args := range [][]string{
		{"policy", "put", name, "-document", allowAll}, {"policy", "attach", name, f.certificate(op)},
	} {
		_, err := f.bridge.Command(f.ctx, args...)
		f.must(err)
	}
	return op
}

// A client is a connection by another MQTT implementation, Eclipse Paho, that
// ends with the bridge.
type client struct {
	mqtt.Client
	t        testing.TB
	messages chan mqtt.Message
}

func (f *fleet) connect(i identity) *client {
	f.t.Helper()
	cert, err := tls.LoadX509KeyPair(filepath.Join(i.dir, "cert.pem"), filepath.Join(i.dir, "key.pem"))
	f.must(err)
	pem, err := os.ReadFile(filepath.Join(i.dir, "ca.pem"))
	f.must(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	c := &client{t: f.t, messages: make(chan mqtt.Message, 10000)}
	c.Client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" + f.bridge.MQTT).SetClientID(i.id).
		SetTLSConfig(&tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: roots}).
		SetProtocolVersion(4).SetAutoReconnect(false).
		SetDefaultPublishHandler(func(_ mqtt.Client, m mqtt.Message) { c.messages <- m }))
	c.wait("connect", c.Connect())
	f.t.Cleanup(func() { c.Disconnect(0) })
	return c
}

func (c *client) wait(what string, token mqtt.Token) {
	c.t.Helper()
	if !token.WaitTimeout(patience) {
		c.t.Fatalf("%s: no answer", what)
	}
	if err := token.Error(); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

func (c *client) subscribe(filters ...string) {
	c.t.Helper()
	for _, filter := range filters {
		token := c.Subscribe(filter, 1, nil)
		c.wait("subscribe to "+filter, token)
		if got := token.(*mqtt.SubscribeToken).Result()[filter]; got != 1 {
			c.t.Fatalf("subscribe to %s: SUBACK 0x%02x", filter, got)
		}
	}
}

func (c *client) publish(topic, payload string) {
	c.t.Helper()
	c.wait("publish on "+topic, c.Publish(topic, 1, false, payload))
}

// next returns the next message that want accepts; others are passed over.
func (c *client) next(ctx context.Context, what string, want func(mqtt.Message) bool) mqtt.Message {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last string
	for {
		select {
		case m := <-c.messages:
			if want(m) {
				return m
			}
			last = fmt.Sprintf("%s %s", m.Topic(), m.Payload())
		case <-ctx.Done():
			c.t.Fatalf("no %s; last message: %s", what, last)
		}
	}
}

// start adds a running agent without a link of its own.
func (f *fleet) start(thing, config string) *rig.Agent {
	f.t.Helper()
	a, err := rig.NewAgent(f.ctx, f.bridge, thing, f.dir, f.bridge.MQTT, config)
	f.must(err)
	f.agents = append(f.agents, a)
	f.must(a.Start())
	return a
}

// documents reads the JSON records of a whole stream.
func (f *fleet) documents(stream string) []json.RawMessage {
	f.t.Helper()
	body, err := f.bridge.Open(f.ctx, "/v1/streams/records", url.Values{"name": {stream}, "from": {"oldest"}})
	f.must(err)
	defer body.Close()
	var all []json.RawMessage
	dec := json.NewDecoder(body)
	for {
		var line admin.StreamRecord
		if err := dec.Decode(&line); err == io.EOF {
			return all
		} else if err != nil {
			f.t.Fatal(err)
		}
		all = append(all, line.JSON)
	}
}
