package send

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/queue"
	"github.com/tidemill/tidemill/bridge/speed/sink/sns"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// hosts answers for webhooks: those called silent never do, until they are heard.
type hosts struct {
	mu    sync.Mutex
	heard bool
	calls map[string][]string // bodies by host
}

func (h *hosts) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	silent := strings.HasPrefix(r.URL.Host, "silent") && !h.heard
	if !silent {
		h.calls[r.URL.Host] = append(h.calls[r.URL.Host], string(body))
	}
	h.mu.Unlock()
	if silent {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
}

// A site has outboxes over a log in memory, whose topics have subscribers.
type site struct {
	t         *testing.T
	store     *pebble.Store
	hosts     *hosts
	mu        sync.Mutex
	published []string // by MQTT
	invoked   []string
	queued    []string
	gaveUp    []string
	topics    *Topics
	boxes     *action.Outboxes
}

func newSite(t *testing.T, all ...Subscriber) *site {
	store := pebbletest.Start(t)
	s := &site{t: t, store: store, hosts: &hosts{calls: map[string][]string{}}, boxes: action.NewOutboxes(store)}
	s.topics = &Topics{Of: map[string][]Subscriber{"t": all}, Room: func(string) error { return nil },
		Queue: func(_ *streams.Batch, name string, m *queue.Message) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.queued = append(s.queued, name+" "+m.Body)
			return nil
		}}
	for _, stream := range s.topics.Outboxes() {
		if err := s.boxes.Ensure(stream); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.boxes.Ensure(action.OutboxStream("r", "0")); err != nil {
		t.Fatal(err)
	}
	return s
}

// HasFunction implements Invoker.
func (s *site) HasFunction(string) bool { return true }

// InvokeEvent implements Invoker.
func (s *site) InvokeEvent(_ context.Context, arn, request string, event []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.invoked = append(s.invoked, arn+" "+string(event))
	return nil
}

// run runs the outboxes for some time.
func (s *site) run(d time.Duration, put ...*action.Delivery) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	set := New(Options{HTTP: &http.Client{Transport: s.hosts}, Topics: s.topics, Functions: s,
		Publish: func(_ context.Context, d *action.Delivery) error {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.published = append(s.published, d.Name+" "+string(d.Data))
			return nil
		}})
	x := action.NewDrainer(s.boxes, action.Options{Senders: set.Senders(), Spread: s.topics,
		Log: slog.New(slog.DiscardHandler),
		Failed: func(_ *streams.Batch, d *action.Delivery, err error) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.gaveUp = append(s.gaveUp, string(d.Data)+": "+err.Error())
		}})
	b := s.store.NewBatch()
	for _, d := range put {
		b.Append(action.OutboxStream("r", "0"), 0, streams.Record{Data: d.Record()})
	}
	if err := s.store.Commit(ctx, b); err != nil {
		s.t.Fatal(err)
	}
	wg.Go(func() { _ = x.Run(ctx) })
	time.Sleep(d)
	cancel()
	wg.Wait()
}

func published(text string, more ...string) *action.Delivery {
	d := delivery("sns", text, append([]string{"targetArn", "arn:aws:sns:eu-local-1:000000000000:t", "messageFormat",
		"RAW"}, more...)...)
	d.ID = "id-" + text
	return d
}

// Webhooks that never answer take nothing from the other subscribers of a topic, however
// many messages they are behind; when they are there again they get all, in order and once.
func TestSilentWebhooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, NewSubscriber("http", "http://silent-a/"), NewSubscriber("http", "http://silent-b/"),
			NewSubscriber("http", "http://heard/"), NewSubscriber("mqtt", "a"), NewSubscriber("mqtt", "b"))
		var all []*action.Delivery
		const n = 300 // an outbox has 256 in memory
		for i := range n {
			all = append(all, published(strings.Repeat("x", i)))
		}
		s.run(time.Minute, all...)
		if len(s.hosts.calls["heard"]) != n || len(s.published) != 2*n || len(s.hosts.calls["silent-a"]) != 0 {
			t.Errorf("posted %d, published %d", len(s.hosts.calls["heard"]), len(s.published))
		}
		s.run(0) // the bridge starts anew
		s.hosts.heard = true
		s.run(time.Hour)
		for _, host := range []string{"heard", "silent-a", "silent-b"} {
			got := s.hosts.calls[host]
			if len(got) != n {
				t.Errorf("%s: %d messages", host, len(got))
				continue
			}
			for i, body := range got {
				if want := `"MessageId":"id-` + strings.Repeat("x", i) + `"`; !strings.Contains(body, want) {
					t.Fatalf("%s: message %d is %s", host, i, body)
				}
			}
		}
		if len(s.published) != 2*n || len(s.gaveUp) != 0 {
			t.Errorf("published %d, gave up %q", len(s.published), s.gaveUp)
		}
	})
}

