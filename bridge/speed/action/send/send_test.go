package send

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tidemill/tidemill/bridge/speed/action"
	"github.com/tidemill/tidemill/bridge/speed/sink/awsapi"
)

// A fake answers requests to a service, one after the other; the last answer stays.
type fake struct {
	answers []string // a status, a space and a body
	bodies  []string // that came
}

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	a := f.answers[min(len(f.bodies), len(f.answers)-1)]
	f.bodies = append(f.bodies, req.Method+" "+req.URL.Path+" "+string(body))
	var status int
	text := ""
	if n, _ := fmt.Sscan(a, &status); n == 0 {
		return nil, errors.New(a)
	}
	_, text, _ = strings.Cut(a, " ")
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/json"}}, Request: req,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: int64(len(text)),
		Body: io.NopCloser(bytes.NewReader([]byte(text)))}, nil
}

func newSet(t *testing.T, f http.RoundTripper) *Set {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_CONFIG_FILE", t.TempDir()+"/none")
	places := map[string]awsapi.Place{}
	for _, kind := range []string{"iotAnalytics", "kinesis", "firehose", "s3", "sqs"} {
		places[kind] = awsapi.Place{EndpointURL: "http://service.test"}
	}
	return New(Options{Region: "eu-local-1", Account: "000000000000", Places: places,
		HTTP: &http.Client{Transport: f}})
}

// said is what Send answered: done, again or never for each delivery.
func said(errs []error) string {
	var all []string
	for _, err := range errs {
		switch {
		case err == nil:
			all = append(all, "done")
		case errors.Is(err, action.ErrPermanent):
			all = append(all, "never")
		default:
			all = append(all, "again")
		}
	}
	return strings.Join(all, " ")
}

func delivery(kind, data string, params ...string) *action.Delivery {
	d := &action.Delivery{Kind: kind, Rule: "r", Topic: "dt/x", ID: fmt.Sprintf("id-%s-%v", data, params),
		Data: []byte(data)}
	for i := 0; i < len(params); i += 2 {
		d.Parameters = append(d.Parameters, action.Parameter{Name: params[i], Value: params[i+1]})
		if d.Name == "" {
			d.Name = params[i+1]
		}
	}
	return d
}

