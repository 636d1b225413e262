// Package search writes documents to Elasticsearch or OpenSearch through the
// _bulk API, many in a request.
package search

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// timeout is how long a request may take. A search waits a minute for its shards
// before it says that they are not there (_bulk, timeout).
const timeout = 2 * time.Minute

// An Authorize adds to a request what the service knows the sender by; body is
// what will be sent.
type Authorize func(ctx context.Context, r *http.Request, body []byte) error

// Open authorizes by nothing.
func Open(context.Context, *http.Request, []byte) error { return nil }

// Basic authorizes by name and password.
func Basic(user, password string) Authorize {
	return func(_ context.Context, r *http.Request, _ []byte) error {
		r.SetBasicAuth(user, password)
		return nil
	}
}

// APIKey authorizes by an API key in its encoded form.
func APIKey(key string) Authorize {
	return func(_ context.Context, r *http.Request, _ []byte) error {
		r.Header.Set("Authorization", "ApiKey "+key)
		return nil
	}
}

// Signed authorizes by AWS's Signature Version 4. service is "es" for OpenSearch
// Service, "aoss" for its serverless form.
func Signed(c aws.Config, service string) Authorize {
	return func(ctx context.Context, r *http.Request, body []byte) error {
		return awsapi.Sign(ctx, c, service, r, body)
	}
}

// Options of a Client.
type Options struct {
	URL       string // of the service
	Create    bool   // documents are created, as data streams want it, not indexed
	Gzip      bool
	HTTP      *http.Client
	Authorize Authorize // nil: by nothing
}

// A Client writes documents. Several goroutines may use it.
type Client struct{ Options }

// New returns a client. Nothing is asked.
func New(o Options) *Client { return &Client{o} }

// A Document is what is written under an id.
type Document struct {
	Index, ID string // without an ID the service makes one
	Source    []byte // a JSON object without line breaks
	Type      string // of services up to version 6; else ""
}

// Wire is how many bytes the document adds to a request, at most.
func (d *Document) Wire() int { return len(d.Source) + 2*len(d.Index) + 2*len(d.ID) + 64 }

// A StatusError is an answer that is not 200, to a request or to one document
// of it.
type StatusError struct {
	Status int
	Reason string
}

func (e *StatusError) Error() string { return fmt.Sprintf("status %d: %s", e.Status, e.Reason) }

// tooLarge tells whether a request as a whole was too large for the service.
func tooLarge(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && e.Status == http.StatusRequestEntityTooLarge
}

// permanent tells whether a document would be refused again: it does not fit
// the index, or is too large. Any other status may pass, such as 429 (too busy)
// or 403 (the index is blocked while a disk is full).
func permanent(err error) bool {
	e, ok := errors.AsType[*StatusError](err)
	return ok && (e.Status == http.StatusBadRequest || e.Status == http.StatusRequestEntityTooLarge)
}

// Answers are small: the filter leaves a status and, of a failure, its reason.
const (
	filter    = "errors,items.*.status,items.*.error.type,items.*.error.reason"
	maxAnswer = 64 << 20
	maxReason = 300
)

type meta struct {
	Index string `json:"_index"`
	ID    string `json:"_id,omitempty"`
	Type  string `json:"_type,omitempty"`
}

// Unauthorized tells whether the service would not have it from this sender: an
// answer that passes when the password or token is set right, or, with 403, when an
// index is no longer read-only for its disk was full. AWS's AccessDenied is none: the
// sender is known, and has no right.
func (e *StatusError) Unauthorized() bool {
	return e.Status == http.StatusUnauthorized ||
		e.Status == http.StatusForbidden && !strings.Contains(e.Reason, "AccessDenied")
}

// Put writes one document in a request of its own.
func (c *Client) Put(ctx context.Context, d *Document) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	id := url.PathEscape(d.ID)
	if strings.Trim(d.ID, ".") == "" { // a server may take . and .. for folders
		id = strings.ReplaceAll(d.ID, ".", "%2E")
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPut,
		strings.TrimSuffix(c.URL, "/")+"/"+url.PathEscape(d.Index)+"/_doc/"+id, bytes.NewReader(d.Source))
	if err != nil {
		return post.WithoutURL(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if c.Authorize != nil {
		if err := c.Authorize(ctx, r, d.Source); err != nil {
			return err
		}
	}
	a, err := post.Read(c.HTTP, r, maxPutAnswer)
	if a.Status == 0 || a.Status == http.StatusOK || a.Status == http.StatusCreated {
		return err
	}
	return &StatusError{a.Status, short(string(a.Body))}
}

// maxPutAnswer is how much is read of an answer to one document: of a refusal, the
// reason.
const maxPutAnswer = 64 << 10

// Bulk writes documents in one request, and returns what is wrong with each:
// nil for one that is written, now or by an attempt before.
func (c *Client) Bulk(ctx context.Context, docs []*Document) ([]error, error) {
	operation := "index"
	if c.Create {
		operation = "create"
	}
	body, err := c.body(operation, docs)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/_bulk?filter_path="+
		filter, bytes.NewReader(body))
	if err != nil {
		return nil, post.WithoutURL(err)
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	if c.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
	if c.Authorize != nil {
		if err := c.Authorize(ctx, r, body); err != nil {
			return nil, fmt.Errorf("bulk: %w", err)
		}
	}
	a, err := post.Read(c.HTTP, r, maxAnswer)
	if err != nil {
		return nil, fmt.Errorf("bulk: %w", err)
	}
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("bulk: %w", &StatusError{a.Status, short(string(a.Body))})
	}
	return results(a.Body, operation, len(docs))
}

// body is the request's: of each document a line that says what to do, and the
// document's own.
func (c *Client) body(operation string, docs []*Document) ([]byte, error) {
	var b bytes.Buffer
	var w io.Writer = &b
	var z *gzip.Writer
	if c.Gzip {
		z = gzip.NewWriter(&b)
		w = z
	}
	for _, d := range docs {
		line, err := json.Marshal(map[string]meta{operation: {d.Index, d.ID, d.Type}})
		if err != nil {
			return nil, err
		}
		line = append(append(append(line, '\n'), d.Source...), '\n')
		if _, err := w.Write(line); err != nil {
			return nil, err
		}
	}
	if z != nil {
		if err := z.Close(); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// results reads the answer to n documents.
func results(answer []byte, operation string, n int) ([]error, error) {
	var out struct {
		Items []map[string]struct {
			Status int
			Error  struct{ Type, Reason string }
		}
	}
	if err := json.Unmarshal(answer, &out); err != nil {
		return nil, fmt.Errorf("bulk: the answer is no bulk's: %w", err)
	}
	if len(out.Items) != n {
		return nil, fmt.Errorf("bulk: an answer for %d documents of %d", len(out.Items), n)
	}
	errs := make([]error, n)
	for i, it := range out.Items {
		a, ok := it[operation]
		if !ok || a.Status < 200 {
			return nil, fmt.Errorf("bulk: no status for document %d", i)
		}
		// A conflict: the id is there, written by an attempt before.
		if a.Status >= 300 && a.Status != http.StatusConflict {
			errs[i] = &StatusError{a.Status, a.Error.Type + ": " + short(a.Error.Reason)}
		}
	}
	return errs, nil
}

// short cuts a reason, and what it quotes of a document.
func short(reason string) string {
	reason, _, _ = strings.Cut(reason, " Preview of field's value")
	if len(reason) > maxReason {
		reason = strings.ToValidUTF8(reason[:maxReason], "") + "…"
	}
	return reason
}
