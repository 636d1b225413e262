package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/packet"
)

// BenchmarkIdleConnections measures what 5,000 clients with a subscription each
// cost the server while nothing happens, how fast they connect, 64 at a time,
// and how fast all are back after they were cut off together, beside mosquitto.
// With TLS they then resume their sessions, as far as the server lets them.
//
//	go test ./bridge/speed/gateway -run '^$' -bench IdleConnections -benchtime 1x
func BenchmarkIdleConnections(b *testing.B) {
	a := newAuthority(b)
	ca, cert, key := a.files(a.leaf("server"))
	leaf := a.leaf("c")
	for _, c := range []struct {
		name   string
		secure bool
		start  func(b *testing.B) peer
	}{
		{"plain/gateway", false, func(b *testing.B) peer { return startGateway(b, "now") }},
		{"plain/mosquitto", false, func(b *testing.B) peer { return startMosquitto(b) }},
		{"mtls/gateway", true, func(b *testing.B) peer { return startGateway(b, "now "+ca+" "+cert+" "+key) }},
		{"mtls/mosquitto", true, func(b *testing.B) peer { return startMosquitto(b, ca, cert, key) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			for b.Loop() {
				p := c.start(b)
				crowd := &crowd{addr: p.addr}
				if c.secure {
					for range idleClients {
						crowd.tls = append(crowd.tls, &tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{leaf}, ServerName: "127.0.0.1",
							ClientSessionCache: tls.NewLRUClientSessionCache(1)})
					}
				}
				time.Sleep(200 * time.Millisecond)
				before, spent := p.rss(), p.cpu()
				took := crowd.connect(b)
				time.Sleep(time.Second)
				b.ReportMetric(float64(p.rss()-before)/idleClients/1024, "KiB/connection")
				b.ReportMetric(idleClients/took.Seconds(), "connects/s")
				b.ReportMetric(float64((p.cpu()-spent).Microseconds())/idleClients, "cpu-us/connect")
				crowd.cut()
				spent = p.cpu()
				took = crowd.connect(b)
				b.ReportMetric(idleClients/took.Seconds(), "storm-connects/s")
				b.ReportMetric(float64((p.cpu()-spent).Microseconds())/idleClients, "storm-cpu-us/connect")
				crowd.cut()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

const idleClients = 5000

// A crowd are clients that connect and do nothing.
type crowd struct {
	addr  string
	tls   []*tls.Config // of each, nil: without TLS
	conns [idleClients]net.Conn
}

// connect brings all in, 64 at a time.
func (c *crowd) connect(b *testing.B) time.Duration {
	b.Helper()
	begin := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 64)
	for w := range errs {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < idleClients && errs[w] == nil; i = next.Add(1) - 1 {
				c.conns[i], errs[w] = c.dial(int(i))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		b.Fatal(err)
	}
	return time.Since(begin)
}

func (c *crowd) dial(i int) (net.Conn, error) {
	nc, err := net.DialTimeout("tcp", c.addr, 20*time.Second)
	if err != nil {
		return nil, err
	}
	if err := nc.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	if c.tls != nil {
		nc = tls.Client(nc, c.tls[i])
	}
	out := (&packet.Connect{Version: packet.V311, Clean: true, ClientID: fmt.Sprint("c", i)}).Append(nil, packet.V311)
	out = (&packet.Subscribe{ID: 1, Filters: []packet.Filter{{Filter: fmt.Sprint("c/", i), Options: 1}}}).Append(out, packet.V311)
	if _, err := nc.Write(out); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(nc, make([]byte, 9)) // CONNACK and SUBACK
	return nc, err
}

// cut ends all connections without a word.
func (c *crowd) cut() {
	for _, nc := range c.conns {
		if t, ok := nc.(*tls.Conn); ok {
			nc = t.NetConn()
		}
		nc.Close()
	}
}
