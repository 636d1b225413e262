package route

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/tidemill/tidemill/agent/telemetry"
	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/gateway"
	"github.com/tidemill/tidemill/bridge/speed/ingest"
	"github.com/tidemill/tidemill/bridge/speed/message"
	"github.com/tidemill/tidemill/bridge/speed/streams"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// A site records what a Router does to its parts. It is all of them but the log.
type site struct {
	mu    sync.Mutex
	calls []string
	fail  error // of the broker, of Check and of shadows
}

func (s *site) note(what, topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, what+" "+topic)
}

func (s *site) Deliver(m *message.Message, _ *streams.Batch) func() {
	s.note("deliver", m.Topic)
	return nil
}
func (s *site) Stage(m *message.Message, _ *streams.Batch) func(error) {
	s.note("stage", m.Topic)
	return nil
}
func (s *site) Answer(_ *gateway.Client, m *message.Message) bool {
	s.note("answer", m.Topic)
	return true
}
func (s *site) Check(m *message.Message) error { return s.fail }
func (s *site) Show(m *message.Message)        { s.note("show", m.Topic) }
func (s *site) Handle(_ context.Context, topic string, _ []byte, done func(error)) {
	s.note("shadow", topic)
	done(s.fail)
}

// A brokered is a site whose devices are a broker's.
type brokered struct{ *site }

func (s brokered) Queue(m *message.Message, done func(error)) {
	s.note("queue", m.Topic)
	done(nil)
}
func (s brokered) Publish(_ context.Context, m *message.Message) error {
	s.note("broker", m.Topic)
	return s.fail
}

// as is a Sender.
type as struct {
	gateway.Session
	err error
}

func (a as) MayPublish(topic string) bool              { return true }
func (a as) AsThing() (string, gateway.Session, error) { return "t", a.Session, a.err }

// newSite returns a Router whose log runs until the test ends; b may be nil.
func newSite(t *testing.T, s *site, b Broker, others bool) *Router {
	t.Helper()
	store := pebbletest.Start(t)
	in, err := ingest.New(store, ingest.Options{ThingRate: 1})
	if err != nil {
		t.Fatal(err)
	}
	p := NewPublisher(in, s, b, s, func() error { return nil })
	return New(Options{Publisher: p, Shadows: s, Log: store, OtherShadows: others})
}

const request = "$aws/things/t/shadow/get"

// Who sees a message depends on its topic, on who publishes it, and on whether a
// broker has the devices.
func TestWhoSeesWhat(t *testing.T) {
	publish := func(topic string) func(*testing.T, *Router) {
		return func(t *testing.T, r *Router) { r.Publish(topic, nil) }
	}
	submit := func(topic string) func(*testing.T, *Router) {
		return func(t *testing.T, r *Router) {
			if err := r.Submit(t.Context(), &message.Message{Topic: topic, QoS: 1}, as{}); err != nil {
				t.Error(err)
			}
		}
	}
	republish := func(topic string) func(*testing.T, *Router) {
		return func(t *testing.T, r *Router) {
			b := r.o.Log.NewBatch()
			if _, err := r.Republish(t.Context(), b, &action.Delivery{Name: topic}); err != nil {
				t.Error(err)
			}
		}
	}
	arrives := func(topic string) func(*testing.T, *Router) {
		return func(t *testing.T, r *Router) {
			done := make(chan error, 1)
			r.FromBroker(&message.Message{Topic: topic, QoS: 1}, func(err error) { done <- err })
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	}
	for _, c := range []struct {
		name           string
		broker, others bool
		do             func(*testing.T, *Router)
		want           string
	}{
		{"a service", false, false, publish("a"), "show a, deliver a"},
		{"a service, of a shadow", false, false, publish(request), "show " + request + ", deliver " + request},
		{"a service, broker", true, false, publish("a"), "queue a"},
		{"HTTPS", false, false, submit("a"), "show a, deliver a"},
		{"HTTPS, to a shadow", false, false, submit(request),
			"shadow " + request + ", show " + request + ", deliver " + request},
		{"HTTPS, broker", true, false, submit("a"), "broker a"},
		{"a rule", false, false, republish("a"), "show a, stage a"},
		{"a rule, to a shadow", false, false, republish(request),
			"shadow " + request + ", show " + request + ", stage " + request},
		{"a rule, broker", true, false, republish("a"), "broker a"},
		{"from the broker", true, false, arrives("a"), "show a"},
		{"from the broker, to a shadow", true, false, arrives(request), "shadow " + request + ", show " + request},
		{"from the broker, to another bridge's shadow", true, true, arrives(request), "show " + request},
		{"from the broker, no service's", true, false, arrives("$SYS/x"), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := new(site)
			var b Broker
			if c.broker {
				b = brokered{s}
			}
			r := newSite(t, s, b, c.others)
			c.do(t, r)
			if got := strings.Join(s.calls, ", "); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
			want := Stats{}
			if c.others {
				want.Unanswered = 1
			} else if c.want == "" {
				want.Reserved = 1
			}
			if got := r.Stats(); got != want {
				t.Errorf("%+v, want %+v", got, want)
			}
		})
	}
}

// What is not taken is told, and by which error.
func TestSubmitErrors(t *testing.T) {
	broken, batch := errors.New("broken"), telemetry.Topic
	for _, c := range []struct {
		name, topic string
		fail        error
		from        as
		broker      bool
		want        error
	}{
		{"checked", "a", broken, as{}, false, broken},
		{"no thing", batch, nil, as{err: broken}, false, broken},
		{"checked before the thing is asked for", batch, gateway.ErrQuota, as{err: broken}, false, gateway.ErrQuota},
		{"a broker's batch is nobody's here", batch, nil, as{err: broken}, true, nil},
	} {
		s := &site{fail: c.fail}
		var b Broker
		if c.broker {
			b = brokered{s}
		}
		r := newSite(t, s, b, false)
		if err := r.Submit(t.Context(), &message.Message{Topic: c.topic}, c.from); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if want := c.want == nil; want != slices.Contains(s.calls, "broker "+c.topic) {
			t.Errorf("%s: %v", c.name, s.calls)
		}
	}
	// A thing that sent too much is refused until its rate is met again.
	r := newSite(t, new(site), nil, false)
	for range 3 {
		if err := r.Submit(t.Context(), &message.Message{Topic: "a", Thing: "t"}, as{}); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Submit(t.Context(), &message.Message{Topic: batch}, as{}); !errors.Is(err, ErrThrottled) {
		t.Errorf("%v, want %v", err, ErrThrottled)
	}
}
