package gateway

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
)

const levelDebug = slog.LevelDebug

var ctxBackground = context.Background()

func attr(key string, value any) slog.Attr { return slog.Any(key, value) }

// Stats are counts since New, except where "now" is said.
type Stats struct {
	Connections   int // open now, those that have not said CONNECT too
	Clients       int // connected now
	Sessions      int // now, of clients connected and away
	Subscriptions int // now
	QueueBytes    int // now: waiting to be sent to clients or acknowledged by them
	UnackedBytes  int // now: publishes from connected clients that the router has not done

	Accepted        uint64 // connections
	Unauthenticated int    // connections now that policy has not let in yet
	OverLimit       uint64 // connections closed because of MaxConnections, MaxUnauthenticated or MaxPerAddress
	Evicted         uint64 // connections that policy had not let in, closed for newer ones when there were too many
	Takeovers       uint64
	// Refused counts connections that did not become clients, by CONNACK code;
	// 255 stands for those that got none.
	Refused map[byte]uint64
	// Disconnects counts ended clients by reason.
	Disconnects map[string]uint64

	PacketsIn, PacketsOut [16]uint64 // by packet.Type
	BytesIn, BytesOut     uint64     // of MQTT, without TLS

	RefusedPublish  uint64 // not allowed
	RefusedReserved uint64 // of them, to topics that are not for clients, or have no service here
	RefusedWills    uint64 // not published, since their clients might not any more
	Throttled       uint64 // times that a client was not read because of its rate
	Held            uint64 // times that a client was not read because of what is not done
	RouteErrors     uint64 // publishes that the router did not take
	DroppedQoS0     uint64 // to a slow client
	DroppedQueue    uint64 // QoS 1 and 2, over a client's limit
	DroppedPolicy   uint64 // not to be received
	DroppedRetained uint64 // no room to keep them; they were delivered
	RefusedRetained uint64 // no room to keep them; their publishers were told
	RefusedSessions uint64 // CONNECTs of owners that have too many
	RefusedNoRoom   uint64 // publishes while Hooks.Room refused them
	DroppedExpired  uint64 // before they could be sent
	DroppedTooLarge uint64 // for the client, by its own word
	DroppedShared   uint64 // no member of the group to send it to
	ExpiredSessions uint64
	CorruptRecords  uint64 // of sessions, left out by Load
	Panics          uint64
	DoneTwice       uint64 // done called again by a faulty router
}

type counters struct {
	accepted, takeovers                                                      atomic.Uint64
	packetsIn, packetsOut                                                    [16]atomic.Uint64
	bytesIn, bytesOut                                                        atomic.Uint64
	refusedPublish, refusedReserved, refusedWills                            atomic.Uint64
	held, routeErrors, throttled                                             atomic.Uint64
	droppedQoS0, droppedQueue, droppedPolicy, droppedRetained                atomic.Uint64
	droppedExpired, droppedTooLarge, droppedShared, expiredSessions, corrupt atomic.Uint64
	panics, doneTwice                                                        atomic.Uint64
	refusedRetained, refusedSessions, noRoom                                 atomic.Uint64

	mu          sync.Mutex // guards what follows
	refusals    map[byte]uint64
	disconnects map[string]uint64
}

// A tally is what a reading goroutine counts for itself until it waits.
type tally struct {
	packets [16]uint32
	bytes   uint64
}

func (c *counters) add(t *tally) {
	if t.bytes == 0 {
		return
	}
	for i, n := range t.packets {
		if n > 0 {
			c.packetsIn[i].Add(uint64(n))
		}
	}
	c.bytesIn.Add(t.bytes)
	*t = tally{}
}

func (c *counters) refused(err error) {
	code := byte(255)
	if r := (*refusal)(nil); errors.As(err, &r) {
		code = r.code
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusals == nil {
		c.refusals = make(map[byte]uint64)
	}
	c.refusals[code]++
}

func (c *counters) disconnected(reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.disconnects == nil {
		c.disconnects = make(map[string]uint64)
	}
	c.disconnects[reason]++
}

// Stats returns the counters. It looks at every session, so it is for a scrape
// every few seconds and not for every message.
func (s *Server) Stats() Stats {
	c := &s.count
	st := Stats{
		Subscriptions: s.subs.Len(),
		Accepted:      c.accepted.Load(), Takeovers: c.takeovers.Load(),
		Refused: make(map[byte]uint64), Disconnects: make(map[string]uint64),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		RefusedPublish: c.refusedPublish.Load(), RefusedReserved: c.refusedReserved.Load(),
		RefusedWills: c.refusedWills.Load(),
		Held:         c.held.Load(), Throttled: c.throttled.Load(), RouteErrors: c.routeErrors.Load(),
		DroppedQoS0: c.droppedQoS0.Load(), DroppedQueue: c.droppedQueue.Load(),
		DroppedPolicy: c.droppedPolicy.Load(), DroppedRetained: c.droppedRetained.Load(),
		RefusedRetained: c.refusedRetained.Load(), RefusedSessions: c.refusedSessions.Load(),
		RefusedNoRoom:  c.noRoom.Load(),
		DroppedExpired: c.droppedExpired.Load(), DroppedTooLarge: c.droppedTooLarge.Load(),
		DroppedShared: c.droppedShared.Load(), ExpiredSessions: c.expiredSessions.Load(),
		CorruptRecords: c.corrupt.Load(),
		Panics:         c.panics.Load(), DoneTwice: c.doneTwice.Load(),
	}
	for i := range st.PacketsIn {
		st.PacketsIn[i], st.PacketsOut[i] = c.packetsIn[i].Load(), c.packetsOut[i].Load()
	}
	c.mu.Lock()
	for k, v := range c.refusals {
		st.Refused[k] = v
	}
	for k, v := range c.disconnects {
		st.Disconnects[k] = v
	}
	c.mu.Unlock()

	limiter := s.limiter.Stats()
	st.Unauthenticated, st.OverLimit, st.Evicted = limiter.Unauthenticated, limiter.Refused, limiter.Evicted
	s.mu.Lock()
	st.Connections = len(s.conns)
	sessions := make([]*session, 0, len(s.sessions))
	for _, x := range s.sessions {
		sessions = append(sessions, x)
	}
	s.mu.Unlock()
	st.Sessions = len(sessions)
	for _, x := range sessions {
		x.mu.Lock()
		st.QueueBytes += x.bytes
		if x.c != nil {
			st.Clients++
			st.QueueBytes += len(x.c.out) + x.c.writingBytes
			st.UnackedBytes += x.c.acks.bytes
		}
		x.mu.Unlock()
	}
	return st
}
