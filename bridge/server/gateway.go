package server

import (
	"cmp"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// Bounds of profile mqtt that AWS has far lower (256 bytes, 7 slashes, 8 filters).
// Without them a client could make a subscription of 65,000 levels, each with
// memory of its own, and have every retained message compared with 65,000 filters.
const (
	maxTopic   = 1024
	maxSlashes = 31
	maxFilters = 100
)

// gatewayConfig is the gateway's with the limits and ways of the profile, but for
// what is set.
func (a *assembly) gatewayConfig() gateway.Config {
	m, c := a.cfg.MQTT, gateway.Config{MaxTopic: maxTopic, MaxSlashes: maxSlashes, MaxFilters: maxFilters}
	if m.Profile == "aws" {
		c = gateway.AWSConfig()
	}
	c.Store, c.Steady, c.Log = a.store, a.clock.Steady, a.log
	// A decision takes less than looking one up (30 to 220 ns), and a right that is
	// withdrawn ends with the next packet.
	c.PermissionCache = -1
	c.ConnectTimeout, c.MaxConnections = time.Duration(m.ConnectTimeout), m.MaxConnections
	c.MaxPerAddress, c.MaxUnauthenticated = m.MaxPerAddress, m.MaxUnauthenticated
	c.MaxPayload, c.InFlight, c.OutBytes = int(m.MaxPayload), m.MaxInflight, int(m.MaxQueue)
	c.MaxSessions, c.MaxRetained, c.MaxRetainedBytes = m.MaxSessions, m.MaxRetained, int(m.MaxRetainedBytes)
	c.SharedSessions, c.MaxSessionsPerOwner = m.SessionOwner == "client", m.MaxPrincipalSessions
	c.MaxRetainedPerOwner, c.MaxRetainedBytesPerOwner = m.MaxPrincipalRetained, int(m.MaxPrincipalRetainedBytes)
	c.MaxSessionExpiry = time.Duration(m.MaxSessionExpiry)
	c.SessionExpiry = cmp.Or(time.Duration(m.SessionExpiry), c.SessionExpiry)
	c.MaxTopic, c.MaxSlashes = cmp.Or(m.MaxTopic, c.MaxTopic), cmp.Or(m.MaxSlashes, c.MaxSlashes)
	c.MaxFilters = cmp.Or(m.MaxFilters, c.MaxFilters)
	c.MaxSubscriptions, c.MaxUnreleased = cmp.Or(m.MaxSubscriptions, c.MaxSubscriptions), m.MaxUnreleased
	c.PublishRate = cmp.Or(m.MaxPublishRate, c.PublishRate)
	c.PublishBytes = cmp.Or(int(m.MaxPublishBytes), c.PublishBytes)
	return c
}
