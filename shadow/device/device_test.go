package device

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/service"
)

// memory is a Store of either end.
type memory struct {
	mu      sync.Mutex
	docs    map[string]*shadow.Document
	records map[string]map[string][]byte
	saves   int
	fail    error
}

func newMemory() *memory {
	return &memory{docs: make(map[string]*shadow.Document), records: make(map[string]map[string][]byte)}
}

func (m *memory) Get(thing, name string) (*shadow.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.docs[thing+"/"+name], nil
}

func (m *memory) Put(thing, name string, d *shadow.Document) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.docs[thing+"/"+name] = d
	return nil
}

func (m *memory) Names(string, string, int) ([]string, error) { return nil, nil }

func (m *memory) Usage(string, string) (int, int, error) { return 0, 0, nil }
func (m *memory) Forget(string, time.Time) error         { return nil }

func (m *memory) Load(thing, name string) (map[string][]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return maps.Clone(m.records[thing+"/"+name]), nil
}

func (m *memory) Save(thing, name string, set map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return m.fail
	}
	m.saves++
	r := m.records[thing+"/"+name]
	if r == nil {
		r = make(map[string][]byte)
		m.records[thing+"/"+name] = r
	}
	maps.Copy(r, set)
	maps.DeleteFunc(r, func(_ string, v []byte) bool { return v == nil })
	return nil
}

// A world is a service and a device on a perfect link.
type world struct {
	t     *testing.T
	cloud *memory
	flash *memory
	s     *service.Service
	d     *Device
	stop  func()

	mu       sync.Mutex
	requests []string // payloads of updates the device sent
	gets     int
	drop     func(topic string) bool // messages to lose, either way
}

func (w *world) Publish(topic string, payload []byte) {
	w.mu.Lock()
	lost := w.drop != nil && w.drop(topic)
	w.mu.Unlock()
	if w.d != nil && !lost {
		w.d.Receive(topic, payload)
	}
}

func (w *world) send(ctx context.Context, topic string, payload []byte) error {
	w.mu.Lock()
	lost := w.drop != nil && w.drop(topic)
	if strings.HasSuffix(topic, "/update") {
		w.requests = append(w.requests, string(payload))
	} else {
		w.gets++
	}
	w.mu.Unlock()
	if lost {
		return nil
	}
	w.s.Handle(ctx, topic, append([]byte(nil), payload...), func(err error) {
		if err != nil {
			w.t.Error(err)
		}
	})
	return nil
}

// run calls f in a bubble with a started device that is not connected.
func run(t *testing.T, f func(*testing.T, *world), setup func(*Device)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, cloud: newMemory(), flash: newMemory()}
		w.s = service.New(w.cloud, w, service.Options{})
		w.boot(setup)
		f(t, w)
		w.stop()
		w.s.Close()
	})
}

// boot starts the device from its flash.
func (w *world) boot(setup func(*Device)) {
	if w.stop != nil {
		w.stop()
	}
	d, err := New(w.flash, "pump-7", "", Options{Jitter: func() float64 { return 0.5 }})
	if err != nil {
		w.t.Fatal(err)
	}
	if setup != nil {
		setup(d)
	}
	w.d = d
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	w.stop = func() {
		cancel()
		if err := <-done; err != nil {
			w.t.Error(err)
		}
	}
	synctest.Wait()
}

func (w *world) connect() {
	w.d.Connected(w.send)
	w.quiet()
}

// quiet lets everything happen that is due within the next minutes.
func (w *world) quiet() {
	time.Sleep(3 * time.Minute)
	synctest.Wait()
}

// do is a request of another client.
func (w *world) do(op shadow.Op, payload string) error {
	_, err := w.s.Do(context.Background(), "pump-7", "", op, []byte(payload))
	synctest.Wait()
	return err
}

func (w *world) must(op shadow.Op, payload string) {
	w.t.Helper()
	if err := w.do(op, payload); err != nil {
		w.t.Fatal(err)
	}
}

func text(v map[string]any) string {
	if v == nil {
		return "-"
	}
	return string(shadow.Append(nil, v))
}

// want compares both ends' sections with JSON texts; "-" is an absent one.
func (w *world) want(desired, reported string) {
	w.t.Helper()
	c := w.cloud.docs["pump-7/"]
	if !c.Alive() {
		c = new(shadow.Document)
	}
	for _, x := range []struct{ what, got, want string }{
		{"cloud's desired", text(c.Desired), desired}, {"cloud's reported", text(c.Reported), reported},
		{"device's desired", text(w.d.Desired()), desired}, {"device's reported", text(w.d.Reported()), reported},
	} {
		if x.got != x.want {
			w.t.Errorf("%s is %s, want %s", x.what, x.got, x.want)
		}
	}
}

