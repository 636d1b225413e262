package gateway

import (
	"bytes"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
	"github.com/tidemill/tidemill/deploy/await"
)

// Hostile input ends its own connection and nothing else.
func TestHostileInput(t *testing.T) {
	f := start(t, Config{MaxPayload: 1000, MaxSubscriptions: 3}, nil)
	good := f.connect(t, "good")
	big := pub("a", strings.Repeat("x", 1001), 0, 0).Append(nil, packet.V311)
	connect := (&packet.Connect{Version: packet.V311, Clean: true, ClientID: "h"}).Append(nil, packet.V311)
	for name, in := range map[string]string{
		"the packet that ends mochi 2.7.9":  "\x82\x05\x00\x01\x00\x00\x00",
		"second CONNECT":                    string(connect),
		"CONNACK":                           "\x20\x02\x00\x00",
		"SUBACK":                            "\x90\x03\x00\x01\x00",
		"PINGRESP":                          "\xd0\x00",
		"AUTH":                              "\xf0\x00",
		"type 0":                            "\x00\x00",
		"a length without end":              "\x30\xff\xff\xff\xff\xff",
		"256 MiB announced":                 "\x30\xff\xff\xff\x7f",
		"payload over the limit":            string(big),
		"publish to a wildcard":             "\x30\x03\x00\x01#",
		"publish to nothing":                "\x30\x02\x00\x00",
		"publish QoS 3":                     "\x36\x05\x00\x01a\x00\x01",
		"filter with a wildcard in a level": "\x82\x07\x00\x01\x00\x02a#\x00",
		"filter beyond the packet":          "\x82\x05\x00\x01\xff\xff\x00",
		"PUBACK 0":                          "\x40\x02\x00\x00",
		"half a packet and then nothing":    "\x30\x7f\x00\x01a",
		"HTTP":                              "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"TLS":                               "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	} {
		t.Run(name, func(t *testing.T) {
			w := f.dial(t)
			w.bytes(connect)
			w.want(&packet.Connack{})
			w.nc.Write([]byte(in))
			w.nc.(*net.TCPConn).CloseWrite()
			w.wantEnd()
			w = f.dial(t)
			if in != string(connect) { // as a first packet
				w.nc.Write([]byte(in))
				w.nc.(*net.TCPConn).CloseWrite()
				w.wantEnd()
			}
			good.ping()
		})
	}
	// Every packet cut at every place, and with every byte of its head changed.
	sub := (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "a/+", Options: 1}, {Filter: "b"}}}).Append(nil,
		packet.V311)
	for i := range sub {
		for _, v := range []byte{0, 1, 0x7f, 0x80, 0xff} {
			w := f.connect(t, "h")
			in := bytes.Clone(sub)
			in[i] = v
			w.bytes(in)
			w.nc.(*net.TCPConn).CloseWrite()
			for err := error(nil); err == nil; {
				_, err = w.next()
			}
		}
	}
	good.ping()
	// Acknowledgements of what was never sent do no harm.
	good.send(ackOf(packet.PUBACK, 9), ackOf(packet.PUBCOMP, 9), ackOf(packet.PUBREC, 9))
	good.want(ackOf(packet.PUBREL, 9))
	good.ping()
	good.send(&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: "1"}, {Filter: "2"}, {Filter: "3"},
		{Filter: "4"}, {Filter: "2", Options: 1}}})
	good.want(&packet.Suback{ID: 1, Codes: []byte{0, 0, 0, 0x80, 1}})
	if st := f.Stats(); st.Panics != 0 {
		t.Errorf("%d panics", st.Panics)
	}
}

// A router or policy that panics ends one connection.
func TestPanics(t *testing.T) {
	f := start(t, Config{}, routerFunc(func(_ *Client, m *message.Message, done func(error)) { panic("router") }))
	good := f.connect(t, "good")
	w := f.dial(t)
	w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: "w", HasWill: true, WillTopic: "w"},
		pub("a", "", 1, 1))
	w.want(&packet.Connack{})
	w.wantEnd()
	good.ping()
	await.True(t, "both panics", func() bool {
		return f.Stats().Panics == 2 && f.Stats().Disconnects[ReasonServer] == 1
	})
}

