package lambda

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/bridge/lambda/sandbox"
)

// only dials one name.
type only struct{ name, address string }

// Dial implements Dialer.
func (o only) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if address != o.name {
		return nil, errors.New("egress refused: " + address)
	}
	var d net.Dialer
	return d.DialContext(ctx, network, o.address)
}

// tunnels is a function that asks its proxy for a tunnel, and says what came of it.
const tunnels = `
import os, socket, urllib.parse
def handler(event, context):
    at = urllib.parse.urlparse(os.environ["HTTPS_PROXY"])
    with socket.create_connection((at.hostname, at.port), 5) as s:
        s.sendall((event["ask"] + "\r\n\r\n").encode())
        answer = s.recv(4096).decode()
        if " 200 " in answer:
            s.sendall(b"hello")
            s.shutdown(socket.SHUT_WR)
            while part := s.recv(4096):
                answer += part.decode()
    try:
        socket.create_connection(("198.51.100.1", 443), 2)
        answer += " and past it"
    except OSError:
        pass
    return answer.split("\r\n")[0] + " " + answer.split("\r\n")[-1]
`

// The only way out of a function's network is the proxy, and through it what the
// dialer lets.
func TestProxy(t *testing.T) {
	need(t, "python3")
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { // answers with what it was sent, twice
		defer close(served)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			text := make([]byte, 5)
			_, _ = c.Read(text)
			_, _ = c.Write(append(text, text...))
			_ = c.Close()
		}
	}()
	t.Cleanup(func() { _ = l.Close(); <-served })
	m, all := newManager(t, sandbox.Options{}, Options{Outside: only{"api.example.org:443", l.Addr().String()}})
	if !m.box.Means().Isolated() {
		t.Skip("no network of the function's own")
	}
	all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
		map[string]string{"app.py": tunnels})
	for ask, want := range map[string]string{
		"CONNECT api.example.org:443 HTTP/1.1\\r\\nHost: api.example.org:443": `"HTTP/1.1 200 Connection established hellohello"`,
		"CONNECT 169.254.169.254:80 HTTP/1.1\\r\\nHost: x":                    `"HTTP/1.1 403 Forbidden `,
		"GET http://api.example.org/ HTTP/1.1\\r\\nHost: api.example.org":     `"HTTP/1.1 405 Method Not Allowed `,
	} {
		r := invoke(t, m, "f", `{"ask":"`+ask+`"}`)
		if !strings.HasPrefix(string(r.Payload), want) || strings.Contains(string(r.Payload), "past it") {
			t.Errorf("%s: %s %s\n%s", ask, r.Failed, r.Payload, r.Log)
		}
	}
	// Where there is no list, there is no proxy either.
	m, all = newManager(t, sandbox.Options{}, Options{})
	all.put(t, Function{Name: "f", Runtime: "python3.11", Handler: "app.handler", Reserved: -1},
		map[string]string{"app.py": tunnels})
	if r := invoke(t, m, "f", `{"ask":""}`); !strings.Contains(string(r.Payload), "HTTPS_PROXY") {
		t.Errorf("%s", r.Payload)
	}
}
