// Package post sends documents to web servers by HTTP.
package post

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
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
	resp, err := c.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		reason := string(answer)
		if len(reason) > maxReason {
			reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
		}
		return &StatusError{resp.StatusCode, reason}
	}
	if err == nil && out != nil && len(answer) > 0 {
		if err = json.Unmarshal(answer, out); err != nil {
			err = fmt.Errorf("an answer that is no JSON: %w", err)
		}
	}
	return err
}

// Request makes one with a body and headers.
func Request(ctx context.Context, method, url string, body []byte, headers map[string]string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		r.Header.Set(name, value)
	}
	return r, nil
}
