package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"go.uber.org/goleak"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/deploy/await"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// A peer is a broker's end of a connection, which a test writes packet by
// packet.
type peer struct {
	t *testing.T
	net.Conn
	id string
}

// peers listens, and gives the connections of each client id to its script, in
// turn; the last script is for all that follow.
func peers(t *testing.T, scripts map[string][]func(*peer)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				nc.SetDeadline(time.Now().Add(patience))
				p, err := packets.ReadPacket(nc)
				if err != nil {
					return
				}
				c := p.(*packets.ConnectPacket)
				mu.Lock()
				s := scripts[c.ClientIdentifier]
				if len(s) > 1 {
					scripts[c.ClientIdentifier] = s[1:]
				}
				mu.Unlock()
				if len(s) == 0 {
					t.Errorf("connection of %q", c.ClientIdentifier)
					return
				}
				if want := strings.HasSuffix(c.ClientIdentifier, "-out"); c.CleanSession != want {
					t.Errorf("%s: clean session %v", c.ClientIdentifier, c.CleanSession)
				}
				s[0](&peer{t, nc, c.ClientIdentifier})
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return "tcp://" + l.Addr().String()
}

func (p *peer) connack(code byte) {
	a := packets.NewControlPacket(packets.Connack).(*packets.ConnackPacket)
	a.ReturnCode = code
	_ = a.Write(p)
}

// publish sends a message with QoS 1.
func (p *peer) publish(id uint16, topic, payload string) {
	m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
	m.Qos, m.MessageID, m.TopicName, m.Payload = 1, id, topic, []byte(payload)
	_ = m.Write(p)
}

// next returns the client's next packet but pings, nil at the end; what it asks
// for is granted.
func (p *peer) next() packets.ControlPacket {
	for {
		got, err := packets.ReadPacket(p)
		if err != nil {
			return nil
		}
		switch m := got.(type) {
		case *packets.SubscribePacket:
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID = m.MessageID
			for range m.Topics {
				a.ReturnCodes = append(a.ReturnCodes, 1)
			}
			_ = a.Write(p)
		case *packets.UnsubscribePacket:
			a := packets.NewControlPacket(packets.Unsuback).(*packets.UnsubackPacket)
			a.MessageID = m.MessageID
			_ = a.Write(p)
		case *packets.PingreqPacket:
			_ = packets.NewControlPacket(packets.Pingresp).Write(p)
			continue
		}
		return got
	}
}

// idle answers until the client is gone.
func idle(p *peer) {
	p.connack(0)
	for p.next() != nil {
	}
}

func run(t *testing.T, o Options) *Broker {
	t.Helper()
	return runTo(t, o, func(_ *message.Message, done func(error)) { done(nil) })
}

func runTo(t *testing.T, o Options, take Handler) *Broker {
	t.Helper()
	o.ClientID, o.Group, o.BackoffMin, o.BackoffMax = "b", "g", time.Millisecond, 10*time.Millisecond
	b := New(o)
	ctx, cancel := context.WithCancel(context.Background())
	out, stop := context.WithCancel(context.Background())
	var wg, sent sync.WaitGroup
	wg.Go(func() { _ = b.Consume(ctx, take) })
	sent.Go(func() { _ = b.Send(out) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		stop()
		sent.Wait()
	})
	return b
}

