package gateway

import (
	"testing"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// An answer reaches the connection that asked, once, and no other subscriber;
// not by a shared subscription, and not where policy says no.
func TestAnswer(t *testing.T) {
	sent := make(chan bool, 10)
	var f *fixture
	f = start(t, Config{}, routerFunc(func(c *Client, m *message.Message, done func(error)) {
		sent <- f.Answer(c, &message.Message{Topic: m.Topic + "/accepted", Payload: []byte("secret"), QoS: 1})
		done(nil)
	}))
	const request = "$aws/certificates/create/json"
	w := f.connect(t, "asks")
	other := f.connect(t, "listens")
	for _, x := range []*wire{w, other} {
		x.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "$aws/certificates/#", Options: 1},
			{Filter: request + "/+", Options: 1}}})
		x.want(&packet.Suback{ID: 1, Codes: []byte{1, 1}})
	}
	w.send(pub(request, "", 1, 7))
	w.want(pub(request+"/accepted", "secret", 0, 0))
	w.want(ackOf(packet.PUBACK, 7))
	if !<-sent {
		t.Error("not sent")
	}
	other.send(&packet.Ping{Kind: packet.PINGREQ})
	other.want(&packet.Ping{Kind: packet.PINGRESP})

	shares := f.connect(t, "shares")
	shares.send(&packet.Subscribe{ID: 1,
		Filters: []packet.Filter{{Filter: "$share/g/$aws/certificates/#", Options: 1}}})
	shares.want(&packet.Suback{ID: 1, Codes: []byte{1}})
	shares.send(pub(request, "", 1, 8))
	shares.want(ackOf(packet.PUBACK, 8))
	if <-sent {
		t.Error("sent by a shared subscription")
	}

	last := f.dial(t) // nobody would be there for the answer to a will
	last.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: "will", HasWill: true, WillTopic: request})
	last.want(&packet.Connack{Code: packet.NotAuthorized})
	if err := f.Check(&message.Message{Topic: request}); err == nil {
		t.Error("may be published by HTTPS")
	}

	f.policy.mu.Lock()
	f.policy.deny["receive "+request+"/accepted"] = true
	f.policy.mu.Unlock()
	other.send(pub(request, "", 1, 9))
	other.want(ackOf(packet.PUBACK, 9))
	if <-sent {
		t.Error("sent against policy")
	}
}

// What a connection asked is not told to a later one of the same client id, nor
// to one that has ended.
func TestAnswerToTheLatest(t *testing.T) {
	asked, goOn := make(chan bool), make(chan bool)
	sent := make(chan bool, 1)
	var f *fixture
	f = start(t, Config{}, routerFunc(func(c *Client, m *message.Message, done func(error)) {
		asked <- true
		<-goOn
		sent <- f.Answer(c, &message.Message{Topic: m.Topic + "/accepted"})
		done(nil)
	}))
	const request = "$aws/certificates/create/json"
	w := f.resume(t, "same", false)
	w.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: request + "/accepted", Options: 1}}})
	w.want(&packet.Suback{ID: 1, Codes: []byte{1}})
	w.send(pub(request, "", 0, 0))
	<-asked
	w.nc.Close()
	goOn <- true
	if <-sent {
		// It was put into a buffer that goes nowhere; that cannot be told apart.
		t.Log("sent before the connection's end was known")
	}
	again := f.resume(t, "same", true)
	again.send(&packet.Ping{Kind: packet.PINGREQ})
	again.want(&packet.Ping{Kind: packet.PINGRESP})
}
