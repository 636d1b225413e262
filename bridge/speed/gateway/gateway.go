// Package gateway is the MQTT server to which devices connect.
//
// It has two halves. Subscribers keep sessions, subscriptions and retained
// messages, and deliver to them. A Server speaks MQTT on any listener whose
// connections are byte streams, and leaves judgement to two interfaces: an
// Authorizer says who may connect and what each Session may publish, subscribe to
// and receive; a Router takes every accepted publish and says when it is durable.
// The Server itself fans out nothing: the Router, which is made between the two,
// delivers by Subscribers what they are to see.
//
// An acknowledgement means what the Router means by done. PUBACK (QoS 1) and
// PUBREC (QoS 2) wait for it without holding up the packets behind, and leave
// in the order of the packets they answer, as MQTT 4.6 wants. When done reports
// an error nothing is acknowledged and the connection is closed, so that the
// client sends again.
//
// Every queue is bounded. Publishes not yet done are limited per client in
// number and bytes, and then its connection is no longer read. What waits to be
// sent to a client is limited in bytes: QoS 0 is dropped above half of the
// limit, and a connected client that lets QoS 1 and 2 pass the limit is
// disconnected; for a client that is away the newest are dropped. All of it is
// counted, see Stats.
//
// MQTT 3.1.1 and 5 are one core: a session does not know which version its
// client speaks, and clients of both exchange messages. Of version 5 there is no
// enhanced authentication, server reference and response information.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/message"
)

// Connect is what a client says of itself when it connects.
type Connect struct {
	ClientID     string               // 1 to Config.MaxClientID bytes of UTF-8; assigned if the client sent none
	Username     string               // empty if absent
	Password     []byte               // nil if absent
	CleanSession bool                 // the session ends with the connection
	KeepAlive    time.Duration        // as sent; 0 means none
	Will         *message.Message     // nil if none
	Protocol     byte                 // protocol level: 4 is MQTT 3.1.1, 5 is MQTT 5
	TLS          *tls.ConnectionState // nil when Via says who it is, or without TLS
	Remote       net.Addr
	Via          Via
	// Memo is the Authorizer's, to remember what it found out when it is asked
	// again about the same CONNECT.
	Memo any
}

// Via is what is known of a connection before its CONNECT. The zero value is
// that of MQTT over TCP or TLS.
type Via struct {
	// Protocol is how messages come, as the log and rules see it: "mqtt" (or
	// empty), "wss".
	Protocol string
	// Identity is for the Authorizer alone: who the listener knows the client
	// to be, by a signature or a header.
	Identity any
	// Ends is when the connection is closed, whatever happens, with EndReason
	// (ReasonWebSocket or ReasonCustomAuth); zero: never.
	Ends      time.Time
	EndReason string
}

// A Session answers what one connected client may do. Its methods are called
// from several goroutines, must not block, and their answers are remembered per
// topic for Config.PermissionCache.
type Session interface {
	// Principal names the identity that connected, such as the ARN of its
	// certificate.
	Principal() string
	// Thing is the thing's name, empty if the client is none.
	Thing() string
	// MayPublish is also asked when the client's will is published, which may
	// be long after its connection has ended: a principal that is no more, or
	// no more active, may publish nothing.
	MayPublish(topic string, retain bool) bool
	MaySubscribe(filter string) bool
	MayReceive(topic string) bool
}

// An Authorizer decides on connections. Connect is called from the connection's
// goroutine, with a context that ends with the time a client has to connect.
// Its errors choose the return code, see ErrNotAuthorized and its siblings; any
// other error is answered as ErrUnavailable.
type Authorizer interface {
	Connect(ctx context.Context, c *Connect) (Session, error)
}

// The errors by which an Authorizer chooses the CONNACK return code.
var (
	ErrIdentifier     = errors.New("gateway: client id refused")    // 2
	ErrUnavailable    = errors.New("gateway: server unavailable")   // 3
	ErrBadCredentials = errors.New("gateway: bad user or password") // 4
	ErrNotAuthorized  = errors.New("gateway: not authorized")       // 5
)

// ErrQuota means that there is no room to keep a retained message.
var ErrQuota = errors.New("gateway: over a quota")

func errRetained(owner string) error {
	return fmt.Errorf("%w: principal %s has too many retained messages, or all have", ErrQuota, owner)
}

// Reasons for the end of a connection, as in AWS IoT's lifecycle events. A will
// is published for all but ReasonClient, in MQTT 5 for that too if the client
// asks for it.
const (
	ReasonAuth      = "AUTH_ERROR"                  // published to what it may not
	ReasonClient    = "CLIENT_INITIATED_DISCONNECT" // DISCONNECT
	ReasonProtocol  = "CLIENT_ERROR"                // broke the protocol or a limit
	ReasonLost      = "CONNECTION_LOST"
	ReasonDuplicate = "DUPLICATE_CLIENTID"
	ReasonForbidden = "FORBIDDEN_ACCESS"
	ReasonKeepAlive = "MQTT_KEEP_ALIVE_TIMEOUT"
	ReasonServer    = "SERVER_ERROR"
	ReasonShutdown  = "SERVER_INITIATED_DISCONNECT"
	ReasonAPI       = "API_INITIATED_DISCONNECT"
	ReasonThrottled = "THROTTLED" // did not take what was sent to it

	ReasonWebSocket  = "WEBSOCKET_TTL_EXPIRATION"
	ReasonCustomAuth = "CUSTOMAUTH_TTL_EXPIRATION"
)

// An Event tells of a connection's begin or end, or of its subscriptions. Events
// of one client id come in order, from the connection's goroutine, which waits
// for the hook; the disconnected event of a connection that is taken over comes
// before the connected event of the one that takes over.
type Event struct {
	Client  *Client
	Kind    EventKind
	Reason  string   // of the disconnection, one of the Reason constants
	Heir    *Client  // who has taken the client id over, where Reason is ReasonDuplicate
	Filters []string // that were granted, or given up
	Time    time.Time
}

// An EventKind says what an Event tells of.
type EventKind int

// The kinds of events.
const (
	Connected EventKind = iota + 1
	Disconnected
	Subscribed
	Unsubscribed
)
