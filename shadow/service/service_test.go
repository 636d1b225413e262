package service

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/shadow"
	"github.com/tidemill/tidemill/shadow/boltstore"
)

// a memory is a Store whose Put can be held up or fail.
type memory struct {
	mu   sync.Mutex
	docs map[string]*shadow.Document
	gate chan struct{} // not nil: each Put takes one
	fail error
}

func (m *memory) Get(thing, name string) (*shadow.Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.docs[thing+"/"+name], m.fail
}

func (m *memory) Put(thing, name string, d *shadow.Document) error {
	if m.gate != nil {
		<-m.gate
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.docs[thing+"/"+name] = d
	return nil
}

func (m *memory) Usage(string, string) (int, int, error) { return 0, 0, m.fail }
func (m *memory) Forget(string, time.Time) error         { return m.fail }

func (m *memory) Names(thing, after string, most int) (names []string, err error) {
	for c := 'a'; c <= 'z' && len(names) < most; c++ {
		if string(c) > after {
			names = append(names, string(c))
		}
	}
	return names, nil
}

// topics collects what is published.
type topics struct {
	mu   sync.Mutex
	list []string
	last map[string]string
}

func (p *topics) Publish(topic string, payload []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, topic)
	if p.last == nil {
		p.last = make(map[string]string)
	}
	p.last[topic] = string(payload)
}

func (p *topics) count(suffix string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range p.list {
		if strings.HasSuffix(t, suffix) {
			n++
		}
	}
	return n
}

const update = "$aws/things/t/shadow/update"

func TestNothingBeforeDurable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{docs: make(map[string]*shadow.Document), gate: make(chan struct{})}
		p := new(topics)
		s := New(m, p, Options{})
		var done atomic.Int32
		ok := func(err error) {
			if err != nil {
				t.Error(err)
			}
			done.Add(1)
		}
		s.Handle(t.Context(), update, []byte(`{"state":{"desired":{"a":1}}}`), ok)
		s.Handle(t.Context(), update, []byte(`{"state":{"desired":{"a":2}}}`), ok)
		s.Handle(t.Context(), "$aws/things/t/shadow/name/other/get", nil, ok) // does not wait
		synctest.Wait()
		if len(p.list) != 1 || done.Load() != 1 {
			t.Errorf("published %v with nothing on the disk", p.list)
		}
		m.gate <- struct{}{}
		synctest.Wait()
		if got := fmt.Sprint(p.list[1:]); got != fmt.Sprint([]string{update + "/accepted", update + "/delta", update +
			"/documents"}) || done.Load() != 2 {
			t.Errorf("published %v", got)
		}
		m.gate <- struct{}{}
		synctest.Wait()
		if len(p.list) != 7 || done.Load() != 3 {
			t.Errorf("published %v", p.list)
		}
		s.Close()
	})
}

func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{docs: make(map[string]*shadow.Document), gate: make(chan struct{})}
		p := new(topics)
		s := New(m, p, Options{Pending: 15})
		var done int
		send := func(thing string, n int) {
			for i := range n {
				text := fmt.Sprintf(`{"state":{"reported":{"a":%d}},"clientToken":"%d"}`, i, i)
				s.Handle(t.Context(), "$aws/things/"+thing+"/shadow/update", []byte(text), func(err error) {
					if err != nil {
						t.Error(err)
					}
					m.mu.Lock()
					done++
					m.mu.Unlock()
				})
			}
			synctest.Wait()
		}
		send("t", 12) // 10 in flight, 2 refused
		if n := p.count("/rejected"); n != 2 || done != 2 {
			t.Errorf("%d refused, want 2", n)
		}
		if got := p.last[update+"/rejected"]; !strings.Contains(got, `"code":429`) ||
			!strings.Contains(got, `"clientToken":"11"`) {
			t.Errorf("refusal %s", got)
		}
		send("u", 7) // 5 more in all
		if n := p.count("/rejected"); n != 4 {
			t.Errorf("%d refused, want 4", n)
		}
		close(m.gate)
		synctest.Wait()
		if n := p.count("/accepted"); n != 15 || done != 19 {
			t.Errorf("%d accepted, %d done; want 15 and 19", n, done)
		}
		send("t", 1)
		if n := p.count("/accepted"); n != 16 {
			t.Error("the count of requests in flight does not go down")
		}
		if len(s.lanes) != 0 || len(s.things) != 0 || s.pending != 0 {
			t.Errorf("left over: %v %v %d", s.lanes, s.things, s.pending)
		}
		s.Close()
		s.Handle(t.Context(), update, nil, func(err error) {
			if !errors.Is(err, ErrClosed) {
				t.Error(err)
			}
		})
	})
}

