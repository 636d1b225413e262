package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/sigv4/sigv4test"
)

// ask signs a request of Kinesis and sends it by tr.
func (b *bridge) ask(tr *http.Transport, scheme, op, body string) (*http.Response, string, error) {
	b.t.Helper()
	return b.askAs(b.key(), tr, scheme, op, body)
}

// askAs is ask with another key.
func (b *bridge) askAs(k sigv4test.Key, tr *http.Transport, scheme, op, body string) (*http.Response, string, error) {
	b.t.Helper()
	req, err := http.NewRequestWithContext(b.t.Context(), "POST", scheme+"://"+b.https.Addr().String()+"/",
		strings.NewReader(body))
	if err != nil {
		b.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-amz-json-1.1")
	req.Header.Set("X-Amz-Target", "Kinesis_20131202."+op)
	req.Host = req.URL.Host
	sigv4test.Sign(req, []byte(body), k, "eu-local-1", "kinesis", time.Now())
	if tr.TLSClientConfig == nil {
		tr.TLSClientConfig = &tls.Config{RootCAs: b.roots(), ServerName: "localhost"}
	}
	defer tr.CloseIdleConnections()
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp, string(text), err
}

// speaking is a client's side of protocols.
func speaking(h1, h2, h2c bool) *http.Transport {
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetHTTP1(h1)
	tr.Protocols.SetHTTP2(h2)
	tr.Protocols.SetUnencryptedHTTP2(h2c)
	return tr
}

// One port takes TLS and, where it is switched on, plaintext, each by HTTP/1.1
// and HTTP/2.
func TestProtocols(t *testing.T) {
	for _, plaintext := range []string{"off", "loopback", "on"} {
		cfg := configure(t)
		cfg.HTTPS.Plaintext = plaintext
		b := start(t, cfg)
		for _, c := range []struct {
			scheme             string
			h1, h2, h2c, blind bool
			want               string
		}{
			{"https", true, false, false, false, "HTTP/1.1 200"},
			{"https", true, true, false, false, "HTTP/2.0 200"},
			{"http", false, false, true, true, "HTTP/2.0 200"},
			{"http", true, false, false, false, "HTTP/1.1 200"},
			{"http", false, false, true, false, "HTTP/2.0 200"},
		} {
			tr := speaking(c.h1, c.h2, c.h2c)
			if c.blind { // HTTP/2 without a word of it in the handshake
				tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
					return (&tls.Dialer{Config: tr.TLSClientConfig}).DialContext(ctx, network, addr)
				}
			}
			resp, text, err := b.ask(tr, c.scheme, "DescribeLimits", "{}")
			got := ""
			if err == nil {
				got = fmt.Sprint(resp.Proto, " ", resp.StatusCode)
			}
			if plaintext == "off" && c.scheme == "http" && !c.blind {
				if err == nil {
					t.Errorf("off: %+v: %s", c, got)
				}
			} else if got != c.want || err != nil || !strings.Contains(text, "OpenShardCount") {
				t.Errorf("%s: %+v: %s %v", plaintext, c, got, err)
			}
		}
		if err := errors.Join(b.stop(), b.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A test setup may take any key, and the log says so.
func TestPermissiveHTTPS(t *testing.T) {
	cfg := configure(t)
	cfg.HTTPS.Permissive = true
	b := start(t, cfg)
	if resp, body := b.aws(sigv4test.Key{ID: "test", Secret: "test"}, true, "GET", "/rules",
		""); resp.StatusCode != 200 {
		t.Errorf("%s %s", resp.Status, body)
	}
	if !strings.Contains(b.log.String(), "signatures are not verified") {
		t.Error("no warning")
	}
	// Pages of other sites have the browser of who looks at them ask.
	addr := b.https.Addr().String()
	for _, c := range []struct {
		host, origin string
		want         int
		allow        string
	}{
		{addr, "", 200, ""},
		{"localhost:1", "http://localhost:3000", 200, "http://localhost:3000"},
		{"localhost", "http://127.0.0.1", 200, "http://127.0.0.1"},
		{addr, "https://" + addr, 200, "https://" + addr},
		{addr, "https://evil.example", 403, ""},
		{addr, "http://" + addr, 200, "http://" + addr}, // this machine's, by another port
		{addr, "null", 403, ""},
		{addr, "https://evil@" + addr, 403, ""},
		{"localhost", "https://evil@localhost", 403, ""},
		{"evil.example", "", 421, ""},
		{"evil.example:8443", "https://evil.example:8443", 421, ""},
	} {
		for _, method := range []string{"POST", "OPTIONS"} {
			req, err := http.NewRequest(method, "https://"+addr+"/", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Content-Type", "application/x-amz-json-1.1")
			req.Header.Set("X-Amz-Target", "Kinesis_20131202.ListStreams")
			if req.Host = c.host; c.origin != "" {
				req.Header.Set("Origin", c.origin)
			}
			sigv4test.Sign(req, []byte("{}"), sigv4test.Key{ID: "x", Secret: "y"}, "eu-local-1", "kinesis", time.Now())
			resp, err := b.requester("", nil).client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get("Access-Control-Allow-Origin"); method == "POST" && resp.StatusCode != c.want ||
				got != c.allow || got == "*" {
				t.Errorf("%s to %s from %q: %d, allows %q", method, c.host, c.origin, resp.StatusCode, got)
			}
		}
	}
	if _, status := b.wss("wss://"+addr+"/mqtt", http.Header{"Origin": {"https://evil.example"}}, nil,
		"mqtt"); status != 403 {
		t.Errorf("a WebSocket of another site: %d", status)
	}
}

// What the admin listener shows is for no page that has its own name resolve to
// this machine, and a browser's certificate works for no page of another site.
func TestDNSRebinding(t *testing.T) {
	cfg := configure(t)
	cfg.MQTT.ServerNames = []string{"bridge.example.org", "*.plant.example"}
	b := start(t, cfg)
	for host, want := range map[string]int{
		b.admin.Addr().String(): 200, "[::1]:8081": 200, "localhost:8081": 200, "bridge.example.org": 200,
		"Bridge.Example.org.": 200, "a.plant.example:1": 200,
		"evil.example": 421, "a.b.plant.example": 421, "plant.example": 421, "127.0.0.1.evil.example": 421,
		"localhost.evil.example": 421,
	} {
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			req, err := http.NewRequest("GET", "http://"+b.admin.Addr().String()+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("%s asked as %s: %d, want %d", path, host, resp.StatusCode, want)
			}
		}
	}
	http.DefaultClient.CloseIdleConnections()

	id := b.thing("pump-1", all("", ""))
	r := b.requester("", id.tls(t))
	for origin, want := range map[string]int{"https://evil.example": 403, "null": 403, "https://" +
		b.https.Addr().String(): 200,
		"http://" + b.https.Addr().String(): 403, "https://evil@" + b.https.Addr().String(): 403} {
		if status, _, text := r.do("POST", "/topics/a", "x", "Origin", origin); status != want {
			t.Errorf("%s: %d %s, want %d", origin, status, text, want)
		}
	}
}

// What goes through data streams is counted.
func TestStreamMetrics(t *testing.T) {
	b := start(t, configure(t))
	if resp, text, err := b.ask(speaking(true, false, false), "https", "CreateStream",
		`{"StreamName":"s","ShardCount":1}`); err != nil || resp.StatusCode != 200 || text != "" {
		t.Fatal(text, err)
	}
	if _, text, err := b.ask(speaking(true, false, false), "https", "PutRecord",
		`{"StreamName":"s","PartitionKey":"key","Data":"YWJj"}`); err != nil || !strings.Contains(text, "shardId-0") {
		t.Fatal(text, err)
	}
	_, text := b.do("GET", "/metrics", "")
	for _, want := range []string{`tidemill_kinesis_in_records_total{stream="s"} 1`,
		`tidemill_kinesis_in_bytes_total{stream="s"} 6`, `tidemill_kinesis_subscriptions 0`,
		`tidemill_aws_requests_total{code="OK",operation="PutRecord"} 1`} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("no %s", want)
		}
	}
}
