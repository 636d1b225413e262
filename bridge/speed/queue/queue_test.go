package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/tidemill/tidemill/bridge/speed/streams/pebble"
	"github.com/tidemill/tidemill/bridge/speed/streams/pebble/pebbletest"
)

// A site is a service over a log that runs.
type site struct {
	*Service
	log  *pebble.Store
	stop func()
}

func start(t *testing.T, fs vfs.FS) *site {
	t.Helper()
	log, err := pebble.Open("log", pebbletest.Options(fs))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = log.Run(ctx) })
	s, err := Open(log, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return &site{s, log, func() {
		cancel()
		wg.Wait()
		_ = log.Close()
	}}
}

func (s *site) queue(t *testing.T, name string, change func(*Config)) *Queue {
	t.Helper()
	c := Default()
	if change != nil {
		change(&c)
	}
	q, err := s.Create(name, c)
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func send(t *testing.T, q *Queue, group string, bodies ...string) {
	t.Helper()
	for _, body := range bodies {
		m := &Message{Body: body, Group: group}
		if group != "" {
			m.DedupID = "d-" + body
		}
		if errs := q.Send(t.Context(), []*Message{m}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
}

// receive returns bodies with spaces between, and receipts.
func receive(t *testing.T, q *Queue, n int, wait time.Duration) (bodies string, receipts []string) {
	t.Helper()
	got, err := q.Receive(t.Context(), n, q.Config().VisibilityTimeout, wait)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, r := range got {
		all, receipts = append(all, r.Body), append(receipts, r.Receipt)
	}
	return strings.Join(all, " "), receipts
}

func want(t *testing.T, q *Queue, n int, bodies string) []string {
	t.Helper()
	got, receipts := receive(t, q, n, 0)
	if got != bodies {
		t.Errorf("received %q, want %q", got, bodies)
	}
	return receipts
}

func TestQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := start(t, fs)
		q := s.queue(t, "work", nil)
		send(t, q, "", "a", "b", "c")
		r := want(t, q, 2, "a b")
		want(t, q, 10, "c")
		want(t, q, 10, "")
		errs := q.Delete(t.Context(), []string{r[0], "junk", r[0]})
		if errs[0] != nil || !errors.Is(errs[1], ErrHandle) || errs[2] != nil {
			t.Error(errs)
		}
		time.Sleep(30 * time.Second)
		again := want(t, q, 10, "b c")
		if err := q.Hide(r[1], 0); !errors.Is(err, ErrHandle) {
			t.Errorf("an old receipt: %v", err)
		}
		if err := q.Hide(again[0], 0); err != nil {
			t.Error(err)
		}
		want(t, q, 10, "b")
		if c, err := q.Counts(); err != nil || c != (Counts{InFlight: 2}) {
			t.Errorf("%+v, %v", c, err)
		}
		if errs := q.Delete(t.Context(), []string{r[1]}); errs[0] != nil { // as SQS: an old receipt deletes
			t.Error(errs)
		}

		// After a restart what was received and not deleted comes at once, in order.
		send(t, q, "", "d")
		s.stop()
		s = start(t, fs)
		q, err := s.Get("work")
		if err != nil {
			t.Fatal(err)
		}
		want(t, q, 10, "c d")
		if err := q.Purge(t.Context()); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		want(t, q, 10, "")
		send(t, q, "", "e")
		if err := s.Delete("work"); err != nil {
			t.Error(err)
		}
		q = s.queue(t, "work", nil)
		want(t, q, 10, "")
		if errs := q.Delete(t.Context(), r[:1]); !errors.Is(errs[0], ErrHandle) {
			t.Errorf("a receipt of a queue that was deleted: %v", errs)
		}
		s.stop()
	})
}

func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, vfs.NewMem())
		defer s.stop()
		q := s.queue(t, "work", nil)
		begin := time.Now()
		if got, _ := receive(t, q, 1, 20*time.Second); got != "" || time.Since(begin) < 20*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
		time.AfterFunc(5*time.Second, func() { send(t, q, "", "late") })
		begin = time.Now()
		if got, _ := receive(t, q, 1, 20*time.Second); got != "late" || time.Since(begin) > 6*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
		begin = time.Now() // it is visible again after 30 s
		if got, _ := receive(t, q, 1, 40*time.Second); got != "late" || time.Since(begin) > 31*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
		slow := &Message{Body: "slow", Delay: 7 * time.Second}
		if errs := q.Send(t.Context(), []*Message{slow}); errs[0] != nil {
			t.Fatal(errs)
		}
		want(t, q, 1, "")
		if c, _ := q.Counts(); c.Delayed != 1 {
			t.Errorf("%+v", c)
		}
		begin = time.Now()
		if got, _ := receive(t, q, 1, 20*time.Second); got != "slow" || time.Since(begin) > 8*time.Second {
			t.Errorf("%q after %v", got, time.Since(begin))
		}
	})
}

