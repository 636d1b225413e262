// Package web posts documents to web services, one request each. What a status
// means, and whether to try again, is its caller's matter.
package web

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

const (
	// Timeout is how long a request may take in all. AWS gives up after four
	// seconds (seen in error documents of the http action).
	Timeout = 4 * time.Second
	// MaxAnswer is the largest answer that is taken, in bytes (AWS IoT Core
	// developer guide, HTTP action).
	MaxAnswer = 16384

	shown = 200 // bytes of an answer in an error
)

// A Client posts. Several goroutines may use it.
type Client struct{ http *http.Client }

// New returns a Client over one that says what may be reached and follows no
// redirects, such as an egress.List's.
func New(client *http.Client) *Client { return &Client{client} }

// A Request is one to make.
type Request struct {
	URL    string
	Header http.Header
	Body   []byte
	// Sign adds what proves who asks; nil: nothing does.
	Sign func(ctx context.Context, r *http.Request, body []byte) error
}

// A Refusal is an answer with another status than 200 to 299.
type Refusal struct {
	Status int
	Text   string // the first bytes of the answer
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Text == "" {
		return fmt.Sprintf("answers %d %s", r.Status, http.StatusText(r.Status))
	}
	return fmt.Sprintf("answers %d %s: %q", r.Status, http.StatusText(r.Status), r.Text)
}

// Again says whether the same request may be taken later: 429 and 500 to 599.
func (r *Refusal) Again() bool { return r.Status == http.StatusTooManyRequests || r.Status/100 == 5 }

// ErrRequest says that a request cannot be made of this URL and these headers.
var ErrRequest = errors.New("no request can be made")

// Post makes a request. The error is a Refusal if there was an answer that says so,
// or wraps ErrRequest; any other one means that there was no answer, or only a part
// of one: the service may have acted.
func (c *Client) Post(ctx context.Context, q *Request) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, q.URL, bytes.NewReader(q.Body))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrRequest, err)
	}
	if r.URL.Scheme != "http" && r.URL.Scheme != "https" || r.URL.Host == "" || r.URL.User != nil {
		return fmt.Errorf("%w: want a URL http://HOST/... or https://HOST/... without a user", ErrRequest)
	}
	if q.Header != nil {
		r.Header = q.Header.Clone()
	}
	if h := r.Header.Get("Host"); h != "" { // net/http takes it from there
		r.Host = h
	}
	if q.Sign != nil {
		if err := q.Sign(ctx, r, q.Body); err != nil {
			return err
		}
	}
	answer, err := c.http.Do(r)
	if err != nil {
		if e, ok := errors.AsType[*url.Error](err); ok {
			err = e.Err // a URL may have secrets
		}
		return err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, MaxAnswer+1))
	switch {
	case answer.StatusCode/100 != 2:
		return &Refusal{answer.StatusCode, string(text[:min(len(text), shown)])}
	case err != nil:
		return fmt.Errorf("the answer broke off: %w", err)
	case len(text) > MaxAnswer:
		return fmt.Errorf("the answer has more than %d bytes", MaxAnswer)
	}
	return nil
}