// PUBACKs come when a message is done and in the order of arrival; one that
// could not be taken has none, and comes again.
func TestAcknowledgedWhenDone(t *testing.T) {
	var mu sync.Mutex
	dones := map[string]func(error){}
	took := func(name string) func(error) {
		mu.Lock()
		defer mu.Unlock()
		return dones[name]
	}
	acks := make(chan uint16, 10)
	second := make(chan struct{})
	url := peers(t, map[string][]func(*peer){"b-out": {idle}, "b-0": {
		func(p *peer) {
			p.connack(0)
			p.publish(1, "t", "one") // of the session: before SUBSCRIBE
			p.publish(2, "t", "two")
			p.publish(3, "t", "three")
			for {
				switch m := p.next().(type) {
				case nil:
					return
				case *packets.PubackPacket:
					acks <- m.MessageID
				}
			}
		},
		func(p *peer) { close(second); idle(p) },
	}})
	b := runTo(t, Options{URL: url, Filters: []string{"#"}, Connections: 1},
		func(m *message.Message, done func(error)) {
			mu.Lock()
			defer mu.Unlock()
			dones[string(m.Payload)] = done
		})
	await.True(t, "third message", func() bool { return took("three") != nil })
	await.True(t, "subscription", func() bool { return b.Ready() == nil })
	took("two")(nil)
	select {
	case id := <-acks:
		t.Fatalf("%d was acknowledged, 1 is not done", id)
	case <-time.After(50 * time.Millisecond):
	}
	took("one")(nil)
	if a, b := <-acks, <-acks; a != 1 || b != 2 {
		t.Errorf("acknowledged %d and %d, want 1 and 2", a, b)
	}
	took("three")(errors.New("the disk is sick"))
	select {
	case <-second:
	case <-time.After(patience):
		t.Fatal("no new connection")
	}
	select {
	case id := <-acks:
		t.Errorf("%d was acknowledged", id)
	default:
	}
	await.True(t, "counts", func() bool {
		s := b.Stats()
		return s.Received == 3 && s.Acked == 2 && s.NotTaken == 1 && s.Unacked == 0 && s.Connected == 2 && s.Wanted == 2
	})
}

// A connection is not read beyond the messages that may be under way, and large
// messages are dropped.
func TestBounds(t *testing.T) {
	held := make(chan func(error), 100)
	url := peers(t, map[string][]func(*peer){"b-out": {idle}, "b-0": {func(p *peer) {
		p.connack(0)
		p.publish(1, "t", strings.Repeat("x", 101))
		for i := range 50 {
			p.publish(uint16(i+2), "t", "x")
		}
		for p.next() != nil {
		}
	}}})
	b := runTo(t, Options{URL: url, Filters: []string{"#"}, Connections: 1, MaxInflight: 5, MaxPayload: 100},
		func(_ *message.Message, done func(error)) { held <- done })
	await.True(t, "five messages", func() bool { return len(held) == 5 })
	time.Sleep(50 * time.Millisecond)
	if n := len(held); n != 5 {
		t.Errorf("%d messages are under way, want 5", n)
	}
	for range 50 {
		(<-held)(nil)
	}
	await.True(t, "all acknowledged", func() bool { s := b.Stats(); return s.Acked == 51 && s.TooLarge == 1 })
}