// Of several deliveries each has what the service says to its part.
func TestPartsOfABatch(t *testing.T) {
	metric := func(value string) *action.Delivery {
		return delivery("cloudwatchMetric", "", "metricNamespace", "ns", "metricName", "m", "metricUnit", "None",
			"metricValue", value, "metricTimestamp", "1700000000")
	}
	column := func(key string) *action.Delivery {
		return delivery("dynamoDB", "{}", "tableName", "t", "hashKeyField", "k", "hashKeyValue", key, "hashKeyType",
			"STRING", "payloadField", "payload", "operation", "INSERT")
	}
	document := func(id string) *action.Delivery {
		return delivery("openSearch", `{"a":1}`, "endpoint", "http://search.test", "index", "i",
			"type", "_doc", "id", id)
	}
	log := func(at string) *action.Delivery {
		return delivery("cloudwatchLogs", "line", "logGroupName", "g", "batchMode", "false", "timestamp", at)
	}
	queued := func(queue, text string) *action.Delivery { return delivery("sqs", text, "queueUrl", queue) }
	noted := func(text string) *action.Delivery {
		return delivery("sns", text, "targetArn", "arn:aws:sns:eu-local-1:000000000000:t", "messageFormat", "RAW")
	}
	record := func(text string) *action.Delivery {
		return delivery("kinesis", text, "streamName", "s", "partitionKey", "k")
	}
	put := func(text string) *action.Delivery {
		return delivery("firehose", text, "deliveryStreamName", "s", "batchMode", "false")
	}
	for _, c := range []struct {
		name    string
		ds      []*action.Delivery
		answers []string
		want    string
		calls   int
	}{
		{"a throttled record", []*action.Delivery{record("a"), record("b"), record("c")}, []string{
			`200 {"FailedRecordCount":1,"Records":[{"SequenceNumber":"1"},` +
				`{"ErrorCode":"ProvisionedThroughputExceededException","ErrorMessage":"slow"},{"SequenceNumber":"2"}]}`},
			"done again done", 1},
		{"one record for which all are refused", []*action.Delivery{record("a"), record("b")}, []string{
			`400 {"__type":"ValidationException"}`, `200 {"SequenceNumber":"1"}`, `400 {"__type":"ValidationException"}`},
			"done never", 3},
		{"one message for which all are refused", []*action.Delivery{queued("http://q/1/a", "x"),
			queued("http://q/1/a", "y")}, []string{`400 {"__type":"InvalidMessageContents"}`, `200 {"MessageId":"m"}`,
			`400 {"__type":"InvalidMessageContents"}`}, "done never", 3},
		{"one notice for which all are refused", []*action.Delivery{noted("x"), noted("y")}, []string{
			`400 <ErrorResponse><Error><Code>InvalidParameter</Code></Error></ErrorResponse>`,
			`200 <PublishResponse><PublishResult><MessageId>m</MessageId></PublishResult></PublishResponse>`,
			`400 <ErrorResponse><Error><Code>InvalidParameter</Code></Error></ErrorResponse>`}, "done never", 3},
		{"one line for which all are refused", []*action.Delivery{log("1000"), log("2000")}, []string{
			`400 {"__type":"InvalidParameterException"}`, `200 {}`, `400 {"__type":"InvalidParameterException"}`},
			"done never", 3},
		{"one put for which all are refused", []*action.Delivery{put("a"), put("b")}, []string{
			`400 {"__type":"ValidationException"}`, `200 {"RecordId":"1"}`, `400 {"__type":"ValidationException"}`},
			"done never", 3},
		{"an answer that leaves one out", []*action.Delivery{record("a"), record("b")},
			[]string{`200 {"Records":[{"SequenceNumber":"1"}]}`}, "again again", 1},
		{"an answer that is none", []*action.Delivery{record("a")}, []string{`200 <html>`}, "again", 1},
		{"no connection", []*action.Delivery{record("a")}, []string{`broken pipe`}, "again", 1},
		{"a message that is refused", []*action.Delivery{queued("http://q/1/a", "x"),
			queued("http://q/1/a", "y")},
			[]string{`200 {"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","Code":"InvalidMessageContents",` +
				`"SenderFault":true,"Message":"no"}]}`}, "done never", 1},
		{"a message that the service lost", []*action.Delivery{queued("http://q/1/a", "x"),
			queued("http://q/1/a", "y")},
			[]string{`200 {"Successful":[{"Id":"0","MessageId":"m"}],"Failed":[{"Id":"1","Code":"InternalError",` +
				`"SenderFault":false}]}`}, "done again", 1},
		{"two queues, the first is away", []*action.Delivery{queued("http://q/1/a", "x"), queued("http://q/1/b", "y")},
			[]string{"503 {}"}, "again again", 1},
		{"two queues, the first is not there", []*action.Delivery{queued("http://q/1/a", "x"), queued("http://q/1/b", "y")},
			[]string{`400 {"__type":"AWS.SimpleQueueService.NonExistentQueue"}`, `200 {"MessageId":"m"}`}, "never done", 2},
		{"no time of an event", []*action.Delivery{log("soon"), log("1700000000000")}, []string{`200 {}`}, "never done", 1},
		{"times far apart", []*action.Delivery{log("1700000000000"), log("1")}, []string{`200 {}`, `200 {}`}, "done done", 2},
		{"a notice that is refused", []*action.Delivery{noted("x"), noted("y")}, []string{
			`200 <PublishBatchResponse><PublishBatchResult><Successful><member><Id>1</Id></member></Successful><Failed>` +
				`<member><Id>0</Id><Code>InvalidParameter</Code><SenderFault>true</SenderFault></member></Failed>` +
				`</PublishBatchResult></PublishBatchResponse>`}, "never done", 1},
		{"one bad metric of three", []*action.Delivery{metric("1"), metric("2"), metric("3")}, []string{
			`400 <ErrorResponse><Error><Code>InvalidParameterValue</Code></Error></ErrorResponse>`,
			`200 <PutMetricDataResponse/>`,
			`400 <ErrorResponse><Error><Code>InvalidParameterValue</Code></Error></ErrorResponse>`,
			`200 <PutMetricDataResponse/>`}, "done never done", 4},
		{"metrics of a service that is away", []*action.Delivery{metric("1"), metric("2")}, []string{"503 "},
			"again again", 1},
		{"an item that had no room", []*action.Delivery{column("a"), column("b")}, []string{
			`200 {"UnprocessedItems":{"t":[{"PutRequest":{"Item":{"k":{"S":"b"},"payload":{"M":{}}}}}]}}`}, "done again", 1},
		{"the same key twice is not put together", []*action.Delivery{column("a"), column("a")}, []string{`200 {}`},
			"done done", 2},
		{"one bad item of two", []*action.Delivery{column("a"), column("b")}, []string{
			`400 {"__type":"ValidationException"}`, `200 {}`, `400 {"__type":"ValidationException"}`}, "done never", 3},
		{"a document that does not fit", []*action.Delivery{document("a"), document("b")}, []string{
			`200 {"errors":true,"items":[{"index":{"status":400,"error":{"type":"mapper_parsing_exception"}}},` +
				`{"index":{"status":201}}]}`}, "never done", 1},
		{"a search that is busy", []*action.Delivery{document("a"), document("b")}, []string{
			`200 {"errors":true,"items":[{"index":{"status":201}},{"index":{"status":429}}]}`}, "done again", 1},
		{"a search whose disk is full", []*action.Delivery{document("a")}, []string{
			`403 {"error":{"type":"cluster_block_exception"}}`}, "again", 1},
		{"bulk is too large", []*action.Delivery{document("a"), document("b")}, []string{"413 ", "201 {}", "413 "},
			"done never", 3},
		{"lines out of their time", []*action.Delivery{log("2000"), log("1000")}, []string{
			`200 {"rejectedLogEventsInfo":{"tooOldLogEventEndIndex":1}}`}, "done never", 1},
		{"a log stream is made", []*action.Delivery{log("1000")}, []string{
			`400 {"__type":"ResourceNotFoundException"}`, `200 {}`, `200 {}`}, "done", 3},
		{"a log group is not", []*action.Delivery{log("1000")}, []string{`400 {"__type":"ResourceNotFoundException"}`},
			"never", 2},
	} {
		f := &fake{answers: c.answers}
		s := newSet(t, f).Senders()[c.ds[0].Kind]
		if got := said(s.Send(t.Context(), c.ds)); got != c.want || len(f.bodies) != c.calls {
			t.Errorf("%s: %s after %d calls, want %s after %d\n%s", c.name, got, len(f.bodies), c.want, c.calls,
				strings.Join(f.bodies, "\n"))
		}
	}
}

