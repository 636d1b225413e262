package uplink

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/eclipse/paho.mqtt.golang/packets"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestSendsInOrderWithinTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const batches, window = 100, 8
		var got []string
		most := 0
		b, ca := newBroker(t, func(c *conn) {
			c.accept(packets.Accepted)
			var open []uint16
			c.answer(func(p *packets.PublishPacket) bool {
				if p.Qos != 1 || p.Dup || p.TopicName != "$tidemill/batch" {
					t.Errorf("PUBLISH %v", p)
				}
				got = append(got, string(p.Payload))
				open = append(open, p.MessageID)
				most = max(most, len(open))
				// The answers come once the client has nothing more to say.
				if len(open) == window || len(got) == batches {
					for _, id := range open {
						c.puback(id)
					}
					open = nil
				}
				return true
			})
		})
		q := newFifo(batches)
		o := b.options(t, ca)
		o.Inflight = window
		u, stop := start(t, b, q, o)
		time.Sleep(time.Second)
		synctest.Wait()
		if st := u.Status(); st.State != Online || st.Acked != batches || st.Inflight != 0 || st.Connects != 1 {
			t.Errorf("status %+v", st)
		}
		stop()
		for i, p := range got {
			if p != strconv.Itoa(i+1) {
				t.Fatalf("message %d holds %s", i+1, p)
			}
		}
		if len(got) != batches || most != window || q.left() != 0 || !slices.IsSorted(q.order) {
			t.Errorf("%d messages, at most %d in flight, %d left, order %v", len(got), most, q.left(), q.order)
		}
	})
}

// A broker that swallows messages and then goes, however it goes, has none of
// them: nothing may leave the queue, and all must come again.
func TestLostConnectionAcknowledgesNothing(t *testing.T) {
	ends := map[string]func(*conn){
		"close_notify and FIN": func(c *conn) { _ = c.Conn.Close() },
		"FIN":                  func(c *conn) { _ = c.raw.Close() },
		"RST": func(c *conn) {
			if tcp, ok := c.raw.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.raw.Close()
		},
		"garbage":         func(c *conn) { _, _ = c.Write([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) },
		"broken TLS":      func(c *conn) { _, _ = c.raw.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")) },
		"unasked PUBACKs": func(c *conn) { c.puback(999); c.puback(0); _ = c.Conn.Close() },
	}
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			const batches = 5
			var mu sync.Mutex
			var second []string
			done := make(chan struct{})
			b, ca := newBroker(t, func(c *conn) {
				c.accept(packets.Accepted)
				n := 0
				c.answer(func(p *packets.PublishPacket) bool {
					n++
					if c.n == 1 {
						if n < batches {
							return true
						}
						end(c)
						return false
					}
					mu.Lock()
					second = append(second, string(p.Payload))
					mu.Unlock()
					c.puback(p.MessageID)
					if n == batches {
						close(done)
					}
					return true
				})
			})
			q := newFifo(batches)
			o := b.options(t, ca)
			o.Dial, o.BackoffMin = b.dialTCP, time.Millisecond
			// The queue looks at the moment of the second connection.
			dial := o.Dial
			early := 0
			o.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
				b.mu.Lock()
				n := b.conns
				b.mu.Unlock()
				if n == 1 {
					early = batches - q.left()
				}
				return dial(ctx, network, addr)
			}
			_, stop := start(t, b, q, o)
			<-done
			stop()
			if early != 0 {
				t.Errorf("%d batches were acknowledged by a lost connection", early)
			}
			if want := []string{"1", "2", "3", "4", "5"}; !slices.Equal(second, want) || q.left() != 0 {
				t.Errorf("second connection got %v, %d left; want all, in order", second, q.left())
			}
		})
	}
}

