// Package webhook asks HTTP services of the operator's own, which stand where AWS
// has a Lambda function: custom authorizers and pre-provisioning hooks. A Service
// gets a JSON document by POST and answers 200 with another one; one whose URL is the
// ARN of a function is that function. Each has its own
// calls, so that one that is slow or away holds up nobody who needs another.
//
// What goes wrong is told to the Client's owner, who logs it: logs that are bounded
// are speed's, which control does not import.
package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/tidemill/tidemill/bridge/arn"
	"github.com/tidemill/tidemill/bridge/bounded"
)

const (
	// Timeout is how long a service may take, with the wait for a call of it: 5 s
	// (AWS IoT Core developer guide, custom authentication and pre-provisioning
	// hooks).
	Timeout = 5 * time.Second
	// DefaultCalls is how many calls of a service are under way at once if nobody
	// says. One that answers in 50 ms answers 1,280 a second with them.
	DefaultCalls = 64
	// maxWait is how long one waits for a call, while all are under way. A fleet that
	// comes back at once has 2,500 devices let in meanwhile, at 50 ms each.
	maxWait = 2 * time.Second

	maxAnswer = 64 << 10 // bytes: ten policy documents, escaped, and what is around
)

// ErrBusy says that all calls of a service are under way, and were for too long.
var ErrBusy = errors.New("too many calls are under way")

// A Service is one that is asked. Several goroutines may use it.
type Service struct {
	name, url string
	calls     chan struct{} // those under way

	mu      sync.Mutex // guards failing, and orders reports
	failing bool
}

// NewService returns the service of a URL, called name in reports.
// maxCalls are under way at once; 0: DefaultCalls.
func NewService(name, url string, maxCalls int) *Service {
	if maxCalls == 0 {
		maxCalls = DefaultCalls
	}
	return &Service{name: name, url: url, calls: make(chan struct{}, maxCalls)}
}

// Same says whether NewService would return a service like s.
func (s *Service) Same(o *Service) bool {
	return s.name == o.name && s.url == o.url && cap(s.calls) == cap(o.calls)
}

// A Report is called for each call that failed, and with a nil error of the first answer
// after those. It is not called for one service by two goroutines at once.
type Report func(service string, err error)

// Functions are the bridge's own. Several goroutines may use them.
type Functions interface {
	// HasFunction says whether there is one of an ARN.
	HasFunction(arn string) bool
	// Ask calls it, and returns its answer.
	Ask(ctx context.Context, arn string, question []byte) ([]byte, error)
}

// None are no functions.
type None struct{}

// HasFunction implements Functions.
func (None) HasFunction(string) bool { return false }

// Ask implements Functions.
func (None) Ask(context.Context, string, []byte) ([]byte, error) {
	return nil, errors.New("the bridge runs no functions: lambda.enabled is not set")
}

// A Client asks services. Several goroutines may use it.
type Client struct {
	http      *http.Client
	functions Functions
	report    Report
}

// NewClient returns a Client; report may be nil. Close lets its connections go.
func NewClient(functions Functions, report Report) *Client {
	if report == nil {
		report = func(string, error) {}
	}
	return &Client{functions: functions, report: report, http: &http.Client{
		Transport: &http.Transport{MaxIdleConnsPerHost: DefaultCalls, IdleConnTimeout: time.Minute,
			ForceAttemptHTTP2: true},
		// A redirect would carry a client's secrets to where nobody said.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// Close lets idle connections go.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Ask posts question, as JSON, and has read look at the answer: an error of it is
// one of the service, which did not answer as it should. Ask blocks for 5 s at
// most. The error is ErrBusy if the service was not even asked.
func (c *Client) Ask(ctx context.Context, s *Service, question any, read func(answer []byte) error) error {
	err := c.ask(ctx, s, question, read)
	if err == nil || ctx.Err() == nil { // else who asked has left, which says nothing of the service
		s.mu.Lock()
		defer s.mu.Unlock()
		if err != nil || s.failing {
			c.report(s.name, err)
		}
		s.failing = err != nil
	}
	return err
}

func (c *Client) ask(ctx context.Context, s *Service, question any, read func([]byte) error) error {
	text, err := json.Marshal(question)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer func() { <-s.calls }()
	answer, err := c.call(ctx, s.url, text)
	if err != nil {
		return err
	}
	if err := read(answer); err != nil {
		return fmt.Errorf("its answer: %w", err)
	}
	return nil
}

// call asks a URL, or a function by its ARN.
func (c *Client) call(ctx context.Context, at string, text []byte) ([]byte, error) {
	if isFunction(at) {
		answer, err := c.functions.Ask(ctx, at, text)
		if err == nil && len(answer) > maxAnswer {
			err = fmt.Errorf("its answer has more than %d bytes", maxAnswer)
		}
		return answer, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at, bytes.NewReader(text))
	if err != nil {
		return nil, keepURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, keepURL(err)
	}
	defer resp.Body.Close()
	answer, err := bounded.ReadAll(resp.Body, maxAnswer)
	long := errors.Is(err, bounded.ErrTooLong)
	switch {
	case err != nil && !long:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("it answers %s", resp.Status)
	case long:
		return nil, fmt.Errorf("its answer: %w", err)
	}
	return answer, nil
}

// isFunction says whether a URL is a function's ARN.
func isFunction(url string) bool {
	return arn.Is(url) && strings.Contains(url, ":lambda:")
}

// enter waits for a call.
func (s *Service) enter(ctx context.Context) error {
	select {
	case s.calls <- struct{}{}:
		return nil
	default:
	}
	wait := time.NewTimer(maxWait)
	defer wait.Stop()
	select {
	case s.calls <- struct{}{}:
		return nil
	case <-wait.C:
		return fmt.Errorf("%w: all %d that it has, for %v; max_calls of the configuration gives it more", ErrBusy,
			cap(s.calls), maxWait)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// keepURL takes the URL out of an error: it may have a key in its query.
func keepURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}