// Of a batch that one delivery makes, only what failed is sent again, and what was
// refused on the way is not forgotten.
func TestOnlyFailedPartsAgain(t *testing.T) {
	f := &fake{answers: []string{
		`200 {"FailedPutCount":2,"RequestResponses":[{"RecordId":"1"},{"ErrorCode":"ServiceUnavailableException"},` +
			`{"ErrorCode":"ServiceUnavailableException"}]}`,
		`200 {"FailedPutCount":1,"RequestResponses":[{"RecordId":"1"},{"ErrorCode":"ServiceUnavailableException"}]}`,
		`200 {"FailedPutCount":0,"RequestResponses":[{"RecordId":"1"}]}`}}
	set := newSet(t, f)
	d := delivery("firehose", `[{"i":0},{"i":1},{"i":2}]`, "deliveryStreamName", "s", "separator", "\n", "batchMode", "true")
	for _, want := range []string{"again", "again", "done"} {
		if got := said(set.Senders()["firehose"].Send(t.Context(), []*action.Delivery{d})); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	var sent []int
	for _, b := range f.bodies {
		sent = append(sent, strings.Count(b, `"Data"`))
	}
	if !slices.Equal(sent, []int{3, 2, 1}) {
		t.Errorf("sent %v records:\n%s", sent, strings.Join(f.bodies, "\n"))
	}
	if st := set.Stats()["firehose"]; st.Delivered != 1 || st.Retried != 2 || st.Sends != 3 {
		t.Errorf("%+v", st)
	}

	f = &fake{answers: []string{
		`200 {"batchPutMessageErrorEntries":[{"messageId":"m-0","errorCode":"ThrottlingException"}]}`,
		`200 {"batchPutMessageErrorEntries":[]}`}}
	set = newSet(t, f)
	d = delivery("iotAnalytics", `[1,2]`, "channelName", "c", "batchMode", "true")
	d.ID = "m"
	for _, want := range []string{"again", "done"} {
		if got := said(set.Senders()["iotAnalytics"].Send(t.Context(), []*action.Delivery{d})); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if !strings.Contains(f.bodies[1], `"m-0"`) || strings.Contains(f.bodies[1], `"m-1"`) {
		t.Errorf("again: %s", f.bodies[1])
	}
}

// A part that is refused for good fails its delivery when the others are done.
func TestRefusedPartIsKept(t *testing.T) {
	r := &remembered{}
	d := []*action.Delivery{{ID: "x"}}
	read := func(*action.Delivery) ([]part, error) { return make([]part, 2), nil }
	errs := make([]error, 1)
	parts := r.split(d, errs, read)
	errs = r.join(d, errs, parts, []error{action.Permanent(errors.New("bad")), errors.New("slow")})
	if said(errs) != "again" {
		t.Fatal(errs)
	}
	errs = make([]error, 1)
	if parts = r.split(d, errs, read); len(parts) != 1 || parts[0].at != 1 {
		t.Fatalf("%+v", parts)
	}
	if errs = r.join(d, errs, parts, []error{nil}); said(errs) != "never" || errs[0].Error() != "bad" {
		t.Errorf("%v", errs)
	}
	if len(r.of) != 0 || len(r.order) != 0 {
		t.Errorf("%+v is still remembered", r)
	}
}

// A service that does not answer holds one Send no longer than its limit.
func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &sender{limit: 30 * time.Second, do: func(ctx context.Context, ds deliveries) []error {
			<-ctx.Done()
			return each(len(ds), ctx.Err())
		}}
		begin := time.Now()
		if got := said(s.Send(t.Context(), []*action.Delivery{{}})); got != "again" || time.Since(begin) != s.limit {
			t.Errorf("%s after %v", got, time.Since(begin))
		}
	})
}