func TestFIFO(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := vfs.NewMem()
		s := start(t, fs)
		q := s.queue(t, "work.fifo", nil)
		send(t, q, "g", "a", "b")
		send(t, q, "h", "x")
		send(t, q, "g", "a") // a duplicate
		r := want(t, q, 1, "a")
		want(t, q, 10, "x") // g waits
		if errs := q.Delete(t.Context(), r); errs[0] != nil {
			t.Error(errs)
		}
		want(t, q, 10, "b")
		time.Sleep(30 * time.Second)
		want(t, q, 10, "b x")

		// Duplicates are known after a restart, for five minutes.
		s.stop()
		s = start(t, fs)
		q, err := s.Get("work.fifo")
		if err != nil {
			t.Fatal(err)
		}
		send(t, q, "g", "a", "b")
		want(t, q, 10, "b x")
		time.Sleep(dedupWindow)
		send(t, q, "g", "a")
		want(t, q, 10, "b x a")
		dedup := &Message{Body: "again", Group: "g", DedupID: "d-a"}
		if errs := q.Send(t.Context(), []*Message{dedup}); errs[0] != nil || dedup.ID == "" {
			t.Error(errs)
		}
		s.stop()
	})
}

func TestDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, vfs.NewMem())
		defer s.stop()
		dead := s.queue(t, "dead", nil)
		q := s.queue(t, "work", func(c *Config) { c.DeadLetter, c.MaxReceives = "dead", 2 })
		send(t, q, "", "poison")
		for range 2 {
			want(t, q, 1, "poison")
			time.Sleep(30 * time.Second)
		}
		want(t, q, 1, "")
		want(t, dead, 1, "poison")
		time.Sleep(time.Hour)
		want(t, q, 1, "")
	})
}

func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := start(t, vfs.NewMem())
		defer s.stop()
		for name, change := range map[string]func(*Config){
			"a b":         nil,
			"x.fifo.fifo": nil,
			"":            nil,
			"visible":     func(c *Config) { c.VisibilityTimeout = 13 * time.Hour },
			"short":       func(c *Config) { c.Retention = time.Second },
			"large":       func(c *Config) { c.MaxMessage = MaxMessage + 1 },
			"standard":    func(c *Config) { c.ContentDedup = true },
			"own":         func(c *Config) { c.DeadLetter, c.MaxReceives = "own", 3 },
			"other.fifo":  func(c *Config) { c.DeadLetter, c.MaxReceives = "standard", 3 },
			"never-dead":  func(c *Config) { c.DeadLetter = "standard" },
		} {
			c := Default()
			if change != nil {
				change(&c)
			}
			if _, err := s.Create(name, c); !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v", name, err)
			}
		}
		q := s.queue(t, "work", func(c *Config) { c.MaxMessage = 1024 })
		if _, err := s.Create("work", Default()); !errors.Is(err, ErrExists) {
			t.Errorf("another configuration: %v", err)
		}
		for _, m := range []*Message{{}, {Body: strings.Repeat("x", 1025)}, {Body: "a\x00"}, {Body: "\xff"},
			{Body: "x", Delay: time.Hour},
			{Body: "x", Attributes: map[string]Attribute{"n": {"String", make([]byte, 1024)}}}} {
			if errs := q.Send(t.Context(), []*Message{m}); !errors.Is(errs[0], ErrInvalid) {
				t.Errorf("%+.60v: %v", m, errs)
			}
		}
		if _, err := s.Get("none"); !errors.Is(err, ErrNotFound) {
			t.Error(err)
		}
	})
}

func FuzzDecode(f *testing.F) {
	m := &Message{ID: "i", Body: "b", Group: "g", DedupID: "d", Delay: time.Minute, Sender: "s",
		Attributes: map[string]Attribute{"n": {"Number", []byte("1")}}}
	f.Add(m.encode())
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, src []byte) {
		m, err := decode(src)
		if err != nil {
			return
		}
		again, err := decode(m.encode())
		if err != nil || fmt.Sprint(again) != fmt.Sprint(m) {
			t.Errorf("%+v, %v, was %+v", again, err, m)
		}
	})
}