// agentLike has the properties of the agent.
func agentLike(calls *[]string) func(*Device) {
	return func(d *Device) {
		note := func(path []string, v any) {
			*calls = append(*calls, strings.Join(path, ".")+"="+string(shadow.Append(nil, v)))
		}
		d.Handle("sensors.*.every", HandlerFunc(func(_ context.Context, path []string, v any) (any, error) {
			note(path, v)
			n, ok := v.(json.Number)
			if f, err := n.Float64(); !ok || err != nil || f < 1 {
				return nil, errors.New("want at least 1 second")
			}
			return nil, nil
		}))
		d.Handle("outputs.*.level", HandlerFunc(func(_ context.Context, path []string, v any) (any, error) {
			note(path, v)
			b, ok := v.(bool)
			if !ok {
				return nil, errors.New("want true or false")
			}
			return b, nil
		}))
	}
}

func TestDesiredIsAppliedAndReported(t *testing.T) {
	var calls []string
	run(t, func(t *testing.T, w *world) {
		w.connect()
		w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":5}},"outputs":{"fan":{"level":true}}}}}`)
		w.quiet()
		w.want(`{"outputs":{"fan":{"level":true}},"sensors":{"t1":{"every":5}}}`,
			`{"outputs":{"fan":{"level":true}},"sensors":{"t1":{"every":5}}}`)
		if got := strings.Join(calls, " "); got != "outputs.fan.level=true sensors.t1.every=5" {
			t.Errorf("calls: %s", got)
		}
		if len(w.requests) != 1 || w.gets != 1 {
			t.Errorf("%d updates and %d gets, want 1 and 1: %v", len(w.requests), w.gets, w.requests)
		}
	}, agentLike(&calls))
}

// own is a handler of a setting that the device has a value of its own for.
type own struct {
	HandlerFunc
	clear func(path []string) error
}

func (o own) Clear(_ context.Context, path []string) error { return o.clear(path) }

// A setting that is not desired any more is told to its handler at once, however
// it went: alone, with what it is in, with the shadow, or while offline.
func TestCleared(t *testing.T) {
	for _, c := range []struct {
		name string
		op   shadow.Op
		text string
	}{
		{"alone", shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":null}}}}}`},
		{"its sensor", shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":null}}}}`},
		{"all", shadow.OpUpdate, `{"state":{"desired":null}}`},
		{"the shadow", shadow.OpDelete, ``},
	} {
		for _, offline := range []bool{false, true} {
			t.Run(c.name, func(t *testing.T) {
				var cleared []string
				run(t, func(t *testing.T, w *world) {
					w.connect()
					w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":5},"t2":{"every":6}}}}}`)
					w.quiet()
					if len(cleared) > 0 {
						t.Errorf("cleared at first: %v", cleared)
					}
					if offline {
						w.d.Disconnected()
						w.quiet()
					}
					w.must(c.op, c.text)
					if offline {
						w.connect()
					}
					w.quiet()
					want := "sensors.t1.every"
					if strings.HasPrefix(c.name, "a") && c.name != "alone" || c.op == shadow.OpDelete {
						want += " sensors.t2.every"
					}
					if got := strings.Join(cleared, " "); got != want {
						t.Errorf("cleared %q, want %q", got, want)
					}
				}, func(d *Device) {
					d.Handle("sensors.*.every", own{func(context.Context, []string, any) (any, error) {
						return nil, nil
					},
						func(path []string) error { cleared = append(cleared, strings.Join(path, ".")); return nil }})
				})
			})
		}
	}
}

func TestChangedWhileOffline(t *testing.T) {
	var calls []string
	run(t, func(t *testing.T, w *world) {
		w.connect()
		if err := w.d.Report(map[string]any{"sensors": map[string]any{"t1": map[string]any{"every": 10}}}); err != nil {
			t.Fatal(err)
		}
		w.quiet()
		w.d.Disconnected()
		w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":60}}}}}`)
		for i := range 100 { // coalesced to one message
			if err := w.d.Report(map[string]any{"uptime": i}); err != nil {
				t.Fatal(err)
			}
		}
		sent := len(w.requests)
		w.boot(agentLike(&calls))
		w.connect()
		w.want(`{"sensors":{"t1":{"every":60}}}`, `{"sensors":{"t1":{"every":60}},"uptime":99}`)
		if n := len(w.requests) - sent; n != 1 {
			t.Errorf("%d updates, want 1: %v", n, w.requests[sent:])
		}
		// The next start puts the setting in force again, offline too.
		calls = nil
		w.d.Disconnected()
		w.boot(agentLike(&calls))
		if got := strings.Join(calls, " "); got != "sensors.t1.every=60" {
			t.Errorf("calls at start: %s", got)
		}
	}, nil)
}

// A device that lost its flash takes reported from the cloud, where nothing
// differs, and still has to be set.
func TestWipedDevice(t *testing.T) {
	var calls []string
	run(t, func(t *testing.T, w *world) {
		w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":60}}},"reported":{"sensors":{"t1":{"every":60}}}}}`)
		w.connect()
		if got := strings.Join(calls, " "); got != "sensors.t1.every=60" {
			t.Errorf("calls: %s", got)
		}
	}, agentLike(&calls))
}

func TestRefusal(t *testing.T) {
	var calls []string
	run(t, func(t *testing.T, w *world) {
		w.d.Report(map[string]any{"sensors": map[string]any{"t1": map[string]any{"every": 10}}})
		w.connect()
		w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":0.1}}}}}`)
		w.quiet()
		w.want(`{"sensors":{"t1":{"every":0.1}}}`,
			`{"errors":{"sensors.t1.every":"want at least 1 second"},"sensors":{"t1":{"every":10}}}`)
		w.d.Report(map[string]any{"uptime": 1})
		w.quiet()
		if got := strings.Join(calls, " "); got != "sensors.t1.every=0.1" {
			t.Errorf("calls: %s, want one", got)
		}
		w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":2}}}}}`)
		w.quiet()
		w.want(`{"sensors":{"t1":{"every":2}}}`, `{"sensors":{"t1":{"every":2}},"uptime":1}`)
		w.must(shadow.OpUpdate, `{"state":{"desired":{"sensors":{"t1":{"every":0}}}}}`)
		w.quiet()
		w.must(shadow.OpUpdate, `{"state":{"desired":null}}`)
		w.quiet()
		w.want(`-`, `{"sensors":{"t1":{"every":2}},"uptime":1}`)
	}, agentLike(&calls))
}

func TestConflicts(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.must(shadow.OpUpdate, `{"state":{"desired":{"a":1,"b":1,"c":1},"reported":{"a":1,"b":1,"c":1}}}`)
		w.connect()
		w.d.Disconnected()
		w.must(shadow.OpUpdate, `{"state":{"desired":{"a":2,"b":2,"c":null},"reported":{"a":2,"b":2,"c":null}}}`)
		w.d.Report(map[string]any{"a": 3})                         // both changed: local wins
		w.d.Desire(map[string]any{"a": 3, "d": "by hand", "c": 1}) // a: cloud wins
		w.connect()
		w.want(`{"a":2,"b":2,"d":"by hand"}`, `{"a":3,"b":2}`)
	}, nil)
}