// calls is an Invoker.
type calls struct{ got []string }

func (c *calls) HasFunction(arn string) bool { return strings.Contains(arn, ":000000000000:") }
func (c *calls) InvokeEvent(_ context.Context, arn, request string, event []byte) error {
	c.got = append(c.got, arn+" "+request+" "+string(event))
	if strings.HasSuffix(arn, ":gone") {
		return fmt.Errorf("no function: %w", action.ErrPermanent)
	}
	return nil
}

// The bridge's own functions are called where they are, others at Lambda.
func TestOwnFunctions(t *testing.T) {
	own, f := &calls{}, &fake{answers: []string{"202 "}}
	newSet(t, f) // the environment
	s := New(Options{Region: "eu-local-1", Functions: own, HTTP: &http.Client{Transport: f}}).Senders()["lambda"]
	mine := delivery("lambda", "{}", "functionArn", "arn:aws:lambda:eu-local-1:000000000000:function:f")
	gone := delivery("lambda", "{}", "functionArn", "arn:aws:lambda:eu-local-1:000000000000:function:gone")
	other := delivery("lambda", "{}", "functionArn", "arn:aws:lambda:us-east-1:123456789012:function:f")
	if got := said(s.Send(t.Context(), []*action.Delivery{mine, gone, other})); got != "done never done" {
		t.Error(got)
	}
	if len(own.got) != 2 || own.got[0] != mine.Name+" "+mine.ID+" {}" || len(f.bodies) != 1 {
		t.Errorf("own %q, others %q", own.got, f.bodies)
	}
}

func TestFIFOGroup(t *testing.T) {
	f := &fake{answers: []string{`200 {"MessageId":"m"}`}}
	d := delivery("sqs", "x", "queueUrl", "http://q/1/a.fifo")
	d.Topic = "dt/gerät"
	if got := said(newSet(t, f).Senders()["sqs"].Send(t.Context(), []*action.Delivery{d})); got != "done" ||
		!strings.Contains(f.bodies[0], `"MessageDeduplicationId":"`+d.ID+`"`) ||
		!strings.Contains(f.bodies[0], `"MessageGroupId":"`+group(d)+`"`) || len(group(d)) != 64 {
		t.Errorf("%s: %s", got, f.bodies[0])
	}
	if d.Topic = "dt/pi-1"; group(d) != d.Topic {
		t.Error(group(d))
	}
	for url, want := range map[string]string{"https://sqs.us-east-2.amazonaws.com/1/q": "us-east-2",
		"http://127.0.0.1:9324/1/q": "", "://": ""} {
		if got := queueRegion(url); got != want {
			t.Errorf("%s: region %q", url, got)
		}
	}
}
