// Package post sends documents to web servers by HTTP.
package post

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// maxAnswer is how much of an answer is read, so that its connection can be used
// again; maxReason is how much of it an error quotes.
const (
	maxAnswer = 64 << 10
	maxReason = 300
)

// A StatusError is an answer that is not 2xx.
type StatusError struct {
	Status int
	Reason string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Reason) }

// Do sends a request and reads its answer. An error that the server answered with
// is a *StatusError.
func Do(c *http.Client, r *http.Request) error { return Answer(c, r, nil) }

// Answer is Do for a server that answers with JSON, which is put into out.
func Answer(c *http.Client, r *http.Request, out any) error {
	a, err := Read(c, r, maxAnswer)
	if a.Status == 0 {
		return err
	}
	if a.Status < 200 || a.Status > 299 {
		reason := string(a.Body)
		if len(reason) > maxReason {
			reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
		}
		return &StatusError{a.Status, reason}
	}
	if err == nil && out != nil && len(a.Body) > 0 {
		if err = json.Unmarshal(a.Body, out); err != nil {
			err = fmt.Errorf("an answer that is no JSON: %w", err)
		}
	}
	return err
}

// A Reply is a server's answer, of whatever status.
type Reply struct {
	Status int // 0: there is none
	Header http.Header
	Body   []byte
}

// Read sends a request and reads at most so many bytes of the answer's body. With an
// error the answer may be there in part.
func Read(c *http.Client, r *http.Request, most int64) (Reply, error) {
	resp, err := c.Do(r)
	if err != nil {
		return Reply{}, WithoutURL(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, most))
	return Reply{resp.StatusCode, resp.Header, body}, err
}

// WithoutURL takes the URL out of an error of net/http: it may have a key in its
// query, and errors are logged and shown.
func WithoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// Request makes one with a body and headers.
func Request(ctx context.Context, method, to string, body []byte, headers map[string]string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, WithoutURL(err)
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	return r, nil
}
