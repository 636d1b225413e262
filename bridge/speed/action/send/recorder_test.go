package send

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A call is a request that arrived at a stand-in.
type call struct {
	service, operation string
	input              map[string]any
	raw                string // what must be the same in each try
	action             string // index in actions, or "error"
	failed             bool   // by the answer
}

// A recorder stands in for every service: it takes requests apart, and answers as
// its vector says.
type recorder struct {
	mu     sync.Mutex
	calls  []*call
	answer func(c *call) answer // nil: success
}

// An answer of a stand-in.
type answer struct {
	status int
	code   string // of an error
	bytes  int    // of an error's text, at least
	failed []int  // parts of a batch that fail
}

var scope = regexp.MustCompile(`Credential=[^/]+/[0-9]+/[^/]+/([^/]+)/aws4_request`)

// RoundTrip implements http.RoundTripper.
func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
		_ = req.Body.Close()
	}
	c, err := read(req, body)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := answer{status: 200}
	if r.answer != nil {
		a = r.answer(c)
	}
	c.failed = a.status > 299 || len(a.failed) > 0
	r.calls = append(r.calls, c)
	return respond(req, c, a), nil
}

// read makes a call of a request.
func read(req *http.Request, body []byte) (*call, error) {
	c := &call{input: map[string]any{}, raw: req.Method + " " + req.URL.String() + "\n" + string(body)}
	if m := scope.FindStringSubmatch(req.Header.Get("Authorization")); m != nil {
		c.service = m[1]
	}
	switch c.service {
	case "dynamodb", "firehose", "kinesis", "logs", "states", "sqs":
		_, c.operation, _ = strings.Cut(req.Header.Get("X-Amz-Target"), ".")
		return c, c.readJSON(body)
	case "sns":
		return c, c.readQuery(body)
	case "monitoring":
		c.service = "cloudwatch"
		return c, c.readQuery(body)
	case "lambda":
		c.operation = "Invoke"
		name := strings.TrimSuffix(strings.TrimPrefix(req.URL.Path, "/2015-03-31/functions/"), "/invocations")
		c.input = map[string]any{"FunctionName": name, "InvocationType": req.Header.Get("X-Amz-Invocation-Type"),
			"Payload": body}
		return c, nil
	case "s3":
		c.operation = "PutObject"
		bucket, key, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
		c.input = map[string]any{"Bucket": bucket, "Key": key, "Body": body}
		if acl := req.Header.Get("X-Amz-Acl"); acl != "" {
			c.input["ACL"] = acl
		}
		return c, nil
	case "iotanalytics":
		c.operation = "BatchPutMessage"
		return c, c.readJSON(body)
	case "es":
	default:
		c.service = "http"
		if strings.HasPrefix(req.URL.Host, "ingestion-") {
			c.service = "salesforce"
		}
	}
	headers := map[string]any{}
	for k := range req.Header {
		headers[strings.ToLower(k)] = req.Header.Get(k)
	}
	c.operation = req.Method
	c.input = map[string]any{"url": req.URL.String(), "headers": headers, "body": body}
	return c, nil
}

// readJSON reads a body, whose members of bytes are base64.
func (c *call) readJSON(body []byte) error {
	v, err := decode(body)
	if err != nil {
		return err
	}
	c.input = blobs(v, "").(map[string]any)
	return nil
}

// blobs decodes what is bytes in the protocols of JSON.
func blobs(v any, name string) any {
	switch v := v.(type) {
	case map[string]any:
		for k, e := range v {
			if s, ok := e.(string); ok && (k == "Data" || k == "payload" || k == "B") {
				var b []byte
				if json.Unmarshal(fmt.Appendf(nil, "%q", s), &b) == nil {
					v[k] = b
				}
				continue
			}
			v[k] = blobs(e, k)
		}
	case []any:
		for i := range v {
			v[i] = blobs(v[i], name)
		}
	}
	return v
}

// member is a member of the one datum in a PutMetricData.
const member = "MetricData.member.1."

// readQuery reads the query protocol's form.
func (c *call) readQuery(body []byte) error {
	form, err := url.ParseQuery(string(body))
	c.operation = form.Get("Action")
	datum := map[string]any{}
	for k := range form {
		if name, ok := strings.CutPrefix(k, member); ok {
			datum[name] = form.Get(k)
			if at, err := time.Parse(time.RFC3339, form.Get(k)); err == nil && name == "Timestamp" {
				datum[name] = json.Number(fmt.Sprint(at.UnixMilli()))
			}
		} else {
			c.input[k] = form.Get(k)
		}
	}
	if len(datum) > 0 {
		c.input["MetricData"] = []any{datum}
	}
	return err
}

// respond answers in the protocol of the call's service.
func respond(req *http.Request, c *call, a answer) *http.Response {
	header := http.Header{"Content-Type": {"application/json"}}
	var body []byte
	if a.status > 299 {
		if a.code == "" {
			a.code = "ServiceUnavailable"
			if a.status < 500 {
				a.code = "RequestRefused"
			}
		}
		header.Set("X-Amzn-Errortype", a.code)
		switch c.service {
		case "sns", "cloudwatch":
			body = fmt.Appendf(nil, "<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code>"+
				"<Message>refused</Message></Error></ErrorResponse>", a.code)
		case "s3":
			body = fmt.Appendf(nil, "<Error><Code>%s</Code><Message>refused</Message></Error>", a.code)
		default:
			body = fmt.Appendf(nil, `{"__type":%q,"message":"refused"}`, a.code)
		}
	} else {
		body = success(c, a)
	}
	if short := a.bytes - len(body); short > 0 {
		body = append(body, bytes.Repeat([]byte(" "), short)...)
	}
	if c.service == "dynamodb" {
		header.Set("X-Amz-Crc32", fmt.Sprint(crc32.ChecksumIEEE(body)))
	}
	if c.operation == "Invoke" && a.status == 200 {
		a.status = 202
	}
	return &http.Response{StatusCode: a.status, Status: http.StatusText(a.status), Header: header, Request: req,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body))}
}

// success is the body of an answer that takes all but some parts.
func success(c *call, a answer) []byte {
	failed := func(i int) bool {
		for _, f := range a.failed {
			if f == i {
				return true
			}
		}
		return false
	}
	switch c.operation {
	case "Publish":
		return []byte("<PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>")
	case "PutRecordBatch":
		records, _ := c.input["Records"].([]any)
		out := map[string]any{"FailedPutCount": len(a.failed)}
		var all []any
		for i := range records {
			if failed(i) {
				all = append(all, map[string]string{"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "slow"})
			} else {
				all = append(all, map[string]string{"RecordId": fmt.Sprint(i)})
			}
		}
		out["RequestResponses"] = all
		b, _ := json.Marshal(out)
		return b
	case "BatchPutMessage":
		messages, _ := c.input["messages"].([]any)
		all := []any{}
		for i, m := range messages {
			if failed(i) {
				all = append(all, map[string]any{"messageId": m.(map[string]any)["messageId"],
					"errorCode": "ThrottlingException", "errorMessage": "slow"})
			}
		}
		b, _ := json.Marshal(map[string]any{"batchPutMessageErrorEntries": all})
		return b
	case "StartExecution":
		return []byte(`{"executionArn":"e","startDate":1}`)
	case "SendMessage":
		return []byte(`{"MessageId":"m"}`)
	}
	switch c.service {
	case "cloudwatch":
		return fmt.Appendf(nil, "<%[1]sResponse><ResponseMetadata/></%[1]sResponse>", c.operation)
	case "s3":
		return nil
	}
	return []byte("{}")
}