// Whatever a broker does, only what it has acknowledged leaves the queue, in
// order, and each connection begins with the oldest that has not.
func TestOnlyPubacksAcknowledge(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TIDEMILL_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("TIDEMILL_SEED=%d", seed)
	synctest.Test(t, func(t *testing.T) {
		const batches = 400
		var mu sync.Mutex
		said := map[string]bool{} // acknowledged by the broker, or about to be
		q := newFifo(batches)
		b, ca := newBroker(t, func(c *conn) {
			rnd := rand.New(rand.NewPCG(seed, uint64(c.n)))
			if rnd.IntN(8) == 0 {
				return
			}
			c.accept(packets.Accepted)
			life, next := rnd.IntN(40), 0
			var open []*packets.PublishPacket
			c.answer(func(p *packets.PublishPacket) bool {
				if life--; life < 0 {
					if rnd.IntN(2) == 0 {
						time.Sleep(time.Hour) // a dead peer
					}
					return false
				}
				n, _ := strconv.Atoi(string(p.Payload))
				mu.Lock()
				defer mu.Unlock()
				if next == 0 {
					for i := 1; i < n; i++ {
						if !said[strconv.Itoa(i)] {
							t.Errorf("connection %d begins with %d, but %d was never acknowledged", c.n, n, i)
						}
					}
				} else if n != next {
					t.Errorf("connection %d: %d came after %d", c.n, n, next-1)
				}
				next = n + 1
				open = append(open, p)
				// Answers come late, out of order, or never.
				if rnd.IntN(3) == 0 {
					rnd.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
					k := rnd.IntN(len(open) + 1)
					for _, p := range open[:k] {
						said[string(p.Payload)] = true
						c.puback(p.MessageID)
					}
					open = open[k:]
				}
				return true
			})
			if rnd.IntN(2) == 0 {
				_ = c.Conn.Close()
			}
		})
		_, stop := start(t, b, q, b.options(t, ca))
		for range 400 {
			time.Sleep(time.Minute)
			if q.left() == 0 {
				break
			}
		}
		stop()
		if q.left() != 0 {
			t.Errorf("%d batches never arrived", q.left())
		}
		for i, seq := range q.order {
			if seq != uint64(i+1) || !said[strconv.Itoa(i+1)] {
				t.Fatalf("acknowledgement %d is for %d, which the broker acknowledged: %v", i, seq,
					said[strconv.FormatUint(seq, 10)])
			}
		}
	})
}

// Stopping with messages in the air: the drain is bounded and what is not
// acknowledged stays.
func TestDisconnectAcknowledgesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var goodbye []string
		b, ca := newBroker(t, func(c *conn) {
			c.accept(packets.Accepted)
			c.answer(func(p *packets.PublishPacket) bool {
				if p.TopicName == "presence/press-7" {
					goodbye = append(goodbye, string(p.Payload))
					c.puback(p.MessageID)
				}
				return true
			})
		})
		q := newFifo(3)
		o := b.options(t, ca)
		o.AckTimeout = time.Hour
		o.PresenceTopic, o.Presence = "presence/press-7", func(on bool) []byte { return []byte(strconv.FormatBool(on)) }
		_, stop := start(t, b, q, o)
		time.Sleep(time.Minute)
		begin := time.Now()
		stop()
		if d := time.Since(begin); d < 5*time.Second || d > 10*time.Second {
			t.Errorf("the drain took %v, want about 5 s", d)
		}
		if q.left() != 3 || !slices.Equal(goodbye, []string{"true", "false"}) {
			t.Errorf("%d of 3 left, presence %v", q.left(), goodbye)
		}
	})
}

func TestDrainEmptiesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBroker(t, func(c *conn) {
			c.accept(packets.Accepted)
			c.answer(func(p *packets.PublishPacket) bool {
				time.Sleep(10 * time.Millisecond)
				c.puback(p.MessageID)
				return true
			})
		})
		q := newFifo(0)
		_, stop := start(t, b, q, b.options(t, ca))
		time.Sleep(time.Minute)
		synctest.Wait()
		for range 100 {
			q.add()
		}
		stop()
		if q.left() != 0 {
			t.Errorf("%d left", q.left())
		}
	})
}

func TestStalledConnectionIsTornDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBroker(t, func(c *conn) {
			c.accept(packets.Accepted)
			c.answer(func(p *packets.PublishPacket) bool {
				if c.n > 1 {
					c.puback(p.MessageID)
				}
				return true
			})
		})
		q := newFifo(1)
		u, stop := start(t, b, q, b.options(t, ca))
		time.Sleep(29 * time.Second)
		if st := u.Status(); st.State != Online || st.Inflight != 0 && st.Inflight != 1 {
			t.Errorf("after 29 s: %+v", st)
		}
		time.Sleep(10 * time.Second)
		if st := u.Status(); st.State != Online || st.ErrorKind != KindStalled || st.Connects != 2 || q.left() != 0 {
			t.Errorf("after 39 s: %+v", st)
		}
		stop()
	})
}

// A peer that takes no bytes at all must not hold up the next connection.
func TestDeafPeer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBroker(t, func(c *conn) {
			c.accept(packets.Accepted)
			if c.n == 1 {
				time.Sleep(2 * time.Minute)
				return
			}
			c.answer(func(p *packets.PublishPacket) bool { c.puback(p.MessageID); return true })
		})
		q := newFifo(0)
		for range 20 {
			q.add()
			q.items[len(q.items)-1] = make([]byte, 100<<10)
		}
		u, stop := start(t, b, q, b.options(t, ca))
		time.Sleep(45 * time.Second)
		if st := u.Status(); st.Connects != 2 || q.left() != 0 {
			t.Errorf("%+v, %d left", st, q.left())
		}
		stop()
	})
}

func TestSilentBrokerIsFoundByPing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBroker(t, func(c *conn) {
			c.accept(packets.Accepted)
			for { // reads, never answers
				if _, err := packets.ReadPacket(c); err != nil {
					return
				}
			}
		})
		o := b.options(t, ca)
		o.KeepAlive = 10 * time.Second
		u, stop := start(t, b, newFifo(0), o)
		time.Sleep(25 * time.Second)
		if st := u.Status(); st.ErrorKind != KindStalled || !strings.Contains(st.Error, "ping") {
			t.Errorf("%+v", st)
		}
		stop()
	})
}

// An hour without a broker is some tries and one line in the log; a stable
// connection starts the waits anew.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lines
		up := time.Now().Add(time.Hour)
		b, ca := newBroker(t, func(c *conn) {
			c.accept(0)
			time.Sleep(2 * time.Minute)
			_ = c.Conn.Close()
		})
		o := b.options(t, ca)
		o.Log = slog.New(slog.NewTextHandler(&log, nil))
		var mu sync.Mutex
		var all []time.Time
		dialled := func() []time.Time {
			mu.Lock()
			defer mu.Unlock()
			return slices.Clone(all)
		}
		o.Dial = func(ctx context.Context, n, a string) (net.Conn, error) {
			mu.Lock()
			all = append(all, time.Now())
			mu.Unlock()
			if time.Now().Before(up) {
				return nil, syscall.ECONNREFUSED
			}
			return b.dial(ctx, n, a)
		}
		_, stop := start(t, b, newFifo(0), o)
		time.Sleep(time.Hour)
		synctest.Wait()
		tries := dialled()
		// The mean wait is a minute once the cap of two is reached.
		if len(tries) < 30 || len(tries) > 150 {
			t.Errorf("%d tries in an hour", len(tries))
		}
		for i := 1; i < len(tries); i++ {
			if d := tries[i].Sub(tries[i-1]); d > 2*time.Minute || i == 1 && d > time.Second {
				t.Errorf("wait %d is %v", i, d)
			}
		}
		if n := strings.Count(log.String(), "no connection"); n != 1 {
			t.Errorf("%d lines in the log:\n%s", n, log.String())
		}
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		before := len(dialled())
		time.Sleep(2*time.Minute + time.Second)
		synctest.Wait()
		if len(dialled()) == before {
			t.Errorf("no quick retry after a stable connection")
		}
		stop()
	})
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

type peer struct {
	topics []string
	mu     sync.Mutex
	log    []string
	pub    Publish
}

