package async

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/lambda"
)

// A memory is a log of a test.
type memory struct {
	mu       sync.Mutex
	records  [][]byte
	position []byte // encoded
	trimmed  uint64
	failures int // of Done, to come
	more     chan struct{}
}

func (m *memory) Append(_ context.Context, record []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records = append(m.records, record)
	close(m.more)
	m.more = make(chan struct{})
	return nil
}

func (m *memory) Read(ctx context.Context, from uint64) (all []Record, err error) {
	for {
		m.mu.Lock()
		for i := from; i < uint64(len(m.records)); i++ {
			all = append(all, Record{i, m.records[i]})
		}
		more := m.more
		m.mu.Unlock()
		if all != nil {
			return all, nil
		}
		select {
		case <-more:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (m *memory) At(offset uint64) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.records[offset], nil
}

func (m *memory) Position() (Position, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return ParsePosition(m.position)
}

func (m *memory) Done(ctx context.Context, p Position, records [][]byte) error {
	m.mu.Lock()
	if m.failures > 0 {
		m.failures--
		m.mu.Unlock()
		return errors.New("the disk is full")
	}
	m.position = p.Encode()
	m.mu.Unlock()
	for _, rec := range records {
		_ = m.Append(ctx, rec) // never fails
	}
	return nil
}

func (m *memory) Trim(before uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.trimmed = before
	return nil
}

// at is the position.
func (m *memory) at(t *testing.T) Position {
	t.Helper()
	p, err := m.Position()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// calls are made by a test's function of their number.
type calls struct {
	f    func(n int, c lambda.Call) (*lambda.Result, error)
	hang func(c lambda.Call) bool // such a call ends with its context

	mu   sync.Mutex
	made []string // when, and what
}

func (x *calls) Call(ctx context.Context, c lambda.Call) (*lambda.Result, error) {
	x.mu.Lock()
	x.made = append(x.made, fmt.Sprintf("%s %s %s", time.Now().UTC().Format("15:04:05"), c.RequestID, c.Payload))
	n := len(x.made)
	x.mu.Unlock()
	if x.hang != nil && x.hang(c) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return x.f(n, c)
}

// payloads are what was called since they were asked for.
func (x *calls) payloads() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []string
	for _, m := range x.made {
		all = append(all, strings.Fields(m)[2])
	}
	x.made = nil
	return strings.Join(all, " ")
}

var failed = &lambda.Result{Failed: "Unhandled", Payload: []byte(`{"errorType":"T"}`), Version: "3"}

// A queue's test runs it in a bubble: put is done, hours pass, and what was called
// and sent is compared.
func TestRetries(t *testing.T) {
	for name, c := range map[string]struct {
		f         func(n int, c lambda.Call) (*lambda.Result, error)
		settings  Settings
		made      string
		condition string
	}{
		"well": {func(int, lambda.Call) (*lambda.Result, error) { return &lambda.Result{}, nil },
			Settings{Retries: 2, MaxAge: 6 * time.Hour}, "00:00:00", ""},
		"fails": {func(int, lambda.Call) (*lambda.Result, error) { return failed, nil },
			Settings{Retries: 2, MaxAge: 6 * time.Hour}, "00:00:00 00:01:00 00:03:00", "RetriesExhausted"},
		"fails once": {func(n int, _ lambda.Call) (*lambda.Result, error) {
			if n == 1 {
				return failed, nil
			}
			return &lambda.Result{}, nil
		}, Settings{Retries: 2, MaxAge: 6 * time.Hour}, "00:00:00 00:01:00", ""},
		"no retries": {func(int, lambda.Call) (*lambda.Result, error) { return failed, nil },
			Settings{MaxAge: 6 * time.Hour}, "00:00:00", "RetriesExhausted"},
		"throttled": {func(n int, _ lambda.Call) (*lambda.Result, error) {
			if n < 5 {
				return nil, &lambda.ThrottledError{}
			}
			return &lambda.Result{}, nil
		}, Settings{Retries: 2, MaxAge: 6 * time.Hour}, "00:00:00 00:00:01 00:00:03 00:00:07 00:00:15", ""},
		"too old": {func(int, lambda.Call) (*lambda.Result, error) { return nil, &lambda.ThrottledError{} },
			Settings{Retries: 2, MaxAge: 10 * time.Second}, "00:00:00 00:00:01 00:00:03 00:00:07", "EventAgeExceeded"},
		"gone": {func(int, lambda.Call) (*lambda.Result, error) { return nil, lambda.ErrNotFound },
			Settings{Retries: 2, MaxAge: 6 * time.Hour}, "00:00:00", ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log, made := &memory{more: make(chan struct{})}, &calls{f: c.f}
				var sent []string
				c.settings.OnFailure, c.settings.ARN = "arn:to", "arn:f"
				q := New(Options{Log: log, Caller: made, Slog: slog.New(slog.DiscardHandler),
					Settings: func(string, string) (Settings, error) { return c.settings, nil },
					Send: func(_ context.Context, arn, id string, _ int, record []byte) error {
						sent = append(sent, arn+" "+id+" "+string(record))
						return nil
					}})
				id, err := q.Put(t.Context(), lambda.Call{Function: "f", Payload: []byte(`{"a":1}`)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- q.Run(ctx) }()
				time.Sleep(7 * time.Hour)
				synctest.Wait()
				cancel()
				if err := <-done; err != nil {
					t.Fatal(err)
				}
				var want []string
				for at := range strings.FieldsSeq(c.made) {
					want = append(want, at+" "+id+` {"a":1}`)
				}
				if got := strings.Join(made.made, "\n"); got != strings.Join(want, "\n") {
					t.Errorf("called\n%s\nwant\n%s", got, strings.Join(want, "\n"))
				}
				if all := strings.Join(sent, "\n"); c.condition == "" && all != "" || c.condition != "" &&
					(len(sent) != 1 || !strings.Contains(all, `"condition":"`+c.condition+`"`) ||
						!strings.HasPrefix(all, "arn:to "+id) || !strings.Contains(all, `"requestPayload":{"a":1}`)) {
					t.Errorf("sent %s", all)
				}
				if p := log.at(t); p.low() != uint64(len(log.records)) || log.trimmed != p.low() {
					t.Errorf("position %v of %d, trimmed %d", p, len(log.records), log.trimmed)
				}
			})
		})
	}
}

func TestPutRefuses(t *testing.T) {
	q := New(Options{Log: &memory{more: make(chan struct{})}})
	for want, payload := range map[error]string{lambda.ErrPayload: "{",
		lambda.ErrTooLarge: `"` + strings.Repeat("x", lambda.MaxEvent) + `"`} {
		if _, err := q.Put(t.Context(), lambda.Call{Function: "f", Payload: []byte(payload)}); !errors.Is(err, want) {
			t.Error(err)
		}
	}
}

// Whatever is read from the log is written again as it was read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"format":1,"id":"i","function":"f","payload":{},"queued":"2026-01-02T03:04:05Z","tries":1}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := decode(data)
		if err != nil {
			return
		}
		text, err := json.Marshal(e)
		if err != nil {
			t.Skip() // a year that RFC 3339 does not have
		}
		if _, err := decode(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}
