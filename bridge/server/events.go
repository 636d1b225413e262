package server

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// Bounds of events.
const (
	maxEvents    = 4096      // that wait to be published
	maxEventText = 16 << 20  // bytes of the filters in them
	forgetAfter  = time.Hour // a client's count of connections, once it is away
	eventsPrefix = "$aws/events/"
)

// events publishes AWS IoT's lifecycle events: clients that come and go, and
// their subscriptions, on topics below $aws/events/.
type events struct {
	on      bool
	publish func(topic string, payload []byte)
	log     *slog.Logger
	queue   chan gateway.Event
	text    atomic.Int64 // bytes of filters in queue
	dropped atomic.Uint64

	// Of run's goroutine.
	clients map[string]*connections // by client id
}

// connections counts those of one client id.
type connections struct {
	version uint64
	session string // identifier of the latest
	client  *gateway.Client
	left    time.Time // zero while it is connected
}

func newEvents(on bool, publish func(string, []byte), log *slog.Logger) *events {
	return &events{on: on, publish: publish, log: log, queue: make(chan gateway.Event, maxEvents), clients: make(map[string]*connections)}
}

// hear is the gateway's hook: it does not wait.
func (e *events) hear(v gateway.Event) {
	if !e.on || strings.ContainsAny(v.Client.ID(), "+#") {
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
func (e *events) drop() {
	if e.dropped.Add(1) == 1 {
		e.log.Warn("lifecycle events are dropped, more come than can be published")
	}
}

func filterBytes(v gateway.Event) (n int64) {
	for _, f := range v.Filters {
		n += int64(len(f))
	}
	return n
}

func (e *events) run(ctx context.Context) error {
	tick := time.NewTicker(forgetAfter / 4)
	defer tick.Stop()
	for {
		select {
		case v := <-e.queue:
			e.tell(v)
		case now := <-tick.C:
			for id, c := range e.clients {
				if !c.left.IsZero() && now.Sub(c.left) > forgetAfter {
					delete(e.clients, id)
				}
			}
		case <-ctx.Done():
			for {
				select {
				case v := <-e.queue:
					e.tell(v)
				default:
					return nil
				}
			}
		}
	}
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

func (e *events) tell(v gateway.Event) {
	e.text.Add(-filterBytes(v))
	id := v.Client.ID()
	c := e.clients[id]
	if c == nil {
		c = &connections{}
		e.clients[id] = c
	} else if c.client != v.Client {
		c.version++
	}
	if c.client != v.Client {
		c.client, c.session, c.left = v.Client, uuid(), time.Time{}
	}
	m := lifecycleEvent{ClientID: id, Timestamp: v.Time.UnixMilli(), Session: c.session, Principal: v.Client.Principal()}
	kind := "subscriptions/"
	switch v.Kind {
	case gateway.Connected:
		kind, m.EventType, m.Address, m.Version = "presence/", "connected", hostOf(v.Client.Remote()), &c.version
	case gateway.Disconnected:
		byClient := v.Reason == gateway.ReasonClient
		kind, m.EventType, m.Reason, m.ByClient, m.Version = "presence/", "disconnected", v.Reason, &byClient, &c.version
		c.left = v.Time
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
	e.publish(eventsPrefix+kind+m.EventType+"/"+id, text)
}

// uuid is a random UUID, version 4.
func uuid() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
