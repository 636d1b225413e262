// Package httpendpoint hands records to an HTTP endpoint in the form that Amazon
// Data Firehose gives them (Firehose developer guide, "HTTP endpoint delivery
// request and response specifications").
package httpendpoint

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/tidemill/tidemill/bridge/speed/sink/post"
)

// Bounds of a request and its answer.
const (
	MaxRecords = 10_000
	MaxBytes   = 64 << 20
	maxAnswer  = 1 << 20
)

// timeout is how long an answer is waited for.
const timeout = 3 * time.Minute

// Options of a Client.
type Options struct {
	URL        string
	AccessKey  string            // "": none
	Attributes map[string]string // common to all requests
	Gzip       bool              // of bodies
	SourceARN  string            // of the delivery stream
	HTTP       *http.Client      // says what may be reached, and follows no redirects
}

// A Client hands over records. Several goroutines may use it.
type Client struct {
	Options
	attributes string
}

// New returns a client. Nothing is asked.
func New(o Options) (*Client, error) {
	raw, err := json.Marshal(map[string]any{"commonAttributes": o.Attributes})
	if err != nil {
		return nil, err
	}
	c := &Client{Options: o}
	if len(o.Attributes) > 0 {
		c.attributes = string(raw)
	}
	return c, nil
}

// A Request is one batch. It is the same at every attempt.
type Request struct {
	ID      string // the receiver knows a repetition by it
	Time    int64  // epoch ms
	Records [][]byte
}

// Codes of errors, as they stand in the lines of what failed.
const (
	requestTimeout   = "HttpEndpoint.RequestTimeout"
	responseTooLarge = "HttpEndpoint.ResponseTooLarge"
	invalidResponse  = "HttpEndpoint.InvalidResponseFromDestination"
	destination      = "HttpEndpoint.DestinationException"
	connectionFailed = "HttpEndpoint.ConnectionFailed"
	connectionReset  = "HttpEndpoint.ConnectionReset"
)

// An Error is why a batch is not known to be taken.
type Error struct {
	Code string
	// TooLarge: the receiver will never take it (status 413).
	TooLarge bool
	Err      error
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Post hands over a batch and returns nil when the receiver says that it has it:
// status 200, JSON, the request's id. Any error is an *Error.
func (c *Client) Post(ctx context.Context, q *Request) error {
	body, err := c.body(q)
	if err != nil {
		return &Error{Code: invalidResponse, Err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return &Error{Code: connectionFailed, Err: errors.New("the URL is none")} // it may have a key
	}
	c.header(r, q)
	a, err := post.Read(c.HTTP, r, maxAnswer+1)
	return answer(&a, err, q.ID)
}

func (c *Client) header(r *http.Request, q *Request) {
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("X-Amz-Firehose-Protocol-Version", "1.0")
	r.Header.Set("X-Amz-Firehose-Request-Id", q.ID)
	r.Header.Set("X-Amz-Firehose-Source-Arn", c.SourceARN)
	if c.AccessKey != "" {
		r.Header.Set("X-Amz-Firehose-Access-Key", c.AccessKey)
	}
	if c.attributes != "" {
		r.Header.Set("X-Amz-Firehose-Common-Attributes", c.attributes)
	}
	if c.Gzip {
		r.Header.Set("Content-Encoding", "gzip")
	}
}

func (c *Client) body(q *Request) ([]byte, error) {
	n := 64 + len(q.ID)
	for _, r := range q.Records {
		n += base64.StdEncoding.EncodedLen(len(r)) + 12
	}
	b := bytes.NewBuffer(make([]byte, 0, n))
	b.WriteString(`{"requestId":` + strconv.Quote(q.ID) + `,"timestamp":` + strconv.FormatInt(q.Time, 10) + `,"records":[`)
	for i, r := range q.Records {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"data":"`)
		b.Write(base64.StdEncoding.AppendEncode(b.AvailableBuffer(), r))
		b.WriteString(`"}`)
	}
	b.WriteString("]}")
	if !c.Gzip {
		return b.Bytes(), nil
	}
	var packed bytes.Buffer
	z, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
	if err == nil {
		_, err = z.Write(b.Bytes())
	}
	if err == nil {
		err = z.Close()
	}
	return packed.Bytes(), err
}

// failed says what a request that had no answer failed of.
func failed(err error) *Error {
	var timeout interface{ Timeout() bool }
	switch {
	case errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout():
		return &Error{Code: requestTimeout, Err: err}
	case errors.Is(err, syscall.ECONNRESET) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return &Error{Code: connectionReset, Err: err}
	}
	return &Error{Code: connectionFailed, Err: err}
}

// answer judges the receiver's, which there may be none of, or a part.
func answer(resp *post.Reply, err error, id string) error {
	switch {
	case resp.Status == http.StatusRequestEntityTooLarge:
		return &Error{Code: destination, TooLarge: true, Err: errors.New("status 413: the batch is too large for it")}
	case err != nil:
		return failed(err)
	case len(resp.Body) > maxAnswer:
		return &Error{Code: responseTooLarge, Err: fmt.Errorf("an answer of more than %d bytes", maxAnswer)}
	}
	var doc struct {
		RequestID    *string `json:"requestId"`
		Timestamp    *int64  `json:"timestamp"`
		ErrorMessage string  `json:"errorMessage"`
	}
	wrong := json.Unmarshal(resp.Body, &doc)
	if resp.Status != http.StatusOK {
		text := doc.ErrorMessage
		if len(text) > 300 {
			text = text[:300]
		}
		return &Error{Code: destination, Err: fmt.Errorf("status %d %.300s", resp.Status, text)}
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case media != "application/json":
		err = fmt.Errorf("content type %.100q, want application/json", media)
	case resp.Header.Get("Content-Encoding") != "":
		err = errors.New("the answer is compressed")
	case wrong != nil:
		err = fmt.Errorf("the answer is no JSON: %w", wrong)
	case doc.RequestID == nil || *doc.RequestID != id:
		err = errors.New("the answer is to another request")
	case doc.Timestamp == nil:
		err = errors.New("the answer has no timestamp")
	default:
		return nil
	}
	return &Error{Code: invalidResponse, Err: err}
}
