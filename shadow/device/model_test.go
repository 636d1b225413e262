package device

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
	"github.com/tidemill/tidemill/shadow/service"
)

var (
	seed = flag.Uint64("seed", 1, "first seed of the model test; 0 draws one")
	runs = flag.Int("runs", 12, "worlds of the model test")
)

// bothStores is a store of both ends.
type bothStores interface {
	Store
	service.Store
}

// A chaos is a device and the service on a link that loses, delays, doubles
// and reorders messages, is cut for a while, and dies with the device.
type chaos struct {
	t       *testing.T
	r       *rand.Rand
	store   bothStores
	s       *service.Service
	foreign bool // others write reported and delete the shadow
	options Options

	mu      sync.Mutex // guards the rest, and r while the link is in use
	d       *Device
	lossy   bool
	up      bool
	session int
	stop    func()
	applied map[string]string // what the simulated hardware is set to
	own     map[string]int    // last reported values nobody else writes
	edits   map[string]int    // last desired values that only this device writes
}

// carry delivers a message by f after a while, perhaps twice or not at all.
func (c *chaos) carry(f func()) {
	copies, delays := 1, [2]time.Duration{}
	if c.lossy {
		switch p := c.r.Float64(); {
		case p < 0.15:
			copies = 0
		case p < 0.25:
			copies = 2
		}
		for i := range delays {
			delays[i] = time.Duration(c.r.ExpFloat64() * float64(300*time.Millisecond))
		}
	}
	for _, delay := range delays[:copies] {
		time.AfterFunc(delay, f)
	}
}

func (c *chaos) Publish(topic string, payload []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.up {
		return
	}
	session := c.session
	c.carry(func() {
		c.mu.Lock()
		d := c.d
		lost := session != c.session
		c.mu.Unlock()
		if !lost {
			d.Receive(topic, payload)
		}
	})
}

func (c *chaos) send(_ context.Context, topic string, payload []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.up {
		return errors.New("link is down")
	}
	c.carry(func() { c.s.Handle(context.Background(), topic, payload, func(error) {}) })
	return nil
}

func (c *chaos) boot() {
	if c.stop != nil {
		c.stop()
	}
	d, err := New(c.store, "t", "", c.options)
	if err != nil {
		c.t.Fatal(err)
	}
	apply := func(_ context.Context, path []string, v any) (any, error) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.applied[strings.Join(path, ".")] = string(shadow.Append(nil, v))
		return nil, nil
	}
	d.Handle("set.*", HandlerFunc(apply))
	d.Handle("tree.*", HandlerFunc(apply))
	d.Handle("never.*", HandlerFunc(func(context.Context, []string, any) (any, error) {
		return nil, errors.New("never")
	}))
	d.Handle("clamped", HandlerFunc(func(context.Context, []string, any) (any, error) { return 1, nil }))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	c.mu.Lock()
	c.d, c.up = d, false
	c.session++
	c.mu.Unlock()
	c.stop = func() { cancel(); <-done }
}

func (c *chaos) jitter() float64 { return 0.5 }

func (c *chaos) link(up bool) {
	c.mu.Lock()
	c.up = up
	c.session++
	c.mu.Unlock()
	if up {
		c.d.Connected(c.send)
	} else {
		c.d.Disconnected()
	}
}

func (c *chaos) pick(list ...string) string { return list[c.r.IntN(len(list))] }

// value draws a value of some shape.
func (c *chaos) value(depth int) any {
	switch c.r.IntN(8) {
	case 0:
		return nil
	case 1:
		return c.r.IntN(2) == 0
	case 2:
		return json.Number(c.pick("1", "1.0", "10e-1", "9007199254740993", "-0"))
	case 3:
		return []any{json.Number("1"), "x"}
	case 4, 5:
		if depth > 0 {
			m := make(map[string]any)
			for range c.r.IntN(3) {
				m[c.pick("p", "q", "r")] = c.value(depth - 1)
			}
			return m
		}
	}
	return json.Number(fmt.Sprint(c.r.IntN(5)))
}

// request is another client's, over a link of its own.
func (c *chaos) request(op shadow.Op, v any) {
	text := shadow.Append(nil, v)
	_, err := c.s.Do(context.Background(), "t", "", op, text)
	var refusal *shadow.Error
	if err != nil && !errors.As(err, &refusal) {
		c.t.Error(err)
	}
}

func (c *chaos) act() {
	c.mu.Lock()
	what, key, v := c.r.IntN(22), c.pick("a", "b", "c"), c.value(2)
	top := c.pick("set", "set", "tree", "never")
	c.mu.Unlock()
	state := func(section string, patch any) any {
		return map[string]any{"state": map[string]any{section: patch}}
	}
	switch {
	case what < 7:
		c.request(shadow.OpUpdate, state("desired", map[string]any{top: map[string]any{key: v}}))
	case what == 7:
		c.request(shadow.OpUpdate, state("desired", map[string]any{"clamped": v}))
	case what == 8 && c.foreign:
		c.request(shadow.OpUpdate, state("desired", nil))
	case what == 8:
		c.request(shadow.OpUpdate, state("desired", map[string]any{"set": nil, "tree": nil}))
	case what < 13:
		c.own[key]++
		if err := c.d.Report(map[string]any{"own": map[string]any{key: c.own[key]}}); err != nil {
			c.t.Error(err)
		}
	case what == 13:
		if err := c.d.Desire(map[string]any{"set": map[string]any{key: v}}); err != nil {
			c.t.Error(err)
		}
	case what >= 20 && !c.foreign:
		c.edits[key]++
		if err := c.d.Desire(map[string]any{"mine": map[string]any{key: c.edits[key]}}); err != nil {
			c.t.Error(err)
		}
	case what == 14 && c.foreign && v == nil: // wiped: a new card
		if err := c.store.Save("t", "", map[string][]byte{recLocal: nil, recBase: nil, recMeta: nil,
			recSent: nil}); err != nil {
			c.t.Error(err)
		}
		c.boot()
	case what == 14:
		c.boot()
	case what < 17:
		c.link(!c.up)
	case what == 17 && c.foreign:
		c.request(shadow.OpUpdate, state("reported", map[string]any{"set": map[string]any{key: v}}))
	case what == 18 && c.foreign:
		c.request(shadow.OpUpdate, map[string]any{"state": nil})
	case what == 19 && c.foreign:
		c.request(shadow.OpDelete, nil)
	}
}