func TestLostAnswersAndDeltas(t *testing.T) {
	var calls []string
	run(t, func(t *testing.T, w *world) {
		w.connect()
		w.mu.Lock()
		w.drop = func(topic string) bool { return strings.HasSuffix(topic, "/accepted") }
		w.mu.Unlock()
		w.d.Report(map[string]any{"x": 1})
		time.Sleep(time.Minute)
		w.must(shadow.OpUpdate, `{"state":{"desired":{"outputs":{"fan":{"level":true}}}}}`)
		time.Sleep(time.Minute)
		w.mu.Lock()
		w.drop = nil
		w.mu.Unlock()
		w.quiet()
		w.want(`{"outputs":{"fan":{"level":true}}}`, `{"outputs":{"fan":{"level":true}},"x":1}`)
	}, agentLike(&calls))
}

func TestDeltaAlone(t *testing.T) {
	var calls []string
	run(t, func(t *testing.T, w *world) {
		w.must(shadow.OpUpdate, `{"state":{"desired":{"keep":1,"go":1},"reported":{"keep":1,"go":1}}}`)
		w.connect()
		w.mu.Lock()
		w.drop = func(topic string) bool { return strings.HasSuffix(topic, "/update/accepted") }
		w.mu.Unlock()
		// The delta shows the level but not that "go" is no longer desired.
		w.must(shadow.OpUpdate, `{"state":{"desired":{"go":null,"outputs":{"fan":{"level":true}}}}}`)
		if len(calls) != 1 {
			t.Errorf("calls %v, want the delta applied at once", calls)
		}
		w.quiet()
		w.want(`{"keep":1,"outputs":{"fan":{"level":true}}}`, `{"go":1,"keep":1,"outputs":{"fan":{"level":true}}}`)
	}, agentLike(&calls))
}