func TestBadRequests(t *testing.T) {
	m := &memory{docs: make(map[string]*shadow.Document)}
	p := new(topics)
	s := New(m, p, Options{})
	defer s.Close()
	for _, topic := range []string{"", "x", update + "/accepted", "$aws/things/t/shadow/list"} {
		s.Handle(t.Context(), topic, nil, func(err error) {
			if !errors.Is(err, ErrNotRequest) {
				t.Errorf("%q: %v", topic, err)
			}
		})
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	s.Handle(ended, update, nil, func(err error) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		thing, name string
		want        error
	}{{"a.b", "", shadow.ErrThingName}, {"t", strings.Repeat("n", 65), shadow.ErrShadowName},
		{"t", "", shadow.NotFound("t", "")}} {
		_, err := s.Do(t.Context(), c.thing, c.name, shadow.OpGet, nil)
		if err == nil || err.Error() != c.want.Error() {
			t.Errorf("%s/%s: %v, want %v", c.thing, c.name, err, c.want)
		}
	}
	if len(p.list) != 0 {
		t.Errorf("Do published a refusal: %v", p.list)
	}
	m.fail = errors.New("disk is gone")
	if _, err := s.Do(t.Context(), "t", "", shadow.OpGet, nil); !errors.Is(err, shadow.ErrInternal) {
		t.Errorf("store fails: %v", err)
	}
}

func TestListPages(t *testing.T) {
	s := New(&memory{}, new(topics), Options{})
	var all []string
	token := ""
	for {
		names, next, err := s.List("t", token, 10)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, names...)
		if token = next; token == "" {
			break
		}
	}
	if got := strings.Join(all, ""); got != "abcdefghijklmnopqrstuvwxyz" {
		t.Error(got)
	}
	for _, size := range []int{-1, 101} {
		if _, _, err := s.List("t", "", size); err == nil {
			t.Errorf("size %d is taken", size)
		}
	}
}

// Many clients on few shadows: versions count each accepted update once, and
// the last document is what the updates make in the order of their versions.
func TestConcurrentUpdates(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "shadow.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	s := New(store, new(topics), Options{PerThing: -1})
	type result struct {
		version uint64
		u       *shadow.Update
	}
	results := make(chan result, 400)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(w)))
			for range 25 {
				text := fmt.Sprintf(`{"state":{"desired":{"k%d":{"v":%d},"x":%s}}}`, r.IntN(4), r.IntN(100),
					[]string{"null", "1", "{}"}[r.IntN(3)])
				answer, err := s.Do(t.Context(), "t", "", shadow.OpUpdate, []byte(text))
				if err != nil {
					t.Error(err)
					return
				}
				a, err := shadow.ParseAnswer(answer)
				if err != nil {
					t.Error(err)
					return
				}
				u, _ := shadow.ParseUpdate([]byte(text), shadow.Limits{})
				results <- result{a.Version, u}
			}
		})
	}
	wg.Wait()
	s.Close()
	close(results)
	byVersion := make(map[uint64]*shadow.Update)
	for r := range results {
		byVersion[r.version] = r.u
	}
	var want map[string]any
	for v := uint64(1); v <= 200; v++ {
		if byVersion[v] == nil {
			t.Fatalf("version %d is missing", v)
		}
		want = shadow.Merge(want, byVersion[v].Desired.Patch)
	}
	d, err := store.Get("t", "")
	if err != nil || d.Version != 200 || !shadow.Equal(d.Desired, want) {
		t.Errorf("%+v, %v; want %s", d, err, shadow.Append(nil, want))
	}
}

type nowhere struct{}

func (nowhere) Publish(string, []byte) {}

// BenchmarkHandle is durable updates of 1000 things with so many in flight.
func BenchmarkHandle(b *testing.B) {
	for _, flight := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("inflight=%d", flight), func(b *testing.B) {
			store, err := boltstore.Open(filepath.Join(b.TempDir(), "shadow.db"), boltstore.Options{})
			if err != nil {
				b.Fatal(err)
			}
			defer store.Close()
			s := New(store, nowhere{}, Options{})
			defer s.Close()
			payload := []byte(
				`{"state":{"reported":{"sensors":{"t1":{"every":5,"value":21.53},"t2":{"every":5,"value":19.1}},` +
					`"uptime":123456}},"clientToken":"4f1c2a77-00112233-17"}`)
			room := make(chan struct{}, flight)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				room <- struct{}{}
				i++
				s.Handle(context.Background(), fmt.Sprintf("$aws/things/thing-%d/shadow/update", i%1000), payload,
					func(err error) {
						if err != nil {
							b.Error(err)
						}
						<-room
					})
			}
			for range flight {
				room <- struct{}{}
			}
			b.ReportMetric(float64(i)/b.Elapsed().Seconds(), "updates/s")
		})
	}
}

