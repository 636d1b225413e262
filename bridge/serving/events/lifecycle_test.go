package events

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/gateway"
)

// What waits to be told is bounded in number and in bytes.
func TestLifecycleIsBounded(t *testing.T) {
	var published int
	e := NewLifecycle(func(string, []byte) { published++ }, slog.New(slog.DiscardHandler))
	filters := []string{strings.Repeat("x", 1<<20)}
	for range 20 {
		e.Add(gateway.Event{Client: new(gateway.Client), Kind: gateway.Subscribed, Filters: filters})
	}
	if got := e.dropped.Load(); got != 4 || len(e.queue) != 16 || e.text.Load() != 16<<20 {
		t.Errorf("%d dropped, %d wait with %d bytes", got, len(e.queue), e.text.Load())
	}
	for range 2 * maxEvents {
		e.Add(gateway.Event{Client: new(gateway.Client), Kind: gateway.Unsubscribed})
	}
	if len(e.queue) != maxEvents {
		t.Errorf("%d wait", len(e.queue))
	}
}

type clients []*gateway.Client

func (all clients) Each(f func(*gateway.Client)) {
	for _, c := range all {
		f(c)
	}
}

// What is kept of clients that have gone is small and bounded, however many come
// and however often; the count of one that is back within the hour goes on.
func TestLifecycleForgets(t *testing.T) {
	e := NewLifecycle(func(string, []byte) {}, slog.New(slog.DiscardHandler))
	now, serial := time.Now(), uint64(0)
	visit := func(id string) uint64 {
		serial++
		c := e.latest(id, serial, now)
		if again := e.latest(id, serial, now); again != c {
			t.Fatal("one connection is two")
		}
		e.leave(id, c, now)
		return c.version
	}
	for i := range 5 {
		if got := visit("a"); got != uint64(i) {
			t.Errorf("version %d of connection %d", got, i)
		}
		now = now.Add(forgetAfter - time.Minute)
	}
	if now = now.Add(2 * time.Minute); visit("a") != 0 {
		t.Error("the count goes on after an hour")
	}
	for i := range 3 * maxAway {
		visit(fmt.Sprint(i))
	}
	for range 5 * maxAway {
		visit("a")
	}
	if len(e.clients) != 0 || len(e.away) > maxAway || len(e.order) > 2*maxAway {
		t.Errorf("%d connected, %d away, %d in order", len(e.clients), len(e.away), len(e.order))
	}
	e.forget(now.Add(forgetAfter + 1))
	if len(e.away) != 0 || len(e.order) != 0 {
		t.Errorf("after an hour %d away, %d in order", len(e.away), len(e.order))
	}

	// One whose end was dropped is not kept as if it were there.
	there := clients{new(gateway.Client)}
	e.latest("there", 0, now)
	e.latest("gone", 7, now)
	e.queue <- gateway.Event{}
	e.dropped.Add(1)
	e.reconcile(there, now) // its end may wait
	if len(e.clients) != 2 {
		t.Errorf("%d connected", len(e.clients))
	}
	<-e.queue
	e.reconcile(there, now)
	if e.clients["there"] == nil || len(e.clients) != 1 || e.latest("gone", 8, now).version != 1 {
		t.Errorf("%v connected", e.clients)
	}
}
