package awsapi

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/tidemill/tidemill/bridge/bounded"
)

// A Service is one of AWS's, of which the bridge needs an operation or two. The
// SDK's clients of seven such are 12 MB of a program and 4 MB of memory, used or not.
type Service struct {
	ID      string // the SDK's, by which endpoints are configured: "CloudWatch Logs"
	Name    string // in Amazon's host names and in signatures: "logs"
	JSON    string // version of the JSON protocol: "1.0" or "1.1"; "" is another protocol
	Target  string // what is before an operation's name in X-Amz-Target
	Version string // of the API, in the query protocol
}

// A Caller calls operations of a service, each once, signed. Several goroutines may
// use it.
type Caller struct {
	service Service
	c       aws.Config
	base    *url.URL
	err     error // why there is none
}

// maxAnswer bounds what is read of an answer, in bytes. The longest that the bridge
// asks for tells of 500 records.
const maxAnswer = 1 << 20

// Caller returns one by a configuration, as of Once. Nothing is asked.
func (s Service) Caller(c aws.Config) *Caller {
	if c.HTTPClient == nil {
		c.HTTPClient = NewHTTP()
	}
	a := &Caller{service: s, c: c}
	endpoint, err := s.endpoint(c)
	if err == nil {
		a.base, err = url.Parse(endpoint)
	}
	if err != nil {
		// What cannot be said is not cured by another try.
		a.err = &smithy.SerializationError{Err: fmt.Errorf("%s: endpoint: %w", s.ID, err)}
	}
	return a
}

// Call calls an operation by the JSON protocol. in is encoded, and the answer decoded
// into out, unless that is nil. What the service refuses is a *PartError.
func (a *Caller) Call(ctx context.Context, operation string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return &smithy.SerializationError{Err: err}
	}
	head := http.Header{"Content-Type": {"application/x-amz-json-" + a.service.JSON},
		"X-Amz-Target": {a.service.Target + "." + operation}}
	answer, err := a.Post(ctx, operation, "/", head, body)
	if err != nil || out == nil {
		return err
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", a.service.ID, operation, err)
	}
	return nil
}

// Query calls an operation by the query protocol. The answer, XML, is decoded into
// out, unless that is nil.
func (a *Caller) Query(ctx context.Context, operation string, in url.Values, out any) error {
	in.Set("Action", operation)
	in.Set("Version", a.service.Version)
	answer, err := a.Post(ctx, operation, "/", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		[]byte(in.Encode()))
	if err != nil || out == nil {
		return err
	}
	if err := xml.Unmarshal(answer, out); err != nil {
		return fmt.Errorf("%s %s: answer: %w", a.service.ID, operation, err)
	}
	return nil
}

// Post posts a body to a path, which is escaped, and returns the answer's. operation
// is for errors.
func (a *Caller) Post(ctx context.Context, operation, path string, head http.Header, body []byte) ([]byte, error) {
	answer, _, err := a.Ask(ctx, operation, path, head, body, maxAnswer)
	return answer, err
}

// Ask is Post for answers of at most so many bytes, of which the header counts, too.
func (a *Caller) Ask(ctx context.Context, operation, path string, head http.Header, body []byte, most int64) (
	answer []byte, header http.Header, err error) {
	if a.err != nil {
		return nil, nil, a.err
	}
	answer, header, err = a.post(ctx, path, head, body, most)
	if err != nil {
		return nil, nil, fmt.Errorf("%s %s: %w", a.service.ID, operation, err)
	}
	return answer, header, nil
}

func (a *Caller) post(ctx context.Context, path string, head http.Header, body []byte, most int64) ([]byte,
	http.Header, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(a.base.String(), "/")+path,
		bytes.NewReader(body))
	if err != nil {
		return nil, nil, &smithy.SerializationError{Err: err}
	}
	r.Header = head
	r.Header.Set("User-Agent", "tidemill-bridge")
	if err := Sign(ctx, a.c, a.service.Name, r, body); err != nil {
		return nil, nil, err
	}
	resp, err := a.c.HTTPClient.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	answer, err := bounded.ReadAll(resp.Body, most)
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return nil, nil, refusal(resp, answer)
	}
	return answer, resp.Header, err
}

// refusal is what the service answered instead of doing it.
func refusal(resp *http.Response, answer []byte) *PartError {
	e := &PartError{Status: resp.StatusCode, Sender: resp.StatusCode < 500}
	defer func() {
		if e.Code == "" && e.Message == "" && len(answer) > 0 {
			e.Message = fmt.Sprintf("the answer is none of the service's: %.200q", answer)
		}
	}()
	var x struct {
		Code    string `xml:"Error>Code"`
		Message string `xml:"Error>Message"`
	}
	if bytes.HasPrefix(bytes.TrimSpace(answer), []byte("<")) {
		if xml.Unmarshal(answer, &x) == nil {
			e.Code, e.Message = x.Code, x.Message
		}
		return e
	}
	var j struct { // encoding/json matches names in any case
		Type    string `json:"__type"`
		Code    any    `json:"code"`
		Message string `json:"message"`
	}
	_ = json.Unmarshal(answer, &j) // what can be read of it
	e.Message, e.Code = j.Message, j.Type
	if code, ok := j.Code.(string); ok && e.Code == "" {
		e.Code = code
	}
	if h := resp.Header.Get("X-Amzn-Errortype"); h != "" {
		e.Code = h
	}
	// As in "com.amazonaws.sqs#QueueDoesNotExist" and "ValidationException:http://...".
	e.Code, _, _ = strings.Cut(e.Code[strings.LastIndexByte(e.Code, '#')+1:], ":")
	// SQS says beside it what it said in its query protocol.
	if code, _, ok := strings.Cut(resp.Header.Get("X-Amzn-Query-Error"), ";"); ok {
		e.Code = code
	}
	return e
}
