package sim

import (
	"io"
	"net"
	"strings"
	"sync"

	"github.com/eclipse/paho.mqtt.golang/packets"
)

// A Broker is an MQTT 3.1.1 broker with topics that Publish fills. Its clients read;
// what they publish is acknowledged and dropped.
type Broker struct {
	User, Password string // "" takes everybody; set before Serve

	mu       sync.Mutex // guards all below
	clients  map[*brokerClient]struct{}
	retained map[string][]byte
}

type brokerClient struct {
	net.Conn
	write   sync.Mutex
	filters []string // guarded by the broker's lock
}

// NewBroker returns a broker without topics.
func NewBroker() *Broker {
	return &Broker{clients: map[*brokerClient]struct{}{}, retained: map[string][]byte{}}
}

// Serve takes connections until l is closed, then ends them and returns.
func (b *Broker) Serve(l net.Listener) {
	var wg sync.WaitGroup
	for {
		c, err := l.Accept()
		if err != nil {
			break
		}
		client := &brokerClient{Conn: c}
		b.mu.Lock()
		b.clients[client] = struct{}{}
		b.mu.Unlock()
		wg.Go(func() {
			b.serve(client)
			b.mu.Lock()
			delete(b.clients, client)
			b.mu.Unlock()
			_ = c.Close() // its end is what is wanted
		})
	}
	b.Drop()
	wg.Wait()
}

// Drop ends all connections.
func (b *Broker) Drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.clients {
		_ = c.Close() // its end is what is wanted
	}
}

// Clients counts those who read something.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for c := range b.clients {
		if len(c.filters) > 0 {
			n++
		}
	}
	return n
}

// Publish sends a message to those who read its topic, and keeps it if it is retained.
func (b *Broker) Publish(topic string, payload []byte, retained bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if retained {
		b.retained[topic] = payload
	}
	for c := range b.clients {
		for _, f := range c.filters {
			if topicMatches(f, topic) {
				c.send(topic, payload, false)
				break
			}
		}
	}
}

func (c *brokerClient) send(topic string, payload []byte, retained bool) {
	p := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	p.TopicName, p.Payload, p.Retain = topic, payload, retained
	c.packet(p)
}

func (c *brokerClient) packet(p packets.ControlPacket) {
	c.write.Lock()
	defer c.write.Unlock()
	_ = p.Write(c) // its reader notices that the client is gone
}

func (b *Broker) serve(c *brokerClient) {
	for {
		p, err := packets.ReadPacket(io.LimitReader(c, 1<<20))
		if err != nil {
			return
		}
		switch p := p.(type) {
		case *packets.ConnectPacket:
			a := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
			if b.User != "" && (p.Username != b.User || string(p.Password) != b.Password) {
				a.ReturnCode = 5 // not authorized
			}
			c.packet(a)
		case *packets.SubscribePacket:
			b.subscribe(c, p)
		case *packets.PublishPacket:
			if p.Qos > 0 {
				a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
				a.MessageID = p.MessageID
				c.packet(a)
			}
		case *packets.PingreqPacket:
			c.packet(packets.NewControlPacket(packets.Pingresp))
		case *packets.DisconnectPacket:
			return
		}
	}
}

// subscribe refuses topics below $forbidden.
func (b *Broker) subscribe(c *brokerClient, p *packets.SubscribePacket) {
	a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
	a.MessageID = p.MessageID
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, f := range p.Topics {
		if strings.HasPrefix(f, "$forbidden") {
			a.ReturnCodes = append(a.ReturnCodes, 0x80)
			continue
		}
		a.ReturnCodes = append(a.ReturnCodes, p.Qoss[i])
		c.filters = append(c.filters, f)
	}
	c.packet(a)
	for topic, payload := range b.retained {
		for _, f := range p.Topics {
			if topicMatches(f, topic) {
				c.send(topic, payload, true)
				break
			}
		}
	}
}

// topicMatches is as MQTT 3.1.1, 4.7 has it, but for topics that begin with $.
func topicMatches(filter, topic string) bool {
	f, rest, more := strings.Cut(filter, "/")
	if f == "#" {
		return true
	}
	t, left, deeper := strings.Cut(topic, "/")
	if f != "+" && f != t {
		return false
	}
	switch {
	case more && deeper:
		return topicMatches(rest, left)
	case more:
		return rest == "#"
	}
	return !deeper
}