func (p *peer) Topics() []string { return p.topics }
func (p *peer) note(s string)    { p.mu.Lock(); p.log = append(p.log, s); p.mu.Unlock() }
func (p *peer) Connected(f Publish) {
	p.note("connected")
	p.mu.Lock()
	p.pub = f
	p.mu.Unlock()
}
func (p *peer) Disconnected()                  { p.note("disconnected") }
func (p *peer) Receive(topic string, b []byte) { p.note(topic + " " + string(b)) }

func TestPeerAndPresence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		b, ca := newBroker(t, func(c *conn) {
			if w := c.connect; !w.WillFlag || !w.WillRetain || w.WillQos != 1 || w.WillTopic != "presence/press-7" ||
				string(w.WillMessage) != "false" || !w.CleanSession || w.Keepalive != 60 || w.ProtocolVersion != 4 {
				t.Errorf("CONNECT %v", w)
			}
			c.accept(0)
			c.answer(func(p *packets.PublishPacket) bool {
				got = append(got, p.TopicName+" "+strconv.FormatBool(p.Retain)+" "+string(p.Payload))
				c.puback(p.MessageID)
				if p.TopicName == "up/8" {
					m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
					m.TopicName, m.Payload = "down/8", []byte("hi")
					c.write(m)
				}
				return true
			})
		})
		p := &peer{}
		for i := range 11 { // two SUBSCRIBEs
			p.topics = append(p.topics, "down/"+strconv.Itoa(i))
		}
		o := b.options(t, ca)
		o.Peer, o.PresenceTopic, o.Presence = p, "presence/press-7", func(on bool) []byte {
			return []byte(strconv.FormatBool(on))
		}
		_, stop := start(t, b, newFifo(1), o)
		time.Sleep(time.Second)
		synctest.Wait()
		if err := p.pub(t.Context(), "up/8", []byte("hello")); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		stop()
		if err := p.pub(t.Context(), "up/8", nil); err == nil {
			t.Error("a publish on an ended connection succeeded")
		}
		want := []string{"presence/press-7 true true", "$tidemill/batch false 1", "up/8 false hello",
			"presence/press-7 true false"}
		if !slices.Equal(got, want) {
			t.Errorf("broker got %q", got)
		}
		if want := []string{"connected", "down/8 hi", "disconnected"}; !slices.Equal(p.log, want) {
			t.Errorf("peer saw %q", p.log)
		}
	})
}

