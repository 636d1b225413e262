package websocket

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// long is a key as the AWS IoT SDK for Python 1 makes them: of 128 bytes.
const long = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc="

// upgrade serves one connection with the handshake and gives what came of it.
func upgrade(t *testing.T) (client net.Conn, done chan *Conn) {
	t.Helper()
	done = make(chan *Conn, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h, err := Parse(r)
		if err != nil {
			e, _ := errors.AsType[*Error](err)
			http.Error(w, e.Text, e.Status)
			done <- nil
			return
		}
		c, err := h.Accept(w)
		if err != nil {
			t.Error(err)
		}
		done <- c
	}))
	t.Cleanup(srv.Close)
	client, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	if err := client.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return client, done
}

// The answer is that which each family of SDKs takes, to the byte. The keys'
// answers were computed by themselves: echo -n "$key$guid" | openssl sha1 -binary | base64.
func TestHandshakeAnswer(t *testing.T) {
	for _, c := range []struct{ name, request, accept, protocol string }{
		{"RFC 6455", "GET /mqtt HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\n" +
			"Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
			"Sec-WebSocket-Protocol: chat, mqtt\r\nSec-WebSocket-Version: 13\r\n\r\n",
			"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "mqtt"},
		{"Python 1", "GET /mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256 HTTP/1.1\r\nHost: x.example\r\n" +
			"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: mqttv3.1\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + long + "\r\n\r\n",
			"DDD7CdWGe1azu0DjHz60Dmj8KQ0=", "mqttv3.1"},
		{"JavaScript 1", "GET /mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256 HTTP/1.1\r\nConnection: Upgrade\r\n" +
			"Upgrade: websocket\r\nHost: x.example:8443\r\nSec-WebSocket-Version: 13\r\n" +
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
			"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\nSec-WebSocket-Protocol: mqttv3.1\r\n\r\n",
			"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "mqttv3.1"},
		{"version 2", "GET /mqtt?X-Amz-Algorithm=AWS4-HMAC-SHA256 HTTP/1.1\r\nHost: x.example\r\n" +
			"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
			"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
			"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "mqtt"},
		{"in lower case, as lists", "GET /mqtt HTTP/1.1\r\nhost: x.example\r\nupgrade: h2c, WebSocket\r\n" +
			"connection: keep-alive, upgrade\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
			"sec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\nsec-websocket-protocol: mqtt, mqttv3.1\r\n\r\n",
			"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "mqtt"},
	} {
		t.Run(c.name, func(t *testing.T) {
			client, done := upgrade(t)
			// A frame comes with the request: "ab", with a mask of zeros.
			if _, err := io.WriteString(client, c.request+"\x82\x82\x00\x00\x00\x00ab"); err != nil {
				t.Fatal(err)
			}
			conn := <-done
			if conn == nil {
				t.Fatal("refused")
			}
			defer conn.Close()
			want := "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n" +
				"sec-websocket-accept: " + c.accept + "\r\nsec-websocket-protocol: " + c.protocol + "\r\n\r\n"
			got := make([]byte, len(want))
			if _, err := io.ReadFull(client, got); err != nil || string(got) != want || len(got) >= 1024 {
				t.Errorf("%q, want %q", got, want)
			}
			b := make([]byte, 2)
			if _, err := io.ReadFull(conn, b); err != nil || string(b) != "ab" {
				t.Errorf("early frame: %q %v", b, err)
			}
			if _, ok := conn.NetConn().(*net.TCPConn); !ok {
				t.Errorf("below is %T", conn.NetConn())
			}
		})
	}
}

// What is no handshake is told so and stays HTTP.
func TestNoHandshake(t *testing.T) {
	const good = "GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
	for _, c := range []struct {
		old, new string
		status   string
	}{
		{"GET", "POST", "405"},
		{"HTTP/1.1", "HTTP/1.0", "426"},
		{"Upgrade: websocket\r\n", "", "426"},
		{"Upgrade: websocket\r\n", "Upgrade: websockets\r\n", "426"},
		{"Connection: Upgrade\r\n", "Connection: close\r\n", "426"},
		{"Version: 13", "Version: 8", "426"},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "400"},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "Sec-WebSocket-Key:\r\n", "400"},
		{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "400"},
		{"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", "400"},   // no padding
		{"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZR==", "400"}, // bits left over
		{"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j", "400"},     // 15 bytes
		{"dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZTE=", "400"}, // 17 bytes
		{"dGhlIHNhbXBsZSBub25jZQ==", "the sample nonce", "400"},
		{"Version: 13", "Version: 13, 8", "426"},
		{"Version: 13", "Version: 013", "426"},
		{"Version: 13", "Version: 13\r\nSec-WebSocket-Version: 8", "426"},
		{"Sec-WebSocket-Version: 13\r\n", "", "426"},
		{"Protocol: mqtt\r\n", "Protocol: mqttx\r\n", "400"},
		{"Sec-WebSocket-Protocol: mqtt\r\n", "", "400"},
		{"Host: x\r\n", "Host: x\r\nContent-Length: 1\r\n", "400"},
	} {
		client, done := upgrade(t)
		if _, err := io.WriteString(client, strings.Replace(good, c.old, c.new, 1)+"x"); err != nil {
			t.Fatal(err)
		}
		if conn := <-done; conn != nil {
			t.Errorf("%q: accepted", c.new)
			conn.Close()
			continue
		}
		if line, err := bufio.NewReader(client).ReadString('\n'); !strings.Contains(line, " "+c.status+" ") {
			t.Errorf("%q: %q %v, want %s", c.new, line, err, c.status)
		}
		client.Close()
	}
	r := httptest.NewRequest("GET", "/mqtt", nil)
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/2.0", 2, 0
	if _, err := Parse(r); err == nil || !strings.Contains(err.Error(), "over HTTP/1.1, not HTTP/2.0") {
		t.Errorf("HTTP/2: %v", err)
	}
}
