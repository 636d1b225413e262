package listen

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/admission"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// httpsTimeout bounds a handshake and request, and an answer.
const httpsTimeout = 30 * time.Second

// HTTPSOptions are those of an HTTPS listener.
type HTTPSOptions struct {
	Address string // host:port, as of https.listen
	TLS     *tls.Config
	// Plaintext says of which addresses connections without TLS are taken; nil:
	// of none.
	Plaintext func(net.Addr) bool
	// Limits bound the open connections, those that carry MQTT not counted.
	Limits admission.Limits
	// Idle is how long a connection may be idle whose client is not authenticated.
	Idle time.Duration
	// OnlyKnownHosts has requests refused that ask by another name than Hosts and
	// those of this machine: see OnlyKnownHosts.
	OnlyKnownHosts bool
	Hosts          []string

	// Gateway takes the connections that turn out to carry MQTT, and Upgrade says
	// who asks for one by WebSocket; its error is told to the client. Gateway nil:
	// there is no MQTT.
	Gateway connServer
	Upgrade func(r *http.Request) (gateway.Via, error)
	// Handler answers all other requests. Their contexts come from ConnContext,
	// once for each connection, if it is not nil; see http.Server.
	Handler     http.Handler
	ConnContext func(context.Context, net.Conn) context.Context

	// Denied hears of TLS handshakes that failed, of MQTT that is not served, and of
	// requests for a WebSocket that are none. It must not block.
	Denied func(remote net.Addr, clientID string, err error)
	// Full is called for each connection that is closed because authenticated
	// clients have all of Limits.Open. It must not block.
	Full func()
	Log  *slog.Logger
}

// An HTTPS is the listener of the AWS APIs, and of MQTT beside them: by ALPN and
// by WebSocket.
type HTTPS struct {
	o       HTTPSOptions
	limited *limitListener
	demux   *demuxListener
	mqtt    *alpnConns
}

// HTTPSStats are counts since OpenHTTPS, except where "now" is said.
type HTTPSStats struct {
	Connections      admission.Stats // of those that carry no MQTT
	FailedHandshakes int64
	WebSockets, ALPN int64          // that carry MQTT now
	Refused          map[int]uint64 // requests for a WebSocket, by HTTP status
}

// OpenHTTPS listens. Nothing is accepted before Run.
func OpenHTTPS(ctx context.Context, o HTTPSOptions) (*HTTPS, error) {
	l, err := TCP(ctx, "https.listen", o.Address)
	if err != nil {
		return nil, err
	}
	return newHTTPS(l, o), nil
}

func newHTTPS(l net.Listener, o HTTPSOptions) *HTTPS {
	if o.Plaintext == nil {
		o.Plaintext = func(net.Addr) bool { return false }
	}
	h := &HTTPS{o: o, limited: newLimitListener(l, o.Limits, o.Idle, o.Full)}
	var mqtt func(*tls.Conn)
	if o.Gateway != nil {
		h.mqtt = newALPNConns(o.Gateway)
		mqtt = func(t *tls.Conn) { h.mqtt.take(t, gateway.Via{}) }
	}
	h.demux = newDemuxListener(h.limited, o.TLS, o.Plaintext, mqtt, o.Denied, o.Log)
	return h
}

// Addr is where it listens.
func (h *HTTPS) Addr() net.Addr { return h.demux.Addr() }

// Close ends listening; it may be called again. After Run it does nothing.
func (h *HTTPS) Close() error { return h.demux.Close() }

// Run serves until ctx ends, and returns when all connections have ended.
func (h *HTTPS) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if h.mqtt != nil {
			h.mqtt.run(ctx)
		}
	}()
	err := ServeHTTP(ctx, h.demux, h.handler(), h.server(), h.o.Log)
	cancel()
	<-ended
	return err
}

// Stats returns what has come to pass.
func (h *HTTPS) Stats() HTTPSStats {
	st := HTTPSStats{Connections: h.limited.limiter.Stats(), FailedHandshakes: h.demux.failedHandshakes.Load()}
	if h.mqtt != nil {
		st.WebSockets, st.ALPN, st.Refused = h.mqtt.websockets.Load(), h.mqtt.direct.Load(), h.mqtt.refusedByStatus()
	}
	return st
}

// FromLoopback says whether a is an address of this machine alone.
func FromLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// handler is MQTT over WebSocket, and beside it what the options say.
func (h *HTTPS) handler() http.Handler {
	all := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.TLS, _ = r.Context().Value(tlsKey{}).(*tls.ConnectionState)
		if r.ProtoMajor == 1 && len(r.TransferEncoding) > 0 {
			// It may have had a Content-Length as well, which net/http does not
			// tell: then nobody but the client knows where the next request
			// begins, and the connection has to end (RFC 9112, 6.1).
			w.Header().Set("Connection", "close")
		}
		if r.URL.Path == websocketPath && h.mqtt != nil {
			h.serveWebSocket(w, r)
			return
		}
		h.o.Handler.ServeHTTP(w, r)
	})
	if h.o.OnlyKnownHosts {
		return OnlyKnownHosts(h.o.Hosts, all)
	}
	return all
}

// server is HTTP/1.1 and HTTP/2, also without TLS where the listener lets it
// through. A client that is not authenticated may leave no more than its streams'
// windows in memory, and keeps its slot until others want it.
func (h *HTTPS) server() *http.Server {
	srv := &http.Server{ReadTimeout: httpsTimeout, WriteTimeout: httpsTimeout, Protocols: new(http.Protocols),
		ConnContext: h.withConn, ConnState: idling,
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

// withConn puts what net/http is not told of a connection into the context of
// its requests.
func (h *HTTPS) withConn(ctx context.Context, c net.Conn) context.Context {
	if p := limitedConnOf(c); p != nil {
		ctx = context.WithValue(ctx, slotKey{}, p.slot)
	}
	if s, ok := c.(tlsConn); ok {
		ctx = context.WithValue(ctx, tlsKey{}, s.state)
	}
	if h.o.ConnContext != nil {
		ctx = h.o.ConnContext(ctx, c)
	}
	return ctx
}

// tlsKey is that of the *tls.ConnectionState of a request's connection in its
// context: net/http does not know it, see tlsConn.
type tlsKey struct{}

// ServeHTTP serves h on l by srv until ctx ends, and logs what net/http has to
// say. Requests under way have two seconds to end then.
func ServeHTTP(ctx context.Context, l net.Listener, h http.Handler, srv *http.Server, logger *slog.Logger) error {
	srv.Handler, srv.ReadHeaderTimeout, srv.IdleTimeout, srv.MaxHeaderBytes = h, 10*time.Second, 2*time.Minute, 16<<10
	srv.ErrorLog = log.New(httpLog{logger}, "", 0)
	srv.BaseContext = func(net.Listener) context.Context { return ctx }
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if srv.Shutdown(last) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(l)
	if !stop() {
		<-stopped // requests under way have ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// Within is a server that bounds reading a request and writing its answer; 0
// does not.
func Within(timeout time.Duration) *http.Server {
	return &http.Server{ReadTimeout: timeout, WriteTimeout: timeout}
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
