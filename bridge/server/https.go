package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// httpsTimeout bounds a handshake and request, and an answer.
const httpsTimeout = 30 * time.Second

// listenHTTPS opens the listener of the AWS APIs and of MQTT beside them, if
// there is to be one.
func (s *Server) listenHTTPS(ctx context.Context) error {
	c := s.cfg.HTTPS
	if c.Listen == "" {
		return nil
	}
	l, err := listenTCP(ctx, "https.listen", c.Listen)
	if err != nil {
		return err
	}
	plain := func(net.Addr) bool { return c.Plaintext == "on" }
	if c.Plaintext == "loopback" {
		plain = fromLoopback
	}
	mqtt := func(t *tls.Conn) { s.carrier.carry(t, gateway.Via{}) }
	if s.broker != nil {
		mqtt = nil
	}
	e := newEither(newPlaces(l, c), s.pki.HTTPSConfig(), plain, mqtt, s.log)
	e.denied = s.refusals.denied
	s.https = e
	if c.Permissive {
		s.log.Warn("https.permissive is on: signatures are not verified, whoever reaches the port may do all", "https", l.Addr().String())
	}
	return nil
}

// fromLoopback says whether a is an address of this machine alone.
func fromLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// awsServer is the server of the AWS APIs: HTTP/1.1 and HTTP/2, also without TLS
// where the listener lets it through. A client without a key may leave no more
// than its streams' windows in memory, and has its place until others want it.
func awsServer() *http.Server {
	srv := &http.Server{ReadTimeout: httpsTimeout, WriteTimeout: httpsTimeout, Protocols: new(http.Protocols), ConnContext: withPeer, ConnState: idling,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          128,
			MaxReceiveBufferPerConnection: 1 << 20,
			MaxReceiveBufferPerStream:     512 << 10,
			SendPingTimeout:               time.Minute, // finds clients that are gone
			PingTimeout:                   15 * time.Second,
			WriteByteTimeout:              httpsTimeout,
		}}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}

// peerKey is that of a request's *peer in its context.
type peerKey struct{}

// withPeer puts what net/http is not told of a connection into the context of
// its requests.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	if p := placedOf(c); p != nil {
		ctx = context.WithValue(ctx, placeKey{}, p.place)
	}
	if s, ok := c.(secured); ok {
		ctx = context.WithValue(ctx, peerKey{}, &peer{state: s.state})
	}
	return ctx
}

// peerOf is the TLS connection of a request, nil for none.
func peerOf(r *http.Request) *peer {
	p, _ := r.Context().Value(peerKey{}).(*peer)
	return p
}

// httpLog takes what net/http has to say. Whoever may connect can cause failed
// handshakes; the rest is a handler that panicked.
type httpLog struct{ *slog.Logger }

func (l httpLog) Write(text []byte) (int, error) {
	level := slog.LevelError
	for _, common := range []string{"http: TLS handshake error", "http2: "} {
		if bytes.HasPrefix(text, []byte(common)) {
			level = slog.LevelDebug
		}
	}
	l.Log(context.Background(), level, "http", "said", string(bytes.TrimSpace(text)))
	return len(text), nil
}
