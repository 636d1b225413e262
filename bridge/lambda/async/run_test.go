package async

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
)

// A site runs a queue again and again over one log.
type site struct {
	t    *testing.T
	q    *Queue
	log  *memory
	made *calls
}

func newSite(t *testing.T, f func(n int, c lambda.Call) (*lambda.Result, error)) *site {
	s := &site{t: t, log: &memory{more: make(chan struct{})}, made: &calls{f: f}}
	s.q = New(Options{Log: s.log, Caller: s.made, Slog: slog.New(slog.DiscardHandler),
		Settings: func(string, string) (Settings, error) { return Settings{Retries: 2, MaxAge: 6 * time.Hour}, nil }})
	return s
}

func (s *site) put(payloads ...string) {
	s.t.Helper()
	for _, p := range payloads {
		if _, err := s.q.Put(s.t.Context(), lambda.Call{Function: "f", Payload: []byte(p)}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// run runs the queue for some time, and returns how long it took to end.
func (s *site) run(d time.Duration) time.Duration {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	done := make(chan error, 1)
	go func() { done <- s.q.Run(ctx) }()
	time.Sleep(d)
	synctest.Wait()
	cancel()
	told := time.Now()
	if err := <-done; err != nil {
		s.t.Fatal(err)
	}
	return time.Since(told)
}

func well(int, lambda.Call) (*lambda.Result, error) { return &lambda.Result{}, nil }

// What was not dealt with when the bridge stopped is called by the next one.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, well)
		s.made.hang = func(lambda.Call) bool { return true }
		for n := range 100 {
			s.put(fmt.Sprint(n))
		}
		if d := s.run(0); d != callGrace {
			t.Errorf("calls had %v", d)
		}
		if n := len(strings.Fields(s.made.payloads())); n != maxWorkers || s.log.at(t).low() != 0 {
			t.Fatalf("%d calls, position %v", n, s.log.at(t))
		}
		s.made.hang = nil
		s.run(0)
		if n := len(strings.Fields(s.made.payloads())); n != 100 || s.log.at(t).low() != 100 {
			t.Errorf("%d calls, position %v", n, s.log.at(t))
		}
	})
}

// One event that is throttled for long has no other called again, nor copies of those
// that failed.
func TestRestartBehindThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(_ int, c lambda.Call) (*lambda.Result, error) {
			switch string(c.Payload) {
			case `"throttled"`:
				return nil, &lambda.ThrottledError{}
			case `"fails"`:
				return failed, nil
			}
			return &lambda.Result{}, nil
		})
		s.put(`"a"`, `"throttled"`, `"b"`, `"fails"`, `"c"`)
		s.run(0)
		got := strings.Fields(s.made.payloads())
		slices.Sort(got)
		if text := strings.Join(got, " "); text != `"a" "b" "c" "fails" "throttled"` {
			t.Fatal(text)
		}
		// The copy, 5, may have been read before the last commit.
		if p := s.log.at(t); p.Cursor < 5 || !slices.Equal(p.Open, []uint64{1, 5}[:p.Cursor-4]) {
			t.Errorf("position %v", p)
		}
		s.run(0)
		if text := s.made.payloads(); text != `"throttled"` {
			t.Errorf("the next one called %s", text)
		}
		s.run(90 * time.Second) // the second try is due
		if text := s.made.payloads(); strings.Count(text, "fails") != 1 || strings.ContainsAny(text, "bc") {
			t.Errorf("then %s", text)
		}
		s.run(5 * time.Minute) // the third
		if text := s.made.payloads(); strings.Count(text, "fails") != 1 {
			t.Errorf("then %s", text)
		}
		if p := s.log.at(t); p.Cursor != 7 || !slices.Equal(p.Open, []uint64{1}) || s.log.trimmed != 1 {
			t.Errorf("position %v, trimmed %d", p, s.log.trimmed)
		}
	})
}

// A call that ends while the bridge stops is not made again.
func TestStopKeepsResults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(int, lambda.Call) (*lambda.Result, error) {
			time.Sleep(callGrace / 2)
			return &lambda.Result{}, nil
		})
		for n := range maxWorkers {
			s.put(fmt.Sprint(n))
		}
		s.log.failures = 1 // the last commit is made once more
		if d := s.run(0); d != callGrace/2+firstBackOff {
			t.Errorf("calls had %v", d)
		}
		if p := s.log.at(t); p.low() != maxWorkers {
			t.Errorf("position %v", p)
		}
	})
}

// A log that keeps nothing for a while ends no run: what is done meanwhile is bounded,
// is kept later, and nothing is called twice.
func TestDoneFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, func(_ int, c lambda.Call) (*lambda.Result, error) {
			if string(c.Payload) == "0" {
				return failed, nil
			}
			return &lambda.Result{}, nil
		})
		for n := range 500 {
			s.put(fmt.Sprint(n))
		}
		s.log.failures = 10
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.q.Run(ctx) }()
		time.Sleep(5 * firstBackOff)
		synctest.Wait()
		s.made.mu.Lock()
		if n := len(s.made.made); n > 2*maxWorkers {
			t.Errorf("%d calls while none can be kept", n)
		}
		s.made.mu.Unlock()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		if n := len(strings.Fields(s.made.payloads())); n != 500 {
			t.Errorf("%d calls", n)
		}
		if p := s.log.at(t); !slices.Equal(p.Open, []uint64{500}) || len(s.log.records) != 501 {
			t.Errorf("position %v, %d records", p, len(s.log.records))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// No more than maxWaiting events are open; the next are called when there is room.
func TestOpenIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := true
		s := newSite(t, func(_ int, c lambda.Call) (*lambda.Result, error) {
			if throttled && string(c.Payload) != `"first"` {
				return nil, &lambda.ThrottledError{}
			}
			return &lambda.Result{}, nil
		})
		s.put(`"first"`)
		for range maxWaiting + 1000 {
			s.put("1")
		}
		s.run(time.Second)
		if p := s.log.at(t); len(p.Open) == 0 || len(p.Open) > maxWaiting || p.low() != 1 {
			t.Fatalf("%d open from %d", len(p.Open), p.low())
		}
		throttled = false
		s.run(time.Minute)
		if p := s.log.at(t); p.low() != maxWaiting+1001 {
			t.Errorf("%d open, cursor %d", len(p.Open), p.Cursor)
		}
	})
}
