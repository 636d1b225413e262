package server

import (
	"crypto/tls"
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidemill/tidemill/bridge/config"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// WebSockets that say nothing, and more than there may be, end; meanwhile others
// are served.
func TestFloodOfWebSockets(t *testing.T) {
	cfg := configure(t)
	cfg.MQTT.ConnectTimeout, cfg.MQTT.MaxConnections, cfg.HTTPS.MaxConnections = config.Duration(time.Second), 8, 4
	b := start(t, cfg)
	var wg sync.WaitGroup
	began := time.Now()
	for range 40 {
		wg.Go(func() {
			url, h := b.signed(sigv4test.Version2, time.Now())
			d := websocket.Dialer{TLSClientConfig: &tls.Config{RootCAs: b.roots(), ServerName: "localhost"},
				Subprotocols: []string{"mqtt"}, HandshakeTimeout: patience}
			c, _, err := d.Dial(url, h)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			_ = c.SetReadDeadline(time.Now().Add(patience))
			if _, _, err := c.ReadMessage(); err == nil || errors.Is(err, http.ErrHandlerTimeout) {
				t.Errorf("%v", err)
			}
		})
	}
	if resp, body := b.aws(b.key(), true, "GET", "/rules", ""); resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, body)
	}
	wg.Wait()
	if took := time.Since(began); took > patience/2 {
		t.Errorf("they were let go after %v", took)
	}
	b.eventually("no connection is left", func() bool { return b.gateway.Stats().Connections == 0 })
	if n := b.gateway.Stats().OverLimit; n == 0 || n > 32 {
		t.Errorf("%d were over the limit", n)
	}
	url, h := b.signed(sigv4test.Version2, time.Now())
	c, status := b.wss(url, h, nil, "mqtt")
	if c == nil {
		t.Fatal(status)
	}
	if err := c.WriteMessage(websocket.BinaryMessage, connectPacket("after")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c, 4); got != "\x20\x02\x00\x00" {
		t.Errorf("%q", got)
	}
}

// A WebSocket by a signature ends after a day, with the reason that says so.
func TestWebSocketLife(t *testing.T) {
	b := start(t, configure(t))
	url, h := b.signed(sigv4test.Python1, time.Now())
	d := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, "x")
	d.ok(d.Connect())
	r, err := http.NewRequest("GET", "https://"+b.https.Addr().String()+
		url[len("wss://")+len(b.https.Addr().String()):], nil)
	if err != nil {
		t.Fatal(err)
	}
	r.RequestURI, r.Host = r.URL.RequestURI(), h.Get("Host")
	via, err := b.authorizer.Upgrade(r)
	if life := time.Until(via.Ends); err != nil || life < 24*time.Hour-patience || life > 24*time.Hour ||
		via.EndReason != "WEBSOCKET_TTL_EXPIRATION" || via.Protocol != "wss" {
		t.Errorf("%+v %v", via, err)
	}
}