// Batches go only to a peer that grants the subscription to notices and refuses
// the one to batches, as bridges do. All others get nothing: not a batch, not the
// presence, not the will; and the status says what to do.
func TestBatchesGoToABridgeAlone(t *testing.T) {
	const granted, refused = 1, 0x80
	for name, c := range map[string]struct {
		codes []byte // of notices and batches; nil: the connection is closed
		kind  Kind
	}{
		"bridge":               {[]byte{granted, refused}, ""},
		"grants all":           {[]byte{granted, granted}, KindNotBridge},
		"grants all, QoS 0":    {[]byte{0, 0}, KindNotBridge},
		"refuses all":          {[]byte{refused, refused}, KindNotBridge},
		"the other way round":  {[]byte{refused, granted}, KindNotBridge},
		"answers by one code":  {[]byte{granted}, KindNotBridge},
		"answers by no code":   {[]byte{}, KindNotBridge},
		"answers by 3 codes":   {[]byte{granted, refused, granted}, KindNotBridge},
		"answers by 400 codes": {bytes.Repeat([]byte{granted}, 400), KindNotBridge},
		"closes when asked so": {nil, KindNotBridge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var came []string
				closed := 0
				b, ca := newBroker(t, func(k *conn) {
					k.accept(0)
					goodbye := false
					for {
						p, err := packets.ReadPacket(k)
						if err != nil {
							// at more the link ends without a goodbye
							if !goodbye && c.codes != nil && len(c.codes) <= 2 {
								came = append(came, "will")
							}
							return
						}
						switch p := p.(type) {
						case *packets.SubscribePacket:
							if c.codes == nil {
								closed++
								return
							}
							a := packets.NewControlPacket(packets.Suback).(*packets.SubackPacket)
							a.MessageID = p.MessageID
							of := map[string]int{"notices": 0, "$tidemill/batch": 1}
							for _, topic := range p.Topics {
								if i := of[topic]; i < len(c.codes) {
									a.ReturnCodes = append(a.ReturnCodes, c.codes[i])
								}
							}
							if n := len(p.Topics); len(c.codes) > n {
								a.ReturnCodes = append(a.ReturnCodes, c.codes[n:]...)
							}
							k.write(a)
							m := packets.NewControlPacket(packets.Publish).(*packets.PublishPacket)
							m.TopicName, m.Payload = "notices", []byte("no")
							k.write(m)
						case *packets.PublishPacket:
							came = append(came, p.TopicName)
							k.puback(p.MessageID)
						case *packets.PingreqPacket:
							k.write(packets.NewControlPacket(packets.Pingresp))
						case *packets.DisconnectPacket:
							goodbye = true
						}
					}
				})
				var heard []string
				var log lines
				o := b.options(t, ca)
				o.NoticeTopic, o.Notice = "notices", func(p []byte) { heard = append(heard, string(p)) }
				o.PresenceTopic, o.Presence = "presence", func(bool) []byte { return []byte("{}") }
				o.Log = slog.New(slog.NewTextHandler(&log, nil))
				q := newFifo(1)
				u, stop := start(t, b, q, o)
				time.Sleep(10 * time.Minute)
				synctest.Wait()
				st := u.Status()
				stop()
				if c.kind == "" {
					if st.State != Online || q.left() != 0 ||
						!slices.Equal(came, []string{"presence", "$tidemill/batch", "presence"}) ||
						!slices.Equal(heard, []string{"no"}) || strings.Contains(log.String(), "WARN") {
						t.Errorf("%+v, %d left, came %q, heard %q\n%s", st, q.left(), came, heard, log.String())
					}
					return
				}
				if st.State == Online || st.ErrorKind != c.kind ||
					!strings.Contains(st.Error, `set uplink.format = "json"`) || q.left() != 1 || len(came) != 0 {
					t.Errorf("%+v, %d left, came %q", st, q.left(), came)
				}
				if n := strings.Count(log.String(), "kind=not_a_bridge"); n != 1 {
					t.Errorf("logged %d times\n%s", n, log.String())
				}
				if c.codes == nil && closed < closedAfter+1 {
					t.Errorf("asked %d times", closed)
				}
			})
		})
	}
}

func TestExpand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		q := newFifo(4)
		b, ca := newBroker(t, func(c *conn) {
			c.accept(0)
			c.answer(func(p *packets.PublishPacket) bool {
				got = append(got, p.TopicName)
				if p.TopicName == "2/2" && c.n == 1 {
					return false // the batch is not whole
				}
				c.puback(p.MessageID)
				return true
			})
		})
		o := b.options(t, ca)
		o.Inflight = 1
		o.Expand = func(batch []byte, publish func(string, []byte) error) error {
			if string(batch) == "3" {
				return errors.New("damaged")
			}
			for _, n := range []string{"/1", "/2", "/3"} {
				if err := publish(string(batch)+n, nil); err != nil {
					return err
				}
			}
			return nil
		}
		u, stop := start(t, b, q, o)
		time.Sleep(10 * time.Second)
		st := u.Status()
		stop()
		want := []string{"1/1", "1/2", "1/3", "2/1", "2/2", "2/1", "2/2", "2/3", "4/1", "4/2", "4/3"}
		if !slices.Equal(got, want) || q.left() != 0 || st.Damaged != 1 || st.Acked != 4 {
			t.Errorf("got %q, %d left, %+v", got, q.left(), st)
		}
	})
}

func TestQueueErrorEndsRun(t *testing.T) {
	b, ca := newBroker(t, func(c *conn) { c.accept(0); c.answer(func(*packets.PublishPacket) bool { return true }) })
	q := newFifo(0)
	q.bad = errors.New("disk gone")
	if err := New(q, b.options(t, ca)).Run(t.Context()); !errors.Is(err, q.bad) {
		t.Errorf("Run: %v, want %v", err, q.bad)
	}
	b.wg.Wait()
}
