package server

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/gorilla/websocket"

	"github.com/tidemill/tidemill/bridge/control/registry"
	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// signed is the URL and headers by which a client of the form asks for a
// WebSocket.
func (b *bridge) signed(f sigv4test.Form, at time.Time) (url string, h http.Header) {
	return b.signedAs(b.key(), f, at)
}

func (b *bridge) signedAs(k sigv4test.Key, f sigv4test.Form, at time.Time) (url string, h http.Header) {
	addr := b.https.Addr().String()
	host := addr
	if !f.Port {
		host, _, _ = net.SplitHostPort(addr)
	}
	return "wss://" + addr + "/mqtt?" + f.Query(host, k, "eu-local-1", at), http.Header{"Host": {host}}
}

// wss dials with gorilla's client and returns the connection, or the HTTP
// status that refused it.
func (b *bridge) wss(url string, h http.Header, conf *tls.Config, protocols ...string) (*websocket.Conn, int) {
	b.t.Helper()
	if conf == nil {
		conf = &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}
	}
	d := websocket.Dialer{TLSClientConfig: conf, Subprotocols: protocols, HandshakeTimeout: patience}
	c, resp, err := d.Dial(url, h)
	if err != nil {
		if resp == nil {
			b.t.Fatal(err)
		}
		return nil, resp.StatusCode
	}
	b.t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
		b.t.Fatal(err)
	}
	return c, 0
}

// connectPacket is a CONNECT of MQTT 3.1.1 with a clean session.
func connectPacket(clientID string) []byte {
	return append([]byte{0x10, byte(12 + len(clientID)), 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, byte(len(clientID))},
		clientID...)
}

// read reads n bytes of binary frames.
func read(t *testing.T, c *websocket.Conn, n int) string {
	t.Helper()
	var got []byte
	for len(got) < n {
		kind, b, err := c.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage {
			t.Fatalf("%q, kind %d: %v", got, kind, err)
		}
		got = append(got, b...)
	}
	return string(got)
}

// MQTT over WebSocket for the forms in which the SDKs sign, with packets in
// pieces and several to a frame.
func TestWebSocketForms(t *testing.T) {
	b := start(t, configure(t))
	for i, f := range sigv4test.Forms {
		protocol := []string{"mqttv3.1", "mqtt"}[i%2]
		url, h := b.signed(f, time.Now())
		c, status := b.wss(url, h, nil, protocol)
		if c == nil {
			t.Fatalf("%s: %d", f.Name, status)
		}
		if c.Subprotocol() != protocol {
			t.Errorf("%s: subprotocol %q", f.Name, c.Subprotocol())
		}
		out := append(connectPacket("ws"), "\x82\x08\x00\x01\x00\x03a/b\x01"...)
		out = append(out, "\x32\x09\x00\x03a/b\x00\x07hi\xc0\x00"...) // publish, ping
		for j := 0; j < len(out); j += 5 {
			if err := c.WriteMessage(websocket.BinaryMessage, out[j:min(j+5, len(out))]); err != nil {
				t.Fatal(err)
			}
		}
		got := read(t, c, 4+5+4+2+11)
		for _, want := range []string{"\x20\x02\x00\x00", "\x90\x03\x00\x01\x01", "\x40\x02\x00\x07", "\xd0\x00",
			"\x32\x09\x00\x03a/b\x00\x01hi"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: no %q in %q", f.Name, want, got)
			}
		}
		c.Close()
	}
	if !strings.Contains(b.log.String(), `"msg":"bridge is up"`) {
		t.Error("no log")
	}
}

// Requests that do not say who asks, or not truly, are refused before there is
// any WebSocket.
func TestWebSocketRefused(t *testing.T) {
	b := start(t, configure(t))
	url, h := b.signed(sigv4test.Version2, time.Now())
	plain, _, _ := strings.Cut(url, "?")
	old, oldHeader := b.signed(sigv4test.JavaScript1, time.Now().Add(-6*time.Minute))
	for _, c := range []struct {
		name, url string
		h         http.Header
		protocol  string
		want      int
	}{
		{"unsigned", plain, nil, "mqtt", 403},
		{"other host", url, http.Header{"Host": {"other"}}, "mqtt", 403},
		{"old", old, oldHeader, "mqtt", 403},
		{"changed", strings.Replace(url, "X-Amz-Date=2", "X-Amz-Date=3", 1), h, "mqtt", 403},
		{"other path", strings.Replace(url, "/mqtt?", "/mqtt/?", 1), h, "mqtt", 403},
		{"no protocol of MQTT", url, h, "chat", 400},
	} {
		if conn, status := b.wss(c.url, c.h, nil, c.protocol); conn != nil || status != c.want {
			t.Errorf("%s: %d, want %d", c.name, status, c.want)
		}
	}
	for _, h2 := range []bool{true, false} {
		tr := speaking(!h2, h2, false)
		tr.TLSClientConfig = &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}
		resp, err := (&http.Client{Transport: tr}).Get("https" + strings.TrimPrefix(url, "wss"))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		tr.CloseIdleConnections()
		want := map[bool]string{true: "over HTTP/1.1, not HTTP/2.0", false: "Upgrade: websocket"}[h2]
		if resp.StatusCode != 426 || !strings.Contains(string(text), want) ||
			resp.Header.Get("x-amzn-errortype") == "" {
			t.Errorf("%s %s %s", resp.Proto, resp.Status, text)
		}
	}
}

