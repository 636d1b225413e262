package events

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/notice"
)

// Bounds of events.
const (
	maxEvents    = 4096      // that wait to be published
	maxEventText = 16 << 20  // bytes of the filters in them
	forgetAfter  = time.Hour // a client's count of connections, once it is away
	maxAway      = 65_536    // clients that are away whose counts are kept, about 150 bytes and the id each
)

// Lifecycle publishes AWS IoT's lifecycle events: clients that come and go, and
// their subscriptions, on topics below $aws/events/.
type Lifecycle struct {
	publish func(topic string, payload []byte)
	log     *slog.Logger
	queue   chan gateway.Event
	text    atomic.Int64 // bytes of filters in queue
	dropped atomic.Uint64
	notices notice.Log

	// Of Run's goroutine.
	clients map[string]*connection // by client id, of those connected
	away    map[string]departure   // by client id
	order   []departure            // of away, the oldest first, and some that came back
	known   uint64                 // dropped, when it was last seen to
}

// Clients are those that are connected; a gateway.Server has them.
type Clients interface {
	// Each calls f for each of them.
	Each(f func(*gateway.Client))
}

// A connection is the latest of its client id.
type connection struct {
	serial  uint64
	version uint64 // counts those of the client id
	session string // its identifier in events
}

// A departure is the end of a client's latest connection.
type departure struct {
	id      string
	version uint64
	at      time.Time
}

// NewLifecycle returns a Lifecycle that publishes by publish.
func NewLifecycle(publish func(topic string, payload []byte), log *slog.Logger) *Lifecycle {
	return &Lifecycle{publish: publish, log: log, queue: make(chan gateway.Event, maxEvents),
		clients: make(map[string]*connection), away: make(map[string]departure)}
}

// Add is the gateway's hook: it does not wait.
func (e *Lifecycle) Add(v gateway.Event) {
	if strings.ContainsAny(v.Client.ID(), "+#") {
		return // there is no such topic
	}
	n := filterBytes(v)
	if n > 0 && e.text.Add(n) > maxEventText {
		e.text.Add(-n)
		e.drop()
		return
	}
	select {
	case e.queue <- v:
	default:
		e.text.Add(-n)
		e.drop()
	}
}

// drop counts an event that is not published.
func (e *Lifecycle) drop() {
	e.dropped.Add(1)
	e.notices.Happened("", func(n uint64) {
		e.log.Warn("lifecycle events are dropped, more come than can be published", "count", n)
	})
}

func filterBytes(v gateway.Event) (n int64) {
	for _, f := range v.Filters {
		n += int64(len(f))
	}
	return n
}

// Dropped returns how many events were not published since too many waited.
func (e *Lifecycle) Dropped() uint64 { return e.dropped.Load() }

// Run publishes what Add was given until ctx ends, and then what still waits.
// It asks which clients are connected after events were dropped.
func (e *Lifecycle) Run(ctx context.Context, connected Clients) error {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	defer e.notices.Close()
	for {
		select {
		case v := <-e.queue:
			e.publishEvent(v)
		case now := <-tick.C:
			e.notices.Flush()
			e.reconcile(connected, now)
			e.forget(now)
		case <-ctx.Done():
			for {
				select {
				case v := <-e.queue:
					e.publishEvent(v)
				default:
					return nil
				}
			}
		}
	}
}

// reconcile lets those go whose end was among the events that were dropped.
func (e *Lifecycle) reconcile(connected Clients, now time.Time) {
	dropped := e.dropped.Load()
	if dropped == e.known {
		return
	}
	there := make(map[uint64]bool)
	connected.Each(func(c *gateway.Client) { there[c.Serial()] = true })
	// Who was not there has told of its end before, and what waits may be that.
	if len(e.queue) > 0 {
		return
	}
	e.known = dropped
	for id, c := range e.clients {
		if !there[c.serial] {
			e.leave(id, c, now)
		}
	}
}

// leave keeps the count of a client that has gone, for a while.
func (e *Lifecycle) leave(id string, c *connection, at time.Time) {
	delete(e.clients, id)
	d := departure{id, c.version, at}
	e.away[id] = d
	e.order = append(e.order, d)
	e.forget(at)
}

// forget drops the counts of those who have been away for long, and the oldest of
// too many.
func (e *Lifecycle) forget(now time.Time) {
	n := 0
	for ; n < len(e.order) && (len(e.away) > maxAway || now.Sub(e.order[n].at) > forgetAfter); n++ {
		if d := e.order[n]; e.away[d.id] == d {
			delete(e.away, d.id)
		}
	}
	e.order = e.order[n:]
	if len(e.order) > 2*maxAway { // half of them and more came back
		e.order = slices.DeleteFunc(e.order, func(d departure) bool { return e.away[d.id] != d })
	}
}

// latest returns what is known of a client's connection, of which there is an
// event.
func (e *Lifecycle) latest(id string, serial uint64, at time.Time) *connection {
	c := e.clients[id]
	if c != nil && c.serial == serial {
		return c
	}
	next := &connection{serial: serial, session: uuid.NewString()}
	if c != nil {
		next.version = c.version + 1
	} else if d, ok := e.away[id]; ok && at.Sub(d.at) <= forgetAfter {
		next.version = d.version + 1
	}
	delete(e.away, id)
	e.clients[id] = next
	return next
}

// A lifecycleEvent is the message of one (developer guide, "Lifecycle events").
type lifecycleEvent struct {
	ClientID  string `json:"clientId"`
	Timestamp int64  `json:"timestamp"` // ms since 1970
	EventType string `json:"eventType"`
	ByClient  *bool  `json:"clientInitiatedDisconnect,omitempty"`
	Session   string `json:"sessionIdentifier"`
	Principal string `json:"principalIdentifier"`
	Reason    string `json:"disconnectReason,omitempty"`
	Address   string `json:"ipAddress,omitempty"`

	Topics  []string `json:"topics,omitempty"`
	Version *uint64  `json:"versionNumber,omitempty"`
}

func (e *Lifecycle) publishEvent(v gateway.Event) {
	e.text.Add(-filterBytes(v))
	id := v.Client.ID()
	c := e.latest(id, v.Client.Serial(), v.Time)
	m := lifecycleEvent{ClientID: id, Timestamp: v.Time.UnixMilli(), Session: c.session,
		Principal: v.Client.Principal()}
	kind := "subscriptions/"
	switch v.Kind {
	case gateway.Connected:
		kind, m.EventType, m.Address, m.Version = "presence/", "connected", v.Client.Address(), &c.version
	case gateway.Disconnected:
		byClient := v.Reason == gateway.ReasonClient
		kind, m.EventType, m.Reason, m.ByClient, m.Version = "presence/", "disconnected", v.Reason, &byClient,
			&c.version
		e.leave(id, c, v.Time)
	case gateway.Subscribed:
		m.EventType, m.Topics = "subscribed", v.Filters
	case gateway.Unsubscribed:
		m.EventType, m.Topics = "unsubscribed", v.Filters
	}
	text, err := json.Marshal(m)
	if err != nil {
		e.log.Error("lifecycle event", "client", id, "err", err)
		return
	}
	e.publish(prefix+kind+m.EventType+"/"+id, text)
}
