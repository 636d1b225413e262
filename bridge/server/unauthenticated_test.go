package server

import (
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"testing"
)

// knocks opens n connections to the HTTPS listener and says nothing. It returns
// those whom the bridge does not close.
func (b *bridge) knocks(n int, handshake bool) (open []net.Conn) {
	b.t.Helper()
	for range n {
		c, err := net.Dial("tcp", b.https.Addr().String())
		if err != nil {
			b.t.Fatal(err)
		}
		b.t.Cleanup(func() { c.Close() })
		if handshake {
			t := tls.Client(c, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"})
			if t.Handshake() != nil {
				continue // closed
			}
			c = t
		}
		open = append(open, c)
	}
	return open
}

// One address that says nothing does not close the port: neither for others nor
// for who comes from there with a key, as soon as the silent ones have had their
// time.
func TestStrangersDoNotCloseHTTPS(t *testing.T) {
	for _, handshake := range []bool{true, false} {
		cfg := configure(t)
		cfg.HTTPS.MaxConnections, cfg.HTTPS.MaxUnauthenticated, cfg.HTTPS.MaxPerAddress = 16, 8, 12
		b := start(t, cfg)
		r := b.requester("iot", nil)
		if status, _, text := r.do("GET", "/rules", ""); status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		b.knocks(40, handshake)
		metric := func(line string) func() bool {
			return func() bool {
				_, text := b.do("GET", "/metrics", "")
				return strings.Contains(text, line)
			}
		}
		// Three quarters of those that nobody knows, and the one with a key.
		b.eventually("full", metric("tidemill_https_unauthenticated_connections 6\n"))
		b.eventually("the others were closed", metric("tidemill_https_refused_connections_total 34\n"))
		if status, _, text := r.do("GET", "/rules", ""); status != 200 {
			t.Errorf("who was there: %d %s", status, text)
		}
		b.eventually("who comes from the same address gets in", func() bool {
			tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}}
			defer tr.CloseIdleConnections()
			resp, err := (&http.Client{Transport: tr}).Get("https://" + b.https.Addr().String() + "/rules")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == 403
		})
	}
}

// MQTT by ALPN and WebSocket counts as the gateway's own listener does.
func TestStrangersByALPN(t *testing.T) {
	cfg := configure(t)
	cfg.MQTT.MaxUnauthenticated = 8
	b := start(t, cfg)
	for range 20 {
		c, err := tls.Dial("tcp", b.https.Addr().String(),
			&tls.Config{RootCAs: b.roots(), ServerName: "localhost", NextProtos: []string{"x-amzn-mqtt-ca"}})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	b.eventually("some closed, some wait", func() bool {
		st := b.gateway.Stats()
		return st.Unauthenticated == 6 && st.OverLimit == 14
	})
	if st := b.https.Stats().Connections; st.Open != 0 {
		t.Errorf("%+v", st)
	}
}
