package gateway

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/eclipse/paho.golang/paho/session/state"

	"github.com/tidemill/tidemill/deploy/await"
)

// A fiveClient is paho's client of version 5, and what it was sent.
type fiveClient struct {
	*paho.Client
	ack *paho.Connack

	mu   sync.Mutex
	got  []string
	last *paho.Publish
	over []byte // reason codes of the server's DISCONNECT
}

func (c *fiveClient) hear(r paho.PublishReceived) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got = append(c.got, fmt.Sprintf("%s %s %d %v", r.Packet.Topic, r.Packet.Payload, r.Packet.QoS, r.Packet.Retain))
	c.last = r.Packet
	return true, nil
}

// has returns what came, sorted, when it is n messages.
func (c *fiveClient) has(t *testing.T, n int) []string {
	t.Helper()
	await.True(t, fmt.Sprint(n, " messages"), func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.got) >= n
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	got := c.got
	c.got = nil
	slices.Sort(got)
	return got
}

func (c *fiveClient) publish(p *paho.Publish) (byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r, err := c.Publish(ctx, p)
	if r == nil {
		return 0, err
	}
	return r.ReasonCode, err
}

// paho's client of version 5 over mutual TLS: properties, aliases, subscription
// options, sessions, wills, reason codes, beside a client of 3.1.1.
func TestPaho5(t *testing.T) {
	a := newAuthority(t)
	f := startTLS(t, Config{PermissionCache: -1}, a)
	f.policy.deny["publish no"] = true
	client := func(s *state.State, p *paho.Connect) *fiveClient {
		t.Helper()
		nc, err := tls.Dial("tcp", f.addr, &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.leaf("dev")}})
		if err != nil {
			t.Fatal(err)
		}
		c := new(fiveClient)
		conf := paho.ClientConfig{Conn: packets.NewThreadSafeConn(nc),
			OnPublishReceived: []func(paho.PublishReceived) (bool, error){c.hear},
			OnServerDisconnect: func(d *paho.Disconnect) {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.over = append(c.over, d.ReasonCode)
			}}
		if s != nil {
			conf.Session = s
		}
		c.Client = paho.NewClient(conf)
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		p.KeepAlive = cmp.Or(p.KeepAlive, 60)
		if c.ack, err = c.Connect(ctx, p); err != nil {
			t.Fatal(err, c.ack)
		}
		t.Cleanup(func() {
			nc.Close()
			<-c.Done()
		})
		return c
	}
	subscribe := func(c *fiveClient, id int, s ...paho.SubscribeOptions) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		p := &paho.Subscribe{Subscriptions: s}
		if id > 0 {
			p.Properties = &paho.SubscribeProperties{SubscriptionIdentifier: &id}
		}
		if _, err := c.Subscribe(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	hour := uint32(3600)
	kept := state.NewInMemory()
	defer kept.Close()
	// no aliases: paho resolves none
	session := &paho.Connect{ClientID: "dev-s",
		Properties: &paho.ConnectProperties{SessionExpiryInterval: &hour, RequestProblemInfo: true}}
	s := client(kept, session)
	if s.ack.SessionPresent || s.ack.Properties.TopicAliasMaximum == nil || *s.ack.Properties.TopicAliasMaximum != 8 {
		t.Errorf("%+v", s.ack.Properties)
	}
	p := client(nil, &paho.Connect{ClientID: "dev-p", CleanStart: true})
	if code, err := p.publish(&paho.Publish{Topic: "r/x", Payload: []byte("kept"), QoS: 1, Retain: true}); err != nil {
		t.Fatal(code, err)
	}
	subscribe(s, 7, paho.SubscribeOptions{Topic: "q/+", QoS: 2},
		paho.SubscribeOptions{Topic: "r/#", QoS: 1, RetainAsPublished: true})
	if got := s.has(t, 1); got[0] != "r/x kept 1 true" {
		t.Error(got)
	}

	format, alias := byte(1), uint16(3)
	full := func(name string, qos byte) *paho.Publish {
		return &paho.Publish{Topic: name, Payload: []byte("{}"), QoS: qos,
			Properties: &paho.PublishProperties{PayloadFormat: &format, MessageExpiry: &hour,
				ContentType: "application/json", ResponseTopic: "q/answer", CorrelationData: []byte{0, 1},
				TopicAlias: &alias,
				User:       paho.UserProperties{{Key: "k", Value: "1"}, {Key: "k", Value: "2"}}}}
	}
	for _, qos := range []byte{0, 1, 2} {
		name := "q/0"
		if qos > 0 {
			name = "" // by its alias
		}
		if code, err := p.publish(full(name, qos)); err != nil {
			t.Fatal(code, err)
		}
	}
	if got := s.has(t, 3); !slices.Equal(got, []string{"q/0 {} 0 false", "q/0 {} 1 false", "q/0 {} 2 false"}) {
		t.Error(got)
	}
	s.mu.Lock()
	if pr := s.last.Properties; pr.ContentType != "application/json" || pr.ResponseTopic != "q/answer" ||
		string(pr.CorrelationData) != "\x00\x01" || *pr.PayloadFormat != 1 ||
		pr.MessageExpiry == nil || *pr.MessageExpiry > hour || *pr.MessageExpiry < hour-10 || len(pr.User) != 2 ||
		pr.User[1].Value != "2" || pr.SubscriptionIdentifier == nil || *pr.SubscriptionIdentifier != 7 {
		t.Errorf("%+v", pr)
	}
	s.mu.Unlock()

	// A refusal is told and the connection goes on.
	if code, err := p.publish(&paho.Publish{Topic: "no", QoS: 1}); err == nil || code != 0x87 {
		t.Errorf("0x%x %v", code, err)
	}
	if code, _ := p.publish(&paho.Publish{Topic: "no", QoS: 2}); code != 0x87 {
		t.Errorf("0x%x", code)
	}

	// Away, and back.
	if err := s.Disconnect(&paho.Disconnect{}); err != nil {
		t.Error(err)
	}
	<-s.Done()
	await.True(t, "s is away", func() bool { return f.Stats().Clients == 1 })
	for qos := range byte(3) {
		if code, err := p.publish(&paho.Publish{Topic: "q/away", Payload: []byte("missed"), QoS: qos}); err != nil {
			t.Fatal(code, err)
		}
	}
	s = client(kept, session)
	if !s.ack.SessionPresent {
		t.Error("no session")
	}
	if got := s.has(t, 2); !slices.Equal(got, []string{"q/away missed 1 false", "q/away missed 2 false"}) {
		t.Error(got)
	}

	// A will, and a takeover; beside it a client of version 3.1.1.
	three := mqtt.NewClient(mqtt.NewClientOptions().AddBroker("ssl://" +
		f.addr).SetClientID("dev-3").SetAutoReconnect(false).
		SetTLSConfig(&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{a.leaf("dev")}}))
	wait(t, three.Connect())
	t.Cleanup(func() { three.Disconnect(0) })
	wills := make(chan string, 1)
	wait(t, three.Subscribe("r/will", 1, func(_ mqtt.Client, m mqtt.Message) { wills <- string(m.Payload()) }))
	will := &paho.Connect{ClientID: "dev-w", CleanStart: true,
		WillMessage:    &paho.WillMessage{Topic: "r/will", Payload: []byte("gone"), QoS: 1},
		WillProperties: &paho.WillProperties{ContentType: "text/plain"}}
	w := client(nil, will)
	w2 := client(nil, &paho.Connect{ClientID: "dev-w", CleanStart: true})
	if got := s.has(t, 1); got[0] != "r/will gone 1 false" {
		t.Error(got)
	}
	select {
	case got := <-wills:
		if got != "gone" {
			t.Error(got)
		}
	case <-time.After(patience):
		t.Error("the client of 3.1.1 got no will")
	}
	await.True(t, "DISCONNECT", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return slices.Equal(w.over, []byte{0x8e})
	})
	w2.Disconnect(&paho.Disconnect{})
	wait(t, three.Publish("q/three", 1, false, "from 3.1.1"))
	if got := s.has(t, 1); got[0] != "q/three from 3.1.1 1 false" {
		t.Error(got)
	}

	// Many at once: flow control.
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i := range 150 {
				if code, err := p.publish(&paho.Publish{Topic: "q/many", Payload: []byte("x"),
					QoS: byte(i % 3)}); err != nil {
					t.Errorf("%d: 0x%x %v", i, code, err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(s.has(t, 600)); n != 600 {
		t.Errorf("%d messages", n)
	}
	await.True(t, "all is acknowledged", func() bool { return f.Stats().QueueBytes == 0 })
	s.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: new(uint32)}})
	await.True(t, "the session ended", func() bool { return f.Stats().Sessions == 2 })
}