// settled checks what has to be so after some quiet on a good link.
func (c *chaos) settled() {
	t := c.t
	doc, err := c.store.Get("t", "")
	if err != nil {
		t.Fatal(err)
	}
	if !doc.Alive() {
		doc = new(shadow.Document)
		if st := c.d.Status(); !st.Deleted && c.d.Reported() != nil {
			t.Errorf("no shadow in the cloud, status %+v, reported %s", st, text(c.d.Reported()))
		}
		if c.d.Desired() != nil {
			t.Errorf("no shadow in the cloud, yet desired %s", text(c.d.Desired()))
		}
		return
	}
	if !shadow.Equal(doc.Desired, c.d.Desired()) {
		t.Errorf("desired: cloud %s, device %s", text(doc.Desired), text(c.d.Desired()))
	}
	if !shadow.Equal(doc.Reported, c.d.Reported()) {
		t.Errorf("reported: cloud %s, device %s", text(doc.Reported), text(c.d.Reported()))
	}
	if st := c.d.Status(); st.Unsent || st.Parked != "" || st.CloudVersion != doc.Version {
		t.Errorf("status %+v, cloud's version %d", st, doc.Version)
	}
	delta, _ := doc.Delta()
	for k := range delta {
		if k != "never" && k != "clamped" && k != "mine" {
			t.Errorf("delta %s", text(delta))
		}
	}
	for _, k := range []string{"set", "tree"} {
		if c.foreign {
			break // another writer's report needs no handler
		}
		m, _ := doc.Desired[k].(map[string]any)
		for name, v := range m {
			// What is no longer desired stays as it was set, so compare
			// only what is.
			hardware := map[string]any{name: mustParse(t, c.applied[k+"."+name])}
			if d := shadow.Delta(map[string]any{name: v}, hardware); d != nil {
				t.Errorf("hardware %s is %s, desired and not so: %s", k, text(hardware), text(d))
			}
		}
	}
	if never, _ := delta["never"].(map[string]any); len(never) > 0 {
		for k := range never {
			if got, _ := shadow.At(doc.Reported, "errors", "never."+k); got != "never" {
				t.Errorf("no error leaf for never.%s: %s", k, text(doc.Reported))
			}
		}
	}
	if !c.foreign {
		for k, n := range c.own {
			if v, _ := shadow.At(doc.Reported, "own", k); !shadow.Equal(v, json.Number(fmt.Sprint(n))) {
				t.Errorf("own.%s is %v, want %d", k, v, n)
			}
		}
		for k, n := range c.edits {
			if v, _ := shadow.At(doc.Desired, "mine", k); !shadow.Equal(v, json.Number(fmt.Sprint(n))) {
				t.Errorf("mine.%s is desired to be %v, want %d", k, v, n)
			}
		}
	}
}

func mustParse(t *testing.T, s string) any {
	v, err := shadow.Parse([]byte(s))
	if err != nil {
		t.Errorf("%q: %v", s, err)
	}
	return v
}

// TestModel runs device and service through random changes on both ends, a
// bad link, cuts and restarts; after quiet both have the same document.
func TestModel(t *testing.T) {
	first := *seed
	if first == 0 {
		first = rand.Uint64()
	}
	for i := range *runs {
		s := first + uint64(i)
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var store bothStores = newMemory()
				if i == 0 { // one on a real file
					b, err := boltstore.Open(filepath.Join(t.TempDir(), "shadow.db"), boltstore.Options{})
					if err != nil {
						t.Fatal(err)
					}
					defer b.Close()
					store = b
				}
				c := &chaos{
					t: t, r: rand.New(rand.NewPCG(s, 0)), store: store, foreign: int(s-1)%2 == 1, lossy: true,
					applied: make(map[string]string), own: make(map[string]int), edits: make(map[string]int),
				}
				c.options = Options{Jitter: c.jitter, LocalDesired: int(s-1)/2%2 == 1, CloudReported: int(s-1)/4%2 == 1}
				c.s = service.New(store, c, service.Options{PerThing: -1})
				c.boot()
				c.link(true)
				for range 5 {
					c.mu.Lock()
					c.lossy = true
					c.mu.Unlock()
					for range 60 {
						c.act()
						c.mu.Lock()
						pause := time.Duration(c.r.ExpFloat64() * float64(time.Second))
						c.mu.Unlock()
						time.Sleep(pause)
					}
					c.mu.Lock()
					c.lossy = false
					c.mu.Unlock()
					time.Sleep(5 * time.Second) // what is under way arrives
					c.link(true)
					time.Sleep(5 * time.Minute)
					synctest.Wait()
					c.settled()
					if t.Failed() {
						break
					}
				}
				c.stop()
				c.s.Close()
			})
		})
	}
}
