package gateway

import (
	"log/slog"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway/sessions"
	"github.com/tidemill/tidemill/bridge/speed/mqtt/packet"
)

// packetRoom is for the topic and the rest of a PUBLISH beside its payload.
const packetRoom = 1<<16 + 16

// Config are the limits of Subscribers and their Server. Zero values take the defaults
// named here, which lift AWS's limits where MQTT has none; AWSConfig has
// AWS's.
type Config struct {
	// HandshakeTimeout is for TLS (10 s); ConnectTimeout for the CONNECT after
	// it, its authorization and the end of an earlier connection of the same
	// client (30 s, as AWS's).
	HandshakeTimeout, ConnectTimeout time.Duration
	// WriteTimeout is how long one write to a client may take (30 s). A client
	// that does not read is cut off after it.
	WriteTimeout time.Duration
	// KeepAliveMin raises shorter keep alive times, KeepAliveMax lowers longer
	// ones and stands in for none; 0 leaves them. A client is cut off after
	// 1.5 times its keep alive without a packet [MQTT-3.1.2-24].
	KeepAliveMin, KeepAliveMax time.Duration
	// DrainTimeout is how long a connection waits, when the server stops, for
	// what it accepted to become durable and be acknowledged (1 s).
	DrainTimeout time.Duration

	// MaxConnections bounds open connections, 0 leaves them unbounded.
	MaxConnections int
	// MaxPerAddress bounds those of one address (of IPv6, of one /64), 0 leaves
	// them unbounded.
	MaxPerAddress int
	// PublishRate and PublishBytes bound a connection's publishes and their
	// bytes per second, over bursts of a second: beyond it is not read for a
	// while. 0 leaves them unbounded.
	PublishRate, PublishBytes int
	// MaxUnauthenticated bounds the connections that policy has not let in yet (4096):
	// in their TLS handshake, or with no CONNECT so far, so that strangers cost a
	// bounded amount of memory. One address has three quarters of them at most.
	// Beyond it, as beyond MaxConnections and MaxPerAddress, those that have had
	// admission.Grace are closed for new ones; if none has, the new one is.
	MaxUnauthenticated int
	// MaxPayload bounds a message's payload (128 KiB). A packet may have 64 KiB
	// more, for its topic and properties; what is larger is refused before it is
	// read. That sum is the Maximum Packet Size that clients of version 5 are
	// told, and whatever fits it is taken of them, unless StrictPayload has
	// their payloads bounded as those of others, as in AWS.
	MaxPayload    int
	StrictPayload bool
	// MaxConnect bounds a CONNECT packet (64 KiB), also before it is read.
	MaxConnect int
	// MaxClientID is in bytes (128).
	MaxClientID int
	// MaxTopic and MaxSlashes bound names and filters; 0 leaves MQTT's 65535.
	// The prefix $aws/rules/{rule}/ does not count.
	MaxTopic, MaxSlashes int
	// MaxFilters is per SUBSCRIBE, MaxSubscriptions per session (1000); 0
	// leaves MaxFilters unbounded.
	MaxFilters, MaxSubscriptions int
	// MaxSessions bounds the sessions, of clients that are there and of those
	// that are away with CleanSession 0 (100000). Beyond it CONNECT is refused.
	MaxSessions int
	// SharedSessions: whoever connects with a client id resumes its session, as
	// in AWS. Otherwise a session is its owner's (see Owned): another principal
	// with the same client id ends it and gets a new one, with nothing of it.
	SharedSessions bool
	// MaxQoS is the highest quality of service: a SUBSCRIBE is granted at most
	// this, a PUBLISH with more ends the connection. 0 is taken as 2, and -1 as 0.
	MaxQoS int

	// MaxUnreleased bounds the QoS 2 messages that a client has sent and not
	// released (4096). One of version 5 is told InFlight as its Receive Maximum.
	MaxUnreleased int

	// InFlight and InFlightBytes bound a client's publishes that the router has
	// not done yet (100, 1 MiB), and then the client is not read.
	InFlight, InFlightBytes int
	// OutInFlight bounds the QoS 1 and 2 messages sent to a client and not
	// acknowledged (100).
	OutInFlight int
	// OutBytes bounds what waits to be sent to a client or to be acknowledged
	// by it (4 MiB). A client that sends and never reads is cut off when the
	// answers to it, too, have come to twice this.
	OutBytes int
	// QueueBytes bounds the QoS 1 and 2 messages that wait for all clients
	// together (256 MiB): beyond it nothing is kept for clients that are away.
	QueueBytes int

	// SessionExpiry is how long the session of an MQTT 3.1.1 client with
	// CleanSession 0 is kept while it is away (7 days), MaxSessionExpiry the
	// longest that a client of version 5 may ask for (7 days).
	SessionExpiry, MaxSessionExpiry time.Duration
	// TopicAliases is how many a client of version 5 may use each way (8).
	// Negative: none.
	TopicAliases int
	// NoSubscriptionIDs: subscription identifiers are refused, as in AWS.
	NoSubscriptionIDs bool

	// PermissionCache is how long an answer of a Session is remembered (2 s).
	// Negative: not at all.
	PermissionCache time.Duration
	// StrictHash: the subscription a/# does not match a, as in AWS.
	StrictHash bool
	// ExactRetained: retained messages are sent only to a SUBSCRIBE whose
	// filter is the topic itself, as in AWS.
	ExactRetained bool
	// MaxRetained and MaxRetainedBytes bound the retained messages (10000,
	// 16 MiB of topics, payloads and properties).
	MaxRetained, MaxRetainedBytes int
	// MaxRetainedPerOwner and MaxRetainedBytesPerOwner bound those of one owner
	// (see Owned), MaxSessionsPerOwner its sessions that outlive their
	// connection; 0 leaves them unbounded. A CONNECT too many is refused. So is
	// a retained publish with quality of service 1 or 2 of version 5, and
	// otherwise it is delivered and not kept, since it cannot be answered.
	MaxRetainedPerOwner, MaxRetainedBytesPerOwner, MaxSessionsPerOwner int
	// Store makes retained messages durable, and sessions that outlive their
	// connection with all that waits in them; nil: they live as long as the
	// process.
	Store sessions.Log
	// Steady is the time by which Store has what is to expire, from one run to the
	// next: clock.Clock.Steady; nil: time.Now.
	Steady func() time.Time

	// Log is where refusals and ends go (Debug) and what needs an operator
	// (Warn, Error); nil is slog.Default.
	Log *slog.Logger
}

