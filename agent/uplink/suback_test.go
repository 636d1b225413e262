package uplink

import (
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A talker is a Peer that only has topics.
type talker []string

func (p talker) Topics() []string     { return p }
func (talker) Connected(Publish)      {}
func (talker) Disconnected()          {}
func (talker) Receive(string, []byte) {}

// A SUBSCRIBE is answered by one SUBACK with a code for each filter. A broker that
// answers otherwise is left with words, and does not crash the device.
func TestSubscriptionsAreAnsweredOneByOne(t *testing.T) {
	suback := func(c *conn, id uint16, codes int) {
		a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
		a.MessageID, a.ReturnCodes = id, slices.Repeat([]byte{1}, codes)
		c.write(a)
	}
	for name, c := range map[string]struct {
		answer func(c *conn, p *packets.SubscribePacket)
		want   string
	}{
		"one more": {func(c *conn, p *packets.SubscribePacket) {
			suback(c, p.MessageID, len(p.Topics)+1)
		}, "with 4 codes, 3 filters"},
		"one fewer": {func(c *conn, p *packets.SubscribePacket) {
			suback(c, p.MessageID, len(p.Topics)-1)
		}, "with 2 codes"},
		"none": {func(c *conn, p *packets.SubscribePacket) { suback(c, p.MessageID, 0) }, "with 0 codes"},
		"of another": {func(c *conn, p *packets.SubscribePacket) {
			suback(c, p.MessageID+1, 3)
			suback(c, p.MessageID, 3)
		}, "with 3 codes, 0 filters"},
		"twice": {func(c *conn, p *packets.SubscribePacket) {
			suback(c, p.MessageID, 3)
			suback(c, p.MessageID, 3)
		}, "with 3 codes, 0 filters"},
		"PUBACK instead": {func(c *conn, p *packets.SubscribePacket) { c.puback(p.MessageID) }, "with 0 codes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, ca := newBroker(t, func(k *conn) {
					k.accept(packets.Accepted)
					for {
						p, err := packets.ReadPacket(k)
						if err != nil {
							return
						}
						if p, ok := p.(*packets.SubscribePacket); ok {
							c.answer(k, p)
						}
					}
				})
				o := b.options(t, ca)
				o.Peer = talker{"a", "b", "c"}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := New(newFifo(0), o).session(ctx)
				e, ok := err.(*linkError)
				if !ok || e.Kind != KindProtocol || !strings.Contains(e.Text, c.want) {
					t.Errorf("%v, want %s", err, c.want)
				}
				b.wg.Wait()
			})
		})
	}
}

// A device that is stopped while its greeting is not answered ends after Drain, and
// does not wait for the answer.
func TestStopWhileGreeting(t *testing.T) {
	for _, notices := range []string{"", "notices"} {
		synctest.Test(t, func(t *testing.T) {
			b, ca := newBroker(t, func(k *conn) {
				k.accept(packets.Accepted)
				_, _ = io.Copy(io.Discard, k)
			})
			o := b.options(t, ca)
			o.Peer, o.NoticeTopic, o.Drain = talker{"a"}, notices, 2*time.Second
			_, stop := start(t, b, newFifo(1), o)
			time.Sleep(time.Second)
			began := time.Now()
			stop()
			if took := time.Since(began); took > o.Drain+handOver {
				t.Errorf("stopped after %v", took)
			}
		})
	}
}