// A thing has so many shadows and bytes of them as are allowed, whatever their
// names; others have theirs, and what makes room is let through.
func TestQuotas(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "shadow.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	now := time.Unix(1_790_000_000, 0)
	s := New(store, nowhere{}, Options{MaxNamed: 3, MaxBytes: 2000, Steady: func() time.Time { return now }})
	defer s.Close()
	code := func(thing, name string, op shadow.Op, doc string) int {
		t.Helper()
		_, err := s.Do(t.Context(), thing, name, op, []byte(doc))
		if e := (*shadow.Error)(nil); errors.As(err, &e) {
			return e.Code
		} else if err != nil {
			t.Fatal(err)
		}
		return 200
	}
	small, large := `{"state":{"reported":{"a":1}}}`, `{"state":{"reported":{"b":"`+strings.Repeat("x", 1500)+`"}}}`
	for i, step := range []struct {
		thing, name string
		op          shadow.Op
		doc         string
		want        int
	}{
		{"t", "", shadow.OpUpdate, small, 200},
		{"t", "a", shadow.OpUpdate, small, 200},
		{"t", "b", shadow.OpUpdate, small, 200},
		{"t", "c", shadow.OpUpdate, small, 200},
		{"t", "d", shadow.OpUpdate, small, 400},
		{"t", "c", shadow.OpUpdate, small, 200},
		{"t2", "d", shadow.OpUpdate, small, 200},
		{"t-2", "d", shadow.OpUpdate, small, 200},
		{"t", "", shadow.OpUpdate, large, 200},
		{"t", "a", shadow.OpUpdate, large, 413},
		{"t", "", shadow.OpUpdate, `{"state":{"reported":{"b":"xx"}}}`, 200},
		{"t", "a", shadow.OpUpdate, large, 200},
		{"t", "", shadow.OpUpdate, large, 413},
		{"t", "a", shadow.OpUpdate, `{"state":null}`, 200},
		{"t", "b", shadow.OpDelete, ``, 200},
		{"t", "d", shadow.OpUpdate, small, 400}, // its version is remembered
		{"t", "b", shadow.OpUpdate, small, 200},
		{"t", "b", shadow.OpDelete, ``, 200},
	} {
		if got := code(step.thing, step.name, step.op, step.doc); got != step.want {
			t.Errorf("step %d, %s %s: %d, want %d", i, step.thing, step.name, got, step.want)
		}
	}
	now = now.Add(shadow.Remembered)
	if got := code("t", "d", shadow.OpUpdate, small); got != 200 {
		t.Errorf("what was deleted two days ago is in the way: %d", got)
	}
}

// A wall clock that jumps forgets no version of a deleted shadow; the time that
// passes does. What answers tell is the wall clock's.
func TestForgottenByWhatPasses(t *testing.T) {
	store, err := boltstore.Open(filepath.Join(t.TempDir(), "shadow.db"), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	wall, steady := time.Unix(946_684_800, 0), time.Unix(1_790_000_000, 0)
	s := New(store, nowhere{}, Options{MaxNamed: 1,
		Now: func() time.Time { return wall }, Steady: func() time.Time { return steady }})
	defer s.Close()
	do := func(name string, op shadow.Op, doc string) (version uint64, code int) {
		t.Helper()
		answer, err := s.Do(t.Context(), "t", name, op, []byte(doc))
		if e := (*shadow.Error)(nil); errors.As(err, &e) {
			return 0, e.Code
		} else if err != nil {
			t.Fatal(err)
		}
		var a struct {
			Version   uint64
			Timestamp int64
		}
		if err := json.Unmarshal(answer, &a); err != nil || a.Timestamp != wall.Unix() {
			t.Errorf("%s at %v, %v", answer, wall, err)
		}
		return a.Version, 200
	}
	const doc = `{"state":{"reported":{"a":1}}}`
	update := func(name string, wantVersion uint64, wantCode int) {
		t.Helper()
		if v, code := do(name, shadow.OpUpdate, doc); v != wantVersion || code != wantCode {
			t.Errorf("version %d, code %d; want %d, %d", v, code, wantVersion, wantCode)
		}
	}
	update("a", 1, 200)
	do("a", shadow.OpDelete, ``)
	wall, steady = wall.AddDate(26, 0, 0), steady.Add(time.Hour)
	update("b", 0, 400) // a's version is remembered
	update("a", 3, 200)
	do("a", shadow.OpDelete, ``)
	wall, steady = wall.AddDate(-26, 0, 0), steady.Add(shadow.Remembered)
	update("a", 1, 200)
	do("a", shadow.OpDelete, ``)
	steady = steady.Add(shadow.Remembered)
	update("b", 1, 200)
}