// A client that does not read costs no more than its limit: QoS 0 is dropped, QoS
// 1 ends it, and other clients do not notice.
func TestSlowConsumer(t *testing.T) {
	f := startPipes(t, Config{OutBytes: 10000}, nil) // a pipe takes nothing that is not read
	zero, one, p := f.connect(t, "zero"), f.connect(t, "one"), f.connect(t, "p")
	zero.subscribe("a", 0)
	one.subscribe("a", 1)
	payload := strings.Repeat("x", 1000)
	for i := range 100 {
		p.send(pub("a", payload, 1, uint16(i+1)))
		p.want(ackOf(packet.PUBACK, uint16(i+1)))
		if q := f.Stats().QueueBytes; q > 2*10000+2000 {
			t.Fatalf("%d bytes are queued", q)
		}
	}
	one.wantEndSometime()
	await.True(t, "one is gone", func() bool { return f.Stats().Disconnects[ReasonThrottled] == 1 })
	n := 0
	zero.send(&packet.Ping{Kind: packet.PINGREQ})
	for ; ; n++ {
		if got, err := zero.next(); err != nil {
			t.Fatal(err)
		} else if got.Type() == packet.PINGRESP {
			break
		}
	}
	st := f.Stats()
	if n == 0 || n > 10 || st.DroppedQoS0 != uint64(100-n) || st.DroppedQueue == 0 {
		t.Errorf("%d of 100 came, %+v", n, st)
	}
	// A client that is away loses the newest.
	away := f.resume(t, "away", false)
	away.subscribe("b", 1)
	away.send(&packet.Disconnect{Kind: packet.DISCONNECT})
	away.wantEnd()
	await.True(t, "it is away", func() bool { return f.Stats().Clients == 2 })
	for i := range 20 {
		p.send(pub("b", payload, 1, uint16(i+1)))
		p.want(ackOf(packet.PUBACK, uint16(i+1)))
	}
	away = f.resume(t, "away", true)
	for i := range 9 {
		away.want(pub("b", payload, 1, uint16(i+1)))
		away.send(ackOf(packet.PUBACK, uint16(i+1)))
	}
	away.ping()
}

// A client that asks and does not listen is bounded too.
func TestDeafClient(t *testing.T) {
	f := startPipes(t, Config{OutBytes: 10000}, nil)
	w := f.connect(t, "w")
	w.subscribe("a", 0)
	f.Deliver(&message.Message{Topic: "a"}, nil) // a writer that waits for the client
	pings := bytes.Repeat([]byte("\xc0\x00"), 500)
	w.nc.SetWriteDeadline(time.Now().Add(patience))
	n := 0
	for ; n < 100; n++ {
		if _, err := w.nc.Write(pings); err != nil {
			break
		}
	}
	if n < 15 || n > 25 {
		t.Errorf("%d bytes of answers were kept", n*1000)
	}
	await.True(t, "it is gone", func() bool { return f.Stats().Disconnects[ReasonThrottled] == 1 })
}

// wantEndSometime is wantEnd for a client that has deliveries to come before the end.
func (w *wire) wantEndSometime() {
	w.t.Helper()
	for err := error(nil); err == nil; {
		_, err = w.next()
	}
}

// A deadline that passes while TLS reads must not break the stream.
func TestKeepAliveTLS(t *testing.T) {
	a := newAuthority(t)
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		f := startOn(t, Config{}, nil, tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{a.leaf("server")},
			ClientAuth: tls.RequireAnyClientCert, Time: realTime}))
		nc := tls.Client(l.dial(t), &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{a.leaf("k")},
			Time: realTime})
		w := &wire{t, nc, packet.NewReader(nc, 4096, 1<<20), packet.V311}
		w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: "k", KeepAlive: 60})
		w.want(&packet.Connack{})
		for range 10 {
			time.Sleep(50 * time.Second) // the deadline of 90 s passes between pings
			w.ping()
		}
		time.Sleep(90*time.Second + time.Millisecond)
		synctest.Wait()
		if st := f.Stats(); st.Disconnects[ReasonKeepAlive] != 1 {
			t.Errorf("%+v", st)
		}
		nc.SetDeadline(time.Now())
		nc.Close()
		// A handshake that never ends.
		dead := l.dial(t)
		begin := time.Now()
		if _, err := dead.Read(make([]byte, 1)); err == nil || time.Since(begin) != 10*time.Second {
			t.Errorf("after %v: %v", time.Since(begin), err)
		}
		dead.Close()
		f.stop()
	})
}