// over returns a client of paho's at a broker's URL.
func (b *bridge) over(url string, h http.Header, conf *tls.Config, clientID string,
	more ...func(*mqtt.ClientOptions)) *device {
	b.t.Helper()
	d := &device{t: b.t, lost: make(chan error, 1), got: make(chan mqtt.Message, 100)}
	o := mqtt.NewClientOptions().AddBroker(url).SetClientID(clientID).SetTLSConfig(conf).SetHTTPHeaders(h).
		SetProtocolVersion(4).SetAutoReconnect(false).SetConnectTimeout(patience)
	o.OnConnectionLost = func(_ mqtt.Client, err error) { d.lost <- err }
	o.DefaultPublishHandler = func(_ mqtt.Client, m mqtt.Message) { d.got <- m }
	for _, set := range more {
		set(o)
	}
	d.Client = mqtt.NewClient(o)
	b.t.Cleanup(func() { d.Disconnect(50) })
	return d
}

// The same policies hold on every way to the gateway: by certificate over
// WebSocket and over the HTTPS port's ALPN names as on the MQTT port; and who is
// connected by a key is so until the key is taken away.
func TestWaysIn(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("pump-1", all("iot:Publish", "topic/secret"))
	direct := b.connect(id, "pump-1")
	if got := direct.subscribe("#"); got != 1 {
		t.Fatalf("%#x", got)
	}
	addr := b.https.Addr().String()
	alpn := func(names ...string) *tls.Config {
		c := id.tls(t)
		c.NextProtos = names
		return c
	}
	for i, c := range []struct {
		url  string
		conf *tls.Config
	}{
		{"wss://" + addr + "/mqtt", id.tls(t)},
		{"wss://" + addr + "/mqtt", alpn("http/1.1")},
		{"ssl://" + addr, alpn("x-amzn-mqtt-ca")},
		{"ssl://" + addr, alpn("mqtt")},
		{"ssl://" + b.MQTTAddr().String(), alpn("x-amzn-mqtt-ca")},
		{"ssl://" + b.MQTTAddr().String(), alpn("mqtt")},
	} {
		c.conf.ServerName = "" // the address is none that would be sent
		d := b.over(c.url, nil, c.conf, fmt.Sprint("way-", i))
		d.ok(d.Connect())
		d.publish("open", fmt.Sprint(i))
		if got := direct.next(); got != fmt.Sprint("open ", i) {
			t.Errorf("%s: %q", c.url, got)
		}
		if err := d.wait(d.Publish("secret", 1, false, "x")); err == nil {
			t.Errorf("%s: published what policy denies", c.url)
		}
		d.ends()
	}
	b.eventually("one connection", func() bool { return b.gateway.Stats().Connections == 1 })

	held := b.over("wss://"+addr+"/mqtt", nil, id.tls(t), "held")
	held.ok(held.Connect())
	b.update(func(tx *registry.Tx) error { return tx.SetCertificateStatus(id.CertificateID, registry.Revoked) })
	held.ends()
	again := b.over("wss://"+addr+"/mqtt", nil, id.tls(t), "held")
	if err := again.wait(again.Connect()); err == nil {
		t.Error("revoked, and connected")
	}

	url, h := b.signed(sigv4test.Python1, time.Now())
	keyed := b.over(url, h, &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}, "keyed")
	keyed.ok(keyed.Connect())
	b.must("POST", "/v1/reload", "", nil)
	keyed.publish("open", "still there")
	b.changeKeys("[default]\naws_access_key_id=AKIANEW\naws_secret_access_key=new\n")
	keyed.ends()
	if c, status := b.wss(url, h, nil, "mqtt"); c != nil || status != 403 {
		t.Errorf("a key that was taken away: %d", status)
	}
}

// A page of another site does not get the browser's certificate to work for it.
func TestWebSocketOrigin(t *testing.T) {
	b := start(t, configure(t))
	id := b.thing("pump-1", "")
	addr := b.https.Addr().String()
	for origin, want := range map[string]int{"https://evil.example": 403, "null": 403, "https://" + addr: 0,
		"http://" + addr: 403, "https://evil@" + addr: 403, "https://" + addr + "/evil": 403, "": 403} {
		if _, status := b.wss("wss://"+addr+"/mqtt", http.Header{"Origin": {origin}}, id.tls(t),
			"mqtt"); status != want {
			t.Errorf("%s: %d, want %d", origin, status, want)
		}
	}
}

