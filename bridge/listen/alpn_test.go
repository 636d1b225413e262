package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// An echo is a gateway that sends back what it reads, after the protocol that it
// was told.
type echo struct{ served chan gateway.Via }

func (e echo) ServeConn(ctx context.Context, nc net.Conn, via gateway.Via) {
	defer nc.Close()
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	defer stop()
	e.served <- via
	_, _ = io.Copy(nc, nc)
}

// MQTT comes by ALPN, and by WebSocket from whom Upgrade knows; it takes no slot of
// the listener, and ends with it. The rest are requests, whose TLS is known.
func TestHTTPS(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	certified.Close()
	conf := &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"h2", "http/1.1", "mqtt"},
		ClientAuth: tls.RequestClientCert}
	g := echo{make(chan gateway.Via, 10)}
	h, err := OpenHTTPS(t.Context(), HTTPSOptions{Address: "127.0.0.1:0", TLS: conf, Idle: time.Minute,
		Limits:  admission.Limits{Open: 1},
		Gateway: g, Upgrade: func(r *http.Request) (gateway.Via, error) {
			if r.TLS == nil || r.Header.Get("X-Name") == "" {
				return gateway.Via{}, errors.New("nobody")
			}
			return gateway.Via{Protocol: "wss", Identity: r.Header.Get("X-Name")}, nil
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS == nil || SlotOf(r) == nil {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }()

	client := certified.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName = "example.com"
	alpn := client.Clone()
	alpn.NextProtos = []string{"mqtt"}
	direct, err := tls.Dial("tcp", h.Addr().String(), alpn)
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close()
	if via := <-g.served; via != (gateway.Via{}) {
		t.Errorf("by ALPN: %+v", via)
	}
	dial := websocket.Dialer{TLSClientConfig: client, Subprotocols: []string{"mqtt"}}
	if _, resp, err := dial.Dial("wss://"+h.Addr().String()+"/mqtt", nil); err == nil || resp == nil ||
		resp.StatusCode != http.StatusForbidden {
		t.Fatalf("nobody: %v %v", resp, err)
	}
	ws, _, err := dial.Dial("wss://"+h.Addr().String()+"/mqtt", http.Header{"X-Name": {"pump"}})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	if via := <-g.served; via.Protocol != "wss" || via.Identity != "pump" {
		t.Errorf("by WebSocket: %+v", via)
	}
	tr := &http.Transport{TLSClientConfig: client, ForceAttemptHTTP2: true}
	resp, err := (&http.Client{Transport: tr}).Get("https://" + h.Addr().String() + "/other")
	if err != nil || resp.StatusCode != 200 || resp.ProtoMajor != 2 {
		t.Fatalf("a request: %v %v", resp, err)
	}
	resp.Body.Close()
	tr.CloseIdleConnections()
	if st := h.Stats(); st.WebSockets != 1 || st.ALPN != 1 || st.Refused[http.StatusForbidden] != 1 {
		t.Errorf("%+v", st)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
	if st := h.Stats(); st.WebSockets+st.ALPN != 0 {
		t.Errorf("still served: %+v", st)
	}
	if _, err := direct.Read(make([]byte, 1)); err == nil {
		t.Error("something was read")
	}
}

// MQTT by ALPN where another broker has the clients is closed, and told of.
func TestNoMQTTByALPN(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate
	certified.Close()
	told := make(chan error, 10)
	h, err := OpenHTTPS(t.Context(), HTTPSOptions{Address: "127.0.0.1:0", Idle: time.Minute,
		TLS:    &tls.Config{Certificates: certified.TLS.Certificates, NextProtos: []string{"http/1.1", "mqtt"}},
		Limits: admission.Limits{Open: 1}, Handler: http.NotFoundHandler(),
		Denied: func(_ net.Addr, _ string, err error) { told <- err }, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- h.Run(ctx) }()
	client := certified.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName, client.NextProtos = "example.com", []string{"mqtt"}
	c, err := tls.Dial("tcp", h.Addr().String(), client)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := <-told; !errors.Is(err, errNoMQTT) {
		t.Error(err)
	}
	stop()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