// realTime is not the bubble's, which begins before the certificates.
func realTime() time.Time { return time.Unix(0, startTime) }

var startTime = time.Now().UnixNano()

// Time limits, in the bubble's time.
func TestTimeLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var j journal
		f := startPipes(t, Config{KeepAliveMin: 30 * time.Second, KeepAliveMax: 20 * time.Minute,
			DrainTimeout: time.Second}, nil, withEvents(j.event))
		// until returns how long the server leaves the connection open.
		until := func(w *wire) time.Duration {
			begin := time.Now()
			w.nc.SetReadDeadline(begin.Add(24 * time.Hour))
			for err := error(nil); err == nil; {
				_, _, _, err = w.rd.Next()
			}
			return time.Since(begin)
		}
		keep := func(id string, seconds uint16) *wire {
			w := f.dial(t)
			w.send(&packet.Connect{Version: packet.V311, Clean: true, ClientID: id, KeepAlive: seconds})
			w.want(&packet.Connack{})
			return w
		}
		if got := until(f.dial(t)); got != 30*time.Second {
			t.Errorf("without CONNECT: open for %v", got)
		}
		trickle := func(nc net.Conn, every time.Duration, what string) {
			for _, b := range []byte(what) {
				nc.Write([]byte{b})
				time.Sleep(every)
			}
		}
		w := f.dial(t)
		go trickle(w.nc, 6*time.Second, "\x10\x7f\x00\x04MQ") // a byte now and then does not help
		if got := until(w); got != 30*time.Second {
			t.Errorf("with a slow CONNECT: open for %v", got)
		}
		for seconds, want := range map[uint16]time.Duration{1: 45 * time.Second, 60: 90 * time.Second,
			3600: 30 * time.Minute, 0: 30 * time.Minute} {
			if got := until(keep("k", seconds)); got != want {
				t.Errorf("keep alive %d: open for %v, want %v", seconds, got, want)
			}
		}
		w = keep("k", 60)
		for range 10 {
			time.Sleep(89 * time.Second)
			w.ping()
		}
		if got := until(w); got != 90*time.Second {
			t.Errorf("after pings: open for %v", got)
		}
		w = keep("k", 60)
		time.Sleep(10 * time.Second)
		go trickle(w.nc, 30*time.Second, "\x30\x7f\x00\x01a123456")
		if got := until(w); got != 80*time.Second {
			t.Errorf("with a packet that never ends: open for %v", got)
		}
		synctest.Wait()
		if want := strings.Repeat("connected k\ndisconnected k MQTT_KEEP_ALIVE_TIMEOUT\n", 6); j.String() != want {
			t.Errorf("got\n%swant\n%s", j.String(), want)
		}
		// A write that does not get through.
		w = f.connect(t, "slow")
		w.subscribe("a", 0)
		f.Deliver(&message.Message{Topic: "a"}, nil)
		time.Sleep(30*time.Second + time.Millisecond)
		synctest.Wait()
		if st := f.Stats(); st.Disconnects[ReasonThrottled] != 1 || st.Clients != 0 {
			t.Errorf("a client that does not read: %+v", st)
		}
		// Nor does the end of the server wait for one.
		w = f.connect(t, "slow")
		w.subscribe("a", 0)
		f.Deliver(&message.Message{Topic: "a"}, nil)
		synctest.Wait()
		begin := time.Now()
		f.stop()
		if took := time.Since(begin); took > time.Second {
			t.Errorf("the end took %v", took)
		}
		time.Sleep(time.Hour) // the test's own writers
	})
}
