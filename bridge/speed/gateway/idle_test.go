package gateway

import (
	"crypto/tls"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/mqtt/mqtttest"
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
				crowd := mqtttest.NewCrowd(p.addr, idleClients, nil)
				if c.secure {
					crowd = mqtttest.NewCrowd(p.addr, idleClients,
						&tls.Config{RootCAs: a.pool, Certificates: []tls.Certificate{leaf}, ServerName: "127.0.0.1"})
				}
				connect := func() time.Duration {
					took, err := crowd.Connect()
					if err != nil {
						b.Fatal(err)
					}
					return took
				}
				time.Sleep(200 * time.Millisecond)
				before, spent := p.rss(), p.cpu()
				took := connect()
				time.Sleep(time.Second)
				b.ReportMetric(float64(p.rss()-before)/idleClients/1024, "KiB/connection")
				b.ReportMetric(idleClients/took.Seconds(), "connects/s")
				b.ReportMetric(float64((p.cpu()-spent).Microseconds())/idleClients, "cpu-us/connect")
				crowd.Cut()
				spent = p.cpu()
				took = connect()
				b.ReportMetric(idleClients/took.Seconds(), "storm-connects/s")
				b.ReportMetric(float64((p.cpu()-spent).Microseconds())/idleClients, "storm-cpu-us/connect")
				crowd.Cut()
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

const idleClients = 5000
