package gateway

import (
	"context"
	"net"
	"time"
)

// A Server is an MQTT server. Its methods may be called from several goroutines.
type Server struct {
	conf   Config
	auth   Authorizer
	router Router
}

// New returns a server; nothing runs before Serve.
func New(c Config, a Authorizer, r Router) *Server {
	return &Server{conf: c.withDefaults(), auth: a, router: r}
}

// Serve accepts connections from l until ctx ends or l fails, and returns when
// every connection it accepted has ended. It closes l. TLS is the listener's
// (tls.NewListener); the handshake is done in the connection's own goroutine.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { panic("not yet") }

// Deliver sends m to the clients with a matching subscription, if they may
// receive it, and keeps it if it is retained. It never blocks.
func (s *Server) Deliver(m *Message) { panic("not yet") }

// Disconnect ends the connections for which match returns true and returns how
// many they were.
func (s *Server) Disconnect(match func(*Client) bool, reason string) int { panic("not yet") }

// A Client is one connection of a client.
type Client struct {
	id      string
	session Session
	remote  net.Addr
	since   time.Time
}

// ID is the client id.
func (c *Client) ID() string { return c.id }

// Session is what the Authorizer returned.
func (c *Client) Session() Session { return c.session }

// Remote is the client's address.
func (c *Client) Remote() net.Addr { return c.remote }

// ConnectedAt is when the connection was admitted.
func (c *Client) ConnectedAt() time.Time { return c.since }
