package uplink

import (
	"context"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
)

// A batch that the MQTT client does not take ends the connection before the
// next can overtake it.
func TestRefusedByTheClient(t *testing.T) {
	c := &refuser{}
	near, far := net.Pipe()
	defer far.Close()
	l := newLink(near, near, time.Second, newStretch(time.Minute, 0))
	o := Options{Topic: "batches"}
	s := &session{u: New(newFifo(3), o), link: l, client: c, turn: make(chan struct{}, 1),
		slots: make(chan struct{}, 16), lost: make(chan struct{})}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	err := s.send(ctx, ctx, make(chan flight, 16))
	if !errors.Is(err, mqtt.ErrNotConnected) || !errors.Is(l.why(), mqtt.ErrNotConnected) {
		t.Errorf("send: %v, link: %v", err, l.why())
	}
	if !slices.Equal(c.got, []string{"1"}) {
		t.Errorf("the client got %v", c.got)
	}
}

// A refuser is a client that refuses every message.
type refuser struct {
	mqtt.Client
	got []string
}

func (c *refuser) Publish(_ string, _ byte, _ bool, payload any) mqtt.Token {
	c.got = append(c.got, string(payload.([]byte)))
	return mqtt.NewClient(mqtt.NewClientOptions()).Publish("x", 1, false, "") // not connected
}