func TestDeletedInTheCloud(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.d.Report(map[string]any{"x": 1})
		w.connect()
		w.must(shadow.OpUpdate, `{"state":{"desired":{"y":1}}}`)
		w.quiet()
		w.must(shadow.OpDelete, ``)
		w.quiet()
		if w.cloud.docs["pump-7/"].Alive() || !w.d.Status().Deleted || w.d.Desired() != nil ||
			text(w.d.Reported()) != `{"x":1}` {
			t.Errorf("after delete: %+v, reported %s", w.d.Status(), text(w.d.Reported()))
		}
		w.connect() // get says 404; still nothing
		if w.cloud.docs["pump-7/"].Alive() {
			t.Error("made anew by a connection")
		}
		w.d.Report(map[string]any{"z": 1})
		w.quiet()
		w.want(`-`, `{"x":1,"z":1}`)
		time.Sleep(50 * time.Hour)
		w.must(shadow.OpDelete, ``)
		time.Sleep(50 * time.Hour) // versions begin at 1 again
		w.d.Report(map[string]any{"z": 2})
		w.quiet()
		w.want(`-`, `{"x":1,"z":2}`)
		n := len(w.requests)
		w.quiet()
		if len(w.requests) != n {
			t.Errorf("keeps sending: %v", w.requests[n:])
		}
	}, nil)
}

func TestParked(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.connect()
		w.must(shadow.OpUpdate, `{"state":{"reported":{"old":"`+strings.Repeat("x", 5000)+`"}}}`)
		w.quiet()
		w.d.limits.MaxSize = 20000 // the device may more than the cloud
		if err := w.d.Report(map[string]any{"big": strings.Repeat("y", 5000)}); err != nil {
			t.Fatal(err)
		}
		w.quiet()
		if n := len(w.requests); n != 1 || w.d.Status().Parked == "" {
			t.Errorf("%d updates, status %+v; want one and parked", n, w.d.Status())
		}
		w.d.Report(map[string]any{"big": "small"})
		w.quiet()
		if w.d.Status().Parked != "" || w.d.Status().Unsent {
			t.Errorf("status %+v", w.d.Status())
		}
	}, nil)
}

func TestLocalLimits(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		if err := w.d.Report(map[string]any{"x": strings.Repeat("y", 9000)}); !errors.Is(err, shadow.ErrTooLarge) {
			t.Errorf("error %v", err)
		}
		if err := w.d.Report(map[string]any{"x": []any{nil}}); !errors.Is(err, shadow.ErrNullInArray) {
			t.Errorf("error %v", err)
		}
		if err := w.d.Report([]int{1}); err == nil {
			t.Error("an array was taken")
		}
		full := errors.New("disk full")
		w.flash.fail = full
		if err := w.d.Report(map[string]any{"x": 1}); !errors.Is(err, full) || w.d.Reported() != nil {
			t.Errorf("error %v, reported %v", err, w.d.Reported())
		}
		w.flash.fail = nil
		n := w.flash.saves
		for range 3 {
			w.d.Report(map[string]any{"x": 1})
		}
		if w.flash.saves != n+1 {
			t.Errorf("%d saves for equal reports, want 1", w.flash.saves-n)
		}
	}, nil)
}

func TestRate(t *testing.T) {
	run(t, func(t *testing.T, w *world) {
		w.connect()
		n := len(w.requests)
		for i := range 100 { // ten seconds
			w.d.Report(map[string]any{"i": i})
			time.Sleep(100 * time.Millisecond)
		}
		w.quiet()
		if sent := len(w.requests) - n; sent > 11 || sent < 10 {
			t.Errorf("%d updates in ten seconds", sent)
		}
		w.want(`-`, `{"i":99}`)
	}, nil)
}

func TestPatterns(t *testing.T) {
	nop := HandlerFunc(func(context.Context, []string, any) (any, error) { return nil, nil })
	for _, c := range []struct {
		have, add string
		panics    bool
	}{
		{"a", "b", false}, {"a", "a", true}, {"a", "a.b", true}, {"a.*", "a.b.c", true},
		{"a.*", "a.b", false}, {"*.b", "a.*", false}, {"a.b", "*", true}, {"a.*.x", "a.*.y", false}, {"a", "", true},
		{"a", "b..c", true},
	} {
		func() {
			defer func() {
				if p := recover(); (p != nil) != c.panics {
					t.Errorf("%q then %q: panic %v", c.have, c.add, p)
				}
			}()
			d := new(Device)
			d.Handle(c.have, nop)
			d.Handle(c.add, nop)
		}()
	}
	d := new(Device)
	var got string
	for _, p := range []string{"*.x", "a.*", "a.x"} {
		d.Handle(p, HandlerFunc(func(context.Context, []string, any) (any, error) { got = p; return nil, nil }))
	}
	for path, want := range map[string]string{"a.x": "a.x", "a.y": "a.*", "b.x": "*.x", "b.y": "", "a": ""} {
		got = ""
		if h := d.routeOf(strings.Split(path, ".")); h != nil {
			h.Apply(context.Background(), nil, nil)
		}
		if got != want {
			t.Errorf("%s goes to %q, want %q", path, got, want)
		}
	}
}
