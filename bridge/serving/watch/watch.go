// Package watch shows people what passes through the bridge while it passes:
// the other end of `tidemill-bridge watch`.
//
// A Hub is shown every message that was accepted. Whoever watches is given
// those whose topics match, live and from now on. The way of a message never
// waits for a watcher: one that reads too slowly misses messages, and is told
// how many. Without watchers a message costs a look at one pointer.
package watch

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/topic"
)

const (
	maxWatchers = 16      // at a time
	maxFilters  = 32      // of one watcher
	maxLines    = 1000    // that wait for one watcher
	maxBytes    = 4 << 20 // of topics and payloads that wait for one watcher
)

// A Line is one line of the answer: a message, or with no Topic a word that
// some were skipped. Of JSON, Text and Data at most one is set.
type Line struct {
	Skipped uint64          `json:"skipped,omitempty"` // messages that matched before this one and are not shown
	Time    int64           `json:"time,omitempty"`    // arrival, epoch ms
	Topic   string          `json:"topic,omitempty"`
	JSON    json.RawMessage `json:"json,omitempty"` // the payload, where it is JSON
	Text    string          `json:"text,omitempty"` // else, where it is UTF-8
	Data    []byte          `json:"data,omitempty"` // else, base64
	QoS     byte            `json:"qos,omitempty"`
	Retain  bool            `json:"retain,omitempty"`
	Client  string          `json:"client,omitempty"` // id of the publisher; "" for the bridge itself
	Thing   string          `json:"thing,omitempty"`  // that it is
}

// A Hub is where messages and watchers meet. Its methods may be called from
// several goroutines. The zero value is good for use.
type Hub struct {
	all atomic.Pointer[[]*watcher] // nil: nobody watches
	mu  sync.Mutex                 // held to change all
}

// Show shows a message to those who watch its topic. It does not block, and
// keeps nothing of m.
func (h *Hub) Show(m *message.Message) {
	all := h.all.Load()
	if all == nil {
		return
	}
	for _, w := range *all {
		if slices.ContainsFunc(w.filters, func(f string) bool { return topic.Match(f, m.Topic) }) {
			w.offer(m)
		}
	}
}

// Serve answers GET ?filter=FILTER&filter=… with Lines as they come, until
// the client leaves or the bridge stops. Without a filter it is "#": all but
// what begins with "$". A first line without a message says that from here on
// nothing is missed unsaid. Before that it may return a FilterError or ErrFull, and
// has not answered.
func (h *Hub) Serve(w http.ResponseWriter, r *http.Request) error {
	watcher, err := newWatcher(r.URL.Query()["filter"])
	if err == nil {
		err = h.add(watcher)
	}
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	defer h.remove(watcher)
	enc, rc := json.NewEncoder(w), http.NewResponseController(w)
	enc.SetEscapeHTML(false)
	put := func(line Line) error {
		if err := enc.Encode(line); err != nil || len(watcher.waiting) > 0 {
			return err
		}
		return rc.Flush()
	}
	tell := time.NewTicker(time.Second)
	defer tell.Stop()
	for err := put(Line{}); err == nil; { // an error: nobody is there any more
		select {
		case m := <-watcher.waiting:
			err = put(watcher.take(m))
		case <-tell.C:
			if n := watcher.skipped.Swap(0); n > 0 {
				err = put(Line{Skipped: n})
			}
		case <-r.Context().Done():
			return nil
		}
	}
	return nil
}

// ErrFull refuses one watcher too many.
var ErrFull = fmt.Errorf("%d watch already, which is as many as may: end one of them first", maxWatchers)

// A FilterError refuses filters.
type FilterError struct{ error }

// Unwrap returns why.
func (e FilterError) Unwrap() error { return e.error }

func (h *Hub) add(w *watcher) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*watcher
	if p := h.all.Load(); p != nil {
		all = *p
	}
	if len(all) >= maxWatchers {
		return ErrFull
	}
	all = append(slices.Clone(all), w)
	h.all.Store(&all)
	return nil
}

func (h *Hub) remove(w *watcher) {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := slices.DeleteFunc(slices.Clone(*h.all.Load()), func(o *watcher) bool { return o == w })
	if h.all.Store(&all); len(all) == 0 {
		h.all.Store(nil)
	}
}

// A watcher is one client and what waits for it.
type watcher struct {
	filters []string
	waiting chan pending
	bytes   atomic.Int64 // of waiting
	skipped atomic.Uint64
}

// A pending message is what is kept of one until it is written.
type pending struct {
	Line
	payload []byte
}

func newWatcher(filters []string) (*watcher, error) {
	if len(filters) == 0 {
		filters = []string{"#"}
	}
	if len(filters) > maxFilters {
		return nil, FilterError{fmt.Errorf("%d filters, want at most %d", len(filters), maxFilters)}
	}
	for _, f := range filters {
		if err := topic.ValidFilter(f); err != nil {
			return nil, FilterError{fmt.Errorf("filter %q: %w", f, err)}
		}
	}
	return &watcher{filters: filters, waiting: make(chan pending, maxLines)}, nil
}

func (w *watcher) offer(m *message.Message) {
	size := int64(len(m.Topic) + len(m.Payload))
	if w.bytes.Add(size) <= maxBytes {
		line := Line{Time: m.Time, Topic: m.Topic, QoS: m.QoS, Retain: m.Retain, Client: m.ClientID, Thing: m.Thing}
		select {
		// A copy: the payload's memory is the connection's or the batch's.
		case w.waiting <- pending{line, slices.Clone(m.Payload)}:
			return
		default:
		}
	}
	w.bytes.Add(-size)
	w.skipped.Add(1)
}

// take makes the line of a message that no longer waits.
func (w *watcher) take(m pending) Line {
	w.bytes.Add(-int64(len(m.Topic) + len(m.payload)))
	line := m.Line
	line.Skipped = w.skipped.Swap(0)
	switch {
	case message.IsJSON(m.payload):
		line.JSON = m.payload
	case utf8.Valid(m.payload):
		line.Text = string(m.payload)
	default:
		line.Data = m.payload
	}
	return line
}