// What was not acknowledged is published again, in order, by the next
// connection.
func TestPublishedAgain(t *testing.T) {
	var got []string
	url := peers(t, map[string][]func(*peer){"b-out": {
		func(p *peer) { p.connack(5) },
		func(p *peer) { p.connack(42) }, // the client takes it for success
		func(p *peer) {
			p.connack(0)
			m, _ := p.next().(*packets.PublishPacket)
			a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
			a.MessageID = m.MessageID
			got = append(got, string(m.Payload))
			_ = a.Write(p)
			_ = p.next()                      // has no answer
			time.Sleep(50 * time.Millisecond) // the client hears of the one before
		},
		func(p *peer) {
			p.connack(0)
			for {
				switch m := p.next().(type) {
				case nil:
					return
				case *packets.PublishPacket:
					if m.Qos == 0 {
						got = append(got, "note")
						continue
					}
					got = append(got, string(m.Payload))
					a := packets.NewControlPacket(packets.Puback).(*packets.PubackPacket)
					a.MessageID = m.MessageID
					_ = a.Write(p)
				}
			}
		},
	}})
	b := run(t, Options{URL: url})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var wg sync.WaitGroup
	for i, text := range []string{"1", "2", "3"} {
		wg.Add(1)
		b.Queue(&message.Message{Topic: "t", Payload: []byte(text), Hops: uint8(i / 2)}, func(err error) {
			if err != nil {
				t.Errorf("%s: %v", text, err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	if err := b.Publish(ctx, &message.Message{Topic: "t", Payload: []byte("4")}); err != nil {
		t.Error(err)
	}
	if s := fmt.Sprint(got); s != "[1 2 note 3 4]" {
		t.Errorf("published %s", s)
	}
	if n := b.hops.of("t", []byte("3")); n != 1 {
		t.Errorf("%d hops", n)
	}
	if s := b.Stats(); s.Published != 4 || s.Queued != 0 || s.QueueBytes != 0 || s.Failures != 3 {
		t.Errorf("%+v", s)
	}
}

// Without a broker the queue is bounded, and its end is told to all.
func TestQueueEnds(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "tcp://" + l.Addr().String()
	l.Close()
	b := New(Options{URL: url, ClientID: "b", Group: "g", MaxQueued: 2, MaxBytes: 1000})
	errs := make(chan error, 4)
	for _, payload := range []int{1, 1000, 1, 1} {
		b.Queue(&message.Message{Topic: "t", Payload: make([]byte, payload)}, func(err error) { errs <- err })
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, ErrFull) {
			t.Error(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sent := make(chan error, 1)
	go func() { sent <- b.Send(ctx) }()
	await.True(t, "a refusal", func() bool { return strings.Contains(fmt.Sprint(b.Ready()), "refused") })
	cancel()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, errClosed) {
			t.Error(err)
		}
	}
	if err := b.Publish(t.Context(), &message.Message{}); !errors.Is(err, errClosed) {
		t.Error(err)
	}
	if err := b.Ready(); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("Ready: %v", err)
	}
}

// A bridge that leaves unsubscribes from everything it ever had.
func TestLeave(t *testing.T) {
	left := make(chan []string, 2)
	leaves := func(p *peer) {
		p.connack(0)
		for {
			switch m := p.next().(type) {
			case nil:
				return
			case *packets.UnsubscribePacket:
				left <- m.Topics
			case *packets.SubscribePacket:
				t.Errorf("subscribes to %q", m.Topics)
			}
		}
	}
	url := peers(t, map[string][]func(*peer){"b-out": {idle}, "b-0": {leaves}, "b-1": {leaves}})
	run(t, Options{URL: url, Filters: []string{"#"}, Former: []string{"$aws/#", "$share/old/a"}, FormerConnections: 2})
	for range 2 {
		if got := fmt.Sprint(<-left); got != "[$aws/# $share/old/a $share/g/#]" {
			t.Errorf("leaves %s", got)
		}
	}
}

// A broker that refuses a subscription is no good.
func TestSubscriptionRefused(t *testing.T) {
	url := peers(t, map[string][]func(*peer){"b-out": {idle}, "b-0": {func(p *peer) {
		p.connack(0)
		for {
			got, err := packets.ReadPacket(p)
			if err != nil {
				return
			}
			m, ok := got.(*packets.SubscribePacket)
			if !ok {
				continue
			}
			a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
			a.MessageID, a.ReturnCodes = m.MessageID, []byte{0x80}
			_ = a.Write(p)
		}
	}}})
	b := run(t, Options{URL: url, Filters: []string{"a"}, Connections: 1})
	await.True(t, "refusal", func() bool {
		err := b.Ready()
		return err != nil && strings.Contains(err.Error(), "refused the subscription $share/g/a")
	})
	if !b.alone.Load() {
		t.Error("the others would be told of hops all the same")
	}
}

// A broker that answers a SUBSCRIBE with more or fewer codes than it has filters,
// or twice, is no good; it does not crash the bridge.
func TestSubscriptionsAreAnsweredOneByOne(t *testing.T) {
	for name, c := range map[string]struct {
		codes []int // of each SUBACK, more than the filters
		want  string
	}{
		"more codes":  {[]int{1}, "with 2 codes, 1 filters"},
		"fewer codes": {[]int{-1}, "with 0 codes, 1 filters"},
		"twice":       {[]int{0, 0}, "with 1 codes, 0 filters"},
	} {
		t.Run(name, func(t *testing.T) {
			url := peers(t, map[string][]func(*peer){"b-out": {idle}, "b-0": {func(p *peer) {
				p.connack(0)
				for {
					got, err := packets.ReadPacket(p)
					if err != nil {
						return
					}
					m, ok := got.(*packets.SubscribePacket)
					if !ok {
						continue
					}
					for _, more := range c.codes {
						a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
						a.MessageID, a.ReturnCodes = m.MessageID, make([]byte, len(m.Topics)+more)
						_ = a.Write(p)
					}
				}
			}}})
			b := run(t, Options{URL: url, Filters: []string{"a"}, Connections: 1})
			await.True(t, c.want, func() bool {
				err := b.Ready()
				return err != nil && strings.Contains(err.Error(), c.want)
			})
		})
	}
}

func TestScan(t *testing.T) {
	var big packets.PublishPacket
	big.FixedHeader = packets.FixedHeader{MessageType: packets.Publish}
	big.TopicName, big.Payload = "t", make([]byte, 300)
	var stream strings.Builder
	_ = packets.NewControlPacket(packets.Pingresp).Write(&stream)
	_ = big.Write(&stream)
	_ = packets.NewControlPacket(packets.Pingresp).Write(&stream)
	for step := 1; step < 20; step++ {
		w := &wire{}
		for rest := []byte(stream.String()); len(rest) > 0; {
			n := min(step, len(rest))
			if err := w.scan(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		if w.left != 0 || w.inLen {
			t.Errorf("in steps of %d: %d bytes left", step, w.left)
		}
	}
	for _, bad := range []string{"\x30\xff\xff\xff\x7f", "\x30\xff\xff\xff\xff\x01"} {
		if err := new(wire).scan([]byte(bad)); err == nil {
			t.Errorf("%x was taken", bad)
		}
	}
}

func TestHopsAreForgotten(t *testing.T) {
	var h hops
	if h.of("t", nil) != 0 {
		t.Error("hops of nothing")
	}
	h.hear([]byte("short"))
	h.hear(note(markOf("a", []byte("bc")), 7))
	if h.of("a", []byte("bc")) != 7 || h.of("ab", []byte("c")) != 0 {
		t.Error("topic and payload are not told apart")
	}
	for i := range 2 * maxHops {
		h.remember(markOf("x", fmt.Append(nil, i)), 1)
	}
	if n := len(h.hot) + len(h.cold); n > maxHops || h.of("a", []byte("bc")) != 0 {
		t.Errorf("%d are kept", n)
	}
}

// A retained message is taken when it is published, and not when a subscription
// gets a copy, own or shared.
func TestRetainedCopies(t *testing.T) {
	url := peers(t, map[string][]func(*peer){"b-out": {idle}, "b-0": {func(p *peer) {
		p.connack(0)
		for i, topic := range []string{"$aws/a", "b", "b", "$aws/b"} {
			m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
			m.Qos, m.MessageID, m.TopicName, m.Retain = 1, uint16(i+1), topic, i < 2
			_ = m.Write(p)
		}
		for p.next() != nil {
		}
	}}})
	topics := make(chan string, 4)
	b := runTo(t, Options{URL: url, Filters: []string{"#"}, Own: []string{"$aws/#"}, Connections: 1},
		func(m *message.Message, done func(error)) {
			topics <- m.Topic
			done(nil)
		})
	await.True(t, "acknowledgements", func() bool { return b.Stats().Acked == 4 })
	if x, y := <-topics, <-topics; x != "b" || y != "$aws/b" || len(topics) != 0 || b.Stats().Copies != 2 {
		t.Errorf("took %s, %s and %d others; %+v", x, y, len(topics), b.Stats())
	}
}
