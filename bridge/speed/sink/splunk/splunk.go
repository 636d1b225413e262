// Package splunk hands records to a Splunk HTTP Event Collector with indexer
// acknowledgement, as Amazon Data Firehose does.
package splunk

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// Options of a Client.
type Options struct {
	URL     string // of the collector, without a path of its own
	Raw     bool   // records are raw text, else each is an event in the collector's JSON
	Token   string
	Channel string        // a UUID, the same for as long as the delivery stream is there
	Ack     time.Duration // how long an acknowledgement is waited for
	HTTP    *http.Client  // says what may be reached, and follows no redirects
}

// A Client hands over records. Several goroutines may use it.
type Client struct{ Options }

// New returns a client. Nothing is asked.
func New(o Options) *Client {
	o.URL = strings.TrimSuffix(o.URL, "/")
	return &Client{o}
}

// Codes of errors, as they stand in the lines of what failed (Firehose developer
// guide, "Splunk data delivery errors").
const (
	connectionTimeout = "Splunk.ConnectionTimeout"
	connectionFailed  = "Splunk.ConnectionClosed"
	ackTimeout        = "Splunk.AckTimeout"
	invalidToken      = "Splunk.InvalidToken"
	invalidData       = "Splunk.InvalidDataFormat"
	invalidResponse   = "Splunk.ResponseWithoutAckId"
	serverError       = "Splunk.ServerError"
	indexerBusy       = "Splunk.IndexerBusy"
)

// An Error is why records are not known to be indexed.
type Error struct {
	Code  string
	Never bool // the collector will not take them as they are
	Err   error
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

const (
	answerTimeout = time.Minute
	maxAnswer     = 1 << 20
	ackEvery      = 2 * time.Second
)

// Send hands over records and returns nil when the indexer has acknowledged them.
// Any error is an *Error; records whose acknowledgement did not come may be there.
func (c *Client) Send(ctx context.Context, records [][]byte) error {
	path := "/services/collector/event"
	if c.Raw {
		path = "/services/collector/raw?channel=" + c.Channel
	}
	var body bytes.Buffer
	for _, r := range records {
		body.Write(r)
		if c.Raw && !bytes.HasSuffix(r, []byte("\n")) {
			body.WriteByte('\n') // that each is an event of its own
		}
	}
	var taken struct {
		Text  string
		Code  int
		AckID *int64 `json:"ackId"`
	}
	if err := c.post(ctx, path, body.Bytes(), &taken); err != nil {
		return err
	}
	if taken.AckID == nil {
		return &Error{Code: invalidResponse, Err: errors.New("no ackId: is indexer acknowledgement on for the token?")}
	}
	return c.acknowledged(ctx, *taken.AckID)
}

// acknowledged waits until the indexer has what was taken as id.
func (c *Client) acknowledged(ctx context.Context, id int64) error {
	ctx, cancel := context.WithTimeout(ctx, c.Ack)
	defer cancel()
	ask := fmt.Appendf(nil, `{"acks":[%d]}`, id)
	for {
		var out struct{ Acks map[string]bool }
		err := c.post(ctx, "/services/collector/ack?channel="+c.Channel, ask, &out)
		if err == nil && out.Acks[strconv.FormatInt(id, 10)] {
			return nil
		}
		t := time.NewTimer(ackEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			if err == nil {
				err = errors.New("the indexer has not acknowledged them")
			}
			return &Error{Code: ackTimeout, Err: err}
		}
	}
}

// post makes one request and reads the answer's JSON.
func (c *Client) post(ctx context.Context, path string, body []byte, out any) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return &Error{Code: connectionFailed, Err: errors.New("the URL is none")}
	}
	r.Header.Set("Authorization", "Splunk "+c.Token)
	r.Header.Set("X-Splunk-Request-Channel", c.Channel)
	r.Header.Set("Content-Type", "application/json")
	a, err := post.Read(c.HTTP, r, maxAnswer)
	if err != nil {
		code := connectionFailed
		if errors.Is(err, context.DeadlineExceeded) {
			code = connectionTimeout
		}
		return &Error{Code: code, Err: err}
	}
	if a.Status != http.StatusOK {
		return refused(a.Status, a.Body)
	}
	if err := json.Unmarshal(a.Body, out); err != nil {
		return &Error{Code: invalidResponse, Err: fmt.Errorf("the answer is no JSON: %w", err)}
	}
	return nil
}

// refused says what an answer other than 200 means (Splunk, "Possible error
// codes" of the collector).
func refused(status int, raw []byte) *Error {
	var doc struct {
		Text string
		Code int
	}
	_ = json.Unmarshal(raw, &doc) // without it the status says enough
	e := &Error{Code: serverError, Err: fmt.Errorf("status %d: %.300s (code %d)", status, doc.Text, doc.Code)}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Code = invalidToken
	case status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests:
		e.Code = indexerBusy
	case status == http.StatusBadRequest && (doc.Code == 5 || doc.Code == 6 || doc.Code == 12 || doc.Code == 13):
		// No data, invalid data format, no event, a blank event.
		e.Code, e.Never = invalidData, true
	case status == http.StatusRequestEntityTooLarge:
		e.Code, e.Never = invalidData, true
	}
	return e
}