// Each protocol gets its form, filtered or raw as its subscription says.
func TestSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		filter, err := sns.ParseFilter([]byte(`{"level":["high"]}`))
		if err != nil {
			t.Fatal(err)
		}
		raw, high, work := NewSubscriber("https", "https://raw/"), NewSubscriber("https", "https://high/"),
			NewSubscriber("sqs", "work")
		raw.Raw, high.Filter = true, filter
		alone := NewSubscriber("sqs", "alone")
		alone.Raw = true
		s := newSite(t, raw, high, work, alone, NewSubscriber("lambda", "f"), NewSubscriber("mqtt", "m"))
		d := published(`{"default":"d","https":"{\"level\":\"high\"}","lambda":"l","sqs":"s"}`)
		d.Parameters[1].Value = "JSON"
		s.run(time.Minute, published(`{"level":"low"}`), d)
		if got := s.hosts.calls["raw"]; !slices.Equal(got, []string{`{"level":"low"}`, `{"level":"high"}`}) {
			t.Errorf("raw: %q", got)
		}
		var n struct{ Message, TopicArn string }
		if got := s.hosts.calls["high"]; len(got) != 1 || json.Unmarshal([]byte(got[0]), &n) != nil ||
			n.Message != `{"level":"high"}` || !strings.HasSuffix(n.TopicArn, ":t") {
			t.Errorf("high: %q", got)
		}
		if len(s.queued) != 4 || s.queued[3] != "alone s" || !strings.HasPrefix(s.queued[2], `work {"Type":"Notification",`) ||
			!strings.Contains(s.queued[2], `"Message":"s"`) {
			t.Errorf("queued %q", s.queued)
		}
		const event = `f {"Records":[{"EventVersion":"1.0","EventSubscriptionArn":"arn:aws:sns:eu-local-1:000000000000:t:lambda-`
		if len(s.invoked) != 2 || !strings.HasPrefix(s.invoked[1], event) ||
			!strings.Contains(s.invoked[1], `"EventSource":"aws:sns","Sns":{"Type":"Notification"`) ||
			!strings.Contains(s.invoked[1], `"Message":"l"`) {
			t.Errorf("invoked %q", s.invoked)
		}
		if !slices.Equal(s.published, []string{`m {"level":"low"}`, `m d`}) || len(s.gaveUp) != 0 {
			t.Errorf("published %q, gave up %q", s.published, s.gaveUp)
		}
	})
}

// A subscriber that cannot have a message, and one that the topic has no more, run the
// error action; the others get it.
func TestSubscribersThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := NewSubscriber("http", "http://silent/")
		s := newSite(t, gone, NewSubscriber("sqs", "none"), NewSubscriber("http", "http://full/"), NewSubscriber("mqtt", "m"))
		s.topics.Queue = func(*streams.Batch, string, *queue.Message) error { return errors.New("no such queue") }
		s.topics.Room = func(stream string) error {
			if strings.Contains(stream, NewSubscriber("http", "http://full/").ID) {
				return errors.New("it is full")
			}
			return nil
		}
		s.run(time.Minute, published("1"))
		if len(s.published) != 1 || len(s.gaveUp) != 1 || !strings.Contains(s.gaveUp[0], "no such queue") ||
			!strings.Contains(s.gaveUp[0], "it is full") {
			t.Errorf("published %q, gave up %q", s.published, s.gaveUp)
		}
		s.topics.Of["t"] = s.topics.Of["t"][1:]
		s.run(time.Minute)
		if len(s.gaveUp) != 2 || !strings.Contains(s.gaveUp[1], "has it no more") {
			t.Errorf("gave up %q", s.gaveUp)
		}
	})
}
