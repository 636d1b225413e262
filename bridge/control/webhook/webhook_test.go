package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A transport answers in the place of a service.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answers(status int, text string) (*http.Response, error) {
	return &http.Response{StatusCode: status, Status: fmt.Sprint(status), Body: io.NopCloser(strings.NewReader(text))},
		nil
}

func hangs(r *http.Request) (*http.Response, error) {
	<-r.Context().Done()
	return nil, r.Context().Err()
}

func anything([]byte) error { return nil }

// One who finds all calls of a service under way waits for 2 s, and one who asks
// has an answer, or none, after 5 s. Other services answer meanwhile.
func TestCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClient(None{}, nil)
		var now, most atomic.Int32
		c.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host == "prompt" {
				return answers(200, "{}")
			}
			n := now.Add(1)
			defer now.Add(-1)
			most.Store(max(most.Load(), n))
			return hangs(r)
		})
		slow, prompt := NewService("slow", "http://slow/", 3), NewService("prompt", "http://prompt/", 0)
		began := time.Now()
		var wg sync.WaitGroup
		var busy, late atomic.Int32
		for range 10 {
			wg.Go(func() {
				err := c.Ask(t.Context(), slow, 1, anything)
				switch took := time.Since(began); {
				case errors.Is(err, ErrBusy) && took == maxWait:
					busy.Add(1)
				case errors.Is(err, context.DeadlineExceeded) && took == Timeout:
					late.Add(1)
				default:
					t.Errorf("%v after %v", err, took)
				}
			})
		}
		synctest.Wait()
		for range 2 * DefaultCalls {
			wg.Go(func() {
				if err := c.Ask(t.Context(), prompt, 1, anything); err != nil || time.Since(began) != 0 {
					t.Errorf("the prompt service: %v after %v", err, time.Since(began))
				}
			})
		}
		wg.Wait()
		if busy.Load() != 7 || late.Load() != 3 || most.Load() != 3 {
			t.Errorf("%d busy, %d late, %d at once", busy.Load(), late.Load(), most.Load())
		}
	})
}

// One who waits is let in when a call ends.
func TestWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewClient(None{}, nil)
		c.http.Transport = transport(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return answers(200, "{}")
		})
		s := NewService("s", "http://s/", 1)
		var wg sync.WaitGroup
		var ok atomic.Int32
		for range 4 {
			wg.Go(func() {
				if err := c.Ask(t.Context(), s, 1, anything); err == nil {
					ok.Add(1)
				}
			})
		}
		wg.Wait()
		if n := ok.Load(); n < 2 || n > 3 { // at 2 s a call ends and the wait too
			t.Errorf("%d of 4 were answered", n)
		}
	})
}

// Each failure is heard of, and the first answer after it; not that who asked has
// left.
func TestHeard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var heard []string
		c := NewClient(None{}, func(service string, err error) {
			heard = append(heard, fmt.Sprint(service, ": ", err))
		})
		status, text := 200, "{}"
		c.http.Transport = transport(func(r *http.Request) (*http.Response, error) {
			if status == 0 {
				return hangs(r)
			}
			return answers(status, text)
		})
		s := NewService("doors", "http://s/", 0)
		ask := func(of int, says string) {
			status, text = of, says
			_ = c.Ask(t.Context(), s, 1, func(answer []byte) error {
				if string(answer) != "{}" {
					return errors.New("no document")
				}
				return nil
			})
		}
		ask(200, "{}")
		ask(500, "{}")
		ask(200, "x")
		status = 0
		left, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Ask(left, s, 1, anything); err == nil {
			t.Error("no error")
		}
		ask(200, "{}")
		ask(200, "{}")
		ask(0, "")
		want := []string{"doors: it answers 500", "doors: its answer: no document", "doors: <nil>",
			"doors: context deadline exceeded"}
		if fmt.Sprint(heard) != fmt.Sprint(want) {
			t.Errorf("heard\n%q, want\n%q", heard, want)
		}
	})
}

// An answer is read to its bound, and a redirect is not followed.
func TestAnswers(t *testing.T) {
	var mu sync.Mutex
	status, text, asked := 0, "", 0
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		asked++
		if b, _ := io.ReadAll(r.Body); string(b) != `{"q":1}` || r.Method != "POST" ||
			r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s %s", r.Method, b)
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}))
	defer web.Close()
	c := NewClient(None{}, nil)
	defer c.Close()
	s := NewService("s", web.URL, 0)
	for _, row := range []struct {
		status int
		text   string
		want   string
	}{
		{200, strings.Repeat("x", maxAnswer), ""},
		{200, strings.Repeat("x", maxAnswer+1), "more than 65536 bytes"},
		{201, "{}", "201"}, {302, "{}", "302"}, {307, "{}", "307"}, {500, "{}", "500"},
	} {
		mu.Lock()
		status, text, asked = row.status, row.text, 0
		mu.Unlock()
		err := c.Ask(t.Context(), s, map[string]int{"q": 1}, anything)
		if (err == nil) != (row.want == "") || err != nil && !strings.Contains(err.Error(), row.want) {
			t.Errorf("%d, %d bytes: %v", row.status, len(row.text), err)
		}
		if asked != 1 {
			t.Errorf("%d: asked %d times", row.status, asked)
		}
	}
}

// The URL of a service may have a key in its query, which no error tells.
func TestURLIsKept(t *testing.T) {
	c := NewClient(None{}, nil)
	defer c.Close()
	for _, url := range []string{"http://127.0.0.1:1/?code=hush", "http://127.0.0.1:x/?code=hush"} {
		if err := c.Ask(t.Context(), NewService("s", url, 0), 1, anything); err == nil ||
			strings.Contains(err.Error(), "hush") {
			t.Error(err)
		}
	}
}

// own are functions that echo.
type own struct{ None }

func (own) Ask(_ context.Context, arn string, question []byte) ([]byte, error) {
	if strings.HasSuffix(arn, ":large") {
		return make([]byte, maxAnswer+1), nil
	}
	return question, nil
}

// A service may be a function of the bridge's own.
func TestFunction(t *testing.T) {
	const arn = "arn:aws:lambda:eu-local-1:000000000000:function:"
	c := NewClient(own{}, nil)
	defer c.Close()
	var got string
	read := func(answer []byte) error { got = string(answer); return nil }
	if err := c.Ask(t.Context(), NewService("s", arn+"f", 0), map[string]int{"q": 1}, read); err != nil ||
		got != `{"q":1}` {
		t.Error(got, err)
	}
	if err := c.Ask(t.Context(), NewService("s", arn+"large", 0), 1, read); err == nil {
		t.Error("a large answer is taken")
	}
	none := NewClient(None{}, nil)
	defer none.Close()
	if err := none.Ask(t.Context(), NewService("s", arn+"f", 0), 1, read); err == nil ||
		!strings.Contains(err.Error(), "lambda.enabled") {
		t.Error(err)
	}
}