// WebSocket without TLS is there where HTTP without TLS is.
func TestWebSocketPlaintext(t *testing.T) {
	cfg := configure(t)
	cfg.HTTPS.Plaintext = "loopback"
	b := start(t, cfg)
	url, h := b.signed(sigv4test.JavaScript1, time.Now())
	c, status := b.wss("ws"+strings.TrimPrefix(url, "wss"), h, nil, "mqtt")
	if c == nil {
		t.Fatal(status)
	}
	if err := c.WriteMessage(websocket.BinaryMessage, connectPacket("x")); err != nil {
		t.Fatal(err)
	}
	if got := read(t, c, 4); got != "\x20\x02\x00\x00" {
		t.Errorf("%q", got)
	}
}

// WebSockets are not counted as requests, so devices that stay do not keep
// others out; and when the bridge stops, it waits for them.
func TestWebSocketsAreOwned(t *testing.T) {
	cfg := configure(t)
	cfg.HTTPS.MaxConnections = 2
	b := start(t, cfg)
	var all []*websocket.Conn
	for i := range 5 {
		url, h := b.signed(sigv4test.Version2, time.Now())
		c, status := b.wss(url, h, nil, "mqtt")
		if c == nil {
			t.Fatal(status)
		}
		if err := c.WriteMessage(websocket.BinaryMessage, connectPacket(fmt.Sprint("c", i))); err != nil {
			t.Fatal(err)
		}
		read(t, c, 4)
		all = append(all, c)
	}
	if resp, body := b.aws(b.key(), true, "GET", "/rules", ""); resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, body)
	}
	if err := b.stop(); err != nil {
		t.Error(err)
	}
	if n := b.gateway.Stats().Connections; n != 0 {
		t.Errorf("%d connections are left", n)
	}
	for _, c := range all {
		if _, _, err := c.ReadMessage(); err == nil {
			t.Error("something was read")
		}
	}
}

// A client that breaks WebSocket's rules ends its own connection alone.
func TestWebSocketBreach(t *testing.T) {
	b := start(t, configure(t))
	url, h := b.signed(sigv4test.Version2, time.Now())
	c, _ := b.wss(url, h, nil, "mqtt")
	if err := c.WriteMessage(websocket.BinaryMessage, connectPacket("x")); err != nil {
		t.Fatal(err)
	}
	read(t, c, 4)
	if err := c.WriteMessage(websocket.TextMessage, []byte{0xc0, 0}); err != nil {
		t.Fatal(err)
	}
	_, _, err := c.ReadMessage()
	if closed, ok := errors.AsType[*websocket.CloseError](err); !ok || closed.Code != websocket.CloseUnsupportedData {
		t.Error(err)
	}
	b.eventually("client error", func() bool { return bytes.Contains([]byte(b.log.String()), []byte("CLIENT_ERROR")) })
}

// What is signed for another region is refused by every service, and the error
// says what to do. A permissive bridge takes it as its own.
func TestRegions(t *testing.T) {
	ask := func(b *bridge, region, service, method, path, target, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, "https://"+b.https.Addr().String()+path,
			strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Host = req.URL.Host
		if target != "" {
			req.Header.Set("X-Amz-Target", target)
			req.Header.Set("Content-Type", "application/x-amz-json-1.1")
		}
		sigv4test.Sign(req, []byte(body), b.key(), region, service, time.Now())
		resp, err := b.requester("", nil).client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	b := start(t, configure(t))
	for _, c := range []struct{ service, method, path, target, body string }{
		{"iot", "GET", "/things", "", ""},
		{"iot", "GET", "/rules", "", ""},
		{"iotdata", "POST", "/topics/a", "", "x"},
		{"kinesis", "POST", "/", "Kinesis_20131202.ListStreams", "{}"},
	} {
		if status, text := ask(b, "eu-local-1", c.service, c.method, c.path, c.target, c.body); status != 200 {
			t.Errorf("%s: %d %s", c.service, status, text)
		}
		if status, text := ask(b, "us-east-1", c.service, c.method, c.path, c.target, c.body); status < 400 ||
			!strings.Contains(text, "not 'us-east-1'") && !strings.Contains(text, `not \"us-east-1\"`) ||
			!strings.Contains(text, "AWS_REGION") {
			t.Errorf("%s: %d %s", c.service, status, text)
		}
	}
	cfg := configure(t)
	cfg.HTTPS.Permissive = true
	free := start(t, cfg)
	if status, text := ask(free, "us-east-1", "kinesis", "POST", "/", "Kinesis_20131202.CreateStream",
		`{"StreamName":"s","ShardCount":1}`); status != 200 {
		t.Fatal(status, text)
	}
	if status, text := ask(free, "us-east-1", "kinesis", "POST", "/", "Kinesis_20131202.DescribeStreamSummary",
		`{"StreamName":"s"}`); status != 200 || !strings.Contains(text, "arn:aws:kinesis:eu-local-1:") {
		t.Error(status, text)
	}
}