// AWSConfig returns the limits of AWS IoT Core (service quotas, message broker
// and protocol limits).
func AWSConfig() Config {
	return Config{
		ConnectTimeout:   30 * time.Second,
		KeepAliveMin:     30 * time.Second,
		KeepAliveMax:     1200 * time.Second,
		MaxPayload:       128 << 10,
		StrictPayload:    true,
		MaxClientID:      128,
		MaxTopic:         256,
		MaxSlashes:       7,
		MaxFilters:       8,
		MaxSubscriptions: 50,
		MaxQoS:           1,
		InFlight:         100,
		OutInFlight:      100,
		StrictHash:       true,
		ExactRetained:    true,

		SessionExpiry:     time.Hour,
		MaxSessionExpiry:  7 * 24 * time.Hour,
		TopicAliases:      8,
		NoSubscriptionIDs: true,
		PublishRate:       100,
		PublishBytes:      512 << 10,
	}
}

// withDefaults returns c with its zero values replaced.
func (c Config) withDefaults() Config {
	orDur := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	orInt := func(n *int, v int) {
		if *n == 0 {
			*n = v
		}
	}
	orDur(&c.HandshakeTimeout, 10*time.Second)
	orDur(&c.ConnectTimeout, 30*time.Second)
	orDur(&c.WriteTimeout, 30*time.Second)
	orDur(&c.DrainTimeout, time.Second)
	orDur(&c.PermissionCache, 2*time.Second)
	orDur(&c.SessionExpiry, 7*24*time.Hour)
	orDur(&c.MaxSessionExpiry, 7*24*time.Hour)
	orInt(&c.TopicAliases, 8)
	orInt(&c.MaxUnauthenticated, 4096)
	orInt(&c.MaxPayload, 128<<10)
	orInt(&c.MaxConnect, 64<<10)
	orInt(&c.MaxClientID, 128)
	orInt(&c.MaxSubscriptions, 1000)
	orInt(&c.MaxSessions, 100000)
	orInt(&c.MaxQoS, 2)
	orInt(&c.MaxUnreleased, 4096)
	orInt(&c.InFlight, 100)
	orInt(&c.InFlightBytes, 1<<20)
	orInt(&c.OutInFlight, 100)
	orInt(&c.OutBytes, 4<<20)
	orInt(&c.QueueBytes, 256<<20)
	c.MaxQoS = min(max(c.MaxQoS, 0), 2)
	c.OutInFlight = min(c.OutInFlight, 65535)
	c.TopicAliases = min(max(c.TopicAliases, 0), 65535)
	c.SessionExpiry = min(c.SessionExpiry, c.MaxSessionExpiry)
	c.MaxPayload = min(c.MaxPayload, packet.MaxRemaining-packetRoom)
	orInt(&c.MaxRetained, 10000)
	orInt(&c.MaxRetainedBytes, 16<<20)
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Steady == nil {
		c.Steady = time.Now
	}
	return c
}
